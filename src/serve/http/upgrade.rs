//! The server's side of a WebSocket handshake (RFC 6455 §4.2; over HTTP/2 RFC 8441 §5).

use super::headers::has_token;
use super::request::ExtendedConnect;
use crate::transport::{ApiError, Code};
use crate::wire::websocket;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode, Version};

/// A handshake that has been checked.
pub struct Upgrade {
    /// The `Sec-WebSocket-Accept` value; `None` over HTTP/2, which has neither a key nor an `Upgrade` header.
    accept: Option<HeaderValue>,
}

impl Upgrade {
    /// Checks a request.
    ///
    /// # Errors
    ///
    /// `bad_request`, with a text that names the fault.
    pub fn check(request: &Parts) -> Result<Upgrade, ApiError> {
        let headers = &request.headers;
        let bad = |text: &str| Err(ApiError::new(Code::BadRequest, text));
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
        if headers.get("sec-websocket-version").is_none_or(|version| version != "13") {
            return bad("Sec-WebSocket-Version is 13");
        }
        if is_extended {
            return Ok(Upgrade { accept: None });
        }
        let key =
            headers.get("sec-websocket-key").and_then(|key| key.to_str().ok()).filter(|key| websocket::is_key(key));
        let Some(key) = key else { return bad("Sec-WebSocket-Key must be 16 bytes in base64") };
        match HeaderValue::try_from(websocket::accept_key(key)) {
            Ok(accept) => Ok(Upgrade { accept: Some(accept) }),
            Err(_) => bad("Sec-WebSocket-Key must be 16 bytes in base64"),
        }
    }

    /// The status that accepts the handshake: 101, or 200 over HTTP/2.
    pub fn status(&self) -> StatusCode {
        if self.accept.is_some() { StatusCode::SWITCHING_PROTOCOLS } else { StatusCode::OK }
    }

    /// Writes the headers that accept the handshake.
    pub fn write_headers(self, headers: &mut HeaderMap) {
        if let Some(accept) = self.accept {
            headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        }
    }
}
