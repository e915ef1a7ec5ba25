//! The forms in which packets go to clients: WebSocket frames and payloads of both versions of Engine.IO.

use crate::wire::engineio::{PacketType, octets, v3, v4};
use crate::wire::socketio::encode::Charset;
use crate::wire::socketio::packet::Version;
use crate::wire::websocket;
use bytes::Bytes;

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
}

impl Framing {
    /// The version of the packets of Socket.IO.
    pub fn version(self) -> Version {
        match self {
            Framing::Frames4 | Framing::Payload4 => Version::V5,
            Framing::Frames3 | Framing::Frames3Text | Framing::Payload3 | Framing::Octets3 => Version::V4,
        }
    }

    /// The characters that JSON may have.
    pub fn charset(self) -> Charset {
        match self.version() {
            Version::V5 => Charset::Utf8,
            Version::V4 => Charset::Ascii,
        }
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
        }
    }

    /// Appends a packet of Socket.IO: its text, which is UTF-8, and its binary parts.
    pub fn message(self, text: &[u8], parts: &[Bytes], out: &mut Vec<u8>) {
        self.packet(PacketType::Message, std::str::from_utf8(text).unwrap_or_default(), out);
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
        }
    }
}
