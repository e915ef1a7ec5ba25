//! What the comparison page is given besides when the server was started as `longtail demo`: the weather and
//! its switches, the bytes that pass, and a client of the days of applets. Without the demo none of it is there.

use super::response::{self, Reply};
use crate::serve::App;
use crate::serve::http::request::Request;
use crate::transport::params::fields;
use crate::transport::{ApiError, Code, Params};
use crate::weather::{Conditions, Weather};
use async_stream::stream;
use bytes::{Bytes, BytesMut};
use hyper::{Method, StatusCode};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::timeout;

/// Pages that may watch at a time, and applets.
const WATCHERS: usize = 32;

/// Events that are told at once, and how long they are gathered: a page draws no faster.
const GATHERED: usize = 128;
const GATHERING: Duration = Duration::from_millis(25);

/// Bytes of a form that sets the weather.
const WEATHER_BYTES: usize = 4 << 10;

/// How long the applet waits for its connection.
const CONNECT: Duration = Duration::from_secs(5);

/// Silence before a page is written something to: a page that has gone is noticed by writing only, and an
/// applet must not outlive its page.
const SILENCE: Duration = Duration::from_millis(500);

/// Bytes that the applet reads at a time.
const READ: usize = 8 << 10;

/// The page in which a lane runs whose transport has to be at home where it reads. Its script obeys pages of
/// this machine, or of the host that it came from itself, and no others.
const FRAME: &str = concat!(
    include_str!("../../../static/demo/frame.html"),
    "<script>\n",
    include_str!("../../../static/demo/applet.js"),
    include_str!("../../../static/demo/frame.js"),
    "</script>\n</body>\n</html>\n"
);

/// Where a lane that is no transport goes through: the reader that changes its transport.
pub const HOP: &str = "hop";

