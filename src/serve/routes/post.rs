//! The common parts of `POST /publish` and `POST /event`: bodies in JSON or in the form of an old browser, and the
//! credentials of their senders.

use crate::serve::access::credentials::Credentials;
use crate::serve::http::peer::Peer;
use crate::serve::state::ServerState;
use crate::transport::{ApiError, Code};
use hyper::{HeaderMap, header};

/// A body as text.
///
/// # Errors
///
/// `not_utf8`.
pub fn text(body: &[u8]) -> Result<&str, ApiError> {
    std::str::from_utf8(body).map_err(|_| ApiError::new(Code::NotUtf8, "the body is not UTF-8"))
}

/// The content type without its parameters, in lower case.
pub fn content_type(headers: &HeaderMap) -> String {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// The credentials of a sender, without a token in the query or a form. `purpose` is the name that the credentials
/// contain instead of a transport's name.
pub fn credentials(state: &ServerState, peer: &Peer, headers: &HeaderMap, purpose: &'static str) -> Credentials {
    let by_cookie = state.origins.trusts_cookies(headers, peer.forwarded_host());
    Credentials::new(peer.ip, purpose, headers, by_cookie)
}
