//! What a prefix has besides transports: a greeting, `info`, and the page of hidden frames.

use super::headers::{TEXT, asked_again, cached, not_cached};
use super::request::Asked;
use super::settings::Prefix;
use crate::serve::http::headers::list;
use crate::serve::routes::response::{self, Body, Response};
use crate::serve::routes::route::Origins;
use crate::wire::sockjs::page;
use hyper::StatusCode;
use hyper::header::{self, HeaderValue};
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

/// The page of hidden frames. The requests of the frame have the server's own origin. So only pages that may use the
/// prefix may show the frame.
pub fn iframe(asked: &Asked<'_>) -> Response {
    let (prefix, policy) = (asked.prefix, &asked.state.origins);
    let ancestors = match prefix.origins {
        Origins::Any => None,
        Origins::Known => policy.frame_ancestors(),
        Origins::Listed(list) => policy.with_list(list).frame_ancestors(),
    };
    let page = page::iframe(&prefix.library);
    // A browser that has the page asks again, and then gets the rule of today.
    let tag = tag(&format!("{}\n{page}", ancestors.as_deref().unwrap_or_default()));
    let known = list(&asked.head.headers, "if-none-match");
    let is_known = known.split(',').any(|known| known.trim().trim_start_matches("W/") == tag);
    let mut response = if is_known {
        let mut response = response::whole(StatusCode::NOT_MODIFIED, "", "");
        *response.body_mut() = Body::Whole(None);
        response
    } else {
        response::whole(StatusCode::OK, "text/html; charset=UTF-8", page)
    };
    let headers = response.headers_mut();
    match ancestors.and_then(|ancestors| HeaderValue::try_from(ancestors).ok()) {
        Some(ancestors) => {
            headers.insert(header::CONTENT_SECURITY_POLICY, ancestors);
            asked_again(headers);
        }
        None => cached(headers),
    }
    if let Ok(tag) = HeaderValue::try_from(tag) {
        headers.insert(header::ETAG, tag);
    }
    response
}

fn tag(text: &str) -> String {
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    let hex: String = hash.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("\"{hex}\"")
}