/// What the demo consists of.
pub struct Demo {
    /// The weather over all ports.
    pub weather: Arc<Weather>,
    /// The ports, each with the name of its lane.
    pub ports: Vec<(&'static str, SocketAddr)>,
    /// Where the applet connects, and where the one of the reader that hops.
    pub tcp: Option<[SocketAddr; 2]>,
    watchers: Arc<Semaphore>,
    applets: Arc<Semaphore>,
}

impl Demo {
    /// With these ports.
    pub fn new(weather: Arc<Weather>, ports: Vec<(&'static str, SocketAddr)>, tcp: Option<[SocketAddr; 2]>) -> Demo {
        let room = || Arc::new(Semaphore::new(WATCHERS));
        Demo { weather, ports, tcp, watchers: room(), applets: room() }
    }

    /// What `/info` tells of it.
    pub fn info(&self) -> serde_json::Value {
        let ports = self.ports.iter().map(|(lane, address)| (lane.to_string(), address.to_string().into()));
        serde_json::json!({ "ports": ports.collect::<serde_json::Map<_, _>>(), "applet": self.tcp.is_some() })
    }
}

/// The methods of a path, where there is such a path.
pub fn methods(app: &App, path: &str) -> Option<&'static str> {
    app.demo.as_ref()?;
    match path {
        "/demo/weather" => Some("GET, HEAD, POST, OPTIONS"),
        "/demo/wire" | "/demo/applet" | "/demo/frame" => Some("GET, HEAD, OPTIONS"),
        _ => None,
    }
}

/// Answers one of the demo's paths.
///
/// # Errors
///
/// `not_found` without the demo; whatever is not sound in the request.
pub async fn answer(app: &Arc<App>, mut request: Request) -> Result<Reply, ApiError> {
    let Some(demo) = &app.demo else { return Err(ApiError::new(Code::NotFound, "start it with `longtail demo`")) };
    let query = request.uri().query().unwrap_or_default().to_owned();
    match (request.uri().path(), request.method()) {
        ("/demo/frame", _) => Ok(response::whole(StatusCode::OK, "text/html; charset=utf-8", FRAME)),
        ("/demo/weather", &Method::POST) => {
            let body = super::router::read_body(app, &mut request, WEATHER_BYTES).await?;
            let conditions: Conditions = serde_json::from_slice(&body).map_err(|error| {
                // What it says of a field may repeat what was sent.
                let at = error.column();
                ApiError::new(Code::BadJson, format!("the weather is no such object as GET answers: see column {at}"))
            })?;
            conditions.check().map_err(|error| ApiError::new(Code::BadRequest, error))?;
            demo.weather.set(conditions);
            Ok(response::json(StatusCode::OK, text(conditions)))
        }
        ("/demo/weather", _) => Ok(response::json(StatusCode::OK, text(*demo.weather.conditions().borrow()))),
        // A stream has nothing to say about its head.
        (_, &Method::HEAD) => Ok(response::whole(StatusCode::OK, "", "")),
        ("/demo/applet", _) => applet(app, demo, &query).await,
        _ => wire(app, demo, &query),
    }
}

fn text(conditions: Conditions) -> String {
    serde_json::to_string(&conditions).unwrap_or_default()
}

/// What passes of a client's requests, and what the weather is, as Server-Sent Events.
fn wire(app: &App, demo: &Demo, query: &str) -> Result<Reply, ApiError> {
    let params = Params::parse(query.as_bytes(), None, &app.settings.limits)?;
    let Some(client) = params.client else {
        return Err(ApiError::new(Code::BadRequest, "name whose requests are watched: ?client=…, a UUID"));
    };
    let client = client.to_string();
    let room = room(&demo.watchers)?;
    let (mut conditions, mut seen, drain) = (demo.weather.conditions(), demo.weather.tap().watch(), app.drain.clone());
    conditions.mark_changed();
    let events = stream! {
        let _room = room;
        loop {
            let event = tokio::select! {
                Ok(()) = conditions.changed() => {
                    yield Bytes::from(format!("event: weather\ndata: {}\n\n", text(*conditions.borrow_and_update())));
                    continue;
                }
                event = seen.recv() => event,
                () = tokio::time::sleep(SILENCE) => {
                    yield Bytes::from_static(b": \n\n");
                    continue;
                }
                () = drain.begun() => return,
            };
            tokio::time::sleep(GATHERING).await;
            let (mut gathered, mut missed) = (Vec::new(), 0);
            let mut event = Some(event);
            while let Some(next) = event.take() {
                match next {
                    Ok(event) if *event.client == *client => gathered.push(event),
                    Ok(_) => {}
                    Err(RecvError::Lagged(count)) => missed += count,
                    Err(RecvError::Closed) => return,
                }
                if gathered.len() < GATHERED {
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
            if !gathered.is_empty() {
                let list: Vec<&str> = gathered.iter().map(|event| event.json.as_str()).collect();
                yield Bytes::from(format!("event: seen\ndata: [{}]\n\n", list.join(",")));
            }
        }
    };
    Ok(response::pieces("text/event-stream", events))
}

fn room(of: &Arc<Semaphore>) -> Result<tokio::sync::OwnedSemaphorePermit, ApiError> {
    let full = |_| ApiError::new(Code::TooManyConnections, "as many pages watch as may; close one");
    of.clone().try_acquire_owned().map_err(full)
}

/// A client over raw TCP, as an applet was one: it connects through the weather, subscribes, and hands on the
/// lines that it reads. It lives as long as the answer.
async fn applet(app: &App, demo: &Demo, query: &str) -> Result<Reply, ApiError> {
    let params = Params::parse(query.as_bytes(), None, &app.settings.limits)?;
    let Some([own, hop]) = demo.tcp else {
        return Err(ApiError::new(Code::NotFound, "this server has no TCP port open; see --tcp-listen"));
    };
    if params.channels.is_empty() {
        return Err(ApiError::new(Code::BadChannel, "name a channel: ?channel=a,b"));
    }
    let room = room(&demo.applets)?;
    let channels: Vec<&str> = params.channels.iter().map(|channel| channel.as_str()).collect();
    let mut command = serde_json::json!({ "type": "subscribe", "channels": channels });
    // As it was written; it has been read, so it is sound.
    if let Some((_, cursor)) = fields(query.as_bytes(), None).filter(|(name, _)| name == "cursor").last() {
        command["cursor"] = cursor.into();
    }
    if let Some(client) = &params.client {
        command["client"] = client.to_string().into();
    }
    let is_hop = fields(query.as_bytes(), None).any(|(name, value)| name == "by" && value == HOP);
    let connected = timeout(CONNECT, TcpStream::connect(if is_hop { hop } else { own })).await;
    let Ok(Ok(mut socket)) = connected else {
        return Err(ApiError::passing(Code::NotReady, "the TCP port cannot be reached"));
    };
    let drain = app.drain.clone();
    let lines = stream! {
        let _room = room;
        if socket.write_all(format!("{command}\n").as_bytes()).await.is_err() {
            return;
        }
        let mut buffer = BytesMut::with_capacity(READ);
        let mut is_between = true;
        loop {
            buffer.reserve(READ);
            let read = tokio::select! {
                read = socket.read_buf(&mut buffer) => read,
                () = tokio::time::sleep(SILENCE) => {
                    // An empty line between two others is passed over; within one it would break it.
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
