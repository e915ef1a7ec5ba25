//! Engine.IO 3, the version of Socket.IO 1 and 2: payloads as text, and WebSocket frames. [`octets`](super::octets) has
//! the binary payloads.
//!
//! Text that goes out should be ASCII ([`json::ascii`](crate::wire::json::ascii)): parsers 1.x decode a payload as UTF-8
//! twice, and die of a character that was encoded once.

use std::borrow::Cow;

use super::packet::{Data, Error, Packet, PacketType, read_base64, write_base64};
use super::utf8::{Encoded, decode};
use crate::wire::utf16::{split_at_unit, units};

/// The payload without packets. A client must not get an empty body.
pub const EMPTY: &[u8] = b"0:";

/// The most digits that a length may have.
const MAX_DIGITS: usize = 10;

/// Appends a packet with text to a payload.
pub fn packet(kind: PacketType, data: &str, out: &mut Vec<u8>) {
    length(1 + units(data), out);
    text_frame(kind, data, out);
}

/// Appends a binary message to a payload: `b`, the type, base64.
pub fn binary(bytes: &[u8], out: &mut Vec<u8>) {
    length(2 + bytes.len().div_ceil(3) * 4, out);
    base64_frame(bytes, out);
}

/// Appends the content of a text frame of a WebSocket.
pub fn text_frame(kind: PacketType, data: &str, out: &mut Vec<u8>) {
    out.reserve(data.len() + 1);
    out.push(kind.digit());
    out.extend_from_slice(data.as_bytes());
}

/// Appends the content of a binary frame of a WebSocket: the type as a byte, and the bytes of a message.
pub fn binary_frame(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len() + 1);
    out.push(PacketType::Message.number());
    out.extend_from_slice(bytes);
}

/// Appends the content of a text frame with a binary message, for a client that said `b64=1`.
pub fn base64_frame(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"b4");
    write_base64(bytes, out);
}

fn length(units: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(units.to_string().as_bytes());
    out.push(b':');
}

/// Reads the packets of a text payload one by one. It ends after the first error. An empty packet, as in [`EMPTY`],
/// is skipped.
///
/// # Errors
///
/// The body is not UTF-8.
pub fn packets(body: &[u8], encoded: Encoded) -> Result<Packets<'_>, Error> {
    std::str::from_utf8(body).map(|rest| Packets { rest, encoded }).map_err(|_| Error::Utf8)
}

/// The packets of a text payload.
#[derive(Debug, Clone)]
pub struct Packets<'a> {
    rest: &'a str,
    encoded: Encoded,
}

impl<'a> Packets<'a> {
    fn take(&mut self) -> Result<Option<Packet<'a>>, Error> {
        while !self.rest.is_empty() {
            let rest = self.rest.as_bytes();
            // The search ends early, so that a body without a colon is not searched as a whole.
            let colon = rest.iter().take(MAX_DIGITS + 1).position(|&byte| byte == b':').ok_or(Error::Length)?;
            let digits = &self.rest[..colon];
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(Error::Length);
            }
            let units = digits.parse().map_err(|_| Error::Length)?;
            let (packet, rest) = split_at_unit(&self.rest[colon + 1..], units).ok_or(Error::Cut)?;
            self.rest = rest;
            if !packet.is_empty() {
                return read_text_frame(packet, self.encoded).map(Some);
            }
        }
        Ok(None)
    }
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<Packet<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let packet = self.take();
        if packet.is_err() {
            self.rest = "";
        }
        packet.transpose()
    }
}

/// Reads a text frame of a WebSocket.
///
/// # Errors
///
/// The frame is not a packet.
pub fn read_text_frame(text: &str, encoded: Encoded) -> Result<Packet<'_>, Error> {
    if let Some(binary) = text.strip_prefix('b') {
        let kind = PacketType::with_digit(*binary.as_bytes().first().ok_or(Error::Empty)?)?;
        return Ok(Packet::binary(kind, read_base64(&binary[1..])?));
    }
    let packet = Packet::parse(text)?;
    Ok(match packet.data {
        // The type is one ASCII character, so the text is decoded without it.
        Data::Text(Cow::Borrowed(text)) => Packet::text(packet.kind, decode(text, encoded)),
        _ => packet,
    })
}

/// Reads a binary frame of a WebSocket.
///
/// # Errors
///
/// The frame does not begin with a type.
pub fn read_binary_frame(bytes: &[u8]) -> Result<Packet<'_>, Error> {
    let (&kind, data) = bytes.split_first().ok_or(Error::Empty)?;
    Ok(Packet::binary(PacketType::numbered(kind)?, data))
}
