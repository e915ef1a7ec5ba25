//! Finds the frames of STOMP in the messages of a WebSocket, however the client cuts them.

use super::dialect::StompDialect;
use crate::transport::{ApiError, Code, Decode, Dialect, Input, ProtocolViolation};
use crate::wire::stomp::splitter::{Broken, Splitter};
use crate::wire::websocket::{self, Decoder, Frame};
use bytes::{Bytes, BytesMut};

/// The close code and the reason after an ERROR frame.
const AFTER_ERROR: (u16, &str) = (1002, "see the ERROR frame");

/// Decodes the input of a client.
pub struct StompDecoder {
    messages: Decoder,
    frames: Splitter,
    dialect: StompDialect,
}

impl StompDecoder {
    /// A decoder for frames of at most `max` bytes.
    pub fn new(max: usize, dialect: StompDialect) -> StompDecoder {
        StompDecoder { messages: Decoder::with_binary(max), frames: Splitter::new(max), dialect }
    }

    fn broken(broken: Broken) -> ProtocolViolation {
        let code = if matches!(broken, Broken::TooLong { .. }) { Code::TooLarge } else { Code::BadRequest };
        let farewell = websocket::close_frame(AFTER_ERROR.0, AFTER_ERROR.1);
        ProtocolViolation { error: Some(ApiError::new(code, broken.to_string())), farewell }
    }
}

impl Decode for StompDecoder {
    fn decode(&mut self, buf: &mut BytesMut) -> Result<Option<Input>, ProtocolViolation> {
        loop {
            if let Some(frame) = self.frames.next_frame().map_err(StompDecoder::broken)? {
                return Ok(Some(Input::Command(frame)));
            }
            let message = self.messages.decode(buf).map_err(|violation| ProtocolViolation {
                error: (violation.code == 1009).then(|| ApiError::new(Code::TooLarge, violation.reason)),
                farewell: websocket::close_frame(violation.code, violation.reason),
            })?;
            match message {
                None => return Ok(None),
                // A message may have a part of a frame, or several frames.
                Some(Frame::Text(text)) => self.frames.push(text.as_bytes()),
                Some(Frame::Binary(bytes)) => self.frames.push(&bytes),
                Some(Frame::Ping(payload)) => return Ok(Some(Input::Reply(websocket::pong_frame(&payload)))),
                Some(Frame::Pong) => return Ok(Some(Input::Nothing)),
                Some(Frame::Close(Some((code, _)))) => return Ok(Some(Input::Close(websocket::close_frame(code, "")))),
                Some(Frame::Close(None)) => return Ok(Some(Input::Close(websocket::empty_close_frame()))),
            }
        }
    }

    fn dialect(&mut self) -> Option<&mut dyn Dialect> {
        Some(&mut self.dialect)
    }

    fn held(&self) -> usize {
        self.messages.held() + self.frames.held() + self.dialect.held()
    }

    fn too_large(&self) -> Bytes {
        websocket::close_frame(AFTER_ERROR.0, AFTER_ERROR.1)
    }
}
