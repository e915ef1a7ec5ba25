//! A transport: its name, the time at which its responses begin and end, and its answers to requests.

use super::decode::Decode;
use super::envelope::Envelope;
use super::{ApiError, Dialect, Params};
use std::borrow::Cow;
use std::sync::Arc;

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

    /// The same transport for a client that speaks the WebSocket of 2010; `None` if the transport does not support it.
    fn hixie(&self) -> Option<&'static dyn Transport> {
        None
    }

    /// The decoder for the input of a client of a duplex transport. `max` is the longest command, in bytes.
    fn decoder(&self, _max: usize) -> Option<Box<dyn Decode>> {
        None
    }

    /// The decoder for a client whose commands are in this dialect, if each connection has a dialect of its own.
    fn decoder_of(&self, max: usize, _dialect: Box<dyn Dialect>) -> Option<Box<dyn Decode>> {
        self.decoder(max)
    }
}

impl dyn Transport {
    /// Whether the transport is served over HTTP.
    pub fn has_path(&self) -> bool {
        self.lifecycle(&Params::default()) != Lifecycle::Socket
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
