//! XHR multipart: a response of many parts, each a message (`multipart/x-mixed-replace`, Netscape
//! 1.1 and Firefox up to 21; `multipart/mixed` for clients that ask for it).

use super::{
    Accepted, ApiError, Control, Envelope, HEARTBEAT_PADDING, Lifecycle, PADDING, Params, RequestHead, Transport,
    encoding, pad,
};
use crate::message::Encoding;
use crate::wire::multipart;

/// `/multipart`.
pub struct Multipart;

impl Transport for Multipart {
    fn name(&self) -> &'static str {
        "multipart"
    }

    fn lifecycle(&self, _params: &Params) -> Lifecycle {
        Lifecycle::Stream { rollover: true }
    }

    fn open(&self, params: &Params, head: &RequestHead<'_>) -> Result<Accepted, ApiError> {
        let content_type = if head.accept.to_ascii_lowercase().contains("multipart/mixed") {
            multipart::MIXED
        } else {
            multipart::MIXED_REPLACE
        };
        Ok(Accepted::new(content_type, Parts { padding: params.padding }))
    }
}

struct Parts {
    padding: bool,
}

impl Envelope for Parts {
    fn encoding(&self) -> &'static Encoding {
        &encoding::PART
    }

    fn prelude(&self, out: &mut Vec<u8>) {
        if self.padding {
            // The padding is a preamble. Readers skip it (RFC 2046 §5.1.1).
            pad(PADDING, out);
            out.extend_from_slice(b"\r\n");
        }
        multipart::opening(out);
    }

    fn control(&self, control: &Control<'_>, out: &mut Vec<u8>) {
        let mut json = control.to_json();
        if self.padding && matches!(control, Control::Heartbeat { .. }) {
            pad(HEARTBEAT_PADDING, &mut json);
        }
        match control {
            Control::Bye { .. } => multipart::last_part(&json, out),
            _ => multipart::part(&json, out),
        }
    }
}
