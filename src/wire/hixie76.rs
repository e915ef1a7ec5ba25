//! The server's side of the WebSocket of 2010: draft-hixie-thewebsocketprotocol-76, which Safari 5 and PhantomJS 1.9
//! speak.
//!
//! The draft has text messages only. Frames have no mask, so a script chooses the bytes on the wire.

use bytes::{Buf, Bytes, BytesMut};
use md5::{Digest, Md5};

/// The first byte of a text frame, and its last one. The last one never occurs in UTF-8.
const TEXT: u8 = 0x00;
const END: u8 = 0xff;

/// The closing handshake, the same for both sides (section 5.3).
pub const CLOSE: [u8; 2] = [END, 0x00];

/// The length of the third key, which follows the head of the request.
pub const KEY3: usize = 8;

/// The numbers in the two keys of a handshake (section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys {
    first: u32,
    second: u32,
}

impl Keys {
    /// Reads `Sec-WebSocket-Key1` and `Sec-WebSocket-Key2`. `None` if one of them is not a key.
    #[must_use]
    pub fn read(first: &str, second: &str) -> Option<Keys> {
        Some(Keys { first: number(first)?, second: number(second)? })
    }

    /// The bytes that prove to the client that the server has read all three keys.
    #[must_use]
    pub fn answer(self, key3: &[u8; KEY3]) -> [u8; 16] {
        let hash = Md5::new().chain_update(self.first.to_be_bytes()).chain_update(self.second.to_be_bytes());
        hash.chain_update(key3).finalize().into()
    }
}

/// The number in a key: its digits, divided by the number of its spaces.
fn number(key: &str) -> Option<u32> {
    let digits = key.bytes().filter(u8::is_ascii_digit);
    let number = digits.take(11).fold(0, |number: u64, digit| number * 10 + u64::from(digit - b'0'));
    let spaces = key.bytes().filter(|byte| *byte == b' ').count() as u64;
    let is_whole = spaces > 0 && number % spaces == 0;
    u32::try_from(number).ok().filter(|_| is_whole).map(|number| number / u32::try_from(spaces).unwrap_or(u32::MAX))
}

/// Appends a text frame. `text` has to be UTF-8.
pub fn text_frame(text: &[u8], out: &mut Vec<u8>) {
    out.reserve(text.len() + 2);
    out.push(TEXT);
    out.extend_from_slice(text);
    out.push(END);
}

/// What a client has sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A text. Bytes that are not UTF-8 are replaced, as the draft wants.
    Text(String),
    /// The closing handshake. Nothing comes after it.
    Close,
}

/// The client has violated the protocol or a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A frame that is not a text and not the closing handshake.
    #[error("a frame must be a text or the closing handshake")]
    FrameType,
    /// A text is too long.
    #[error("the text is too long")]
    TooLong,
}

/// Decodes a client's frames. The result does not depend on how the frames are cut into reads.
#[derive(Debug)]
pub struct Decoder {
    max_message: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    Between,
    /// The bytes of a text so far.
    Text(Vec<u8>),
    /// The first byte of the closing handshake has arrived.
    Closing,
    /// No more frames are read. Every later call returns the same.
    Ended(Result<(), Violation>),
}

impl Decoder {
    /// A decoder for texts of at most `max_message` bytes.
    #[must_use]
    pub fn new(max_message: usize) -> Decoder {
        Decoder { max_message, state: State::Between }
    }

    /// The length limit of a text, in bytes.
    #[must_use]
    pub fn max_message(&self) -> usize {
        self.max_message
    }

    /// Returns the number of bytes of memory that an incomplete text takes.
    #[must_use]
    pub fn held(&self) -> usize {
        match &self.state {
            State::Text(text) => text.capacity(),
            _ => 0,
        }
    }

    /// Takes the next frame from the front of `buf`; `None` if more bytes are needed. After the closing handshake, the
    /// result is `None`.
    ///
    /// # Errors
    ///
    /// A [`Violation`]. It is final: later calls discard `buf` and return the same one.
    pub fn decode(&mut self, buf: &mut BytesMut) -> Result<Option<Frame>, Violation> {
        loop {
            match &mut self.state {
                State::Ended(ended) => {
                    buf.clear();
                    return ended.map(|()| None);
                }
                State::Text(text) => {
                    let end = memchr::memchr(END, buf);
                    let part = end.unwrap_or(buf.len());
                    if part > self.max_message - text.len() {
                        self.state = State::Ended(Err(Violation::TooLong));
                        continue;
                    }
                    text.extend_from_slice(&buf[..part]);
                    buf.advance(part + usize::from(end.is_some()));
                    if end.is_none() {
                        return Ok(None);
                    }
                    let text = std::mem::take(text);
                    self.state = State::Between;
                    let lossy =
                        |error: std::string::FromUtf8Error| String::from_utf8_lossy(error.as_bytes()).into_owned();
                    return Ok(Some(Frame::Text(String::from_utf8(text).unwrap_or_else(lossy))));
                }
                State::Between | State::Closing => {
                    if buf.is_empty() {
                        return Ok(None);
                    }
                    let is_closing = matches!(self.state, State::Closing);
                    self.state = match (is_closing, buf.get_u8()) {
                        (false, TEXT) => State::Text(Vec::new()),
                        (false, END) => State::Closing,
                        // The length of a frame of this kind, which is 0 in the closing handshake.
                        (true, 0) => {
                            self.state = State::Ended(Ok(()));
                            buf.clear();
                            return Ok(Some(Frame::Close));
                        }
                        _ => State::Ended(Err(Violation::FrameType)),
                    };
                }
            }
        }
    }
}

