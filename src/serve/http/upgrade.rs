//! The server's side of a WebSocket handshake (RFC 6455 §4.2; over HTTP/2 RFC 8441 §5; hixie-76 §5.2).

use super::headers::{has_token, text};
use super::request::ExtendedConnect;
use crate::transport::{ApiError, Code};
use crate::wire::hixie76::Keys;
use crate::wire::websocket;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode, Version};

/// The versions of the protocol. Version 8 has the same frames as 13, and another name for the header `Origin`, which
/// the router has replaced.
const VERSIONS: [&str; 2] = ["13", "8"];

/// A handshake that has been checked.
pub struct Upgrade(Kind);

enum Kind {
    /// Over HTTP/2, which has neither a key nor an `Upgrade` header.
    Http2,
    /// The `Sec-WebSocket-Accept` value.
    Rfc6455(HeaderValue),
    /// The handshake of 2010.
    Hixie(Box<Hixie>),
}

/// The answer to a handshake of 2010. The client compares the origin and the location with its own.
struct Hixie {
    keys: Keys,
    origin: HeaderValue,
    location: HeaderValue,
}

fn bad<T>(text: &str) -> Result<T, ApiError> {
    Err(ApiError::new(Code::BadRequest, text))
}

impl Upgrade {
    /// Checks a request.
    ///
    /// # Errors
    ///
    /// `bad_request`, with a text that names the fault.
    pub fn check(request: &Parts) -> Result<Upgrade, ApiError> {
        let headers = &request.headers;
        let is_extended = request.extensions.get::<ExtendedConnect>().is_some();
        if request.version == Version::HTTP_2 && !is_extended {
            return bad("over HTTP/2 a WebSocket must begin with CONNECT and :protocol websocket (RFC 8441)");
        }
        if request.method != Method::GET || request.version < Version::HTTP_11 {
            return bad("a WebSocket must begin with an HTTP/1.1 GET; a proxy on the path may speak HTTP/1.0");
        }
        let asks = has_token(headers, "connection", "upgrade") && has_token(headers, "upgrade", "websocket");
        if !is_extended && !asks {
            return bad(
                "a WebSocket must begin with Connection: Upgrade and Upgrade: websocket; a proxy may have removed them",
            );
        }
        if is_hixie(headers) {
            return bad("this browser speaks the WebSocket of 2010, which --websocket-hixie allows at some paths");
        }
        if headers.get("sec-websocket-version").is_none_or(|version| !VERSIONS.iter().any(|known| version == known)) {
            return bad("Sec-WebSocket-Version is 13");
        }
        if is_extended {
            return Ok(Upgrade(Kind::Http2));
        }
        let key =
            headers.get("sec-websocket-key").and_then(|key| key.to_str().ok()).filter(|key| websocket::is_key(key));
        let Some(key) = key else { return bad("Sec-WebSocket-Key must be 16 bytes in base64") };
        match HeaderValue::try_from(websocket::accept_key(key)) {
            Ok(accept) => Ok(Upgrade(Kind::Rfc6455(accept))),
            Err(_) => bad("Sec-WebSocket-Key must be 16 bytes in base64"),
        }
    }

    /// Checks a request that may have the handshake of 2010. `is_tls`: whether the client has used TLS.
    ///
    /// # Errors
    ///
    /// `bad_request`, with a text that names the fault.
    pub fn check_with_hixie(request: &Parts, is_tls: bool) -> Result<Upgrade, ApiError> {
        let headers = &request.headers;
        if !is_hixie(headers) || request.version != Version::HTTP_11 || request.method != Method::GET {
            return Upgrade::check(request);
        }
        if !has_token(headers, "connection", "upgrade") || !has_token(headers, "upgrade", "websocket") {
            return bad("a WebSocket must begin with Connection: Upgrade and Upgrade: WebSocket");
        }
        let key = |name: &str| text(headers, name).unwrap_or_default();
        let Some(keys) = Keys::read(key("sec-websocket-key1"), key("sec-websocket-key2")) else {
            return bad("Sec-WebSocket-Key1 and Sec-WebSocket-Key2 must have digits and spaces (hixie-76)");
        };
        let Some(origin) = headers.get(header::ORIGIN).cloned() else { return bad("Origin is missing (hixie-76)") };
        let is_tls = is_tls || text(headers, "x-forwarded-proto").is_some_and(|scheme| scheme == "https");
        let (scheme, host) = (if is_tls { "wss" } else { "ws" }, text(headers, "host").unwrap_or_default());
        let target = request.uri.path_and_query().map_or("/", |target| target.as_str());
        match HeaderValue::try_from(format!("{scheme}://{host}{target}")) {
            Ok(location) => Ok(Upgrade(Kind::Hixie(Box::new(Hixie { keys, origin, location })))),
            Err(_) => bad("the address of the WebSocket is not valid"),
        }
    }

    /// The keys of a handshake of 2010, which the client completes after the head of the answer.
    pub fn hixie_keys(&self) -> Option<Keys> {
        match &self.0 {
            Kind::Hixie(hixie) => Some(hixie.keys),
            Kind::Http2 | Kind::Rfc6455(_) => None,
        }
    }

    /// The status that accepts the handshake: 101, or 200 over HTTP/2.
    pub fn status(&self) -> StatusCode {
        match self.0 {
            Kind::Http2 => StatusCode::OK,
            Kind::Rfc6455(_) | Kind::Hixie(_) => StatusCode::SWITCHING_PROTOCOLS,
        }
    }

    /// Writes the headers that accept the handshake.
    pub fn write_headers(self, headers: &mut HeaderMap) {
        let upgrade = match self.0 {
            Kind::Http2 => return,
            Kind::Rfc6455(accept) => {
                headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
                "websocket"
            }
            Kind::Hixie(hixie) => {
                headers.insert(HeaderName::from_static("sec-websocket-origin"), hixie.origin);
                headers.insert(HeaderName::from_static("sec-websocket-location"), hixie.location);
                // The draft compares this value byte by byte.
                "WebSocket"
            }
        };
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static(upgrade));
    }
}

/// Whether a client speaks the WebSocket of 2010.
fn is_hixie(headers: &HeaderMap) -> bool {
    headers.contains_key("sec-websocket-key1") && !headers.contains_key("sec-websocket-version")
}
