//! The paths of Socket.IO: which request begins, continues or changes a connection.

use super::browser_client;
use super::connection::WebSocketSession;
use super::endpoint09::{self, Path09};
use super::envelope::NamespaceEnvelope;
use super::framing::Framing;
use super::opening::{self, Wanted, public_id};
use super::packets::{self, Packet};
use super::payload;
use super::poll::{Polling, Refused};
use super::post::{self, PostBody};
use super::record::{Info, Parts, Place, Reader, Writer};
use super::request::{EngineRequest, EngineTransport, EngineVersion, handshake};
use super::requested::{ConnectionId, Requested, client_of, refuse, refuse_by, refuse_upgrade, switch};
use super::settings::SocketIoSettings;
use super::shared::Shared;
use super::sockets::Client;
use super::transports::{POLLING, WEBSOCKET};
use super::upgrade::{Trial, UpgradeSession};
use crate::log::connections::ConnectionStore;
use crate::serve::client_sessions::id::SessionId;
use crate::serve::client_sessions::protocol::Bookmarks;
use crate::serve::http::peer::Peer;
use crate::serve::http::request::Request;
use crate::serve::http::upgrade::Upgrade;
use crate::serve::routes::protocol::Protocol;
use crate::serve::routes::response::{self, Response, ServedBy};
use crate::serve::routes::route::{OtherMethods, Route};
use crate::serve::state::ServerState;
use crate::transport::Code;
use crate::wire::engineio::PacketType;
use crate::wire::engineio::handshake::Refusal;
use futures_util::future::BoxFuture;
use hyper::header::CONTENT_TYPE;
use hyper::{Method, StatusCode};
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
        if browser_client::name_of(path).is_some() {
            return Some(Route::PAGE);
        }
        (is_engine || Path09::parse(path).is_some()).then_some(Route {
            methods: "GET, POST, OPTIONS",
            other_methods: if is_engine { OtherMethods::EndpointRefuses } else { OtherMethods::Router },
            transport: Some(WEBSOCKET),
            echoes_origin: true,
            ..Route::PAGE
        })
    }

    fn answer<'a>(&'a self, state: &'a Arc<ServerState>, peer: &'a Peer, request: Request) -> BoxFuture<'a, Response> {
        Box::pin(async move {
            if let Some(name) = browser_client::name_of(request.uri().path()) {
                let client = self.0.settings.client.as_ref();
                return browser_client::answer(client, name, request.method(), request.headers());
            }
            answer(&self.0, state, peer, request).await
        })
    }

    fn info(&self) -> (&'static str, serde_json::Value) {
        let settings = &self.0.settings;
        let info = serde_json::json!({
            "path": "/socket.io/",
            "engine": [3, 4],
            "versions": ["0.9", "1", "2", "3", "4"],
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
    if let Some(path) = Path09::parse(head.uri.path()) {
        let query = head.uri.query().unwrap_or_default();
        let (read, own) = EngineRequest::parse_09(query, path.transport(), path.sid.map(str::to_owned));
        let headers = head.headers.clone();
        let requested = Requested { shared, state, peer, headers: &headers, read };
        let upgrade = Upgrade::check(&head).ok();
        let request = Request::from_parts(head.clone(), body);
        return endpoint09::answer(requested, &path, &own, upgrade, request).await;
    }
    let upgrade = Upgrade::check(&head);
    let is_upgrade = upgrade.is_ok();
    let read = match EngineRequest::parse(head.uri.query().unwrap_or_default()) {
        Ok(read) => read,
        Err(refusal) => return refuse(refusal, is_upgrade),
    };
    let mut request = Requested { shared, state, peer, headers: &head.headers, read };
    let id = match request.read.sid.as_deref() {
        Some(sid) => match ConnectionId::find(state, sid).await {
            Ok(id) => Some(id),
            Err(refused) => return if is_upgrade { refuse_upgrade(refused) } else { refuse_by(refused) },
        },
        None => None,
    };
    match (id, request.read.transport, upgrade) {
        (None, _, _) if head.method != Method::GET => refuse(Refusal::HandshakeMethod, is_upgrade),
        _ if !matches!(head.method, Method::GET | Method::POST) => refuse(Refusal::BadRequest, is_upgrade),
        (None, EngineTransport::WebSocket, Ok(upgrade)) => request.open(upgrade),
        (Some(ConnectionId::Record(id)), EngineTransport::WebSocket, Ok(upgrade)) => request.upgrade(id, upgrade).await,
        // The time for that is over.
        (Some(ConnectionId::Sealed(_)), EngineTransport::WebSocket, Ok(_)) => refuse(Refusal::BadRequest, true),
        (_, EngineTransport::WebSocket, Err(_)) => refuse(Refusal::BadRequest, false),
        (_, EngineTransport::Polling, Ok(_)) => refuse(Refusal::BadRequest, true),
        (None, EngineTransport::Polling, Err(_)) => request.begin().await.unwrap_or_else(refuse_by),
        (Some(id), EngineTransport::Polling, Err(_)) if head.method == Method::GET => request.get(&id).await,
        (Some(id), EngineTransport::Polling, Err(_)) => {
            let headers = head.headers.clone();
            let whole = Request::from_parts(head.clone(), body);
            request.headers = &headers;
            request.post(&id, whole).await
        }
    }
}

impl Requested<'_> {
    /// Opens a WebSocket.
    fn open(self, upgrade: Upgrade) -> Response {
        let framing = match self.read.version {
            EngineVersion::V4 => Framing::Frames4,
            EngineVersion::V1 => Framing::Frames1,
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
        let polling = Polling::new(self.shared, self.state, &id, None);
        let (client, trial) = match polling.load().await {
            Ok(parts) => {
                let is_free = parts.mode.probing_until_ms <= self.state.hub.log().now_ms();
                let trial = if is_free { Trial::Asked } else { Trial::Refused };
                (self.client(WEBSOCKET, parts.info.frames(), client_of(&parts.info)), trial)
            }
            Err(Refused::Engine(_)) => (self.client(WEBSOCKET, Framing::Frames4, None), Trial::Refused),
            Err(Refused::Away) => return refuse_by(Refused::Away),
        };
        let (shared, permit) = (self.shared.clone(), self.peer.address_permit.clone());
        switch(upgrade, UpgradeSession { shared, client, id, trial, entry: None, permit })
    }

    /// Begins a connection that polls.
    async fn begin(self) -> Result<Response, Refused> {
        let broken = Refused::Engine(Refusal::BadRequest);
        let id = SessionId::random().ok_or(broken)?;
        let version = self.read.version;
        let public = (version != EngineVersion::V4).then(public_id).flatten();
        let info = Info {
            version: match version {
                EngineVersion::V1 => 1,
                EngineVersion::V2 => 2,
                EngineVersion::V3 => 3,
                EngineVersion::V4 => 4,
            },
            octets: self.read.takes_octets(),
            text: self.read.is_text,
            client: public.as_ref().map(ToString::to_string),
            began_ms: self.state.hub.log().now_ms(),
        };
        if !self.state.is_ready().await {
            return Err(Refused::Away);
        }
        let framing = info.payload();
        let head = self.state.hub.head().ok_or(Refused::Away)?;
        let sid = info.sid(id.secret());
        let mut out = Vec::new();
        let open = handshake(&self.shared.settings, version, &sid, true).json();
        framing.packet(PacketType::Open, &open, &mut out);
        let pinged_ms = self.state.hub.log().now_ms();
        let mut reader = Reader { pinged_ms, ..Reader::at(head.to_string()) };
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

    /// Connects the main namespace; `None` in the result if it is refused. `None`: the connection has no public id.
    async fn main(&self, framing: Framing, client: &Client, out: &mut Vec<u8>) -> Option<Option<Place>> {
        let namespace: Arc<str> = "/".into();
        let envelope = NamespaceEnvelope::new(&self.shared.encodings, framing, &namespace);
        let id = client.id.clone()?;
        let (credentials, connect) = (client.credentials.clone(), client.connect.clone());
        let bookmarks = Bookmarks::Record;
        let wanted = Wanted { namespace, session: None, client: id.clone(), credentials, connect, bookmarks };
        match opening::open(self.state.clone(), self.shared.clone(), wanted).await {
            Ok(session) => {
                envelope.connected(&id, out);
                let at = Some(session.cursor.to_string());
                let session = session.id.secret().to_string();
                Some(Some(Place { namespace: "/".to_owned(), session, at, ..Place::default() }))
            }
            Err(error) => {
                self.state.rejections.count(error.code);
                let Packet { text, parts } = packets::refused(framing, "/", &error);
                framing.message(&text, &parts, out);
                Some(None)
            }
        }
    }

    async fn get(self, id: &ConnectionId) -> Response {
        let polling = Polling::new(self.shared, self.state, id.id(), self.read.t.as_deref()).with(id.sealed());
        let answered = match id {
            ConnectionId::Record(_) => polling.get(self.may_follow()).await,
            ConnectionId::Sealed(connection) => polling.get_sealed(connection).await,
        };
        match answered {
            Ok((framing, body)) => self.payload(framing, body),
            Err(refused) => refuse_by(refused),
        }
    }

    async fn post(self, id: &ConnectionId, mut request: Request) -> Response {
        let most = self.shared.settings.max_payload;
        let body = match response::read_body(self.state, &mut request, most).await {
            Ok(body) => body,
            Err(error) if error.code == Code::TooLarge => {
                return response::whole(StatusCode::PAYLOAD_TOO_LARGE, "", "");
            }
            Err(error) => return response::refused(&error),
        };
        let polling = Polling::new(self.shared, self.state, id.id(), self.read.t.as_deref()).with(id.sealed());
        let info = match id {
            ConnectionId::Record(_) => polling.load().await.map(|parts| parts.info),
            ConnectionId::Sealed(connection) => polling.check_open(connection).await.map(|()| connection.info.clone()),
        };
        let info = match info {
            Ok(info) => info,
            Err(refused) => return refuse_by(refused),
        };
        let client = self.client(POLLING, info.payload(), client_of(&info));
        let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let is_octets = kind.starts_with("application/octet-stream");
        let body = PostBody { bytes: &body, is_octets, is_form: self.read.jsonp.is_some() };
        match post::post(&polling, &client, &body).await {
            // Some browsers offer a text as a download.
            Ok(()) => by_polling(response::whole(StatusCode::OK, "text/html", "ok")),
            Err(refused) => refuse_by(refused),
        }
    }

    fn payload(&self, framing: Framing, body: Vec<u8>) -> Response {
        let (content_type, body) = payload::answer(framing, body, self.read.jsonp);
        by_polling(response::whole(StatusCode::OK, content_type, body))
    }
}

/// Marks an answer to a poll or a POST for the access log.
fn by_polling(mut response: Response) -> Response {
    response.extensions_mut().insert(ServedBy(POLLING.name()));
    response
}
