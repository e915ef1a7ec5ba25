//! Engine.IO 4, the version of Socket.IO 3 and 4.

use std::borrow::Cow;

use super::packet::{Error, Packet, PacketType, read_base64, write_base64};

/// The byte between two packets of a payload.
pub const SEPARATOR: u8 = 0x1e;

/// Appends a packet with text: for a payload, and for a text frame of a WebSocket.
///
/// `data` must not contain [`SEPARATOR`]. JSON cannot: it escapes control characters.
pub fn packet(kind: PacketType, data: &str, out: &mut Vec<u8>) {
    out.reserve(data.len() + 1);
    out.push(kind.digit());
    out.extend_from_slice(data.as_bytes());
}

/// Appends a binary message to a payload. On a WebSocket, a binary frame holds the bytes as they are.
pub fn binary(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'b');
    write_base64(bytes, out);
}

/// Reads the packets of a payload one by one. It ends after the first error.
///
/// # Errors
///
/// The body is not UTF-8.
pub fn packets(body: &[u8]) -> Result<Packets<'_>, Error> {
    std::str::from_utf8(body).map(|text| Packets { rest: Some(text) }).map_err(|_| Error::Utf8)
}

/// The packets of a payload.
#[derive(Debug, Clone)]
pub struct Packets<'a> {
    rest: Option<&'a str>,
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<Packet<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let (packet, rest) = match self.rest?.split_once(char::from(SEPARATOR)) {
            Some((packet, rest)) => (packet, Some(rest)),
            None => (self.rest?, None),
        };
        let read = text_frame(packet);
        self.rest = rest.filter(|_| read.is_ok());
        Some(read)
    }
}

/// Reads a packet of a payload, or a text frame of a WebSocket. A frame with `b` and base64 is a binary message, as in a payload.
///
/// # Errors
///
/// The frame is not a packet.
pub fn text_frame(text: &str) -> Result<Packet<'_>, Error> {
    match text.strip_prefix('b') {
        Some(base64) => read_base64(base64).map(|bytes| Packet::binary(PacketType::Message, bytes)),
        None => Packet::parse(text),
    }
}

/// Reads a binary frame of a WebSocket: a message.
#[must_use]
pub fn binary_frame(bytes: &[u8]) -> Packet<'_> {
    Packet::binary(PacketType::Message, Cow::Borrowed(bytes))
}
