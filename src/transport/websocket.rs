//! WebSocket (RFC 6455): one JSON text frame for each message. Commands come in the other direction.

use super::command::NoCommands;
use super::hixie::HixieSocket;
use super::json_commands::JsonCommands;
use super::{
    Accepted, ApiError, Code, Control, Decode, Dialect, Envelope, Input, Lifecycle, Params, ProtocolViolation,
    RequestHead, Transport, encoding,
};
use crate::message::Encoding;
use crate::wire::websocket::{self, Decoder, Frame};
use bytes::{Bytes, BytesMut};

/// `/ws`.
pub struct WebSocket;

impl Transport for WebSocket {
    fn name(&self) -> &'static str {
        "ws"
    }

    fn lifecycle(&self, _params: &Params) -> Lifecycle {
        Lifecycle::Duplex
    }

    fn open(&self, _params: &Params, _head: &RequestHead<'_>) -> Result<Accepted, ApiError> {
        Ok(Accepted::new("", TextFrames))
    }

    fn hixie(&self) -> Option<&'static dyn Transport> {
        Some(&HixieSocket)
    }

    fn decoder(&self, max: usize) -> Option<Box<dyn Decode>> {
        Some(Box::new(FrameDecoder::new(max, JsonCommands)))
    }
}

struct TextFrames;

impl Envelope for TextFrames {
    fn encoding(&self) -> &'static Encoding {
        &encoding::TEXT_FRAME
    }

    fn control(&self, control: &Control<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(&websocket::text_frame(&control.to_json()));
        if let Control::Bye { bye: reason, .. } = control {
            out.extend_from_slice(&websocket::close_frame(reason.code(), reason.reason()));
        }
    }
}

/// Decodes WebSocket frames. Each text is a command.
pub struct FrameDecoder<D> {
    frames: Decoder,
    dialect: Option<D>,
}

impl<D: Dialect> FrameDecoder<D> {
    /// A decoder for texts of at most `max` bytes in this dialect.
    pub fn new(max: usize, dialect: D) -> FrameDecoder<D> {
        FrameDecoder { frames: Decoder::new(max), dialect: Some(dialect) }
    }
}

impl FrameDecoder<NoCommands> {
    /// A decoder for texts of at most `max` bytes, which the protocol parses itself.
    pub fn of_protocol(max: usize) -> FrameDecoder<NoCommands> {
        FrameDecoder { frames: Decoder::new(max), dialect: None }
    }
}

impl<D: Dialect> Decode for FrameDecoder<D> {
    fn dialect(&mut self) -> Option<&mut dyn Dialect> {
        self.dialect.as_mut().map(|dialect| dialect as &mut dyn Dialect)
    }

    fn held(&self) -> usize {
        self.frames.held()
    }

    fn too_large(&self) -> Bytes {
        websocket::close_frame(1009, "message too large")
    }

    fn decode(&mut self, buf: &mut BytesMut) -> Result<Option<Input>, ProtocolViolation> {
        let max = self.frames.max_message();
        let frame = self.frames.decode(buf).map_err(|violation| ProtocolViolation {
            error: (violation.code == 1009)
                .then(|| ApiError::new(Code::TooLarge, format!("a command may have at most {max} bytes"))),
            farewell: websocket::close_frame(violation.code, violation.reason),
        })?;
        Ok(frame.map(|frame| match frame {
            Frame::Text(text) => Input::Command(text.into()),
            Frame::Ping(payload) => Input::Reply(websocket::pong_frame(&payload)),
            // The decoder of this transport refuses binary messages.
            Frame::Pong | Frame::Binary(_) => Input::Nothing,
            // The code is sent back (RFC 6455 §5.5.1), or an empty frame if there was no code.
            Frame::Close(Some((code, _))) => Input::Close(websocket::close_frame(code, "")),
            Frame::Close(None) => Input::Close(websocket::empty_close_frame()),
        }))
    }
}
