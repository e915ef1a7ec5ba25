//! The WebSocket of a page: bare texts, and close codes of RFC 6455.

use crate::message::Encoding;
use crate::serve::protocols::close_code::close_code;
use crate::transport::command::NoCommands;
use crate::transport::hixie::HixiePage;
use crate::transport::page::BARE_TEXT_FRAME;
use crate::transport::{
    Accepted, ApiError, Control, Decode, Dialect, Envelope, FrameDecoder, Lifecycle, Params, RequestHead, Transport,
};
use crate::wire::websocket;

/// The name of the transport.
const NAME: &str = "raw-websocket";

/// A path of `--raw-websocket`.
pub struct RawSocket;

impl Transport for RawSocket {
    fn name(&self) -> &'static str {
        NAME
    }

    fn lifecycle(&self, _: &Params) -> Lifecycle {
        Lifecycle::Duplex
    }

    fn open(&self, _: &Params, _: &RequestHead<'_>) -> Result<Accepted, ApiError> {
        Ok(Accepted::new("", BareFrames))
    }

    fn hixie(&self) -> Option<&'static dyn Transport> {
        Some(&HixiePage { name: NAME })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::CloseReason;

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
