//! Static files: the demo page, the browser library, the status page.

use super::context::Context;
use super::endpoint::{Answer, Audience, Call, Endpoint, Route, ready};
use super::response::{self, Response};
use hyper::StatusCode;
use hyper::header::{self, HeaderValue};

const SCRIPT: &str = "application/javascript; charset=utf-8";

/// Each path with its content type and the parts of its file.
const FILES: &[(&str, &str, &[&str])] = &[
    ("/", "text/html; charset=utf-8", &[include_str!("../../../static/demo/index.html")]),
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
    ("/status", "text/html; charset=utf-8", &[include_str!("../../../static/status.html")]),
    ("/diagnose", "text/html; charset=utf-8", &[include_str!("../../../static/diagnose.html")]),
    ("/diagnose.js", SCRIPT, &[include_str!("../../../static/lazy/diagnose.js")]),
    ("/path.js", SCRIPT, &[include_str!("../../../static/lazy/path.js")]),
    ("/share.js", SCRIPT, &[include_str!("../../../static/lazy/share.js")]),
    ("/legacy.js", SCRIPT, &[include_str!("../../../static/lazy/legacy.js")]),
    (
        "/client.js",
        SCRIPT,
        &[
            include_str!("../../../static/client/intro.js"),
            include_str!("../../../static/client/helpers.js"),
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
        ready(Ok(answer(call.path())))
    }
}

/// Whether a path names a file.
fn has(path: &str) -> bool {
    FILES.iter().any(|(name, ..)| *name == path)
}

/// Answers a GET of a file.
fn answer(path: &str) -> Response {
    let found = FILES.iter().find(|(name, ..)| *name == path);
    let (content_type, parts) = found.map_or(("text/plain; charset=utf-8", [""].as_slice()), |file| (file.1, file.2));
    let mut response = response::whole(StatusCode::OK, content_type, parts.concat());
    // A file is small and changes only with the server, so browsers request it each time and never show a stale copy.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if matches!(path, "/" | "/status") {
        // Other sites must not frame these pages: a site could steal clicks on the buttons, or the figures that the
        // pages show.
        response.headers_mut().insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("SAMEORIGIN"));
    }
    response
}
