//! The transports under which metrics count the readers.

use crate::transport::{Accepted, ApiError, Code, Decode, FrameDecoder, Lifecycle, Params, RequestHead, Transport};

/// The WebSocket.
pub static WEBSOCKET: &dyn Transport = &Named { name: "sockjs-ws", kind: Kind::Duplex };
/// The WebSocket without frames of SockJS.
pub static RAW_WEBSOCKET: &dyn Transport = &Named { name: "sockjs-raw-ws", kind: Kind::Duplex };
/// XHR polls, and sends.
pub static XHR: &dyn Transport = &Named { name: "sockjs-xhr", kind: Kind::Poll };
/// XHR streams.
pub static XHR_STREAMING: &dyn Transport = &Named { name: "sockjs-xhr-streaming", kind: Kind::Stream };
/// Event streams.
pub static EVENT_SOURCE: &dyn Transport = &Named { name: "sockjs-eventsource", kind: Kind::Stream };
/// Pages of htmlfile.
pub static HTML_FILE: &dyn Transport = &Named { name: "sockjs-htmlfile", kind: Kind::Page };
/// JSONP polls, and sends.
pub static JSONP: &dyn Transport = &Named { name: "sockjs-jsonp", kind: Kind::Script };

/// All transports.
pub static TRANSPORTS: [&dyn Transport; 7] =
    [WEBSOCKET, RAW_WEBSOCKET, XHR, XHR_STREAMING, EVENT_SOURCE, HTML_FILE, JSONP];

struct Named {
    name: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Duplex,
    Poll,
    Stream,
    Page,
    Script,
}

impl Transport for Named {
    fn name(&self) -> &'static str {
        self.name
    }

    fn lifecycle(&self, _: &Params) -> Lifecycle {
        match self.kind {
            Kind::Duplex => Lifecycle::Duplex,
            Kind::Poll | Kind::Script => Lifecycle::LongPoll,
            Kind::Stream | Kind::Page => Lifecycle::Stream { rollover: true },
        }
    }

    fn open(&self, _: &Params, _: &RequestHead<'_>) -> Result<Accepted, ApiError> {
        Err(ApiError::new(Code::NotFound, "a SockJS session does not subscribe by parameters"))
    }

    fn calls_back(&self) -> bool {
        matches!(self.kind, Kind::Page | Kind::Script)
    }

    fn is_page(&self) -> bool {
        self.kind == Kind::Page
    }

    fn decoder(&self, max: usize) -> Option<Box<dyn Decode>> {
        (self.kind == Kind::Duplex).then(|| Box::new(FrameDecoder::of_protocol(max)) as Box<dyn Decode>)
    }
}
