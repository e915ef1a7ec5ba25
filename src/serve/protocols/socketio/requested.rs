//! A request to Socket.IO, and the answers that do not depend on the version.

use super::framing::Framing;
use super::poll::{Refused, UNKNOWN};
use super::record::Info;
use super::request::{EngineRequest, EngineTransport};
use super::sealed::{NotOpened, SealedConnection};
use super::shared::Shared;
use super::sockets::Client;
use crate::message::ClientId;
use crate::serve::access::credentials::Credentials;
use crate::serve::client_sessions::id::SessionId;
use crate::serve::hook::call::Connect;
use crate::serve::http::headers::text;
use crate::serve::http::peer::Peer;
use crate::serve::http::upgrade::Upgrade;
use crate::serve::routes::response::{self, Body, Response};
use crate::serve::session::session::{ProtocolSession, Session};
use crate::serve::state::ServerState;
use crate::transport::Transport;
use crate::wire::engineio::handshake::Refusal;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::{HeaderMap, StatusCode};
use std::sync::Arc;

/// A request, and what it has come with.
pub struct Requested<'a> {
    /// What all connections share.
    pub shared: &'a Arc<Shared>,
    /// The state of the server.
    pub state: &'a Arc<ServerState>,
    /// The client.
    pub peer: &'a Peer,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The query.
    pub read: EngineRequest,
}

impl Requested<'_> {
    /// Whether it is a client that may follow a sealed id: the library in a browser, or in Node. Those in other languages
    /// keep their first id.
    pub fn may_follow(&self) -> bool {
        let agent = text(self.headers, "user-agent").unwrap_or_default();
        agent.starts_with("Mozilla/") || agent.starts_with("node-XMLHttpRequest")
    }

    /// What is known about the client. `id`: the id of all its sockets, in versions before 4.
    pub fn client(&self, transport: &'static dyn Transport, framing: Framing, id: Option<ClientId>) -> Client {
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
}

/// Refuses a request. The answer to an upgrade has only the words.
pub fn refuse(refusal: Refusal, is_upgrade: bool) -> Response {
    let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
    if !is_upgrade {
        return response::json(status, refusal.json());
    }
    let mut response = response::whole(status, "text/html", refusal.message());
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Refuses an upgrade for a reason that was found on the way.
pub fn refuse_upgrade(refused: Refused) -> Response {
    match refused {
        Refused::Engine(refusal) => refuse(refusal, true),
        Refused::Away => refuse_by(refused),
    }
}

/// Refuses a request for a reason that was found on the way.
pub fn refuse_by(refused: Refused) -> Response {
    match refused {
        Refused::Engine(refusal) => refuse(refusal, false),
        Refused::Away => response::whole(StatusCode::SERVICE_UNAVAILABLE, "text/plain", "try again in a moment"),
    }
}

/// The public id of the sockets of a connection, in versions before 4.
pub fn client_of(info: &Info) -> Option<ClientId> {
    info.client.as_ref().and_then(|id| id.parse().ok())
}

/// Accepts a WebSocket.
pub fn switch(upgrade: Upgrade, session: impl ProtocolSession + 'static) -> Response {
    let mut response = response::whole(upgrade.status(), "", "");
    upgrade.write_headers(response.headers_mut());
    *response.body_mut() = Body::Session(Session::Protocol(Box::new(session)));
    response
}

/// The id that a client of Engine.IO has brought.
pub enum ConnectionId {
    /// That of a record.
    Record(SessionId),
    /// A sealed one.
    Sealed(Box<SealedConnection>),
}

impl ConnectionId {
    /// Reads an id. In versions before 4, the public id of the sockets is in front of it.
    ///
    /// # Errors
    ///
    /// No connection has this id.
    pub async fn find(state: &ServerState, sid: &str) -> Result<ConnectionId, Refused> {
        let secret = sid.rsplit_once('.').map_or(sid, |(_, secret)| secret);
        if let Some(id) = SessionId::parse(secret) {
            return Ok(ConnectionId::Record(id));
        }
        match SealedConnection::open(state, secret).await {
            Ok(connection) => Ok(ConnectionId::Sealed(Box::new(connection))),
            Err(NotOpened::Unknown) => Err(UNKNOWN),
            Err(NotOpened::Away) => Err(Refused::Away),
        }
    }

    /// The id of the connection.
    pub fn id(&self) -> &SessionId {
        match self {
            ConnectionId::Record(id) => id,
            ConnectionId::Sealed(connection) => &connection.id,
        }
    }

    /// The connection, if the client has brought it.
    pub fn sealed(&self) -> Option<&SealedConnection> {
        match self {
            ConnectionId::Record(_) => None,
            ConnectionId::Sealed(connection) => Some(connection),
        }
    }
}

/// The session of an id of a connection. In versions before 4, the public id of its sockets is in front of it.
pub fn session_of(sid: &str) -> Option<SessionId> {
    SessionId::parse(sid.rsplit_once('.').map_or(sid, |(_, secret)| secret))
}
