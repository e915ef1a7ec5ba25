//! The paths of Socket.IO 0.9: `/socket.io/1/` is the handshake, and `/socket.io/1/<transport>/<sid>` a transport.
//!
//! A client shakes hands, and then connects a transport with the id that it got. It tries a WebSocket first, and polls if
//! that fails. It never changes the transport later.

use super::entries::ConnectionEntry;
use super::framing::Framing;
use super::opening::{self, Wanted, public_id};
use super::payload;
use super::poll::{Polling, Refused, UNKNOWN};
use super::post::{self, PostBody};
use super::record::{Info, Parts, Place, Reader, Writer};
use super::request::{EngineTransport, Fields09};
use super::requested::{Requested, client_of, refuse_by, session_of, switch};
use super::transports::{POLLING, WEBSOCKET};
use super::upgrade::{Trial, UpgradeSession};
use crate::serve::client_sessions::id::SessionId;
use crate::serve::client_sessions::protocol::Bookmarks;
use crate::serve::http::request::Request;
use crate::serve::http::upgrade::Upgrade;
use crate::serve::routes::response::{self, Response};
use crate::transport::Code;
use crate::wire::socketio09::encode::{NOOP, UNKNOWN_SESSION};
use crate::wire::socketio09::handshake::{Handshake, jsonp_error};
use crate::wire::socketio09::pages;
use hyper::{Method, StatusCode};
use std::time::Duration;

/// The transports, in the order in which clients try them.
const TRANSPORTS: [&str; 3] = ["websocket", "xhr-polling", "jsonp-polling"];

const TEXT: &str = "text/plain; charset=UTF-8";
const SCRIPT: &str = "text/javascript; charset=UTF-8";

/// A path.
#[derive(Debug, PartialEq, Eq)]
pub struct Path09<'a> {
    /// The name of the transport. A page that is about to be closed names none.
    name: &'a str,
    /// The id of the connection; `None` for a handshake.
    pub sid: Option<&'a str>,
}

impl<'a> Path09<'a> {
    /// Reads a path; `None` if it is not one of these.
    pub fn parse(path: &'a str) -> Option<Path09<'a>> {
        let rest = path.strip_prefix("/socket.io/1")?;
        if rest.is_empty() || rest == "/" {
            return Some(Path09 { name: "", sid: None });
        }
        let (name, sid) = rest.strip_prefix('/')?.split_once('/')?;
        let sid = sid.strip_suffix('/').unwrap_or(sid);
        let is_known = name.is_empty() || TRANSPORTS.contains(&name);
        (is_known && !sid.is_empty() && !sid.contains('/')).then_some(Path09 { name, sid: Some(sid) })
    }

    /// The transport.
    pub fn transport(&self) -> EngineTransport {
        if self.name == TRANSPORTS[0] { EngineTransport::WebSocket } else { EngineTransport::Polling }
    }
}

/// Answers a request.
pub async fn answer(
    requested: Requested<'_>,
    path: &Path09<'_>,
    own: &Fields09,
    upgrade: Option<Upgrade>,
    request: Request,
) -> Response {
    let Some(sid) = path.sid else { return begin(requested, own.jsonp).await };
    // A page shakes hands again if its session is not known.
    let Some(id) = session_of(sid) else { return packet(&requested, UNKNOWN_SESSION) };
    if own.disconnects {
        let _ = polling(&requested, &id).close("transport close").await;
        return response::whole(StatusCode::OK, TEXT, "");
    }
    match (path.transport(), upgrade) {
        (EngineTransport::WebSocket, Some(upgrade)) => change(requested, id, upgrade).await,
        (EngineTransport::WebSocket, None) => response::whole(
            StatusCode::BAD_REQUEST,
            TEXT,
            "a WebSocket needs Connection: Upgrade; a proxy may have removed it",
        ),
        _ if *request.method() == Method::GET => get(&requested, &id).await,
        _ => send(&requested, &id, request).await,
    }
}

fn polling<'a>(requested: &'a Requested<'_>, id: &'a SessionId) -> Polling<'a> {
    // The time stamps of these clients are times, which two posts may share.
    Polling::new(requested.shared, requested.state, id, None)
}

/// An answer with one packet.
fn packet(requested: &Requested<'_>, text: &str) -> Response {
    let (content_type, body) = payload::answer(Framing::Payload1, text.as_bytes().to_vec(), requested.read.jsonp);
    response::whole(StatusCode::OK, content_type, body)
}

fn refuse(requested: &Requested<'_>, refused: Refused) -> Response {
    match refused {
        UNKNOWN => packet(requested, UNKNOWN_SESSION),
        // A newer GET has taken the place of this one.
        Refused::Engine(_) => packet(requested, NOOP),
        Refused::Away => refuse_by(refused),
    }
}

async fn get(requested: &Requested<'_>, id: &SessionId) -> Response {
    // Of the GETs, one that repeats another is known by its time stamp.
    let t = requested.read.t.as_deref();
    match Polling::new(requested.shared, requested.state, id, t).get(false).await {
        Ok((framing, body)) => {
            let (content_type, body) = payload::answer(framing, body, requested.read.jsonp);
            response::whole(StatusCode::OK, content_type, body)
        }
        Err(refused) => refuse(requested, refused),
    }
}

