//! Responses: their body, the headers that every transport sends, and errors as HTTP.

use crate::serve::http::body::{self, BodyLimits, ReceivedBody};
use crate::serve::http::request::Request;
use crate::serve::session::session::Session;
use crate::serve::state::ServerState;
use crate::transport::{Accepted, ApiError, Code};
use bytes::Bytes;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, StatusCode};
use std::pin::Pin;
use tokio_stream::Stream;

/// The name of the transport of a response, for the access log, where the path does not tell it.
#[derive(Clone, Copy)]
pub struct ServedBy(pub &'static str);

/// The pieces of a body.
pub type Pieces = Pin<Box<dyn Stream<Item = Bytes> + Send>>;

/// The body of a response.
pub enum Body {
    /// The whole body.
    Whole(Option<Bytes>),
    /// A body whose pieces are written when they become available.
    Pieces(Pieces),
    /// A session. The connection writes the head and then runs the session.
    Session(Session),
}

impl Body {
    /// The length of the body, if it is known.
    pub fn length(&self) -> Option<usize> {
        match self {
            Body::Whole(bytes) => Some(bytes.as_ref().map_or(0, Bytes::len)),
            Body::Pieces(_) | Body::Session(_) => None,
        }
    }
}

/// A response.
pub type Response = hyper::Response<Body>;

/// Headers that prevent caching, buffering by proxies, and content sniffing.
const UNCACHED: [(HeaderName, &str); 5] = [
    (header::CACHE_CONTROL, "no-cache, no-store, no-transform, must-revalidate"),
    (header::PRAGMA, "no-cache"),
    (header::EXPIRES, "0"),
    (HeaderName::from_static("x-accel-buffering"), "no"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
];

/// The policy of a response that is not a page: it may not load any resource, and pages may not frame it.
pub const NOTHING: &str = "default-src 'none'; frame-ancestors 'none'";

/// A response with a whole body. It must not be cached.
pub fn whole(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response {
    let body = body.into();
    let mut response = new(content_type, Body::Whole((!body.is_empty()).then_some(body)));
    *response.status_mut() = status;
    response
}

/// A response whose body is written in pieces.
pub fn pieces(content_type: &'static str, pieces: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    new(content_type, Body::Pieces(Box::pin(pieces)))
}

fn new(content_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    let headers: &mut HeaderMap = response.headers_mut();
    headers.reserve(UNCACHED.len() + 4);
    if !content_type.is_empty() {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    for (name, value) in UNCACHED {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// A response with JSON.
pub fn json(status: StatusCode, body: impl Into<Bytes>) -> Response {
    whole(status, "application/json; charset=utf-8", body)
}

/// A JSON response to a body. An old browser shows the response to a form in a hidden frame, and would offer JSON there
/// as a download, so a form gets the same body as text.
pub fn json_for(is_form: bool, answered: Result<impl Into<Bytes>, ApiError>) -> Response {
    let mut response = match answered {
        Ok(body) => json(StatusCode::OK, body),
        Err(refusal) => refused(&refusal),
    };
    if is_form {
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, text);
    }
    response
}

/// The response to a request that is refused.
pub fn refused(refusal: &ApiError) -> Response {
    let status = StatusCode::from_u16(refusal.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = if refusal.code == Code::BadCallback {
        // The answer is plain text, because the client asked for a script or a frame, and must not run this answer as a
        // script or a frame.
        whole(status, "text/plain; charset=utf-8", refusal.message.clone())
    } else {
        json(status, refusal.to_json())
    };
    if refusal.may_pass || status == StatusCode::SERVICE_UNAVAILABLE || status == StatusCode::TOO_MANY_REQUESTS {
        // The time is different for each client, so that the refused clients do not all try again in the same second.
        let seconds = match refusal.retry {
            // The time is rounded up, because the server would refuse a client that comes a second too early.
            Some(retry) => retry.as_secs() + 1,
            None if refusal.code == Code::TooManyConnections => fastrand::u64(2..8),
            None => fastrand::u64(1..4),
        };
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    // The router counts rejections by this code.
    response.extensions_mut().insert(refusal.code);
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// The response to a window that asks for a page that only frames may open. The response is plain text and does not
/// call a function.
pub fn not_framed() -> Response {
    let text = "This page is for a hidden frame of the browser library. Open /diagnose to see whether it works.\n";
    let mut response = whole(StatusCode::FORBIDDEN, "text/plain; charset=utf-8", text);
    let headers = response.headers_mut();
    headers.insert(HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(NOTHING));
    response.extensions_mut().insert(Code::Forbidden);
    response
}

/// Writes the headers of a transport.
pub fn write_headers(opening: &Accepted, headers: &mut HeaderMap) {
    for (name, value) in &opening.headers {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

/// Reads a request's body within the limits of the server.
///
/// # Errors
///
/// See [`body::read_body`].
pub async fn read_body(state: &ServerState, request: &mut Request, bytes: usize) -> Result<ReceivedBody, ApiError> {
    let (timeout, budget, drain) = (state.settings.request_timeout, &state.budget, &state.drain);
    body::read_body(request, BodyLimits { bytes, timeout, budget, drain }).await
}
