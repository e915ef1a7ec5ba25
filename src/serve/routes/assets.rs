//! Pages: the demo, the browser library, and what the server tells about itself.

use super::channels;
use super::diagnose;
use super::response::{self, Reply};
use crate::serve::App;
use crate::transport::{self, ApiError, Lifecycle, Params};
use hyper::StatusCode;
use hyper::header::{self, HeaderValue};

const SCRIPT: &str = "application/javascript; charset=utf-8";

/// Files of the binary.
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
    ("/diagnose.js", SCRIPT, &[include_str!("../../../static/client/diagnose.js")]),
    ("/share.js", SCRIPT, &[include_str!("../../../static/client/share.js")]),
    ("/legacy.js", SCRIPT, &[include_str!("../../../static/client/legacy.js")]),
    (
        "/client.js",
        SCRIPT,
        &[
            include_str!("../../../static/client/core.js"),
            include_str!("../../../static/client/ws.js"),
            include_str!("../../../static/client/sse.js"),
            include_str!("../../../static/client/xhr-stream.js"),
            include_str!("../../../static/client/multipart.js"),
            include_str!("../../../static/client/forever-frame.js"),
            include_str!("../../../static/client/long-poll.js"),
            include_str!("../../../static/client/jsonp.js"),
            include_str!("../../../static/client/poll.js"),
        ],
    ),
];

const OURS: &[&str] = &["/info", "/healthz", "/readyz", "/metrics", "/channels", "/diagnose/echo", "/diagnose/drip"];

/// The media type of what `prometheus-client` writes, which Prometheus asks for by itself.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether there is a page at a path.
pub fn has(path: &str) -> bool {
    OURS.contains(&path) || path.starts_with("/channels/") || FILES.iter().any(|(name, ..)| *name == path)
}

/// Whether a page tells of others than the one who asks.
pub fn is_private(path: &str) -> bool {
    path == "/metrics" || path == "/status" || path == "/channels" || path.starts_with("/channels/")
}

/// Whether a page is for the keepers' own listener, and for whoever watches over the process.
pub fn is_admin(path: &str) -> bool {
    is_private(path) || matches!(path, "/info" | "/healthz" | "/readyz")
}

/// Answers a GET.
///
/// # Errors
///
/// A channel that is none, a query that is not sound.
pub async fn answer(app: &App, path: &str, query: &str) -> Result<Reply, ApiError> {
    Ok(match path {
        "/healthz" => response::whole(StatusCode::OK, "text/plain; charset=utf-8", "ok\n"),
        "/readyz" if app.drain.has_begun() => not_ready("draining\n"),
        // Before that a PUBLISH would go by unheard.
        "/readyz" if !*app.is_listening.borrow() => not_ready("what is PUBLISHed in Redis is not heard yet\n"),
        "/readyz" if app.hub.is_ready() => response::whole(StatusCode::OK, "text/plain; charset=utf-8", "ready\n"),
        "/readyz" => not_ready("the log cannot be reached, or is not read yet\n"),
        "/metrics" => response::whole(StatusCode::OK, OPEN_METRICS, metrics(app)),
        "/diagnose/drip" => diagnose::drip(app, query)?,
        "/channels" => response::json(StatusCode::OK, channels::list(app, query).await?),
        "/info" => response::json(StatusCode::OK, info(app)),
        _ => match path.strip_prefix("/channels/") {
            Some(name) => response::json(StatusCode::OK, channels::channel(app, percent_decoded(name).parse()?).await),
            None => file(path),
        },
    })
}

fn metrics(app: &App) -> String {
    let mut text = String::new();
    // Writing into a string cannot fail.
    let _ = prometheus_client::encoding::text::encode(&mut text, &app.metrics);
    text
}

fn not_ready(why: &'static str) -> Reply {
    let mut reply = response::whole(StatusCode::SERVICE_UNAVAILABLE, "text/plain; charset=utf-8", why);
    reply.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    reply
}

fn file(path: &str) -> Reply {
    let found = FILES.iter().find(|(name, ..)| *name == path);
    let (content_type, parts) = found.map_or(("text/plain; charset=utf-8", [""].as_slice()), |file| (file.1, file.2));
    let mut reply = response::whole(StatusCode::OK, content_type, parts.concat());
    // It changes with the server only, and is small: asked for again each time, so never stale.
    reply.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if matches!(path, "/" | "/status") {
        // They are ours alone: nobody frames one to steal clicks on its button, or its figures.
        reply.headers_mut().insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("SAMEORIGIN"));
    }
    reply
}

fn info(app: &App) -> String {
    let transports = transport::ALL.iter().map(|transport| {
        let lifecycle = transport.lifecycle(&Params::default());
        let mut entry = serde_json::json!({
            "name": transport.name(),
            "lifecycle": lifecycle.as_str(),
            "browser": transport.in_browsers(),
        });
        match lifecycle {
            Lifecycle::Socket => entry["address"] = app.tcp_address.map(|address| address.to_string()).into(),
            _ => entry["path"] = format!("/{}", transport.name()).into(),
        }
        if let Lifecycle::Stream { rollover } = lifecycle {
            entry["rollover"] = rollover.into();
        }
        entry
    });
    let mut info = serde_json::json!({
        "name": "longtail",
        "version": env!("CARGO_PKG_VERSION"),
        "transports": transports.collect::<Vec<_>>(),
        "tls": app.tls.is_some(),
        "tcp": app.tcp_address.map(|address| address.to_string()),
        "limits": {
            "max_message_bytes": app.settings.max_message,
            "max_channels": app.settings.limits.channels,
            "heartbeat_seconds": app.settings.heartbeat.as_secs(),
            "batch_messages": 1000,
            "long_poll_seconds": 55,
        },
    });
    if let Some(demo) = &app.demo {
        info["demo"] = demo.info();
    }
    info.to_string()
}

/// A path's segment as it was meant: `+` is itself there, unlike in a query.
fn percent_decoded(segment: &str) -> String {
    let query = format!("c={}", segment.replace('+', "%2B").replace('&', "%26"));
    form_urlencoded::parse(query.as_bytes()).next().map(|(_, value)| value.into_owned()).unwrap_or_default()
}
