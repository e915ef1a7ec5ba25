//! Static files: the demo page, the browser library, the status page.

use super::context::Context;
use super::endpoint::{Answer, Audience, Call, Endpoint, Route, ready};
use super::page_headers;
use super::response::{self, Response};
use crate::serve::http::headers::text;
use hyper::header::{self, HeaderValue};
use hyper::http::uri::Authority;
use hyper::{HeaderMap, StatusCode};

const PAGE: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "application/javascript; charset=utf-8";

/// Each path with its content type and the parts of its file.
const FILES: &[(&str, &str, &[&str])] = &[
    ("/", PAGE, &[include_str!("../../../static/demo/index.html")]),
    (
        "/demo.js",
        SCRIPT,
        &[
            include_str!("../../../static/demo/words.js"),
            include_str!("../../../static/demo/story.js"),
            include_str!("../../../static/demo/applet.js"),
            include_str!("../../../static/demo/reader.js"),
            include_str!("../../../static/demo/origins.js"),
            include_str!("../../../static/demo/compare.js"),
            include_str!("../../../static/demo/observe.js"),
            include_str!("../../../static/demo/diagram.js"),
            include_str!("../../../static/demo/plot.js"),
            include_str!("../../../static/demo/bytes.js"),
            include_str!("../../../static/demo/wire.js"),
            include_str!("../../../static/demo/lane.js"),
            include_str!("../../../static/demo/weather.js"),
            include_str!("../../../static/demo/hop.js"),
            include_str!("../../../static/demo/publish.js"),
            include_str!("../../../static/demo/main.js"),
        ],
    ),
    (
        "/demo.css",
        "text/css; charset=utf-8",
        &[include_str!("../../../static/demo/page.css"), include_str!("../../../static/demo/lane.css")],
    ),
    ("/client.min.js", SCRIPT, &[include_str!("../../../static/client.min.js")]),
    ("/status", PAGE, &[include_str!("../../../static/status.html")]),
    ("/diagnose", PAGE, &[include_str!("../../../static/diagnose.html")]),
    ("/diagnose.js", SCRIPT, &[include_str!("../../../static/lazy/diagnose.js")]),
    ("/path.js", SCRIPT, &[include_str!("../../../static/lazy/path.js")]),
    ("/lead.js", SCRIPT, &[include_str!("../../../static/lazy/lead.js")]),
    ("/slots.js", SCRIPT, &[include_str!("../../../static/lazy/slots.js")]),
    ("/share.js", SCRIPT, &[include_str!("../../../static/lazy/share.js")]),
    ("/scripts.js", SCRIPT, &[include_str!("../../../static/lazy/scripts.js")]),
    ("/stream.js", SCRIPT, &[include_str!("../../../static/lazy/stream.js")]),
    ("/session.js", SCRIPT, &[include_str!("../../../static/lazy/session.js")]),
    ("/members.js", SCRIPT, &[include_str!("../../../static/lazy/members.js")]),
    ("/token.js", SCRIPT, &[include_str!("../../../static/lazy/token.js")]),
    ("/emit.js", SCRIPT, &[include_str!("../../../static/lazy/emit.js")]),
    ("/fetch.js", SCRIPT, &[include_str!("../../../static/lazy/fetch.js")]),
    ("/legacy.js", SCRIPT, &[include_str!("../../../static/lazy/legacy.js")]),
    (
        "/client.js",
        SCRIPT,
        &[
            include_str!("../../../static/client/intro.js"),
            include_str!("../../../static/client/helpers.js"),
            include_str!("../../../static/client/clock.js"),
            include_str!("../../../static/client/http.js"),
            include_str!("../../../static/client/script.js"),
            include_str!("../../../static/client/files.js"),
            include_str!("../../../static/client/responses.js"),
            include_str!("../../../static/client/events.js"),
            include_str!("../../../static/client/backoff.js"),
            include_str!("../../../static/client/link.js"),
            include_str!("../../../static/client/ladder.js"),
            include_str!("../../../static/client/messages.js"),
            include_str!("../../../static/client/publish.js"),
            include_str!("../../../static/client/connection.js"),
            include_str!("../../../static/client/connect.js"),
            include_str!("../../../static/client/ws.js"),
            include_str!("../../../static/client/sse.js"),
            include_str!("../../../static/client/xhr-stream.js"),
            include_str!("../../../static/client/multipart.js"),
            include_str!("../../../static/client/forever-frame.js"),
            include_str!("../../../static/client/long-poll.js"),
            include_str!("../../../static/client/jsonp.js"),
            include_str!("../../../static/client/poll.js"),
            include_str!("../../../static/client/outro.js"),
        ],
    ),
];

/// The endpoint.
pub struct Assets;

impl Endpoint for Assets {
    fn route(&self, _: &Context, path: &str) -> Option<Route> {
        // The status page shows data of other clients.
        let audience = if path == "/status" { Audience::Operators } else { Audience::Clients };
        has(path).then_some(Route { audience, ..Route::PAGE })
    }

    fn call<'a>(&'a self, call: Call<'a>) -> Answer<'a> {
        let others = if call.path() == "/" { lanes(&call) } else { Vec::new() };
        ready(Ok(answer(call.path(), &others)))
    }
}

/// Whether a path names a file.
fn has(path: &str) -> bool {
    FILES.iter().any(|(name, ..)| *name == path)
}

/// The origins, in addition to the page's own, that the lanes of the comparison page read from: the ports of the demo,
/// or other names of this machine. See `static/demo/origins.js`.
fn lanes(call: &Call<'_>) -> Vec<String> {
    if let Some(demo) = &call.context.demo {
        return demo.port_numbers().iter().map(|port| format!("http://*:{port}")).collect();
    }
    let host = text(call.request.headers(), "host").and_then(|host| host.parse::<Authority>().ok());
    let port = host.and_then(|host| host.port_u16());
    let names = ["127.0.0.1", "localhost", "*.localhost"].iter();
    port.map(|port| names.map(|name| format!("http://{name}:{port}")).collect()).unwrap_or_default()
}

/// Answers a GET of a file. If the file is a page, its security policy also allows requests to the origins `others`.
fn answer(path: &str, others: &[String]) -> Response {
    let found = FILES.iter().find(|(name, ..)| *name == path);
    let (content_type, parts) = found.map_or(("text/plain; charset=utf-8", [""].as_slice()), |file| (file.1, file.2));
    let page = parts.concat();
    let mut headers = HeaderMap::new();
    if content_type == PAGE {
        page_headers::write(&mut headers, &page, others);
    }
    let mut response = response::whole(StatusCode::OK, content_type, page);
    response.headers_mut().extend(headers);
    // The files are small and change only with the server. So browsers request a file each time, and never show an old
    // copy.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
