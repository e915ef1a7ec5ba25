//! What a prefix has besides transports: a greeting, `info`, and the page of hidden frames.

use super::headers::{TEXT, cached, not_cached};
use super::settings::Prefix;
use crate::serve::http::headers::list;
use crate::serve::routes::response::{self, Body, Response};
use crate::wire::sockjs::page;
use hyper::StatusCode;
use hyper::header::{self, HeaderMap, HeaderValue};
use ring::digest;

/// The greeting.
pub fn greeting() -> Response {
    response::whole(StatusCode::OK, TEXT, page::GREETING)
}

/// The answer of `info`.
pub fn info(prefix: &Prefix) -> Response {
    let body = page::info(prefix.websocket, prefix.cookie, fastrand::u32(..));
    let mut response = response::whole(StatusCode::OK, "application/json; charset=UTF-8", body);
    not_cached(response.headers_mut());
    response
}

/// The page of hidden frames.
pub fn iframe(prefix: &Prefix, request: &HeaderMap) -> Response {
    let page = page::iframe(&prefix.library);
    let hash = digest::digest(&digest::SHA256, page.as_bytes());
    let tag: String = hash.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    let tag = format!("\"{tag}\"");
    let known = list(request, "if-none-match");
    let is_known = known.split(',').any(|known| known.trim().trim_start_matches("W/") == tag);
    let mut response = if is_known {
        let mut response = response::whole(StatusCode::NOT_MODIFIED, "", "");
        *response.body_mut() = Body::Whole(None);
        response
    } else {
        response::whole(StatusCode::OK, "text/html; charset=UTF-8", page)
    };
    cached(response.headers_mut());
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}