/// The closing handshake as bytes that are shared.
#[must_use]
pub fn close_frame() -> Bytes {
    Bytes::from_static(&CLOSE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The examples of the draft (sections 1.2, 1.3 and 5.2).
    #[test]
    fn the_vectors_of_the_draft() {
        for (first, second, key3, answer) in [
            ("4 @1  46546xW%0l 1 5", "12998 5 Y3 1  .P00", b"^n:ds[4U", b"8jKS'y:G*Co,Wxa-"),
            (
                "18x 6]8vM;54 *(5:  {   U1]8  z [  8",
                "1_ tx7X d  <  nw  334J702) 7]o}` 0",
                b"Tm[K T2u",
                b"fQJ,fN/4F4!~K~MH",
            ),
            ("3e6b263  4 17 80", "17  9 G`ZD9   2 2b 7X 3 /r90", b"WjN}|M(6", b"n`9eBk9z$R8pOtVb"),
        ] {
            let keys = Keys::read(first, second).expect("keys");
            assert_eq!(&keys.answer(key3), answer, "{first:?} {second:?}");
        }
        for (key, expected) in [
            ("3e6b263  4 17 80", Some(906_585_445)),
            ("17  9 G`ZD9   2 2b 7X 3 /r90", Some(179_922_739)),
            ("4 @1  46546xW%0l 1 5", Some(829_309_203)),
            ("12998 5 Y3 1  .P00", Some(259_970_620)),
            ("", None),
            ("12", None),
            ("1 2 3", None),
            (" ", Some(0)),
            ("4294967295 ", Some(u32::MAX)),
            ("4294967296 ", None),
            ("99999999999999999999999 ", None),
        ] {
            assert_eq!(number(key), expected, "{key:?}");
        }
    }

    fn decode(chunks: &[&[u8]], max: usize) -> (Vec<Frame>, Option<Violation>) {
        let (mut decoder, mut buf, mut frames) = (Decoder::new(max), BytesMut::new(), Vec::new());
        for chunk in chunks {
            buf.extend_from_slice(chunk);
            loop {
                match decoder.decode(&mut buf) {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(violation) => return (frames, Some(violation)),
                }
            }
        }
        (frames, None)
    }

    fn text(text: &str) -> Frame {
        Frame::Text(text.to_owned())
    }

    #[test]
    fn frames_of_the_draft() {
        for (bytes, frames, violation) in [
            (&b"\x00a\xff\x00\xff\xff\x00\x00lost\xff"[..], vec![text("a"), text(""), Frame::Close], None),
            (b"\x00k\xc3\xa4se\xff", vec![text("käse")], None),
            (b"\x00\xc3\xff", vec![text("\u{fffd}")], None),
            (b"\x00123456\xff", vec![], Some(Violation::TooLong)),
            (b"\x0012345", vec![], None),
            (b"\x80\x01a", vec![], Some(Violation::FrameType)),
            (b"\xff\x01a", vec![], Some(Violation::FrameType)),
            (b"\x01a\xff", vec![], Some(Violation::FrameType)),
            (b"\xff", vec![], None),
        ] {
            assert_eq!(decode(&[bytes], 5), (frames, violation), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn a_text_comes_back(texts in proptest::collection::vec("\\PC*", 0..5)) {
            let mut bytes = Vec::new();
            texts.iter().for_each(|text| text_frame(text.as_bytes(), &mut bytes));
            let expected: Vec<Frame> = texts.iter().map(|it| text(it)).collect();
            prop_assert_eq!(decode(&[&bytes], 100_000), (expected, None));
        }

        /// The cuts between reads do not matter.
        #[test]
        fn cuts_do_not_matter(bytes in proptest::collection::vec(prop_oneof![Just(0u8), Just(255u8), Just(b'a'), any::<u8>()], 0..60)) {
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            prop_assert_eq!(decode(&single, 20), decode(&[&bytes], 20));
        }
    }
}
