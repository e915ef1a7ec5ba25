//! A request to Socket.IO, and the answers that do not depend on the version.

use super::framing::Framing;
use super::poll::Refused;
use super::record::Info;
use super::request::{EngineRequest, EngineTransport};
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

/// The session of an id of a connection. In versions before 4, the public id of its sockets is in front of it.
pub fn session_of(sid: &str) -> Option<SessionId> {
    SessionId::parse(sid.rsplit_once('.').map_or(sid, |(_, secret)| secret))
}
