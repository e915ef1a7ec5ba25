//! The server's side of WebSocket (RFC 6455): the handshake key, outgoing frames, and a decoder of incoming frames.
//!
//! A server's frames are not masked, so all receivers get the same bytes for a message.

use std::mem;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, Bytes, BytesMut};
use sha1::{Digest, Sha1};

#[cfg(test)]
mod tests;

/// The constant that is appended to the key for the hash (section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The longest payload of a control frame (section 5.5).
const MAX_CONTROL: usize = 125;

const FIN: u8 = 0x80;
const RSV: u8 = 0x70;
const OPCODE: u8 = 0x0f;
const MASKED: u8 = 0x80;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// The `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key` (section 4.2.2).
#[must_use]
pub fn accept_key(key: &str) -> String {
    STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

/// Whether `key` is a `Sec-WebSocket-Key`: the base64 of 16 bytes (section 4.1).
///
/// The four spare bits of the base64 may have any value: some clients send 22 random letters, and
/// nothing depends on these bits.
#[must_use]
pub fn is_key(key: &str) -> bool {
    key.strip_suffix("==").is_some_and(|digits| {
        digits.len() == 22 && digits.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
    })
}

/// A text frame with a whole message. `payload` has to be UTF-8.
#[must_use]
pub fn text_frame(payload: &[u8]) -> Bytes {
    frame(TEXT, payload)
}

/// Appends the header of a text frame (section 5.2). The caller then writes the payload of `len` bytes.
pub fn text_header(len: usize, out: &mut Vec<u8>) {
    header(TEXT, len, out);
}

/// Appends the header of a binary frame (section 5.2). The caller then writes the payload of `len` bytes.
pub fn binary_header(len: usize, out: &mut Vec<u8>) {
    header(BINARY, len, out);
}

/// A close frame (section 5.5.1). `reason` is cut to the 123 bytes that fit, at a character boundary.
///
/// `code` is not checked. The codes 1005, 1006 and 1015 must not be sent (section 7.4.1).
#[must_use]
pub fn close_frame(code: u16, reason: &str) -> Bytes {
    let mut len = reason.len().min(MAX_CONTROL - 2);
    while !reason.is_char_boundary(len) {
        len -= 1;
    }
    let mut payload = Vec::with_capacity(len + 2);
    payload.extend_from_slice(&code.to_be_bytes());
    payload.extend_from_slice(&reason.as_bytes()[..len]);
    frame(CLOSE, &payload)
}

/// A close frame without a code or a reason: the answer to such a close frame (section 5.5.1).
#[must_use]
pub fn empty_close_frame() -> Bytes {
    Bytes::from_static(&[FIN | CLOSE, 0])
}

/// A ping frame without a payload (section 5.5.2).
#[must_use]
pub fn ping_frame() -> Bytes {
    Bytes::from_static(&[FIN | PING, 0])
}

/// A pong frame (section 5.5.3) with the payload of a ping. The payload is cut at 125 bytes. A valid ping does not have
/// a longer payload.
#[must_use]
pub fn pong_frame(payload: &[u8]) -> Bytes {
    frame(PONG, &payload[..payload.len().min(MAX_CONTROL)])
}

fn frame(opcode: u8, payload: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(10 + payload.len());
    header(opcode, payload.len(), &mut out);
    out.extend_from_slice(payload);
    Bytes::from(out)
}

fn header(opcode: u8, len: usize, out: &mut Vec<u8>) {
    out.push(FIN | opcode);
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(len @ ..126), _) => out.push(len),
        (_, Ok(len)) => {
            out.push(126);
            out.extend_from_slice(&len.to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
}

/// A message or a control frame that a client sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A whole text message, its fragments joined.
    Text(String),
    /// A whole binary message, if the decoder accepts them.
    Binary(Bytes),
    /// A ping. The payload of the ping has to be sent back in a pong.
    Ping(Bytes),
    /// A pong, solicited or not. The payload of the pong is dropped.
    Pong,
    /// The close handshake, with the code and the reason if the client has sent them.
    Close(Option<(u16, String)>),
}

/// The client has violated the protocol or a limit. The connection has to be closed with `code` (section 7.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{reason} ({code})")]
pub struct Violation {
    /// The close code: 1002 protocol error, 1003 not text, 1007 not UTF-8, 1009 too big.
    pub code: u16,
    /// The reason in words, for the close frame and the log.
    pub reason: &'static str,
}

const fn violation(code: u16, reason: &'static str) -> Violation {
    Violation { code, reason }
}

/// Decodes a client's frames. The result does not depend on how the frames are cut into reads and fragments.
///
/// Each connection has a decoder, so the decoder does not hold a buffer between messages.
#[derive(Debug)]
pub struct Decoder {
    max_message: usize,
    accepts_binary: bool,
    state: State,
}

#[derive(Debug, Default)]
enum State {
    /// No part of a message has arrived.
    #[default]
    Between,
    Within(Box<UnderWay>),
    /// No more frames are read, because a close frame or a violation has arrived. Every later call returns the same
    /// violation.
    Ended(Box<Result<(), Violation>>),
}

/// A message or a frame that is not complete yet.
#[derive(Debug, Default)]
struct UnderWay {
    /// The fragments of the message so far, unmasked.
    message: Vec<u8>,
    /// Whether a text frame without FIN has arrived, so that continuations have to follow.
    fragmented: bool,
    /// Whether the message is binary.
    is_binary: bool,
    /// The payload of the control frame that is arriving. It is separate from `message`, since control frames may come
    /// between fragments.
    control: Vec<u8>,
    /// The frame whose payload is arriving.
    arriving: Option<Header>,
}

#[derive(Debug, Clone, Copy)]
struct Header {
    fin: bool,
    opcode: u8,
    /// The mask. It is rotated after each part of the payload, so that it always begins with the key of the next byte.
    mask: [u8; 4],
    remaining: usize,
}

impl Decoder {
    /// A decoder for text messages of at most `max_message` bytes in all fragments together.
    #[must_use]
    pub fn new(max_message: usize) -> Self {
        Self { max_message, accepts_binary: false, state: State::Between }
    }

    /// A decoder that accepts binary messages, too.
    #[must_use]
    pub fn with_binary(max_message: usize) -> Self {
        Self { accepts_binary: true, ..Self::new(max_message) }
    }

    /// The length limit of a message, in bytes.
    #[must_use]
    pub fn max_message(&self) -> usize {
        self.max_message
    }

    /// Takes the next message or control frame from the front of `buf`; `None` if more bytes are needed.
    ///
    /// Payload is taken from `buf` as it arrives, so `buf` never has to grow to the size of a message. All bytes after
    /// a close frame are discarded (section 1.4), and the result is then `None`.
    ///
    /// # Errors
    ///
    /// A [`Violation`], as soon as it can be detected. A violation in the header, such as a message that is too long,
    /// is returned before any payload of that frame. It is final: later calls discard `buf` and return the same
    /// violation.
    pub fn decode(&mut self, buf: &mut BytesMut) -> Result<Option<Frame>, Violation> {
        let mut under_way = match std::mem::take(&mut self.state) {
            State::Ended(ended) => {
                buf.clear();
                let answer = ended.map(|()| None);
                self.state = State::Ended(ended);
                return answer;
            }
            State::Between if buf.is_empty() => return Ok(None),
            State::Between => Box::default(),
            State::Within(under_way) => under_way,
        };
        let decoded = under_way.advance(self.max_message, self.accepts_binary, buf);
        // The connection may linger until the peer has read the close frame, but a half-received message is freed here.
        self.state = match &decoded {
            Err(violation) => State::Ended(Box::new(Err(*violation))),
            Ok(Some(Frame::Close(_))) => State::Ended(Box::new(Ok(()))),
            Ok(_) if under_way.is_nothing() => State::Between,
            Ok(_) => State::Within(under_way),
        };
        if matches!(self.state, State::Ended(_)) {
            buf.clear();
        }
        decoded
    }

    /// Returns the number of bytes of memory that an incomplete message takes.
    #[must_use]
    pub fn held(&self) -> usize {
        match &self.state {
            State::Within(under_way) => under_way.message.capacity() + under_way.control.capacity(),
            State::Between | State::Ended(_) => 0,
        }
    }
}

impl UnderWay {
    fn is_nothing(&self) -> bool {
        self.arriving.is_none() && !self.fragmented
    }

    fn advance(
        &mut self,
        max_message: usize,
        accepts_binary: bool,
        buf: &mut BytesMut,
    ) -> Result<Option<Frame>, Violation> {
        loop {
            let mut header = match self.arriving {
                Some(header) => header,
                None => match self.header(max_message, accepts_binary, buf)? {
                    Some(header) => header,
                    None => return Ok(None),
                },
            };
            let payload = if header.is_control() { &mut self.control } else { &mut self.message };
            let (start, taken) = (payload.len(), header.remaining.min(buf.len()));
            payload.extend_from_slice(&buf[..taken]);
            buf.advance(taken);
            unmask(&mut payload[start..], header.mask);
            header.mask.rotate_left(taken % 4);
            header.remaining -= taken;
            if header.remaining > 0 {
                self.arriving = Some(header);
                return Ok(None);
            }
            self.arriving = None;
            // A fragment that does not end its message does not yield a frame. The code uses a loop and not a
            // recursion, because a peer may send any number of empty fragments.
            if let Some(frame) = self.finish(header)? {
                return Ok(Some(frame));
            }
        }
    }

    /// Takes a frame's header (section 5.2) if all of it is there, and checks it as far as possible.
    fn header(
        &mut self,
        max_message: usize,
        accepts_binary: bool,
        buf: &mut BytesMut,
    ) -> Result<Option<Header>, Violation> {
        let &[first, second, ref rest @ ..] = &buf[..] else {
            return Ok(None);
        };
        let (fin, opcode) = (first & FIN != 0, first & OPCODE);
        self.check(first, second, accepts_binary)?;
        let (len, extended) = match (second & !MASKED, rest) {
            (126, &[a, b, ..]) => (u64::from(u16::from_be_bytes([a, b])), 2),
            (127, &[a, b, c, d, e, f, g, h, ..]) => (u64::from_be_bytes([a, b, c, d, e, f, g, h]), 8),
            (126 | 127, _) => return Ok(None),
            (len, _) => (u64::from(len), 0),
        };
        if len >> 63 != 0 {
            return Err(violation(1002, "the frame length has its top bit set"));
        }
        let minimal = match extended {
            2 => len >= 126,
            8 => len > u64::from(u16::MAX),
            _ => true,
        };
        if !minimal {
            return Err(violation(1002, "the frame length is not minimal"));
        }
        // The length of all fragments together is checked before any payload is taken, so that the limit and not the
        // announced length bounds the memory. `message` is never longer than `max_message`.
        let room = if opcode >= CLOSE { MAX_CONTROL } else { max_message - self.message.len() };
        let remaining = match usize::try_from(len) {
            Ok(len) if len <= room => len,
            _ => return Err(violation(1009, "the message is too big")),
        };
        let Some(&[a, b, c, d]) = rest.get(extended..extended + 4) else {
            return Ok(None);
        };
        buf.advance(2 + extended + 4);
        if matches!(opcode, TEXT | BINARY) {
            self.is_binary = opcode == BINARY;
        }
        Ok(Some(Header { fin, opcode, mask: [a, b, c, d], remaining }))
    }

    /// Checks the first two bytes of a header.
    fn check(&self, first: u8, second: u8, accepts_binary: bool) -> Result<(), Violation> {
        if first & RSV != 0 {
            return Err(violation(1002, "a reserved bit is set, but no extension was agreed on"));
        }
        // Section 5.1: a client must mask, so that bytes that a script has chosen never appear unchanged on the wire. A
        // proxy could mistake them for HTTP.
        if second & MASKED == 0 {
            return Err(violation(1002, "the frame is not masked"));
        }
        match first & OPCODE {
            CONTINUATION if !self.fragmented => Err(violation(1002, "a continuation frame came without a message")),
            TEXT | BINARY if self.fragmented => Err(violation(1002, "a new message begins inside a fragmented one")),
            BINARY if !accepts_binary => Err(violation(1003, "binary messages are not accepted")),
            CONTINUATION | TEXT | BINARY => Ok(()),
            CLOSE | PING | PONG if first & FIN == 0 => Err(violation(1002, "the control frame is fragmented")),
            CLOSE | PING | PONG if usize::from(second & !MASKED) > MAX_CONTROL => {
                Err(violation(1002, "the control frame is too long"))
            }
            CLOSE if second & !MASKED == 1 => Err(violation(1002, "the close code is cut off")),
            CLOSE | PING | PONG => Ok(()),
            _ => Err(violation(1002, "reserved opcode")),
        }
    }

    /// Acts on a frame whose payload is complete.
    fn finish(&mut self, header: Header) -> Result<Option<Frame>, Violation> {
        if header.is_control() {
            let payload = mem::take(&mut self.control);
            return Ok(Some(match header.opcode {
                CLOSE => Frame::Close(close(&payload)?),
                PING => Frame::Ping(Bytes::from(payload)),
                _ => Frame::Pong,
            }));
        }
        self.fragmented = !header.fin;
        if self.fragmented {
            return Ok(None);
        }
        // The text is checked when it is complete, because a fragment may end within a character. `take` also frees the
        // buffer's capacity.
        let message = mem::take(&mut self.message);
        if self.is_binary {
            return Ok(Some(Frame::Binary(message.into())));
        }
        let text = String::from_utf8(message);
        text.map(|text| Some(Frame::Text(text))).map_err(|_| violation(1007, "the text is not UTF-8"))
    }
}

impl Header {
    fn is_control(&self) -> bool {
        self.opcode >= CLOSE
    }
}

/// The code and reason in a close frame's payload (sections 5.5.1 and 7.4).
fn close(payload: &[u8]) -> Result<Option<(u16, String)>, Violation> {
    let &[a, b, ref reason @ ..] = payload else {
        return Ok(None);
    };
    let code = u16::from_be_bytes([a, b]);
    // 1004 does not have a meaning, and 1005, 1006 and 1015 stand for events without a close frame.
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(violation(1002, "invalid close code"));
    }
    match std::str::from_utf8(reason) {
        Ok(reason) => Ok(Some((code, reason.to_owned()))),
        Err(_) => Err(violation(1007, "the close reason is not UTF-8")),
    }
}

/// Unmasks a payload (section 5.3), eight bytes at a time.
fn unmask(payload: &mut [u8], [a, b, c, d]: [u8; 4]) {
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (chunks, rest) = payload.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip([a, b, c, d, a, b, c]) {
        *byte ^= key;
    }
}
