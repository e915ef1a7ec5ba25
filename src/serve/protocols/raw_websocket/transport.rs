//! The WebSocket of a page: bare texts, and close codes of RFC 6455.

use crate::message::Encoding;
use crate::transport::command::NoCommands;
use crate::transport::page::BARE_TEXT_FRAME;
use crate::transport::{
    Accepted, ApiError, CloseReason, Control, Decode, Dialect, Envelope, FrameDecoder, Lifecycle, Params, RequestHead,
    Transport,
};
use crate::wire::websocket;

/// A path of `--raw-websocket`.
pub struct RawSocket;

impl Transport for RawSocket {
    fn name(&self) -> &'static str {
        "raw-websocket"
    }

    fn lifecycle(&self, _: &Params) -> Lifecycle {
        Lifecycle::Duplex
    }

    fn open(&self, _: &Params, _: &RequestHead<'_>) -> Result<Accepted, ApiError> {
        Ok(Accepted::new("", BareFrames))
    }

    fn decoder(&self, max: usize) -> Option<Box<dyn Decode>> {
        Some(Box::new(FrameDecoder::<NoCommands>::of_protocol(max)))
    }

    fn decoder_of(&self, max: usize, dialect: Box<dyn Dialect>) -> Option<Box<dyn Decode>> {
        Some(Box::new(FrameDecoder::new(max, dialect)))
    }
}

/// The frames for pages.
struct BareFrames;

impl Envelope for BareFrames {
    fn encoding(&self) -> &'static Encoding {
        &BARE_TEXT_FRAME
    }

    fn control(&self, control: &Control<'_>, out: &mut Vec<u8>) {
        match control {
            Control::Heartbeat { .. } => out.extend_from_slice(&websocket::ping_frame()),
            Control::Bye { bye, .. } => {
                let (code, reason) = close_code(*bye);
                out.extend_from_slice(&websocket::close_frame(code, reason));
            }
            // A page would take them for messages.
            Control::Hello { .. }
            | Control::Gap(_)
            | Control::Ack { .. }
            | Control::Answer { .. }
            | Control::Pong { .. }
            | Control::Error { .. } => {}
        }
    }
}

/// The close code that tells a page why its connection ends (RFC 6455 §7.4.1, and the registry of IANA).
fn close_code(reason: CloseReason) -> (u16, &'static str) {
    match reason {
        CloseReason::SessionEnded => (1000, "closed by the application"),
        CloseReason::Drain => (1001, "the server is going away"),
        CloseReason::Revoked => (1008, "not allowed any more"),
        CloseReason::Rollover => (1012, "connect again"),
        CloseReason::SlowReader | CloseReason::TooManyConnections => (1013, "the server is overloaded"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_sees_only_close_codes_of_the_rfc() {
        for reason in CloseReason::ALL {
            let mut out = Vec::new();
            BareFrames.control(&Control::Bye { bye: *reason, retry: None, cursor: None }, &mut out);
            let code = u16::from_be_bytes([out[2], out[3]]);
            assert_eq!((out[0], code), (0x88, close_code(*reason).0));
            assert!((1000..1015).contains(&code), "{reason:?}: {code}");
        }
    }
}
