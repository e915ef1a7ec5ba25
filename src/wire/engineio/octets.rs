//! Payloads of Engine.IO 3 as `application/octet-stream`, for clients with XMLHttpRequest 2.
//!
//! Each packet begins with 0 (text) or 1 (binary), the decimal digits of its length in bytes (each digit is a byte from
//! 0 to 9, not a character), and the byte 255. The type of a text packet is a digit, and that of a binary packet a byte.

use super::packet::{Error, Packet, PacketType};
use super::utf8::Encoded;
use super::v3;

const TEXT: u8 = 0;
const BINARY: u8 = 1;
const END_OF_LENGTH: u8 = 255;

/// The most digits that a length may have.
const MAX_DIGITS: usize = 10;

/// Appends a packet with text.
pub fn packet(kind: PacketType, data: &str, out: &mut Vec<u8>) {
    header(TEXT, 1 + data.len(), out);
    v3::text_frame(kind, data, out);
}

/// Appends a binary message.
pub fn binary(bytes: &[u8], out: &mut Vec<u8>) {
    header(BINARY, 1 + bytes.len(), out);
    v3::binary_frame(bytes, out);
}

fn header(marker: u8, length: usize, out: &mut Vec<u8>) {
    out.push(marker);
    out.extend(length.to_string().bytes().map(|digit| digit - b'0'));
    out.push(END_OF_LENGTH);
}

/// Reads the packets of a payload one by one. It ends after the first error.
#[must_use]
pub fn packets(body: &[u8]) -> Packets<'_> {
    Packets { rest: body }
}

/// The packets of a payload.
#[derive(Debug, Clone)]
pub struct Packets<'a> {
    rest: &'a [u8],
}

impl<'a> Packets<'a> {
    fn take(&mut self) -> Result<Option<Packet<'a>>, Error> {
        let Some((&marker, rest)) = self.rest.split_first() else { return Ok(None) };
        if marker > BINARY {
            return Err(Error::Marker);
        }
        let digits = rest.iter().take(MAX_DIGITS + 1).position(|&byte| byte == END_OF_LENGTH).ok_or(Error::Length)?;
        if digits == 0 || rest[..digits].iter().any(|&digit| digit > 9) {
            return Err(Error::Length);
        }
        let length = rest[..digits].iter().fold(0, |length: u64, &digit| length * 10 + u64::from(digit));
        let length = usize::try_from(length).map_err(|_| Error::Length)?;
        let (packet, rest) = rest[digits + 1..].split_at_checked(length).ok_or(Error::Cut)?;
        self.rest = rest;
        if marker == BINARY {
            return v3::read_binary_frame(packet).map(Some);
        }
        // Parsers 1.x and 2.x both write the text of this form as UTF-8 once.
        let text = std::str::from_utf8(packet).map_err(|_| Error::Utf8)?;
        v3::read_text_frame(text, Encoded::Once).map(Some)
    }
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<Packet<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let packet = self.take();
        if packet.is_err() {
            self.rest = b"";
        }
        packet.transpose()
    }
}
