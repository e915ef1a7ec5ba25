//! Outlets: the hub writes through them to the sockets of parked readers. Outlets of one format get the same bytes.

use crate::cursor::Cursor;
use crate::message::{Encoding, Message};
use bytes::Bytes;
use std::any::TypeId;
use std::io;
use std::sync::Arc;

/// The hub's view of a socket.
pub trait Outlet: Send + Sync {
    /// The format of the bytes that the socket gets.
    fn format(&self) -> Format<'_>;

    /// The format in a short form, if there are no bytes before or after messages. Most readers have such a format. It
    /// is compared at each delivery, and comparing a whole [`Format`] would cost a tenth of the delivery.
    fn bare_format(&self) -> Option<BareFormat> {
        None
    }

    /// The number of the outlet's transport. Writes are counted under this number
    /// ([`FanOutObserver`](super::FanOutObserver)).
    fn transport(&self) -> usize;

    /// Encodes messages for one write to the socket. A reader that has received them has all messages up to `upto`.
    fn encode(&self, messages: &[Arc<Message>], upto: Cursor) -> Encoded;

    /// Reads a word of each piece of memory that a [`write`](Outlet::write) reads, so that the memory is in the cache
    /// before the write.
    fn touch(&self) {}

    /// Writes as many bytes as the socket accepts without waiting.
    ///
    /// # Errors
    ///
    /// The system's error; `WouldBlock` if the socket does not accept any bytes.
    fn write(&self, bytes: &[u8]) -> io::Result<usize>;
}

/// The format of an outlet's bytes. The bytes depend only on the format and the messages, so outlets of equal formats
/// get the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format<'a> {
    /// How each message is encoded.
    pub encoding: &'static Encoding,
    /// How encoded messages are joined.
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
    /// Whether the layout is [`Layout::Chunk`]. Otherwise it is [`Layout::Sequence`].
    pub is_chunk: bool,
}

/// How the encoded messages of one write are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// The messages follow one another.
    Sequence,
    /// The messages follow one another in one chunk of HTTP/1.1.
    Chunk,
    /// The messages are the answer to a poll. Each type of envelope has a layout of its own.
    Answer(TypeId),
}

/// A [`Format`] that owns its bytes, to be kept beside the bytes that were encoded for it.
#[derive(Debug)]
pub struct OwnedFormat {
    encoding: &'static Encoding,
    layout: Layout,
    prefix: Box<[u8]>,
    suffix: Box<[u8]>,
}

impl Format<'_> {
    /// Returns a copy that owns its bytes.
    pub fn to_owned(self) -> OwnedFormat {
        let Format { encoding, layout, prefix, suffix } = self;
        OwnedFormat { encoding, layout, prefix: prefix.into(), suffix: suffix.into() }
    }
}

impl OwnedFormat {
    /// Whether this format equals another one, so that both get the same bytes.
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
    /// The number of the bytes that count against a rollover.
    pub weight: usize,
}
