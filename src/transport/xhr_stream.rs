//! XHR streaming: one JSON object a line of a response that the browser reads while it grows.

use super::{
    Control, Envelope, HEARTBEAT_PADDING, Lifecycle, Opening, PADDING, Params, Peer, Refusal, Transport, encoding, pad,
};
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

    fn open(&self, params: &Params, _peer: &Peer<'_>) -> Result<Opening, Refusal> {
        // XDomainRequest accepts text/plain alone, and shows nothing of the first 2 KiB.
        let lines = JsonLines { opening_padding: true, heartbeat_padding: params.padding };
        Ok(Opening::new("text/plain; charset=utf-8", lines))
    }
}

/// One JSON object a line.
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
