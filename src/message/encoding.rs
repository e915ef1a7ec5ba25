//! Encodings of messages: the bytes that all receivers of one kind share. The bytes are made once for each message.
//!
//! An [`Encoding`] is a `static` of the transport or protocol that needs it. Neither this module nor [`Message`] has to
//! know the transport or protocol.

use super::Message;
use super::frames::FrameKey;
use bytes::Bytes;
use parking_lot::RwLock;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// The number of times that this process has encoded a message. It counts once for each message and encoding.
static MADE: AtomicU64 = AtomicU64::new(0);

/// Returns how often this process has encoded a message.
pub fn made() -> u64 {
    MADE.load(Ordering::Relaxed)
}

/// A way to make a message's shared bytes. It is always a `static`, because encodings are compared by their addresses.
pub struct Encoding {
    /// Appears in debug output.
    name: &'static str,
    encode: Encode,
}

/// A function that appends an encoded message.
type EncodeMessage = dyn Fn(&Message, &mut Vec<u8>) + Send + Sync;

/// How a message is encoded.
enum Encode {
    /// As the message object, which every message already holds.
    Object,
    /// By a function that appends the encoded message.
    Function(fn(&Message, &mut Vec<u8>)),
    /// By a function that can be exchanged. The number of exchanges is beside it.
    Exchanged(AtomicU64, RwLock<Box<EncodeMessage>>),
}

/// The encoding that is the message object as JSON, unchanged.
pub static OBJECT: Encoding = Encoding { name: "object", encode: Encode::Object };

impl Encoding {
    /// Makes an encoding of a function that appends the encoded message. The name appears in debug output.
    pub const fn new(name: &'static str, encode: fn(&Message, &mut Vec<u8>)) -> Encoding {
        Encoding { name, encode: Encode::Function(encode) }
    }

    /// Makes an encoding that depends on values that are known only while the server runs. It stays in memory for good,
    /// so the caller uses it again: see [`exchange`](Encoding::exchange).
    pub fn leak(
        name: &'static str,
        encode: impl Fn(&Message, &mut Vec<u8>) + Send + Sync + 'static,
    ) -> &'static Encoding {
        let encode = Encode::Exchanged(AtomicU64::new(0), RwLock::new(Box::new(encode)));
        Box::leak(Box::new(Encoding { name, encode }))
    }

    /// Gives an encoding that was made by [`leak`](Encoding::leak) another function. Frames that the old one has made are
    /// not used any more. Nobody may use the encoding at this moment.
    pub fn exchange(&self, encode: impl Fn(&Message, &mut Vec<u8>) + Send + Sync + 'static) {
        if let Encode::Exchanged(exchanges, known) = &self.encode {
            let mut known = known.write();
            exchanges.fetch_add(1, Ordering::Relaxed);
            *known = Box::new(encode);
        }
    }

    /// The key of its frame in a message.
    fn key(&self) -> FrameKey {
        let function = match &self.encode {
            Encode::Exchanged(exchanges, _) => exchanges.load(Ordering::Relaxed),
            Encode::Object | Encode::Function(_) => 0,
        };
        FrameKey { address: std::ptr::from_ref(self).addr(), function }
    }

    /// Appends the encoded message. Returns false for the message object.
    fn encode(&self, message: &Message, out: &mut Vec<u8>) -> bool {
        MADE.fetch_add(u64::from(!matches!(self.encode, Encode::Object)), Ordering::Relaxed);
        match &self.encode {
            Encode::Object => return false,
            Encode::Function(encode) => encode(message, out),
            Encode::Exchanged(_, encode) => encode.read()(message, out),
        }
        true
    }

    /// Returns the message in this encoding. The first call makes the bytes. The bytes are shared, and kept for as long
    /// as the message.
    pub fn frame(&'static self, message: &Message) -> Bytes {
        // A variant's object is a frame, too. It is made first, because a frame cannot be made while another frame is
        // being made.
        let object = message.object();
        if matches!(self.encode, Encode::Object) {
            return object.clone();
        }
        let frame = message.frames.get(self.key(), || {
            let mut out = Vec::with_capacity(object.len() + 128);
            self.encode(message, &mut out);
            out.into()
        });
        frame.clone()
    }

    /// Appends the message in this encoding without keeping the bytes. It is for a caller that needs the bytes only
    /// once: a kept frame would stay in memory for as long as its message is retained.
    pub fn write(&self, message: &Message, out: &mut Vec<u8>) {
        match message.frames.known(self.key()) {
            Some(frame) => out.extend_from_slice(frame),
            None if self.encode(message, out) => {}
            None => out.extend_from_slice(message.object()),
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

#[cfg(test)]
mod tests {
    use super::super::{Draft, Event, Extras, Payload};
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
    fn the_object_of_a_variant_is_made_before_other_frames() {
        let channels: Box<[_]> = ["a", "todo"].map(|name| name.parse().expect("a channel")).into();
        let draft = Draft::new("a".parse().expect("a channel"), Payload::from_any("1"));
        let message = draft.with_extras(Extras { channels: channels.clone(), ..Extras::default() }).into_message(None);
        let (variant, alone) = (message.variant(&channels[1]), self::message());
        assert_eq!(TWICE.frame(&variant), TWICE.frame(&alone));
        assert_eq!(OBJECT.frame(&variant), OBJECT.frame(&alone));
    }

    #[test]
    fn frames_of_an_exchanged_function_are_not_used() {
        let encoding = Encoding::leak("one", |_, out| out.push(b'1'));
        let message = message();
        assert_eq!(encoding.frame(&message), &b"1"[..]);
        encoding.exchange(|_, out| out.push(b'2'));
        let mut written = Vec::new();
        encoding.write(&message, &mut written);
        assert_eq!((encoding.frame(&message), written), ((&b"2"[..]).into(), b"2".to_vec()));
    }

    #[test]
    fn to_write_keeps_nothing() {
        let message = message();
        TWICE.write(&message, &mut Vec::new());
        assert!(message.frames.known(TWICE.key()).is_none());
        TWICE.frame(&message);
        assert!(message.frames.known(TWICE.key()).is_some());
        assert!(message.frames.known(LENGTH.key()).is_none());
    }
}
