//! The forms in which packets go to clients: WebSocket frames and payloads of both versions of Engine.IO.

use crate::wire::engineio::{PacketType, octets, v3, v4};
use crate::wire::socketio::encode::Charset;
use crate::wire::socketio::packet::Version;
use crate::wire::socketio09::{encode, framing};
use crate::wire::websocket;
use bytes::Bytes;

/// The words of a version of Socket.IO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Words {
    /// Those of Socket.IO 0.9.
    V1,
    /// Those of Socket.IO 1 and 2.
    V4,
    /// Those of Socket.IO 3 and 4.
    V5,
}

/// The form of packets for one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Framing {
    /// WebSocket frames of Engine.IO 4.
    Frames4,
    /// WebSocket frames of Engine.IO 3.
    Frames3,
    /// WebSocket frames of Engine.IO 3, for a client that takes only text.
    Frames3Text,
    /// Payloads of Engine.IO 4. Each packet has a separator in front of it.
    Payload4,
    /// Payloads of Engine.IO 3 as text.
    Payload3,
    /// Payloads of Engine.IO 3 as bytes.
    Octets3,
    /// WebSocket frames of Socket.IO 0.9.
    Frames1,
    /// Payloads of Socket.IO 0.9.
    Payload1,
}

impl Framing {
    /// The words of the packets of Socket.IO.
    pub fn words(self) -> Words {
        match self {
            Framing::Frames4 | Framing::Payload4 => Words::V5,
            Framing::Frames3 | Framing::Frames3Text | Framing::Payload3 | Framing::Octets3 => Words::V4,
            Framing::Frames1 | Framing::Payload1 => Words::V1,
        }
    }

    /// The version of the packets that come. Packets of 0.9 are read as those of version 4.
    pub fn version(self) -> Version {
        if self.words() == Words::V5 { Version::V5 } else { Version::V4 }
    }

    /// The characters that JSON may have.
    pub fn charset(self) -> Charset {
        if self.words() == Words::V4 { Charset::Ascii } else { Charset::Utf8 }
    }

    /// Appends a packet of Engine.IO.
    pub fn packet(self, kind: PacketType, data: &str, out: &mut Vec<u8>) {
        match self {
            Framing::Frames4 => {
                websocket::text_header(1 + data.len(), out);
                v4::packet(kind, data, out);
            }
            Framing::Frames3 | Framing::Frames3Text => {
                websocket::text_header(1 + data.len(), out);
                v3::text_frame(kind, data, out);
            }
            Framing::Payload4 => {
                out.push(v4::SEPARATOR);
                v4::packet(kind, data, out);
            }
            Framing::Payload3 => v3::packet(kind, data, out),
            Framing::Octets3 => octets::packet(kind, data, out),
            Framing::Frames1 | Framing::Payload1 => {
                let text = match kind {
                    PacketType::Ping => encode::HEARTBEAT,
                    // The client shakes hands again.
                    PacketType::Close => encode::UNKNOWN_SESSION,
                    _ => encode::NOOP,
                };
                self.message(text.as_bytes(), &[], out);
            }
        }
    }

    /// Appends a packet of Socket.IO: its text, which is UTF-8, and its binary parts.
    pub fn message(self, text: &[u8], parts: &[Bytes], out: &mut Vec<u8>) {
        let text = std::str::from_utf8(text).unwrap_or_default();
        match self {
            Framing::Frames1 => {
                websocket::text_header(text.len(), out);
                out.extend_from_slice(text.as_bytes());
            }
            Framing::Payload1 => framing::frame(text, out),
            _ => self.packet(PacketType::Message, text, out),
        }
        for part in parts {
            self.part(part, out);
        }
    }

    fn part(self, part: &[u8], out: &mut Vec<u8>) {
        match self {
            Framing::Frames4 => {
                websocket::binary_header(part.len(), out);
                out.extend_from_slice(part);
            }
            Framing::Frames3 => {
                websocket::binary_header(part.len() + 1, out);
                v3::binary_frame(part, out);
            }
            Framing::Frames3Text => {
                let mut text = Vec::new();
                v3::base64_frame(part, &mut text);
                websocket::text_header(text.len(), out);
                out.extend_from_slice(&text);
            }
            Framing::Payload4 => {
                out.push(v4::SEPARATOR);
                v4::binary(part, out);
            }
            Framing::Payload3 => v3::binary(part, out),
            Framing::Octets3 => octets::binary(part, out),
            // Packets of 0.9 have no binary parts.
            Framing::Frames1 | Framing::Payload1 => {}
        }
    }
}
