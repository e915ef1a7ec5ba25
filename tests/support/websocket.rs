//! WebSocket frames as bytes, for frames that a well-behaved library refuses to send.

use super::door::Stream;
use super::http::{Request, Response};
use super::quiet::Quiet;
use super::{Node, SOON, came, within};
use std::net::SocketAddr;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A frame from the server.
#[derive(Debug, PartialEq)]
pub struct Frame {
    pub first: u8,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn opcode(&self) -> u8 {
        self.first & 0x0f
    }

    pub fn close_code(&self) -> u16 {
        assert_eq!(self.opcode(), 8, "not a close frame: {self:?}");
        u16::from_be_bytes([self.payload[0], self.payload[1]])
    }

    pub fn json(&self) -> serde_json::Value {
        assert_eq!(self.first, 0x81, "not an unfragmented text frame: {self:?}");
        serde_json::from_slice(&self.payload).expect("JSON")
    }
}

/// A client's frame, from its first byte and its payload, which is masked.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut bytes = vec![first];
    match payload.len() {
        n @ 0..=125 => bytes.push(0x80 | n as u8),
        n @ 126..=65535 => {
            bytes.push(0x80 | 126);
            bytes.extend((n as u16).to_be_bytes());
        }
        n => {
            bytes.push(0x80 | 127);
            bytes.extend((n as u64).to_be_bytes());
        }
    }
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// A frame without the mask that a client must use.
pub fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first, payload.len() as u8];
    bytes.extend(payload);
    bytes
}

/// The handshake that every WebSocket client sends.
pub fn handshake(target: &str) -> Request {
    Request::get(target)
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", KEY)
}

pub struct RawWebSocket {
    stream: Stream,
    buffer: Vec<u8>,
    quiet: Quiet,
}

impl RawWebSocket {
    pub async fn open(node: &Node, target: &str) -> RawWebSocket {
        RawWebSocket::open_at(node.http, target).await
    }

    pub async fn open_at(address: SocketAddr, target: &str) -> RawWebSocket {
        RawWebSocket::open_by(address, handshake(target)).await
    }

    /// Opens a WebSocket with a handshake that has more headers.
    pub async fn open_by(address: SocketAddr, handshake: Request) -> RawWebSocket {
        let answer: Response = handshake.open(address).await;
        assert_eq!(answer.status, 101, "the upgrade");
        let (stream, buffer) = answer.into_stream();
        RawWebSocket { stream, buffer, quiet: Quiet::default() }
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("write");
    }

    /// Like `send`, for a server that may have closed the connection already.
    pub async fn try_send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.ok();
    }

    pub async fn text(&mut self, text: &str) {
        self.send(&frame(0x81, text.as_bytes())).await;
    }

    async fn fill(&mut self) -> bool {
        self.buffer.reserve(16 * 1024);
        matches!(self.stream.read_buf(&mut self.buffer).await, Ok(n) if n > 0)
    }

    /// The next frame, or `None` at the end of the connection.
    pub async fn frame(&mut self) -> Option<Frame> {
        let began = Instant::now();
        let frame = within(self.quiet.left(), "a frame that is not a heartbeat", async {
            loop {
                if let Some(frame) = self.parse() {
                    came(|| format!("a frame {:#x}: {}", frame.first, String::from_utf8_lossy(&frame.payload)));
                    return Some(frame);
                }
                if !self.fill().await {
                    return None;
                }
            }
        })
        .await?;
        self.quiet.came(began, frame.payload.starts_with(b"{\"type\":\"heartbeat\""));
        Some(frame)
    }

    /// Reads to the end of the connection.
    pub async fn ended(&mut self) {
        while self.frame().await.is_some() {}
    }

    fn parse(&mut self) -> Option<Frame> {
        let buffer = &self.buffer;
        let second = *buffer.get(1)?;
        assert_eq!(second & 0x80, 0, "a server does not mask");
        let (start, length) = match second {
            126 => (4, usize::from(u16::from_be_bytes(buffer.get(2..4)?.try_into().ok()?))),
            127 => (10, u64::from_be_bytes(buffer.get(2..10)?.try_into().ok()?) as usize),
            n => (2, usize::from(n)),
        };
        let payload = buffer.get(start..start + length)?.to_vec();
        let first = buffer[0];
        self.buffer.drain(..start + length);
        Some(Frame { first, payload })
    }

    /// The next close frame's code, whatever comes before it.
    pub async fn close_code(&mut self) -> u16 {
        loop {
            let frame = self.frame().await.expect("a close frame before the end");
            if frame.opcode() == 8 {
                return frame.close_code();
            }
        }
    }

    /// The next text frame that is of this type.
    pub async fn next_of(&mut self, kind: &str) -> serde_json::Value {
        // Heartbeats come forever, so the limit is for all frames together.
        within(SOON, &format!("an object of the type {kind}"), async {
            loop {
                let frame = self.frame().await.expect("a frame, not the end");
                if frame.opcode() == 1 && frame.json()["type"] == kind {
                    return frame.json();
                }
            }
        })
        .await
    }
}
