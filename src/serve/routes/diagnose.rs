//! Answers `/diagnose/echo` and `/diagnose/drip`. A browser uses these paths to find out how proxies on the network
//! path change its requests: see `static/client/diagnose.js`.

use super::context::Context;
use super::endpoint::{Answer, Call, Endpoint, Route, ready};
use super::response::{self, Response};
use crate::serve::http::headers::list;
use crate::serve::state::ServerState;
use crate::transport::params::fields;
use crate::transport::{ApiError, Code};
use async_stream::stream;
use bytes::Bytes;
use hyper::header::{self, HeaderMap, HeaderName};
use hyper::{StatusCode, Version};
use std::time::Duration;

/// The endpoint.
pub struct Diagnose;

impl Endpoint for Diagnose {
    fn route(&self, _: &Context, path: &str) -> Option<Route> {
        matches!(path, ECHO | DRIP).then_some(Route::PAGE)
    }

    fn call<'a>(&'a self, call: Call<'a>) -> Answer<'a> {
        ready(match call.path() {
            ECHO => Ok(echo(call.request.version(), call.request.headers())),
            _ => drip(&call.context.state, call.query()),
        })
    }
}

/// The path of [`echo`].
const ECHO: &str = "/diagnose/echo";

/// The path of [`drip`].
const DRIP: &str = "/diagnose/drip";

/// Returns the parts of the request that arrived, without any part that identifies the client.
fn echo(version: Version, headers: &HeaderMap) -> Response {
    let text = |name: HeaderName| headers.contains_key(&name).then(|| list(headers, name.as_str()).into_owned());
    let forwarded = headers.contains_key("forwarded") || headers.contains_key("x-forwarded-for");
    let seen = serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "http": format!("{version:?}").trim_start_matches("HTTP/"),
        "via": text(header::VIA),
        "forwarded": forwarded,
        "connection": text(header::CONNECTION),
        "accept_encoding": text(header::ACCEPT_ENCODING),
    });
    response::json(StatusCode::OK, seen.to_string())
}

/// A text in `count` pieces of `bytes` bytes, one every `every` milliseconds. The last piece ends in `end`, so that the
/// client knows that it has received the whole text.
///
/// # Errors
///
/// A parameter is not a number, or out of its range.
fn drip(state: &ServerState, query: &str) -> Result<Response, ApiError> {
    let (bytes, count, every) = (
        number(query, "bytes", 512, 16..=4096)?,
        number(query, "count", 40, 1..=120)?,
        number(query, "every", 50, 10..=120_000)?,
    );
    // The limit on the time for all pieces together is the longest wait between two pieces.
    if count * every > 120_000 {
        return Err(ApiError::new(Code::BadRequest, "count times every must be at most 120000 ms"));
    }
    let drain = state.drain.clone();
    let pieces = stream! {
        for n in 1..=count {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(every)) => {}
                () = drain.begun() => return,
            }
            let mut piece = format!("{n}").into_bytes();
            piece.resize(bytes as usize - 1, b'.');
            if n == count {
                let end = piece.len() - 3;
                piece.splice(end.., *b"end");
            }
            piece.push(b'\n');
            yield Bytes::from(piece);
        }
    };
    Ok(response::pieces("text/plain; charset=utf-8", pieces))
}

fn number(query: &str, name: &str, default: u64, range: std::ops::RangeInclusive<u64>) -> Result<u64, ApiError> {
    let Some((_, value)) = fields(query.as_bytes(), None).find(|(field, _)| field == name) else { return Ok(default) };
    value.parse().ok().filter(|n| range.contains(n)).ok_or_else(|| {
        let rule = format!("{name} must be a whole number from {} to {}", range.start(), range.end());
        ApiError::new(Code::BadRequest, rule)
    })
}
