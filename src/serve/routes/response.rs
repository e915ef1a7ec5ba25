//! Responses: their body, the headers of every transport, and refusals as HTTP.

use crate::serve::http::peer::Handover;
use crate::serve::session::long_poll::Waiting;
use crate::transport::{ApiError, Code};
use bytes::Bytes;
use httpdate::HttpDate;
use hyper::body::{Frame, SizeHint};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, Response, StatusCode};
use std::cell::RefCell;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio_stream::Stream;

/// The pieces of a body.
pub type Pieces = Pin<Box<dyn Stream<Item = Bytes> + Send>>;

/// A response's body.
pub enum Body {
    /// All of it.
    Whole(Option<Bytes>),
    /// One piece after the other, as they come.
    Pieces(Pieces),
    /// None that hyper would see: it writes the head, and then the connection is taken over.
    Handover(Arc<Handover>),
    /// A long poll's, when there is something: hyper sees nothing of it, and the connection is taken over.
    Waiting(Box<Waiting>),
}

/// A response.
pub type Reply = Response<Body>;

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Body::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Body::Pieces(pieces) => {
                pieces.as_mut().poll_next(cx).map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
            }
            Body::Handover(handover) => {
                // Asked for a body: the head is in hyper's buffer.
                handover.reach();
                Poll::Pending
            }
            Body::Waiting(_) => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Body::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Body::Pieces(_) | Body::Handover(_) | Body::Waiting(_) => SizeHint::default(),
        }
    }
}

/// Headers against every cache, buffer and guess on the way.
const UNCACHED: [(HeaderName, &str); 5] = [
    (header::CACHE_CONTROL, "no-cache, no-store, no-transform, must-revalidate"),
    (header::PRAGMA, "no-cache"),
    (header::EXPIRES, "0"),
    (HeaderName::from_static("x-accel-buffering"), "no"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
];

/// A whole response, not to be cached.
pub fn whole(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Reply {
    let body = body.into();
    let mut reply = Response::new(Body::Whole((!body.is_empty()).then_some(body)));
    *reply.status_mut() = status;
    prepare(reply.headers_mut(), content_type);
    reply
}

/// A response that comes in pieces.
pub fn pieces(content_type: &'static str, pieces: impl Stream<Item = Bytes> + Send + 'static) -> Reply {
    let mut reply = Response::new(Body::Pieces(Box::pin(pieces)));
    prepare(reply.headers_mut(), content_type);
    reply
}

/// The head of a stream.
pub fn stream(content_type: &'static str, handover: Arc<Handover>) -> Reply {
    let mut reply = Response::new(Body::Handover(handover));
    prepare(reply.headers_mut(), content_type);
    reply
}

/// Writes the status line and the headers of a reply, without those that depend on its body. HTTP/1.1; for who answers
/// without hyper.
pub fn write_head(reply: &Reply, out: &mut Vec<u8>) {
    let status = reply.status();
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in reply.headers() {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// Writes the rest of a head: how long the body is, where that is to be said, and the date.
pub fn write_length(length: Option<usize>, out: &mut Vec<u8>) {
    DATE.with_borrow_mut(|(second, date)| {
        let now = SystemTime::now();
        let this = now.duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs());
        if *second != this {
            *second = this;
            *date = HttpDate::from(now).to_string();
        }
        // Piece by piece: every answer has these, and the machinery of formats costs ten times as much.
        if let Some(length) = length {
            out.extend_from_slice(b"content-length: ");
            out.extend_from_slice(length.to_string().as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"date: ");
        out.extend_from_slice(date.as_bytes());
        out.extend_from_slice(b"\r\n\r\n");
    });
}

/// Writes the rest of a head whose body comes in chunks.
pub fn write_chunked(out: &mut Vec<u8>) {
    out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    write_length(None, out);
}

thread_local! {
    /// A second, and how it is written: hyper does the same.
    static DATE: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
}

fn prepare(headers: &mut HeaderMap, content_type: &'static str) {
    headers.reserve(UNCACHED.len() + 4);
    if !content_type.is_empty() {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    for (name, value) in UNCACHED {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// JSON.
pub fn json(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    whole(status, "application/json; charset=utf-8", body)
}

/// A refusal with its status.
pub fn refused(refusal: &ApiError) -> Reply {
    let status = StatusCode::from_u16(refusal.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut reply = if refusal.code == Code::BadCallback {
        // Plain text: where a script or a frame was asked for, nothing else may be taken for one.
        whole(status, "text/plain; charset=utf-8", refusal.message.clone())
    } else {
        json(status, refusal.to_json())
    };
    if refusal.may_pass || status == StatusCode::SERVICE_UNAVAILABLE || status == StatusCode::TOO_MANY_REQUESTS {
        // Spread, or all who were refused would come back in one second.
        let seconds = match refusal.retry {
            // Rounded up: a second too early would be refused again.
            Some(retry) => retry.as_secs() + 1,
            None if refusal.code == Code::TooManyConnections => fastrand::u64(2..8),
            None => fastrand::u64(1..4),
        };
        reply.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    // For who counts refusals.
    reply.extensions_mut().insert(refusal.code);
    if status == StatusCode::UNAUTHORIZED {
        reply.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    reply
}
