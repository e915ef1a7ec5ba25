//! The transports: ways to read the log. They differ in framing and in when a response ends, and in
//! nothing else, so a transport is a [`Transport`] in a file of its own and a word in [`ALL`].
//!
//! Nothing here does I/O: a transport says what bytes stand for what; `serve` moves them.

pub mod batch;
pub mod control;
pub mod encoding;
pub mod params;
pub mod refusal;

mod forever_frame;
mod jsonp;
mod long_poll;
mod multipart;
mod ndjson;
mod poll;
mod sse;
mod tcp;
mod websocket;
mod xhr_stream;

pub use batch::Batch;
pub use control::{Bye, Control};
pub use params::Params;
pub use refusal::{Code, Refusal};

use crate::message::Encoding;
use bytes::{Bytes, BytesMut};
use std::any::Any;
use std::sync::Arc;

/// Every transport, oldest idea first.
pub const ALL: &[&dyn Transport] = &[
    &tcp::Tcp,
    &poll::Poll,
    &forever_frame::ForeverFrame,
    &multipart::Multipart,
    &xhr_stream::XhrStream,
    &long_poll::LongPoll,
    &jsonp::Jsonp,
    &sse::Sse,
    &websocket::WebSocket,
    &ndjson::Ndjson,
];

/// When a response begins and ends. The loop for each is written once, in `serve`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifecycle {
    /// One batch, at once.
    Poll,
    /// One batch as soon as there is a message, or an empty one after a time.
    LongPoll,
    /// Messages until the client or the server goes.
    Stream {
        /// Whether it ends after some bytes or seconds, because browsers keep all they received.
        rollover: bool,
    },
    /// A stream that takes commands, upgraded from HTTP.
    Duplex,
    /// A stream that takes commands, on a port of its own.
    Socket,
}

impl Lifecycle {
    /// Its name in `/info`.
    pub fn as_str(self) -> &'static str {
        match self {
            Lifecycle::Poll => "poll",
            Lifecycle::LongPoll => "long-poll",
            Lifecycle::Stream { .. } => "stream",
            Lifecycle::Duplex => "duplex",
            Lifecycle::Socket => "socket",
        }
    }
}

/// A way to read the log.
pub trait Transport: Send + Sync {
    /// Its name, and, behind a slash, its path.
    fn name(&self) -> &'static str;

    /// When its response ends.
    fn lifecycle(&self, params: &Params) -> Lifecycle;

    /// Whether the browser library has it.
    fn in_browsers(&self) -> bool {
        true
    }

    /// What one connection speaks.
    ///
    /// # Errors
    ///
    /// A parameter of this transport that is missing or not sound.
    fn open(&self, params: &Params, peer: &Peer<'_>) -> Result<Opening, Refusal>;

    /// Whether its answers call a function, which the client must name.
    fn calls_back(&self) -> bool {
        false
    }

    /// How to refuse a client that cannot read a status: the content type and the body of a 200.
    /// `None` is the plain answer with the fitting status.
    fn refuse(&self, _callback: Option<&str>, _refusal: &Refusal) -> Option<(&'static str, Vec<u8>)> {
        None
    }

    /// What a client of a duplex transport says. `max` is the longest command, in bytes.
    fn decoder(&self, _max: usize) -> Option<Box<dyn Decode>> {
        None
    }
}

/// What of the request's head a transport may look at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Peer<'a> {
    /// The `Host` header, without the port.
    pub host: &'a str,
    /// The `Accept` header.
    pub accept: &'a str,
}

/// How a connection's response begins.
pub struct Opening {
    /// Its `Content-Type`.
    pub content_type: &'static str,
    /// More headers.
    pub headers: &'static [(&'static str, &'static str)],
    /// What stands around the messages.
    pub envelope: Arc<dyn Envelope>,
}

impl Opening {
    fn new(content_type: &'static str, envelope: impl Envelope + 'static) -> Opening {
        Opening { content_type, headers: &[], envelope: Arc::new(envelope) }
    }
}

/// All that differs from one receiver to the next. The frames inside are shared by all of them.
///
/// Receivers share whole answers, too, so what an envelope writes around messages depends on nothing but its type, its
/// [`encoding`](Envelope::encoding) and what is [`around`](Envelope::around) them.
pub trait Envelope: Any + Send + Sync {
    /// How messages are encoded.
    fn encoding(&self) -> &'static Encoding;

    /// What stands in front of and behind each frame of a stream, or a batch.
    fn around(&self) -> (&[u8], &[u8]) {
        (b"", b"")
    }

    /// What a stream begins with, in front of the hello.
    fn prelude(&self, _out: &mut Vec<u8>) {}

    /// Appends the answer to a poll. By default it is a JSON object with what is around it.
    fn batch(&self, batch: &Batch, out: &mut Vec<u8>) {
        let (before, after) = self.around();
        out.extend_from_slice(before);
        batch.write_json(self.encoding(), out);
        out.extend_from_slice(after);
    }

    /// Appends a control object, framed.
    fn control(&self, control: &Control<'_>, out: &mut Vec<u8>);
}

/// Takes what a client of a duplex transport says apart.
pub trait Decode: Send {
    /// Takes the next whole input from the front of `buf`; `None`: more bytes are needed.
    ///
    /// # Errors
    ///
    /// A breach of the framing, after which nothing more can be read.
    fn decode(&mut self, buf: &mut BytesMut) -> Result<Option<Input>, Breach>;

    /// Bytes that it keeps of an input that is not whole, beside those that it has left in `buf`.
    fn held(&self) -> usize {
        0
    }

    /// What is sent last after a command that was too large.
    fn too_large(&self) -> Bytes {
        Bytes::new()
    }

    /// What is left when the client will send no more.
    fn rest(&mut self, _buf: &mut BytesMut) -> Option<Input> {
        None
    }
}

/// One input of a duplex client.
#[derive(Debug, PartialEq, Eq)]
pub enum Input {
    /// The text of a command.
    Command(Bytes),
    /// Bytes to be sent back (a pong).
    Reply(Bytes),
    /// Nothing to do.
    Nothing,
    /// The client closes; these bytes are sent back, then the connection ends.
    Close(Bytes),
    /// A Flash player or applet asks for the policy file.
    PolicyRequest,
}

/// A breach of a duplex transport's framing: what is sent before the connection ends.
#[derive(Debug, PartialEq, Eq)]
pub struct Breach {
    /// Told to the client as an `error` object first, where it can still hear one.
    pub refusal: Option<Refusal>,
    /// Sent last (a close frame).
    pub farewell: Bytes,
}

/// Looks a transport up by its path.
pub fn by_path(path: &str) -> Option<&'static dyn Transport> {
    let name = path.strip_prefix('/')?;
    ALL.iter().copied().find(|transport| transport.name() == name && transport.has_path())
}

/// The transport with a port of its own.
pub fn socket() -> Option<&'static dyn Transport> {
    ALL.iter().copied().find(|transport| !transport.has_path())
}

impl dyn Transport {
    /// Whether it is served over HTTP.
    pub fn has_path(&self) -> bool {
        self.lifecycle(&Params::default()) != Lifecycle::Socket
    }
}

/// How many ignorable bytes a padded stream begins with: what browsers and proxies hold back.
const PADDING: usize = 2048;

/// How many ignorable bytes a padded heartbeat carries.
const HEARTBEAT_PADDING: usize = 1024;

fn pad(n: usize, out: &mut Vec<u8>) {
    out.resize(out.len() + n, b' ');
}
