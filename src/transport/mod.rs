//! The transports: ways to read the log. They differ in framing and in when a response ends, and in
//! nothing else, so a transport is a [`Transport`] in a file of its own and a word in [`ALL`].
//!
//! Nothing here does I/O: a transport says which bytes stand for what; `serve` moves them.

pub mod batch;
pub mod command;
pub mod control;
pub mod encoding;
pub mod error;
pub mod json_commands;
pub mod params;
pub mod publication;

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
pub use command::{Command, Dialect, Subscribe};
pub use control::{CloseReason, Control};
pub use error::{ApiError, Code};
pub use params::Params;
pub use websocket::FrameDecoder;

use crate::message::Encoding;
use bytes::{Bytes, BytesMut};
use std::any::Any;
use std::borrow::Cow;
use std::sync::Arc;

/// All transports, the oldest idea first.
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
    /// Messages until the client or the server closes it.
    Stream {
        /// Whether it ends after some bytes or seconds, because browsers keep everything that they receive.
        rollover: bool,
    },
    /// A stream that takes commands, upgraded from HTTP.
    Duplex,
    /// A stream that takes commands, on a port of its own.
    Socket,
}

impl Lifecycle {
    /// The lifecycle's name in `/info`.
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
    /// The transport's name; with a slash in front it is the path.
    fn name(&self) -> &'static str;

    /// When a response begins and ends.
    fn lifecycle(&self, params: &Params) -> Lifecycle;

    /// Whether the browser library offers it.
    fn in_browsers(&self) -> bool {
        true
    }

    /// Decides how to answer one request.
    ///
    /// # Errors
    ///
    /// A parameter of this transport is missing or not valid.
    fn open(&self, params: &Params, head: &RequestHead<'_>) -> Result<Accepted, ApiError>;

    /// Whether its answers call a function that the client has to name.
    fn calls_back(&self) -> bool {
        false
    }

    /// Whether its answer is a page, whose scripts run wherever the page is opened. The router lets frames open it, and
    /// nothing else: see `serve/access/fetch_metadata.rs`.
    fn is_page(&self) -> bool {
        false
    }

    /// An error for a client that cannot see a status: the content type and the body of a 200.
    /// `None`: the plain answer, with the error's status.
    fn refuse(&self, _callback: Option<&str>, _error: &ApiError) -> Option<(&'static str, Vec<u8>)> {
        None
    }

    /// The decoder for what a client of a duplex transport sends. `max` is the longest command, in bytes.
    fn decoder(&self, _max: usize) -> Option<Box<dyn Decode>> {
        None
    }
}

/// The part of a request's head that a transport may look at.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestHead<'a> {
    /// The `Host` header, without the port.
    pub host: &'a str,
    /// The `Accept` header.
    pub accept: &'a str,
}

/// An accepted request: how its response begins, and how it goes on.
pub struct Accepted {
    /// The response's `Content-Type`.
    pub content_type: &'static str,
    /// Further headers.
    pub headers: Vec<(&'static str, Cow<'static, str>)>,
    /// What stands around messages.
    pub envelope: Arc<dyn Envelope>,
}

impl Accepted {
    /// A response with this content type and no further headers.
    pub fn new(content_type: &'static str, envelope: impl Envelope + 'static) -> Accepted {
        Accepted { content_type, headers: Vec::new(), envelope: Arc::new(envelope) }
    }
}

/// Everything that differs from one receiver to the next. All receivers share the frames inside.
///
/// Receivers share whole answers, too, so what an envelope writes around messages depends on nothing but its type, its
/// [`encoding`](Envelope::encoding) and what is [`around`](Envelope::around) them.
pub trait Envelope: Any + Send + Sync {
    /// How messages are encoded.
    fn encoding(&self) -> &'static Encoding;

    /// The bytes before and after each frame of a stream, or a batch.
    fn around(&self) -> (&[u8], &[u8]) {
        (b"", b"")
    }

    /// Appends what a stream begins with, in front of the hello.
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

/// Decodes what a client of a duplex transport sends.
pub trait Decode: Send {
    /// Takes the next whole input from the front of `buf`; `None`: more bytes are needed.
    ///
    /// # Errors
    ///
    /// The client violated the framing; nothing more can be read.
    fn decode(&mut self, buf: &mut BytesMut) -> Result<Option<Input>, ProtocolViolation>;

    /// How the commands are read.
    fn dialect(&mut self) -> &mut dyn Dialect;

    /// How many bytes of an incomplete input it keeps, besides those that it has left in `buf`.
    fn held(&self) -> usize {
        0
    }

    /// What is sent last, after a command that was too large.
    fn too_large(&self) -> Bytes {
        Bytes::new()
    }

    /// The last input, when the client sends nothing more.
    fn rest(&mut self, _buf: &mut BytesMut) -> Option<Input> {
        None
    }
}

/// One input of a duplex client.
#[derive(Debug, PartialEq, Eq)]
pub enum Input {
    /// A command, which the [dialect](Decode::dialect) reads.
    Command(Bytes),
    /// These bytes have to be sent back (a pong).
    Reply(Bytes),
    /// There is nothing to do.
    Nothing,
    /// The client closes the connection: these bytes are sent back, then it ends.
    Close(Bytes),
    /// A Flash player or applet asks for the policy file.
    PolicyRequest,
}

/// A client violated a duplex transport's framing. This is what it is sent before the connection ends.
#[derive(Debug, PartialEq, Eq)]
pub struct ProtocolViolation {
    /// It is sent first as an `error` object, if the client can still read one.
    pub error: Option<ApiError>,
    /// The last bytes (a close frame).
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

/// How many ignorable bytes a padded stream begins with: as many as browsers and proxies hold back.
const PADDING: usize = 2048;

/// How many ignorable bytes a padded heartbeat carries.
const HEARTBEAT_PADDING: usize = 1024;

fn pad(n: usize, out: &mut Vec<u8>) {
    out.resize(out.len() + n, b' ');
}
