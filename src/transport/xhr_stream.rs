//! XHR streaming: one JSON object per line of a response that the browser reads while it grows.

use super::padding::{HEARTBEAT_PADDING, PADDING, pad};
use super::{Accepted, ApiError, Control, Envelope, Lifecycle, Params, RequestHead, Transport, encoding};
use crate::message::Encoding;

/// `/xhr-stream`.
pub struct XhrStream;

impl Transport for XhrStream {
    fn name(&self) -> &'static str {
        "xhr-stream"
    }

    fn lifecycle(&self, _params: &Params) -> Lifecycle {
        Lifecycle::Stream { rollover: true }
    }

    fn open(&self, params: &Params, _head: &RequestHead<'_>) -> Result<Accepted, ApiError> {
        // XDomainRequest accepts only text/plain, and does not show the first 2 KiB.
        let lines = JsonLines { opening_padding: true, heartbeat_padding: params.padding };
        Ok(Accepted::new("text/plain; charset=utf-8", lines))
    }
}

/// One JSON object per line.
pub(super) struct JsonLines {
    pub(super) opening_padding: bool,
    pub(super) heartbeat_padding: bool,
}

impl Envelope for JsonLines {
    fn encoding(&self) -> &'static Encoding {
        &encoding::LINE
    }

    fn prelude(&self, out: &mut Vec<u8>) {
        if self.opening_padding {
            pad(PADDING, out);
            out.push(b'\n');
        }
    }

    fn control(&self, control: &Control<'_>, out: &mut Vec<u8>) {
        control.write_json(out);
        if self.heartbeat_padding && matches!(control, Control::Heartbeat { .. }) {
            pad(HEARTBEAT_PADDING, out);
        }
        out.push(b'\n');
    }
}
