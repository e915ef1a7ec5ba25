//! The statistics that old clients send to `statsHost`. The server takes them and does nothing with them.

use crate::serve::http::request::Request;
use crate::serve::routes::response::{self, Response};
use hyper::StatusCode;

/// The beginning of the paths.
const TIMELINE: &str = "/timeline/";

/// The longest number in a path.
const DIGITS: usize = 9;

/// Whether a path is one of statistics: `/timeline/v2/jsonp/N`, `/timeline/v2/xhr/…` or `/timeline/N`.
pub fn has_path(path: &str) -> bool {
    path.strip_prefix(TIMELINE).is_some_and(|rest| rest.starts_with("v2/") || is_number(rest))
}

fn is_number(text: &str) -> bool {
    (1..=DIGITS).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Answers a request. A script calls the function that waits for it.
pub fn answer(request: &Request) -> Response {
    let path = request.uri().path();
    let number = path.strip_prefix(TIMELINE).and_then(|rest| rest.strip_prefix("v2/jsonp/")).filter(|n| is_number(n));
    match number {
        Some(n) => {
            let script = format!("Pusher.ScriptReceivers[{n}](null,{{}});");
            response::whole(StatusCode::OK, "application/javascript; charset=utf-8", script)
        }
        None => response::json(StatusCode::OK, "{}"),
    }
}
