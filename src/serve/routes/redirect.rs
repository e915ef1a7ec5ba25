//! Redirects requests without TLS to HTTPS.

use super::response::{self, Response};
use crate::serve::http::request::Request;
use crate::transport::{ApiError, Code};
use hyper::header::{HOST, HeaderValue, LOCATION};
use hyper::{Method, StatusCode};

/// Redirects a GET to HTTPS. Other requests are refused. They may contain a secret, which the sender has already sent
/// in plain text. The sender should notice this, and not send the secret again.
pub fn to_https(request: &Request) -> Response {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).filter(|host| !host.is_empty());
    let host = host.map(|host| host.strip_suffix(":80").unwrap_or(host));
    let location = host.and_then(|host| HeaderValue::try_from(format!("https://{host}{path}")).ok());
    match (request.method(), location) {
        (&Method::GET | &Method::HEAD, Some(location)) => {
            let mut response = response::whole(StatusCode::MOVED_PERMANENTLY, "", "");
            response.headers_mut().insert(LOCATION, location);
            response
        }
        _ => response::refused(&ApiError::new(
            Code::BadRequest,
            "this server speaks HTTPS: use an address with https://",
        )),
    }
}
