//! Frames of HTTP/2 that are made and read by hand, because no library sends them.

use super::{Node, SOON, came, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub const PROTOCOL_ERROR: u32 = 1;
pub const REFUSED_STREAM: u32 = 7;
pub const CANCEL: u32 = 8;
pub const COMPRESSION_ERROR: u32 = 9;
pub const ENHANCE_YOUR_CALM: u32 = 11;

/// A frame (RFC 9113 §4.1).
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Header fields, each as a literal that is not indexed (RFC 7541 §6.2.2).
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            // A length of 7 bits, and more bytes if 7 bits are not enough.
            let mut length = text.len();
            if length < 127 {
                bytes.push(length as u8);
            } else {
                bytes.push(127);
                length -= 127;
                while length >= 128 {
                    bytes.push((length % 128 + 128) as u8);
                    length /= 128;
                }
                bytes.push(length as u8);
            }
            bytes.extend(text.as_bytes());
        }
    }
    bytes
}

pub fn get(stream: u32, path: &str) -> Vec<u8> {
    ask(stream, &[(":method", "GET"), (":scheme", "http"), (":authority", "localhost"), (":path", path)])
}

pub fn ask(stream: u32, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(fields))
}

pub fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())
}

pub fn setting(name: u16, value: u32) -> Vec<u8> {
    let mut payload = name.to_be_bytes().to_vec();
    payload.extend(value.to_be_bytes());
    frame(SETTINGS, 0, 0, &payload)
}

pub const INITIAL_WINDOW_SIZE: u16 = 4;

#[derive(Clone, Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().expect("a code"))
    }

    /// Whether the frame is a head with this status. (An indexed field of the static table, or a literal with these
    /// digits.)
    pub fn has_status(&self, status: u16) -> bool {
        let indexed = [(200, 8), (204, 9), (206, 10), (304, 11), (400, 12), (404, 13), (500, 14)];
        let text = status.to_string();
        self.kind == HEADERS
            && match indexed.iter().find(|(known, _)| *known == status) {
                Some((_, index)) => self.payload.first() == Some(&(0x80 | index)),
                None => {
                    let mut decoder = self.payload.iter().skip(1).copied();
                    let length = decoder.next().unwrap_or_default();
                    let value: Vec<u8> = decoder.take(usize::from(length & 0x7f)).collect();
                    if length & 0x80 == 0 { value == text.as_bytes() } else { value == huffman_digits(&text) }
                }
            }
    }
}

/// Three digits in Huffman's code (RFC 7541, appendix B).
pub fn huffman_digits(text: &str) -> Vec<u8> {
    let (mut bits, mut count) = (0u32, 0);
    for digit in text.bytes() {
        let (code, length) = match digit {
            b'0'..=b'2' => (u32::from(digit - b'0'), 5),
            _ => (0x19 + u32::from(digit - b'3'), 6),
        };
        bits = bits << length | code;
        count += length;
    }
    let padding = (8 - count % 8) % 8;
    bits = bits << padding | ((1 << padding) - 1);
    bits.to_be_bytes()[4 - (count + padding) / 8..].to_vec()
}

/// A client of frames, on a connection without TLS.
pub struct Raw {
    pub stream: TcpStream,
    pub buffer: Vec<u8>,
}

impl Raw {
    pub async fn open(node: &Node, settings: &[u8]) -> Raw {
        let mut stream = TcpStream::connect(node.http).await.expect("connect");
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(if settings.is_empty() { frame(SETTINGS, 0, 0, b"") } else { settings.to_vec() });
        stream.write_all(&bytes).await.expect("write");
        Raw { stream, buffer: Vec::new() }
    }

    /// Sends bytes to a server that may have closed the connection. Returns whether it accepted them.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// The next frame; `None` at the end.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.take() {
                came(|| format!("{frame:?}"));
                return Some(frame);
            }
            if !matches!(self.stream.read_buf(&mut self.buffer).await, Ok(n) if n > 0) {
                return None;
            }
        }
    }

    pub fn take(&mut self) -> Option<Frame> {
        let head = self.buffer.get(..9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes(head[5..9].try_into().expect("4 bytes"));
        let payload = self.buffer.get(9..9 + length)?.to_vec();
        self.buffer.drain(..9 + length);
        Some(Frame { kind, flags, stream, payload })
    }

    /// The next frame that `wanted` accepts, whatever comes before it.
    pub async fn wait(&mut self, what: &str, wanted: impl Fn(&Frame) -> bool) -> Frame {
        within(SOON, what, async {
            loop {
                let frame = self.next().await.unwrap_or_else(|| panic!("the end in place of {what}"));
                if wanted(&frame) {
                    return frame;
                }
            }
        })
        .await
    }

    /// Waits until the server has handled all earlier frames.
    pub async fn settle(&mut self) {
        assert!(self.send(&frame(PING, 0, 0, b"settled?")).await, "the server has hung up before a ping");
        self.wait("a pong", |frame| frame.kind == PING && frame.flags == ACK).await;
    }

    /// Reads to the end. Returns the code of the last GOAWAY.
    pub async fn end(&mut self) -> Option<u32> {
        within(SOON, "the end", async {
            let mut code = None;
            while let Some(frame) = self.next().await {
                if frame.kind == GOAWAY {
                    code = Some(frame.code());
                }
            }
            code
        })
        .await
    }

    /// Sends bytes again and again until the server stops it. Returns the number of bytes taken and the GOAWAY code.
    pub async fn flood(&mut self, bytes: &[u8], most: usize) -> (usize, Option<u32>) {
        let (mut read, mut write) = self.stream.split();
        let mut answer = std::mem::take(&mut self.buffer);
        let sending = async {
            let mut sent = 0;
            while sent < most && write.write_all(bytes).await.is_ok() {
                sent += bytes.len();
            }
            sent
        };
        let reading = async { while matches!(read.read_buf(&mut answer).await, Ok(n) if n > 0) {} };
        let (sent, ()) = within(SOON * 2, "the end of a flood", futures_util::future::join(sending, reading)).await;
        self.buffer = answer;
        let mut code = None;
        while let Some(frame) = self.take() {
            if frame.kind == GOAWAY {
                code = Some(frame.code());
            }
        }
        (sent, code)
    }
}
