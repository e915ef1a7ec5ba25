//! A packet, as both versions have it.

use std::borrow::Cow;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Encodes with padding. Decodes with and without it, because not all clients write it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The type of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketType {
    /// The handshake object.
    Open,
    /// The end of the session.
    Close,
    /// A question for a sign of life. In version 4 the server asks, in version 3 the client.
    Ping,
    /// The answer to a ping, with the same data.
    Pong,
    /// Data of the layer above.
    Message,
    /// The client now uses the WebSocket.
    Upgrade,
    /// Nothing. It ends a waiting poll.
    Noop,
}

impl PacketType {
    const ALL: [PacketType; 7] = [
        PacketType::Open,
        PacketType::Close,
        PacketType::Ping,
        PacketType::Pong,
        PacketType::Message,
        PacketType::Upgrade,
        PacketType::Noop,
    ];

    /// The digit of the type, as a character.
    pub(super) fn digit(self) -> u8 {
        b'0' + self.number()
    }

    /// The number of the type.
    pub(super) fn number(self) -> u8 {
        self as u8
    }

    /// The type with this number.
    pub(super) fn numbered(number: u8) -> Result<PacketType, Error> {
        PacketType::ALL.get(usize::from(number)).copied().ok_or(Error::UnknownType)
    }

    /// The type with this digit.
    pub(super) fn with_digit(digit: u8) -> Result<PacketType, Error> {
        PacketType::numbered(digit.wrapping_sub(b'0'))
    }
}

/// The data of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data<'a> {
    /// Text. It may be empty.
    Text(Cow<'a, str>),
    /// Bytes.
    Binary(Cow<'a, [u8]>),
}

/// A packet that was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The type.
    pub kind: PacketType,
    /// The data.
    pub data: Data<'a>,
}

impl<'a> Packet<'a> {
    /// A packet with text.
    pub(super) fn text(kind: PacketType, text: impl Into<Cow<'a, str>>) -> Packet<'a> {
        Packet { kind, data: Data::Text(text.into()) }
    }

    /// A packet with bytes.
    pub(super) fn binary(kind: PacketType, bytes: impl Into<Cow<'a, [u8]>>) -> Packet<'a> {
        Packet { kind, data: Data::Binary(bytes.into()) }
    }

    /// Reads a packet that is a digit and text.
    pub(super) fn parse(text: &'a str) -> Result<Packet<'a>, Error> {
        let kind = PacketType::with_digit(*text.as_bytes().first().ok_or(Error::Empty)?)?;
        // The first byte is a digit, so the second one begins a character.
        Ok(Packet::text(kind, &text[1..]))
    }
}

/// Appends bytes as base64.
pub(super) fn write_base64(bytes: &[u8], out: &mut Vec<u8>) {
    let at = out.len();
    out.resize(at + bytes.len().div_ceil(3) * 4, 0);
    let written = BASE64.encode_slice(bytes, &mut out[at..]).unwrap_or_default();
    out.truncate(at + written);
}

/// Reads base64.
pub(super) fn read_base64(text: &str) -> Result<Vec<u8>, Error> {
    BASE64.decode(text).map_err(|_| Error::Base64)
}

/// Why a payload or a frame is not Engine.IO.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A packet does not have a type.
    #[error("a packet is empty")]
    Empty,
    /// The type is not one of the seven.
    #[error("the type of a packet is not a digit from 0 to 6")]
    UnknownType,
    /// The data of a binary packet is not base64.
    #[error("the data of a binary packet is not base64")]
    Base64,
    /// The text is not UTF-8.
    #[error("the text is not UTF-8")]
    Utf8,
    /// The length of a packet is missing, malformed or huge.
    #[error("the length of a packet is not a number of 1 to 10 digits and its end mark")]
    Length,
    /// The payload ends within a packet, or a packet ends within a character.
    #[error("the length of a packet does not fit the payload")]
    Cut,
    /// A packet of an octet-stream begins with another byte than 0 (text) or 1 (binary).
    #[error("a packet of an octet-stream begins with neither 0 nor 1")]
    Marker,
    /// The post of a JSONP client does not have the field `d`.
    #[error("the form does not have the field d")]
    Field,
}
