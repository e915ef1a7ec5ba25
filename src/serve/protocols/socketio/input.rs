//! Reads the frames of a WebSocket: packets of Engine.IO, and in them the packets of Socket.IO.

use super::input09::{self, Input09};
use super::request::EngineVersion;
use crate::wire::engineio::utf8::Encoded;
use crate::wire::engineio::{Data, Packet, PacketType, v3, v4};
use crate::wire::socketio::assembler::{Assembler, Complete, Incomplete};
use crate::wire::socketio::packet::{self, Version};
use crate::wire::websocket::{self, Decoder, Frame};
use bytes::{Bytes, BytesMut};

/// One input.
pub enum Input {
    /// A packet, and the receipt that its client gets at once.
    Packet(Complete<'static>, Option<Vec<u8>>),
    /// A ping of Engine.IO.
    Ping(String),
    /// A pong of Engine.IO.
    Pong,
    /// These bytes have to be sent back.
    Reply(Bytes),
    /// The client ends the connection: these bytes are sent back first.
    End(Bytes),
    /// There is nothing to do.
    Nothing,
}

/// Reads the input of one connection.
pub struct Inputs {
    version: EngineVersion,
    frames: Decoder,
    packets: Assembler,
    /// The bytes of the packet that is not complete.
    held: usize,
}

impl Inputs {
    /// The input of a connection. A frame, and a packet with its binary parts, may have `max` bytes.
    pub fn new(version: EngineVersion, max: usize) -> Inputs {
        let of_packets = if version == EngineVersion::V4 { Version::V5 } else { Version::V4 };
        Inputs { version, frames: Decoder::with_binary(max), packets: Assembler::new(of_packets, max), held: 0 }
    }

    /// Goes on with a packet whose text, and perhaps some parts, have come. Returns false if it is not such a packet.
    pub fn resume(&mut self, half: Option<Incomplete>) -> bool {
        let Some(half) = half else { return true };
        self.held = half.size();
        self.packets.resume(half).is_ok()
    }

    /// The memory of incomplete input.
    pub fn held(&self) -> usize {
        self.frames.held() + self.held
    }

    /// Takes the next input from the front of a buffer; `None` if more bytes are needed.
    ///
    /// # Errors
    ///
    /// The client has broken a rule. These are the last bytes to send.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Input>, Bytes> {
        let frame = self.frames.decode(buffer).map_err(|it| websocket::close_frame(it.code, it.reason))?;
        let Some(frame) = frame else { return Ok(None) };
        let read = match frame {
            Frame::Text(text) => self.text(&text),
            Frame::Binary(bytes) => self.binary(&bytes),
            Frame::Ping(payload) => Some(Input::Reply(websocket::pong_frame(&payload))),
            Frame::Pong => Some(Input::Nothing),
            Frame::Close(Some((code, _))) => Some(Input::End(websocket::close_frame(code, ""))),
            Frame::Close(None) => Some(Input::End(websocket::empty_close_frame())),
        };
        read.map(Some).ok_or_else(websocket::empty_close_frame)
    }

    fn text(&mut self, text: &str) -> Option<Input> {
        let packet = match self.version {
            EngineVersion::V1 => {
                return Some(match input09::read(text)? {
                    Input09::Packet(packet, receipt) => Input::Packet(packet, receipt),
                    Input09::End => Input::End(websocket::empty_close_frame()),
                    Input09::Nothing => Input::Nothing,
                });
            }
            EngineVersion::V4 => v4::text_frame(text),
            EngineVersion::V3 => v3::read_text_frame(text, Encoded::Once),
            EngineVersion::V2 => v3::read_text_frame(text, Encoded::PerhapsTwice),
        };
        self.packet(packet.ok()?)
    }

    fn binary(&mut self, bytes: &[u8]) -> Option<Input> {
        match self.version {
            EngineVersion::V4 => self.packet(v4::binary_frame(bytes)),
            EngineVersion::V2 | EngineVersion::V3 => self.packet(v3::read_binary_frame(bytes).ok()?),
            EngineVersion::V1 => None,
        }
    }

    fn packet(&mut self, packet: Packet<'_>) -> Option<Input> {
        Some(match (packet.kind, packet.data) {
            (PacketType::Message, Data::Text(text)) => {
                self.held = 0;
                match self.packets.text(&text).ok()? {
                    Some(Complete { packet, attachments }) => Input::Packet(owned(packet, attachments), None),
                    None => {
                        self.held = text.len();
                        Input::Nothing
                    }
                }
            }
            (PacketType::Message, Data::Binary(bytes)) => {
                self.held += bytes.len();
                match self.packets.binary(bytes.into_owned().into()).ok()? {
                    Some(Complete { packet, attachments }) => {
                        self.held = 0;
                        Input::Packet(owned(packet, attachments), None)
                    }
                    None => Input::Nothing,
                }
            }
            (PacketType::Ping, Data::Text(data)) => Input::Ping(data.into_owned()),
            (PacketType::Pong, _) => Input::Pong,
            (PacketType::Close, _) => Input::End(websocket::empty_close_frame()),
            _ => Input::Nothing,
        })
    }
}

fn owned(packet: packet::Packet<'_>, attachments: Vec<Bytes>) -> Complete<'static> {
    Complete { packet: packet.into_owned(), attachments }
}
