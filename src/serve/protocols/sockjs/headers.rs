//! The headers of answers, as clients and proxies of SockJS know them.

use super::settings::Prefix;
use crate::serve::access::cookies;
use crate::serve::routes::response::{self, Response};
use crate::serve::routes::route::Origins;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{StatusCode, header::COOKIE};
use std::time::{Duration, SystemTime};

/// The header of answers that nobody may keep.
const NOT_CACHED: HeaderValue =
    HeaderValue::from_static("no-store, no-cache, no-transform, must-revalidate, max-age=0");

/// The header of answers that everybody may keep for a year.
const CACHED: HeaderValue = HeaderValue::from_static("public, max-age=31536000");
const YEAR: Duration = Duration::from_secs(31_536_000);

/// The type of short texts.
pub const TEXT: &str = "text/plain; charset=UTF-8";

/// Marks an answer as one that nobody may keep.
pub fn not_cached(headers: &mut HeaderMap) {
    headers.insert(header::CACHE_CONTROL, NOT_CACHED);
    for name in [header::EXPIRES, header::PRAGMA] {
        headers.remove(name);
    }
}

/// Marks an answer as one that everybody may keep.
pub fn cached(headers: &mut HeaderMap) {
    headers.insert(header::CACHE_CONTROL, CACHED);
    headers.remove(header::PRAGMA);
    if let Ok(expires) = HeaderValue::from_str(&httpdate::fmt_http_date(SystemTime::now() + YEAR)) {
        headers.insert(header::EXPIRES, expires);
    }
}

/// Marks an answer as one that everybody may keep, and that is asked for again each time.
pub fn asked_again(headers: &mut HeaderMap) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, no-cache"));
    for name in [header::EXPIRES, header::PRAGMA] {
        headers.remove(name);
    }
}

/// Allows all pages to read an answer to a request without an origin. The router writes the header for other requests.
pub fn for_all_pages(prefix: &Prefix, headers: &mut HeaderMap) {
    if matches!(prefix.origins, Origins::Any) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    }
}

/// Sets the cookie by which some balancers find the node of a session again. This server does not need it.
pub fn set_cookie(request: &HeaderMap, headers: &mut HeaderMap) {
    let known = request.get(COOKIE).and_then(|line| cookies::value(line, "JSESSIONID")).unwrap_or("dummy");
    if let Ok(cookie) = HeaderValue::from_str(&format!("JSESSIONID={known}; path=/")) {
        headers.insert(header::SET_COOKIE, cookie);
    }
}

/// The answer to `OPTIONS`: a preflight, or a client that asks for the methods.
pub fn options(request: &HeaderMap, methods: &'static str) -> Response {
    let mut response = response::whole(StatusCode::NO_CONTENT, "", "");
    let headers = response.headers_mut();
    cached(headers);
    headers.insert(header::ALLOW, HeaderValue::from_static(methods));
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("31536000"));
    let asked = HeaderName::from_static("access-control-request-headers");
    if let Some(asked) = request.get(asked).filter(|asked| !asked.is_empty()) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
        headers.append(header::VARY, HeaderValue::from_static("Access-Control-Request-Headers"));
    }
    response
}

/// The refusal of a method that the path does not have.
pub fn other_method(methods: &'static str) -> Response {
    let mut response = response::whole(StatusCode::METHOD_NOT_ALLOWED, "", "");
    not_cached(response.headers_mut());
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
    response
}
