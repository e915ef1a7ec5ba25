//! Encodings of messages: the bytes that all receivers of one kind share, made once for each message.
//!
//! An [`Encoding`] is a `static` of the transport or protocol that needs it. Nothing here or in [`Message`] has to know
//! about it.

use super::Message;
use bytes::Bytes;
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Encodings that this process has made. One is counted when it is made, which is once for each message and encoding.
static MADE: AtomicU64 = AtomicU64::new(0);

/// How many encodings this process has made.
pub fn made() -> u64 {
    MADE.load(Ordering::Relaxed)
}

/// How a message's shared bytes are made. It is always a `static`: an encoding is recognised by its address.
pub struct Encoding {
    name: &'static str,
    /// Appends the encoded message. `None`: the message object, which every message holds already.
    encode: Option<fn(&Message, &mut Vec<u8>)>,
}

/// The message object as JSON, as it is.
pub static OBJECT: Encoding = Encoding { name: "object", encode: None };

impl Encoding {
    /// An encoding by a function that appends the encoded message. The name appears in debug output.
    pub const fn new(name: &'static str, encode: fn(&Message, &mut Vec<u8>)) -> Encoding {
        Encoding { name, encode: Some(encode) }
    }

    /// The message in this encoding: made at the first call, shared afterwards, and kept for as long as the message is.
    pub fn frame(&'static self, message: &Message) -> Bytes {
        let Some(encode) = self.encode else { return message.object().clone() };
        message.frames.get(self, || {
            let mut out = Vec::with_capacity(message.object().len() + 128);
            MADE.fetch_add(1, Ordering::Relaxed);
            encode(message, &mut out);
            out.into()
        })
    }

    /// Appends the message in this encoding and keeps nothing. It is for a caller that needs the bytes once: a kept
    /// frame stays in memory for as long as its message is retained.
    pub fn write(&self, message: &Message, out: &mut Vec<u8>) {
        let Some(encode) = self.encode else { return out.extend_from_slice(message.object()) };
        match message.frames.known(self) {
            Some(frame) => out.extend_from_slice(frame),
            None => {
                MADE.fetch_add(1, Ordering::Relaxed);
                encode(message, out);
            }
        }
    }
}

impl PartialEq for Encoding {
    fn eq(&self, other: &Encoding) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Encoding {}

impl fmt::Debug for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// A message's frames, one for each encoding that was asked for: a list that only grows, read without a lock. Most retained
/// messages are never read again, and an empty list is one word and a flag.
#[derive(Default)]
pub(super) struct Frames(OnceLock<Box<Frame>>);

struct Frame {
    encoding: &'static Encoding,
    bytes: Bytes,
    next: Frames,
}

impl Frames {
    /// The frame of an encoding, if it was made.
    fn known(&self, encoding: &Encoding) -> Option<&Bytes> {
        let mut frames = self;
        while let Some(frame) = frames.0.get() {
            if frame.encoding == encoding {
                return Some(&frame.bytes);
            }
            frames = &frame.next;
        }
        None
    }

    /// The frame of an encoding. The first call makes it. If two callers ask at the same time, one makes it and the other
    /// waits.
    fn get(&self, encoding: &'static Encoding, make: impl Fn() -> Bytes) -> Bytes {
        let mut frames = self;
        loop {
            let frame = frames.0.get_or_init(|| Box::new(Frame { encoding, bytes: make(), next: Frames::default() }));
            if frame.encoding == encoding {
                return frame.bytes.clone();
            }
            frames = &frame.next;
        }
    }
}

// Every retained message has a list of frames.
const _: () = assert!(size_of::<Frames>() <= 16);

#[cfg(test)]
mod tests {
    use super::super::{Event, Payload};
    use super::*;

    static TWICE: Encoding = Encoding::new("twice", |message, out| {
        out.extend_from_slice(message.object());
        out.extend_from_slice(message.object());
    });
    static LENGTH: Encoding =
        Encoding::new("length", |message, out| out.extend_from_slice(message.payload().len().to_string().as_bytes()));

    fn message() -> Message {
        Message::new(None, "todo".parse().expect("a channel"), Event::default(), &Payload::from_any("1"), None)
    }

    #[test]
    fn each_encoding_has_one_frame_that_is_shared() {
        let message = message();
        let (twice, length) = (TWICE.frame(&message), LENGTH.frame(&message));
        assert_eq!((twice.len(), &*length), (2 * message.object().len(), b"1".as_slice()));
        assert_eq!(TWICE.frame(&message).as_ptr(), twice.as_ptr());
        assert_eq!(LENGTH.frame(&message).as_ptr(), length.as_ptr());
        assert_eq!(OBJECT.frame(&message).as_ptr(), message.object().as_ptr());
    }

    #[test]
    fn to_write_keeps_nothing() {
        let message = message();
        TWICE.write(&message, &mut Vec::new());
        assert!(message.frames.known(&TWICE).is_none());
        TWICE.frame(&message);
        assert!(message.frames.known(&TWICE).is_some());
        assert!(message.frames.known(&LENGTH).is_none());
    }
}
