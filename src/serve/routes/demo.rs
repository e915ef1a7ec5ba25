//! The API of `longtail demo` for the comparison page: the faults of the proxy, the bytes that pass through it, and a
//! raw TCP client that replaces a Java applet.

use super::context::Context;
use super::demo_state::{Demo, HOP};
use super::endpoint::{Answer, Call, Endpoint, Route, ready};
use super::page_headers;
use super::response::{self, Response};
use crate::demo::proxy::Faults;
use crate::serve::http::request::Request;
use crate::serve::state::ServerState;
use crate::transport::params::fields;
use crate::transport::{ApiError, Code, Params};
use async_stream::stream;
use bytes::{Bytes, BytesMut};
use hyper::{Method, StatusCode};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::timeout;

/// The maximum number of events in a batch, and the time for which events are collected. A page does not draw more
/// often.
const BATCH: usize = 128;
const BATCH_TIME: Duration = Duration::from_millis(25);

/// Size limit of a body that sets the faults.
const MAX_FAULTS_BYTES: usize = 4 << 10;

/// Connect timeout of the applet.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The time of silence after which the server writes a line to a page. Only a write can detect that the page was
/// closed, and an applet must not run longer than its page.
const SILENCE: Duration = Duration::from_millis(500);

/// Bytes per read of the applet.
const READ_BYTES: usize = 8 << 10;

/// The page of an iframe, for a transport whose page must have the origin that it reads from. The script of this page
/// accepts messages only from pages of this machine, or of the host that the script was loaded from.
const FRAME: &str = concat!(
    include_str!("../../../static/demo/frame.html"),
    "<script>\n",
    include_str!("../../../static/demo/applet.js"),
    include_str!("../../../static/demo/frame.js"),
    "</script>\n</body>\n</html>\n"
);

/// The endpoint. Without `longtail demo` it has no paths.
pub struct DemoApi;

impl Endpoint for DemoApi {
    fn route(&self, context: &Context, path: &str) -> Option<Route> {
        context.demo.as_ref()?;
        match path {
            "/demo/weather" => Some(Route { methods: "GET, HEAD, POST, OPTIONS", ..Route::PAGE }),
            "/demo/wire" | "/demo/applet" | "/demo/frame" => Some(Route::PAGE),
            _ => None,
        }
    }

    fn call<'a>(&'a self, call: Call<'a>) -> Answer<'a> {
        match &call.context.demo {
            Some(demo) => Box::pin(answer(&call.context.state, demo, call.request)),
            None => ready(Err(ApiError::new(Code::NotFound, "the demo is off; start the server with `longtail demo`"))),
        }
    }
}

/// Answers one of the demo's paths.
async fn answer(state: &ServerState, demo: &Demo, mut request: Request) -> Result<Response, ApiError> {
    let query = request.uri().query().unwrap_or_default().to_owned();
    match (request.uri().path(), request.method()) {
        ("/demo/frame", _) => {
            let mut response = response::whole(StatusCode::OK, "text/html; charset=utf-8", FRAME);
            page_headers::write_framed(response.headers_mut(), FRAME);
            Ok(response)
        }
        ("/demo/weather", &Method::POST) => {
            let body = response::read_body(state, &mut request, MAX_FAULTS_BYTES).await?;
            let faults: Faults = serde_json::from_slice(&body).map_err(|error| {
                // The error does not contain the parser's text, because this text may repeat the input.
                let at = error.column();
                ApiError::new(
                    Code::BadJson,
                    format!("invalid JSON at column {at}; GET this path for the expected format"),
                )
            })?;
            faults.check().map_err(|error| ApiError::new(Code::BadRequest, error))?;
            demo.proxy.set(faults);
            Ok(response::json(StatusCode::OK, text(faults)))
        }
        ("/demo/weather", _) => Ok(response::json(StatusCode::OK, text(*demo.proxy.faults().borrow()))),
        // The head of a stream does not contain information for the page.
        (_, &Method::HEAD) => Ok(response::whole(StatusCode::OK, "", "")),
        ("/demo/applet", _) => applet(state, demo, &query).await,
        _ => wire(state, demo, &query),
    }
}

fn text(faults: Faults) -> String {
    serde_json::to_string(&faults).unwrap_or_default()
}

