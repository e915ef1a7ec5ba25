//! Outlets: how the hub writes to the socket of a parked reader, and which sockets get the same bytes.

use crate::cursor::Cursor;
use crate::message::{Encoding, Message};
use bytes::Bytes;
use std::any::TypeId;
use std::io;
use std::sync::Arc;

/// A socket as the hub sees it.
pub trait Outlet: Send + Sync {
    /// What its bytes depend on.
    fn format(&self) -> Format<'_>;

    /// Its format in short, if nothing stands before or behind messages. Most readers have such a format, and it is compared
    /// at each delivery, where a whole [`Format`] costs a tenth of the delivery.
    fn bare_format(&self) -> Option<BareFormat> {
        None
    }

    /// The number of its transport, under which its writes are counted ([`FanOutObserver`](super::FanOutObserver)).
    fn transport(&self) -> usize;

    /// Encodes messages as they go to the socket, in one write. A reader that has them has everything up to `upto`.
    fn encode(&self, messages: &[Arc<Message>], upto: Cursor) -> Encoded;

    /// Reads a word of each piece of memory that a [`write`](Outlet::write) reads, so that it is in the cache by then.
    fn touch(&self) {}

    /// Writes what the socket accepts at once.
    ///
    /// # Errors
    ///
    /// The system's error; `WouldBlock` if the socket accepts nothing.
    fn write(&self, bytes: &[u8]) -> io::Result<usize>;
}

/// Everything that an outlet's bytes depend on, besides the messages: outlets of equal formats are written the same
/// bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format<'a> {
    /// How each message is encoded.
    pub encoding: &'static Encoding,
    /// How encoded messages are put together.
    pub layout: Layout,
    /// The bytes before each message, or before an answer.
    pub prefix: &'a [u8],
    /// The bytes after each message, or after an answer.
    pub suffix: &'a [u8],
}

/// A [`Format`] of a stream without prefix and suffix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BareFormat {
    /// How each message is encoded.
    pub encoding: &'static Encoding,
    /// Whether the layout is [`Layout::Chunk`]; it is [`Layout::Sequence`] if not.
    pub is_chunk: bool,
}

/// How the encoded messages of one write are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// The messages follow one another.
    Sequence,
    /// The messages follow one another in one chunk of HTTP/1.1.
    Chunk,
    /// The messages are the answer to a poll. The type is that of the envelope that writes the answer.
    Answer(TypeId),
}

/// A [`Format`] that is kept beside the bytes made for it.
#[derive(Debug)]
pub struct OwnedFormat {
    encoding: &'static Encoding,
    layout: Layout,
    prefix: Box<[u8]>,
    suffix: Box<[u8]>,
}

impl Format<'_> {
    /// A copy that can be kept.
    pub fn to_owned(self) -> OwnedFormat {
        let Format { encoding, layout, prefix, suffix } = self;
        OwnedFormat { encoding, layout, prefix: prefix.into(), suffix: suffix.into() }
    }
}

impl OwnedFormat {
    /// Whether bytes made for this format equal those made for another one.
    pub fn is(&self, format: Format<'_>) -> bool {
        let OwnedFormat { encoding, layout, prefix, suffix } = self;
        Format { encoding, layout: *layout, prefix, suffix } == format
    }
}

/// Bytes for sockets of one [`Format`].
#[derive(Clone, Debug)]
pub struct Encoded {
    /// The bytes of one write.
    pub bytes: Bytes,
    /// How many of the bytes count against a rollover.
    pub weight: usize,
}
