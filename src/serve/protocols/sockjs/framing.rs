//! The transports over HTTP that read: how they begin, and what they put around a frame.

use super::encodings::{EVENT, ITEM, LINE, SCRIPT};
use super::transports::{EVENT_SOURCE, HTML_FILE, JSONP, XHR, XHR_STREAMING};
use crate::message::Encoding;
use crate::transport::Transport;
use crate::wire::sockjs::path::PathTransport;
use crate::wire::sockjs::transport::{self, BadCallback};

/// A transport over HTTP that reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Framing {
    /// An answer with one frame, by XHR.
    Xhr,
    /// An answer with one frame, which calls this function.
    Jsonp(String),
    /// A stream by XHR.
    XhrStreaming,
    /// An event stream.
    EventSource,
    /// A page that calls functions of this object.
    HtmlFile(String),
}

const SCRIPT_TYPE: &str = "application/javascript; charset=UTF-8";

impl Framing {
    /// The framing of a path; `None` if the path does not read over HTTP.
    ///
    /// # Errors
    ///
    /// The name of the callback is missing or not valid.
    pub fn of(transport: PathTransport, query: &str) -> Result<Option<Framing>, BadCallback> {
        Ok(Some(match transport {
            PathTransport::Xhr => Framing::Xhr,
            PathTransport::XhrStreaming => Framing::XhrStreaming,
            PathTransport::EventSource => Framing::EventSource,
            PathTransport::Jsonp => Framing::Jsonp(transport::callback(query)?),
            PathTransport::HtmlFile => Framing::HtmlFile(transport::callback(query)?),
            PathTransport::XhrSend | PathTransport::JsonpSend | PathTransport::WebSocket => return Ok(None),
        }))
    }

    /// Whether a response goes on after a frame.
    pub fn is_stream(&self) -> bool {
        !matches!(self, Framing::Xhr | Framing::Jsonp(_))
    }

    /// The transport, for metrics.
    pub fn transport(&self) -> &'static dyn Transport {
        match self {
            Framing::Xhr => XHR,
            Framing::Jsonp(_) => JSONP,
            Framing::XhrStreaming => XHR_STREAMING,
            Framing::EventSource => EVENT_SOURCE,
            Framing::HtmlFile(_) => HTML_FILE,
        }
    }

    /// The content type of a response.
    pub fn content_type(&self) -> &'static str {
        match self {
            Framing::Xhr | Framing::Jsonp(_) | Framing::XhrStreaming => SCRIPT_TYPE,
            Framing::EventSource => "text/event-stream",
            Framing::HtmlFile(_) => "text/html; charset=UTF-8",
        }
    }

    /// The encoding of messages.
    pub fn encoding(&self) -> &'static Encoding {
        match self {
            Framing::Xhr | Framing::Jsonp(_) => &ITEM,
            Framing::XhrStreaming => &LINE,
            Framing::EventSource => &EVENT,
            Framing::HtmlFile(_) => &SCRIPT,
        }
    }

    /// Appends the bytes before the first frame of a response.
    pub fn prelude(&self, out: &mut Vec<u8>) {
        match self {
            Framing::Xhr | Framing::Jsonp(_) => {}
            Framing::XhrStreaming => transport::xhr_prelude(out),
            Framing::EventSource => out.extend_from_slice(transport::EVENT_PRELUDE),
            Framing::HtmlFile(callback) => transport::htmlfile_head(callback, out),
        }
    }

    /// Appends a frame.
    pub fn frame(&self, frame: &[u8], out: &mut Vec<u8>) {
        match self {
            Framing::Xhr | Framing::XhrStreaming => transport::line(frame, out),
            Framing::Jsonp(callback) => transport::jsonp(callback, frame, out),
            Framing::EventSource => transport::event(frame, out),
            Framing::HtmlFile(_) => transport::script(frame, out),
        }
    }
}