/// Streams the faults, and the bytes of a client's requests that pass through the proxy, as Server-Sent Events.
fn wire(state: &ServerState, demo: &Demo, query: &str) -> Result<Response, ApiError> {
    let params = Params::parse(query.as_bytes(), None, &state.settings.limits)?;
    let Some(client) = params.client else {
        return Err(ApiError::new(Code::BadRequest, "name the client to watch: ?client=…, a UUID"));
    };
    let client = client.to_string();
    let permit = permit(&demo.watchers)?;
    let (mut faults, mut seen, drain) = (demo.proxy.faults(), demo.proxy.tap().watch(), state.drain.clone());
    faults.mark_changed();
    let events = stream! {
        let _permit = permit;
        loop {
            let event = tokio::select! {
                Ok(()) = faults.changed() => {
                    yield Bytes::from(format!("event: weather\ndata: {}\n\n", text(*faults.borrow_and_update())));
                    continue;
                }
                event = seen.recv() => event,
                () = tokio::time::sleep(SILENCE) => {
                    yield Bytes::from_static(b": \n\n");
                    continue;
                }
                () = drain.begun() => return,
            };
            tokio::time::sleep(BATCH_TIME).await;
            let (mut batch, mut missed) = (Vec::new(), 0);
            let mut event = Some(event);
            while let Some(next) = event.take() {
                match next {
                    Ok(event) if *event.client == *client => batch.push(event),
                    Ok(_) => {}
                    Err(RecvError::Lagged(count)) => missed += count,
                    Err(RecvError::Closed) => return,
                }
                if batch.len() < BATCH {
                    event = match seen.try_recv() {
                        Ok(event) => Some(Ok(event)),
                        Err(TryRecvError::Lagged(count)) => Some(Err(RecvError::Lagged(count))),
                        Err(TryRecvError::Empty | TryRecvError::Closed) => None,
                    };
                }
            }
            if missed > 0 {
                yield Bytes::from(format!("event: missed\ndata: {missed}\n\n"));
            }
            if !batch.is_empty() {
                let list: Vec<&str> = batch.iter().map(|event| event.json.as_str()).collect();
                yield Bytes::from(format!("event: seen\ndata: [{}]\n\n", list.join(",")));
            }
        }
    };
    Ok(response::pieces("text/event-stream", events))
}

fn permit(of: &Arc<Semaphore>) -> Result<tokio::sync::OwnedSemaphorePermit, ApiError> {
    let full = |_| ApiError::new(Code::TooManyConnections, "too many pages are watching; close one");
    of.clone().try_acquire_owned().map_err(full)
}

/// A raw TCP client, which replaces an applet: it connects through the proxy, subscribes, and streams the lines that it
/// reads. The applet ends when the response ends.
async fn applet(state: &ServerState, demo: &Demo, query: &str) -> Result<Response, ApiError> {
    let params = Params::parse(query.as_bytes(), None, &state.settings.limits)?;
    let Some([own, hop]) = demo.tcp else {
        return Err(ApiError::new(Code::NotFound, "raw TCP is off on this server; see --tcp-listen"));
    };
    if params.channels.is_empty() {
        return Err(ApiError::new(Code::BadChannel, "name a channel: ?channel=a,b"));
    }
    let permit = permit(&demo.applets)?;
    let channels: Vec<&str> = params.channels.iter().map(|channel| channel.as_str()).collect();
    let mut command = serde_json::json!({ "type": "subscribe", "channels": channels });
    // The original text of the cursor is used. It has been parsed, so it is valid.
    if let Some((_, cursor)) = fields(query.as_bytes(), None).filter(|(name, _)| name == "cursor").last() {
        command["cursor"] = cursor.into();
    }
    if let Some(client) = &params.client {
        command["client"] = client.to_string().into();
    }
    let is_hop = fields(query.as_bytes(), None).any(|(name, value)| name == "by" && value == HOP);
    let connected = timeout(CONNECT_TIMEOUT, TcpStream::connect(if is_hop { hop } else { own })).await;
    let Ok(Ok(mut socket)) = connected else {
        return Err(ApiError::passing(Code::NotReady, "cannot connect to the TCP port"));
    };
    let drain = state.drain.clone();
    let lines = stream! {
        let _permit = permit;
        if socket.write_all(format!("{command}\n").as_bytes()).await.is_err() {
            return;
        }
        let mut buffer = BytesMut::with_capacity(READ_BYTES);
        let mut is_between = true;
        loop {
            buffer.reserve(READ_BYTES);
            let read = tokio::select! {
                read = socket.read_buf(&mut buffer) => read,
                () = tokio::time::sleep(SILENCE) => {
                    // Readers skip an empty line between two lines. Inside a line, an empty line would break that line.
                    if is_between {
                        yield Bytes::from_static(b"\n");
                    }
                    continue;
                }
                () = drain.begun() => return,
            };
            match read {
                Ok(1..) => {
                    is_between = buffer.ends_with(b"\n");
                    yield buffer.split().freeze();
                }
                _ => return,
            }
        }
    };
    Ok(response::pieces("application/x-ndjson", lines))
}
