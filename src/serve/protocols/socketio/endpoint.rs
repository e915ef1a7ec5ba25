//! The paths of Socket.IO: which request begins, continues or changes a connection.

use super::connection::WebSocketSession;
use super::envelope::NamespaceEnvelope;
use super::framing::Framing;
use super::opening::{self, Wanted, public_id};
use super::payload;
use super::poll::{Polling, Refused};
use super::post::{self, PostBody};
use super::record::{Info, Parts, Place, Reader, Writer};
use super::request::{EngineRequest, EngineTransport, EngineVersion, handshake};
use super::settings::SocketIoSettings;
use super::shared::Shared;
use super::sockets::Client;
use super::transports::{POLLING, WEBSOCKET};
use super::upgrade::UpgradeSession;
use crate::log::connections::ConnectionStore;
use crate::message::ClientId;
use crate::serve::access::credentials::Credentials;
use crate::serve::client_sessions::id::SessionId;
use crate::serve::hook::call::Connect;
use crate::serve::http::headers::text;
use crate::serve::http::peer::Peer;
use crate::serve::http::request::Request;
use crate::serve::http::upgrade::Upgrade;
use crate::serve::routes::protocol::Protocol;
use crate::serve::routes::response::{self, Body, EchoOrigin, Response};
use crate::serve::routes::route::Route;
use crate::serve::session::session::{ProtocolSession, Session};
use crate::serve::state::ServerState;
use crate::transport::{Code, Transport};
use crate::wire::engineio::PacketType;
use crate::wire::engineio::handshake::Refusal;
use futures_util::future::BoxFuture;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, Method, StatusCode};
use prometheus_client::registry::Registry;
use std::sync::Arc;

/// The endpoint.
pub struct SocketIo(Arc<Shared>);

impl SocketIo {
    /// Makes the endpoint, with metrics in this registry.
    pub fn new(settings: SocketIoSettings, store: Arc<dyn ConnectionStore>, registry: &mut Registry) -> SocketIo {
        SocketIo(Arc::new(Shared::new(settings, store, registry)))
    }
}

impl Protocol for SocketIo {
    fn route(&self, path: &str) -> Option<Route> {
        // Some clients leave out the slash at the end.
        let is_engine = matches!(path, "/socket.io/" | "/socket.io");
        is_engine.then_some(Route { methods: "GET, POST, OPTIONS", transport: Some(WEBSOCKET), ..Route::PAGE })
    }

    fn answer<'a>(&'a self, state: &'a Arc<ServerState>, peer: &'a Peer, request: Request) -> BoxFuture<'a, Response> {
        Box::pin(async move {
            let mut response = answer(&self.0, state, peer, request).await;
            response.extensions_mut().insert(EchoOrigin);
            response
        })
    }

    fn info(&self) -> (&'static str, serde_json::Value) {
        let settings = &self.0.settings;
        let info = serde_json::json!({
            "path": "/socket.io/",
            "engine": [3, 4],
            "transports": ["polling", "websocket"],
            "ping_interval_ms": settings.ping_interval.as_millis() as u64,
            "ping_timeout_ms": settings.ping_timeout.as_millis() as u64,
            "max_payload": settings.max_payload,
        });
        ("socketio", info)
    }
}

async fn answer(shared: &Arc<Shared>, state: &Arc<ServerState>, peer: &Peer, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let upgrade = Upgrade::check(&head);
    let is_upgrade = upgrade.is_ok();
    let read = match EngineRequest::parse(head.uri.query().unwrap_or_default()) {
        Ok(read) => read,
        Err(refusal) => return refuse(refusal, is_upgrade),
    };
    let mut request = Requested { shared, state, peer, headers: &head.headers, read };
    let id = request.read.sid.as_deref().map(session_of);
    match (id, request.read.transport, upgrade) {
        (Some(None), ..) => refuse(Refusal::UnknownSession, is_upgrade),
        (None, _, _) if head.method != Method::GET => refuse(Refusal::HandshakeMethod, is_upgrade),
        (None, EngineTransport::WebSocket, Ok(upgrade)) => request.open(upgrade),
        (Some(Some(id)), EngineTransport::WebSocket, Ok(upgrade)) => request.upgrade(id, upgrade).await,
        (_, EngineTransport::WebSocket, Err(_)) => refuse(Refusal::BadRequest, false),
        (_, EngineTransport::Polling, Ok(_)) => refuse(Refusal::BadRequest, true),
        (None, EngineTransport::Polling, Err(_)) => request.begin().await.unwrap_or_else(refuse_by),
        (Some(Some(id)), EngineTransport::Polling, Err(_)) if head.method == Method::GET => request.get(&id).await,
        (Some(Some(id)), EngineTransport::Polling, Err(_)) => {
            let headers = head.headers.clone();
            let whole = Request::from_parts(head.clone(), body);
            request.headers = &headers;
            request.post(&id, whole).await
        }
    }
}

