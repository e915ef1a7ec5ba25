//! The WebSocket of 2010 (hixie-76), which has its own frames: text messages only, and a close without a code.

use super::json_commands::JsonCommands;
use super::page::bare_text;
use super::{
    Accepted, ApiError, Code, Control, Decode, Dialect, Envelope, Input, Lifecycle, Params, ProtocolViolation,
    RequestHead, Transport,
};
use crate::message::Encoding;
use crate::wire::hixie76::{self, Decoder, Frame, Violation};
use bytes::{Bytes, BytesMut};

/// A message as a text frame that holds the object.
static OBJECT_FRAME: Encoding = Encoding::new("hixie frame", |message, out| hixie76::text_frame(message.object(), out));

/// A message as a text frame with its bare text.
static BARE_FRAME: Encoding = Encoding::new("bare hixie frame", |message, out| {
    if let Some(text) = bare_text(message) {
        hixie76::text_frame(text.as_bytes(), out);
    }
});

/// `/ws` for such a client.
pub struct HixieSocket;

impl Transport for HixieSocket {
    fn name(&self) -> &'static str {
        "ws"
    }

    fn lifecycle(&self, _: &Params) -> Lifecycle {
        Lifecycle::Duplex
    }

    fn open(&self, _: &Params, _: &RequestHead<'_>) -> Result<Accepted, ApiError> {
        Ok(Accepted::new("", ObjectFrames))
    }

    fn decoder(&self, max: usize) -> Option<Box<dyn Decode>> {
        Some(Box::new(HixieDecoder { frames: Decoder::new(max), dialect: JsonCommands }))
    }
}

/// A path of plain WebSocket pages for such a client.
pub struct HixiePage {
    /// The name of the transport, under which metrics count its readers.
    pub name: &'static str,
}

impl Transport for HixiePage {
    fn name(&self) -> &'static str {
        self.name
    }

    fn lifecycle(&self, _: &Params) -> Lifecycle {
        Lifecycle::Duplex
    }

    fn open(&self, _: &Params, _: &RequestHead<'_>) -> Result<Accepted, ApiError> {
        Ok(Accepted::new("", BareFrames))
    }

    fn decoder_of(&self, max: usize, dialect: Box<dyn Dialect>) -> Option<Box<dyn Decode>> {
        Some(Box::new(HixieDecoder { frames: Decoder::new(max), dialect }))
    }
}

struct ObjectFrames;

impl Envelope for ObjectFrames {
    fn encoding(&self) -> &'static Encoding {
        &OBJECT_FRAME
    }

    fn control(&self, control: &Control<'_>, out: &mut Vec<u8>) {
        hixie76::text_frame(&control.to_json(), out);
        if let Control::Bye { .. } = control {
            out.extend_from_slice(&hixie76::CLOSE);
        }
    }
}

struct BareFrames;

impl Envelope for BareFrames {
    fn encoding(&self) -> &'static Encoding {
        &BARE_FRAME
    }

    fn control(&self, control: &Control<'_>, out: &mut Vec<u8>) {
        // The draft does not have pings or close codes, and a page would take other frames for messages.
        if let Control::Bye { .. } = control {
            out.extend_from_slice(&hixie76::CLOSE);
        }
    }
}

/// Decodes the frames of such a client. Each text is a command.
struct HixieDecoder<D> {
    frames: Decoder,
    dialect: D,
}

impl<D: Dialect> Decode for HixieDecoder<D> {
    fn decode(&mut self, buf: &mut BytesMut) -> Result<Option<Input>, ProtocolViolation> {
        let max = self.frames.max_message();
        let frame = self.frames.decode(buf).map_err(|violation| ProtocolViolation {
            error: (violation == Violation::TooLong)
                .then(|| ApiError::new(Code::TooLarge, format!("a command may have at most {max} bytes"))),
            farewell: hixie76::close_frame(),
        })?;
        Ok(frame.map(|frame| match frame {
            Frame::Text(text) => Input::Command(text.into()),
            Frame::Close => Input::Close(hixie76::close_frame()),
        }))
    }

    fn dialect(&mut self) -> Option<&mut dyn Dialect> {
        Some(&mut self.dialect)
    }

    fn held(&self) -> usize {
        self.frames.held()
    }

    fn too_large(&self) -> Bytes {
        hixie76::close_frame()
    }
}