async fn send(requested: &Requested<'_>, id: &SessionId, mut request: Request) -> Response {
    let most = requested.shared.settings.max_payload;
    let body = match response::read_body(requested.state, &mut request, most).await {
        Ok(body) => body,
        Err(error) if error.code == Code::TooLarge => return response::whole(StatusCode::PAYLOAD_TOO_LARGE, "", ""),
        Err(error) => return response::refused(&error),
    };
    let polling = polling(requested, id);
    let info = match polling.load().await {
        Ok(parts) => parts.info,
        Err(refused) => return refuse(requested, refused),
    };
    let client = requested.client(POLLING, info.payload(), client_of(&info));
    let body = PostBody { bytes: &body, is_octets: false, is_form: requested.read.jsonp.is_some() };
    match post::post(&polling, &client, &body).await {
        Ok(()) => response::whole(StatusCode::OK, TEXT, "1"),
        Err(refused) => refuse(requested, refused),
    }
}

async fn change(requested: Requested<'_>, id: SessionId, upgrade: Upgrade) -> Response {
    let polling = polling(&requested, &id);
    // A WebSocket of an unknown session is opened, so that the client can be told.
    let public = match polling.load().await {
        Ok(parts) => client_of(&parts.info),
        Err(Refused::Away) => return refuse_by(Refused::Away),
        Err(_) => None,
    };
    let client = requested.client(WEBSOCKET, Framing::Frames1, public);
    let (shared, permit) = (requested.shared.clone(), requested.peer.address_permit.clone());
    switch(upgrade, UpgradeSession { shared, client, id, trial: Trial::Skipped, entry: None, permit })
}

/// Answers a handshake.
async fn begin(requested: Requested<'_>, jsonp: Option<u32>) -> Response {
    let line = match shake_hands(&requested).await {
        Ok(line) => line,
        Err((status, words)) => {
            let Some(number) = jsonp else { return response::whole(status, TEXT, words) };
            let mut out = Vec::new();
            jsonp_error(number, words, &mut out);
            return response::whole(StatusCode::OK, SCRIPT, out);
        }
    };
    let Some(number) = jsonp else { return response::whole(StatusCode::OK, TEXT, line) };
    let mut out = Vec::new();
    pages::begin_jsonp(number, &mut out);
    pages::escape(&line, &mut out);
    pages::end_jsonp(&mut out);
    response::whole(StatusCode::OK, SCRIPT, out)
}

/// Begins a connection, and returns the line of the handshake; or a status and the words of a refusal.
async fn shake_hands(requested: &Requested<'_>) -> Result<String, (StatusCode, &'static str)> {
    let failed = (StatusCode::INTERNAL_SERVER_ERROR, "handshake error");
    let (Some(id), Some(public)) = (SessionId::random(), public_id()) else { return Err(failed) };
    let info = Info { version: 1, octets: false, text: true, client: Some(public.to_string()), began_ms: 0 };
    let client = requested.client(POLLING, info.payload(), Some(public.clone()));
    let (credentials, connect) = (client.credentials, client.connect);
    let wanted = Wanted {
        namespace: "/".into(),
        session: None,
        client: public.clone(),
        credentials,
        connect,
        bookmarks: Bookmarks::Record,
    };
    let (state, shared) = (requested.state, requested.shared);
    let opened = opening::open(state.clone(), shared.clone(), wanted).await;
    let session = opened.map_err(|error| {
        state.rejections.count(error.code);
        if error.code == Code::Forbidden { (StatusCode::FORBIDDEN, "handshake unauthorized") } else { failed }
    })?;
    let pinged_ms = state.hub.log().now_ms();
    // The first answer of the connection says that the main namespace is connected.
    let at = session.cursor.to_string();
    let own = session.id.secret().to_string();
    let place = Place { namespace: "/".to_owned(), session: own, ..Place::default() };
    let entry = ConnectionEntry::Socket {
        namespace: "/".to_owned(),
        session: place.session.clone(),
        at: at.clone(),
        token: None,
        sealed: None,
    };
    let reader = Reader { pinged_ms, ..Reader::at(at) };
    let record = Parts::record(&info, &reader, &Writer { sockets: vec![place], ..Writer::default() });
    let polling = Polling::new(shared, state, &id, None);
    let created = shared.store.create(id.secret(), &record, polling.lifetime(), shared.settings.max_connections).await;
    if !created.unwrap_or(false) || polling.append(&[entry]).await.is_err() {
        state.sessions.end_soon(&session.id, "transport error");
        return Err(failed);
    }
    let seconds = |time: Duration| time.as_secs_f64().ceil() as u64;
    let handshake = Handshake {
        sid: &format!("{public}.{}", id.secret()),
        heartbeat: Some(seconds(polling.lifetime())),
        close: seconds(polling.lifetime()),
        transports: &TRANSPORTS,
    };
    Ok(handshake.line())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_a_transport_and_a_connection() {
        for (path, name, sid) in [
            ("/socket.io/1", "", None),
            ("/socket.io/1/", "", None),
            ("/socket.io/1/websocket/a.b", "websocket", Some("a.b")),
            ("/socket.io/1/xhr-polling/a/", "xhr-polling", Some("a")),
            ("/socket.io/1//a/", "", Some("a")),
        ] {
            assert_eq!(Path09::parse(path), Some(Path09 { name, sid }), "{path}");
        }
        for path in
            ["/socket.io/", "/socket.io/10", "/socket.io/1/a", "/socket.io/1/flashsocket/a", "/socket.io/1/websocket/"]
        {
            assert_eq!(Path09::parse(path), None, "{path}");
        }
    }
}