/// The session of an id of a connection. In version 3, the public id of its sockets is in front of it.
fn session_of(sid: &str) -> Option<SessionId> {
    SessionId::parse(sid.rsplit_once('.').map_or(sid, |(_, secret)| secret))
}

/// Refuses a request. The answer to an upgrade has only the words.
fn refuse(refusal: Refusal, is_upgrade: bool) -> Response {
    let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
    if !is_upgrade {
        return response::json(status, refusal.json());
    }
    let mut response = response::whole(status, "text/html", refusal.message());
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

fn refuse_by(refused: Refused) -> Response {
    match refused {
        Refused::Engine(refusal) => refuse(refusal, false),
        Refused::Away => response::whole(StatusCode::SERVICE_UNAVAILABLE, "text/plain", "try again in a moment"),
    }
}

/// A request, and what it has come with.
struct Requested<'a> {
    shared: &'a Arc<Shared>,
    state: &'a Arc<ServerState>,
    peer: &'a Peer,
    headers: &'a HeaderMap,
    read: EngineRequest,
}

impl Requested<'_> {
    /// What is known about the client. `id`: the id of all its sockets, in version 3.
    fn client(&self, transport: &'static dyn Transport, framing: Framing, id: Option<ClientId>) -> Client {
        let by_cookie = self.state.origins.trusts_cookies(self.headers, self.peer.forwarded_host());
        let credentials = Credentials::new(self.peer.ip, transport.name(), self.headers, by_cookie);
        let is_polling = self.read.transport == EngineTransport::Polling;
        let connect = Connect {
            ip: Some(self.peer.ip),
            origin: text(self.headers, "origin").map(str::to_owned),
            transport: if is_polling { "polling" } else { "websocket" }.to_owned(),
            query: self.read.query.clone(),
            auth: None,
            number: 0,
        };
        let credentials = Arc::new(credentials.with_token(self.read.token.as_deref()));
        Client { framing, id, credentials, connect, transport: transport.name() }
    }

    /// Opens a WebSocket.
    fn open(self, upgrade: Upgrade) -> Response {
        let framing = match self.read.version {
            EngineVersion::V4 => Framing::Frames4,
            EngineVersion::V2 | EngineVersion::V3 if self.read.is_text => Framing::Frames3Text,
            EngineVersion::V2 | EngineVersion::V3 => Framing::Frames3,
        };
        let version = self.read.version;
        // In version 3 the id of the connection is that of its sockets, too. It does not open anything.
        let id = (version != EngineVersion::V4).then(public_id).flatten();
        let secret = || SessionId::random().map(|id| id.secret().to_string());
        let Some(sid) = id.as_ref().map(ToString::to_string).or_else(secret) else {
            return refuse(Refusal::BadRequest, true);
        };
        let client = self.client(WEBSOCKET, framing, id);
        let (shared, permit) = (self.shared.clone(), self.peer.address_permit.clone());
        switch(upgrade, WebSocketSession { shared, client, version, sid, entry: None, permit })
    }

    /// Lets a client that polls try a WebSocket.
    async fn upgrade(self, id: SessionId, upgrade: Upgrade) -> Response {
        let polling = Polling { shared: self.shared, state: self.state, id: &id, t: None };
        let parts = match polling.load().await {
            Ok(parts) if parts.mode.probing_until_ms <= self.state.hub.log().now_ms() => parts,
            Ok(_) => return refuse(Refusal::BadRequest, true),
            Err(Refused::Engine(refusal)) => return refuse(refusal, true),
            Err(Refused::Away) => return refuse_by(Refused::Away),
        };
        let client = self.client(WEBSOCKET, parts.info.frames(), client_of(&parts.info));
        let (shared, permit) = (self.shared.clone(), self.peer.address_permit.clone());
        switch(upgrade, UpgradeSession { shared, client, id, entry: None, permit })
    }

    /// Begins a connection that polls.
    async fn begin(self) -> Result<Response, Refused> {
        let broken = Refused::Engine(Refusal::BadRequest);
        let id = SessionId::random().ok_or(broken)?;
        let version = self.read.version;
        let public = (version != EngineVersion::V4).then(public_id).flatten();
        let info = Info {
            version: match version {
                EngineVersion::V2 => 2,
                EngineVersion::V3 => 3,
                EngineVersion::V4 => 4,
            },
            octets: self.read.takes_octets(),
            text: self.read.is_text,
            client: public.as_ref().map(ToString::to_string),
        };
        if !self.state.is_ready().await {
            return Err(Refused::Away);
        }
        let framing = info.payload();
        let head = self.state.hub.head().ok_or(Refused::Away)?;
        let sid = match &public {
            Some(public) => format!("{public}.{}", id.secret()),
            None => id.secret().to_string(),
        };
        let mut out = Vec::new();
        let open = handshake(&self.shared.settings, version, &sid, true).json();
        framing.packet(PacketType::Open, &open, &mut out);
        let pinged_ms = self.state.hub.log().now_ms();
        let mut reader = Reader { at: head.to_string(), sockets: Vec::new(), pinged_ms, parked: None, last: None };
        let mut writer = Writer::default();
        if version != EngineVersion::V4 {
            // Clients of these versions are in the main namespace at once.
            let client = self.client(POLLING, framing, public);
            if let Some(place) = self.main(framing, &client, &mut out).await.ok_or(broken)? {
                reader.sockets.push(place.clone());
                writer.sockets.push(Place { at: None, ..place });
            }
        }
        let settings = &self.shared.settings;
        let ends_in = settings.ping_interval + settings.ping_timeout;
        let record = Parts::record(&info, &reader, &writer);
        if !self.shared.store.create(id.secret(), &record, ends_in, settings.max_connections).await? {
            return Err(Refused::Away);
        }
        Ok(self.payload(framing, payload::finish(framing, out)))
    }

    /// Connects the main namespace; `None` in the result if it is refused. `None`: there are too many namespaces here.
    async fn main(&self, framing: Framing, client: &Client, out: &mut Vec<u8>) -> Option<Option<Place>> {
        let namespace: Arc<str> = "/".into();
        let envelope = NamespaceEnvelope::new(&self.shared.encodings, framing, &namespace)?;
        let id = client.id.clone()?;
        let (credentials, connect) = (client.credentials.clone(), client.connect.clone());
        let wanted = Wanted { namespace, client: id.clone(), credentials, connect };
        match opening::open(self.state.clone(), self.shared.clone(), wanted).await {
            Ok(session) => {
                envelope.connected(&id, out);
                let at = Some(session.cursor.to_string());
                let session = session.id.secret().to_string();
                Some(Some(Place { namespace: "/".to_owned(), session, at }))
            }
            Err(error) => {
                self.state.rejections.count(error.code);
                let mut text = Vec::new();
                opening::refuse(framing.version(), "/", &error, &mut text);
                framing.message(&text, &[], out);
                Some(None)
            }
        }
    }

    async fn get(self, id: &SessionId) -> Response {
        let polling = Polling { shared: self.shared, state: self.state, id, t: self.read.t.as_deref() };
        match polling.get().await {
            Ok((framing, body)) => self.payload(framing, body),
            Err(refused) => refuse_by(refused),
        }
    }

    async fn post(self, id: &SessionId, mut request: Request) -> Response {
        let most = self.shared.settings.max_payload;
        let body = match response::read_body(self.state, &mut request, most).await {
            Ok(body) => body,
            Err(error) if error.code == Code::TooLarge => {
                return response::whole(StatusCode::PAYLOAD_TOO_LARGE, "", "");
            }
            Err(error) => return response::refused(&error),
        };
        let polling = Polling { shared: self.shared, state: self.state, id, t: self.read.t.as_deref() };
        let info = match polling.load().await {
            Ok(parts) => parts.info,
            Err(refused) => return refuse_by(refused),
        };
        let client = self.client(POLLING, info.payload(), client_of(&info));
        let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let is_octets = kind.starts_with("application/octet-stream");
        let body = PostBody { bytes: &body, is_octets, is_form: self.read.jsonp.is_some() };
        match post::post(&polling, &client, &body).await {
            // Some browsers offer a text as a download.
            Ok(()) => response::whole(StatusCode::OK, "text/html", "ok"),
            Err(refused) => refuse_by(refused),
        }
    }

    fn payload(&self, framing: Framing, body: Vec<u8>) -> Response {
        let (content_type, body) = payload::answer(framing, body, self.read.jsonp);
        response::whole(StatusCode::OK, content_type, body)
    }
}

fn client_of(info: &Info) -> Option<ClientId> {
    info.client.as_ref().and_then(|id| id.parse().ok())
}

/// Accepts a WebSocket.
fn switch(upgrade: Upgrade, session: impl ProtocolSession + 'static) -> Response {
    let mut response = response::whole(upgrade.status(), "", "");
    upgrade.write_headers(response.headers_mut());
    *response.body_mut() = Body::Session(Session::Protocol(Box::new(session)));
    response
}
