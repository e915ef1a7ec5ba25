//! The transports: ways to read the log. Transports differ only in framing and in the time at which a response ends, so
//! a transport is a [`Transport`] in a file of its own and an entry in [`ALL`].
//!
//! This module does not do I/O: a transport defines the bytes, and `serve` moves them.

pub mod batch;
pub mod client_event;
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

pub use batch::{Batch, BatchSession};
pub use client_event::{ClientAck, ClientEvent, EventFields};
pub use command::{Command, Dialect, Subscribe};
pub use control::{CloseReason, Control};
pub use error::{ApiError, Code};
pub use params::{Params, WantedSession};
pub use websocket::FrameDecoder;

use crate::message::Encoding;
use bytes::{Bytes, BytesMut};
use std::any::Any;
use std::borrow::Cow;
use std::sync::Arc;

/// All transports, sorted by age. The oldest one comes first.
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

/// The time at which a response begins and ends. The loop for each lifecycle is written once, in `serve`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifecycle {
    /// One batch, at once.
    Poll,
    /// One batch as soon as there is a message, or an empty batch after a timeout.
    LongPoll,
    /// Messages until the client or the server ends the response.
    Stream {
        /// Whether the response ends after a number of bytes or seconds, because browsers keep the whole response in
        /// memory.
        rollover: bool,
    },
    /// A stream that accepts commands, upgraded from HTTP.
    Duplex,
    /// A stream that accepts commands, on a port of its own.
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
    /// The transport's name. The path is a slash and this name.
    fn name(&self) -> &'static str;

    /// The time at which a response begins and ends.
    fn lifecycle(&self, params: &Params) -> Lifecycle;

    /// Whether the browser library supports the transport.
    fn in_browsers(&self) -> bool {
        true
    }

    /// Decides how to answer one request.
    ///
    /// # Errors
    ///
    /// A parameter of this transport is missing or not valid.
    fn open(&self, params: &Params, head: &RequestHead<'_>) -> Result<Accepted, ApiError>;

    /// Whether the transport's answers call a function that the client has to name.
    fn calls_back(&self) -> bool {
        false
    }

    /// Whether the transport's answer is a page, whose scripts run wherever the page is opened. The router lets only
    /// frames open such a page: see `serve/access/fetch_metadata.rs`.
    fn is_page(&self) -> bool {
        false
    }

    /// An error for a client that cannot see a status: the content type and the body of a 200. `None` means the plain
    /// answer with the error's status.
    fn refuse(&self, _callback: Option<&str>, _error: &ApiError) -> Option<(&'static str, Vec<u8>)> {
        None
    }

    /// The decoder for the input of a client of a duplex transport. `max` is the longest command, in bytes.
    fn decoder(&self, _max: usize) -> Option<Box<dyn Decode>> {
        None
    }
}

/// The part of a request's head that a transport may use.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestHead<'a> {
    /// The `Host` header, without the port.
    pub host: &'a str,
    /// The `Accept` header.
    pub accept: &'a str,
}

/// An accepted request: the beginning of its response, and the envelope of its messages.
pub struct Accepted {
    /// The response's `Content-Type`.
    pub content_type: &'static str,
    /// Further headers.
    pub headers: Vec<(&'static str, Cow<'static, str>)>,
    /// The envelope around messages.
    pub envelope: Arc<dyn Envelope>,
}

impl Accepted {
    /// A response with this content type, without further headers.
    pub fn new(content_type: &'static str, envelope: impl Envelope + 'static) -> Accepted {
        Accepted { content_type, headers: Vec::new(), envelope: Arc::new(envelope) }
    }
}

/// The part of a response that differs from one receiver to the next. All receivers share the frames inside.
///
/// Receivers also share whole answers, so the bytes that an envelope writes around messages depend only on its type,
/// its [`encoding`](Envelope::encoding) and the bytes [`around`](Envelope::around) them.
pub trait Envelope: Any + Send + Sync {
    /// How messages are encoded.
    fn encoding(&self) -> &'static Encoding;

    /// The bytes before and after each frame of a stream, or a batch.
    fn around(&self) -> (&[u8], &[u8]) {
        (b"", b"")
    }

    /// Appends the bytes with which a stream begins, before the hello.
    fn prelude(&self, _out: &mut Vec<u8>) {}

    /// Appends the answer to a poll. By default this is a JSON object between the bytes around it.
    fn batch(&self, batch: &Batch, out: &mut Vec<u8>) {
        let (before, after) = self.around();
        out.extend_from_slice(before);
        batch.write_json(self.encoding(), out);
        out.extend_from_slice(after);
    }

    /// Appends a control object in a frame.
    fn control(&self, control: &Control<'_>, out: &mut Vec<u8>);
}

/// Decodes the input of a client of a duplex transport.
pub trait Decode: Send {
    /// Takes the next whole input from the front of `buf`; `None` if more bytes are needed.
    ///
    /// # Errors
    ///
    /// The client has violated the framing. No more input can be read.
    fn decode(&mut self, buf: &mut BytesMut) -> Result<Option<Input>, ProtocolViolation>;

    /// The dialect that parses the commands; `None` if the protocol parses them itself.
    fn dialect(&mut self) -> Option<&mut dyn Dialect>;

    /// Returns the number of bytes of an incomplete input that the decoder keeps, besides the bytes that it has left in
    /// `buf`.
    fn held(&self) -> usize {
        0
    }

    /// The last bytes to send after a command that was too large.
    fn too_large(&self) -> Bytes {
        Bytes::new()
    }

    /// Returns the last input when the client will not send more.
    fn rest(&mut self, _buf: &mut BytesMut) -> Option<Input> {
        None
    }
}

/// One input of a duplex client.
#[derive(Debug, PartialEq, Eq)]
pub enum Input {
    /// A command. The [dialect](Decode::dialect) parses it.
    Command(Bytes),
    /// The bytes of a pong, which have to be sent back.
    Reply(Bytes),
    /// The input does not need an action.
    Nothing,
    /// The client closes the connection: these bytes are sent back, and then the connection ends.
    Close(Bytes),
    /// A request for the policy file, which a Flash player or an applet sends.
    PolicyRequest,
}

/// A violation of a duplex transport's framing by a client, with the bytes to send before the connection ends.
#[derive(Debug, PartialEq, Eq)]
pub struct ProtocolViolation {
    /// The error, which is sent first as an `error` object if the client can still read one.
    pub error: Option<ApiError>,
    /// The last bytes (a close frame).
    pub farewell: Bytes,
}

/// Looks up a transport by its path.
pub fn by_path(path: &str) -> Option<&'static dyn Transport> {
    let name = path.strip_prefix('/')?;
    ALL.iter().copied().find(|transport| transport.name() == name && transport.has_path())
}

/// The transport with a port of its own.
pub fn socket() -> Option<&'static dyn Transport> {
    ALL.iter().copied().find(|transport| !transport.has_path())
}

impl dyn Transport {
    /// Whether the transport is served over HTTP.
    pub fn has_path(&self) -> bool {
        self.lifecycle(&Params::default()) != Lifecycle::Socket
    }
}

/// The number of ignorable bytes at the beginning of a padded stream: as many as browsers and proxies hold back.
const PADDING: usize = 2048;

/// The number of ignorable bytes in a padded heartbeat.
const HEARTBEAT_PADDING: usize = 1024;

fn pad(n: usize, out: &mut Vec<u8>) {
    out.resize(out.len() + n, b' ');
}
