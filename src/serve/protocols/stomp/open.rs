//! Opens the WebSocket of a client. The connection begins when the client sends CONNECT.

use super::decoder::StompDecoder;
use super::dialect::StompDialect;
use super::frames::StompFrames;
use super::subscriptions::Subscriptions;
use super::transport::TRANSPORTS;
use crate::serve::access::credentials::Credentials;
use crate::serve::client_sessions::protocol::{Bookmarks, SessionProtocol};
use crate::serve::hook::call::Connect;
use crate::serve::http::headers::{last_field, list, text};
use crate::serve::http::peer::Peer;
use crate::serve::http::request::Request;
use crate::serve::http::upgrade::Upgrade;
use crate::serve::routes::response::{self, Body, Response};
use crate::serve::routes::subscribe::wait_until_ready;
use crate::serve::session::commands::CommandHandler;
use crate::serve::session::duplex::DuplexSession;
use crate::serve::session::open::open_pump;
use crate::serve::session::opening::Opening;
use crate::serve::session::session::Session;
use crate::serve::state::ServerState;
use crate::transport::params::fields;
use crate::transport::{Accepted, ApiError, Params};
use crate::wire::stomp::version::Version;
use hyper::header::{HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use std::sync::Arc;

/// The sessions of clients, where the server has an application. A client that connects again has a new one.
const PROTOCOL: SessionProtocol =
    SessionProtocol { name: "stomp", bookmarks: Bookmarks::Record, outlives_stream: false };

/// Opens the WebSocket of a client at a path of the flags.
///
/// # Errors
///
/// The request is not the handshake of a WebSocket, or the node is not ready.
pub async fn open(
    applications: Arc<[String]>,
    path: &str,
    state: &Arc<ServerState>,
    peer: &Peer,
    request: Request,
) -> Result<Response, ApiError> {
    // The body is kept until this function ends: hyper would otherwise begin to discard it before the response is ready.
    let (head, _body) = request.into_parts();
    let upgrade = Upgrade::check(&head)?;
    wait_until_ready(state).await?;
    let (transport, params) = (TRANSPORTS[0], Params::default());
    let query = head.uri.query().unwrap_or_default().as_bytes();
    let credentials = Arc::new(if state.authorizer.is_open() && state.hook.is_none() {
        Credentials::anonymous(peer.ip, transport.name())
    } else {
        let by_cookie = state.origins.trusts_cookies(&head.headers, peer.forwarded_host());
        let token = last_field(query, None, "token");
        Credentials::new(peer.ip, transport.name(), &head.headers, by_cookie).with_token(token.as_deref())
    });
    let mut commands = CommandHandler::after(credentials, &params, false);
    if state.hook.is_some() {
        let fields = fields(query, None).filter(|(name, _)| name != "token");
        let connect = Connect {
            ip: Some(peer.ip),
            origin: text(&head.headers, "origin").map(str::to_owned),
            transport: transport.name().to_owned(),
            query: fields.map(|(name, value)| (name.into_owned(), value.into_owned())).collect(),
            ..Connect::default()
        };
        commands.open_later(Opening { protocol: PROTOCOL, endpoint: path.to_owned(), connect });
    }
    let frames = StompFrames::new(Version::default(), false, Subscriptions::default());
    let mut pump = open_pump(state, transport, &params, Accepted::new("", frames), None);
    pump.hold(peer.address_permit.clone());
    let decoder = StompDecoder::new(state.settings.max_command(), StompDialect::new(applications));
    let session = DuplexSession::new(state, transport, pump, commands)?.with_decoder(Some(Box::new(decoder)));
    let mut response = response::whole(upgrade.status(), "", "");
    upgrade.write_headers(response.headers_mut());
    // A browser that has offered subprotocols fails if the server does not choose one.
    let offered = list(&head.headers, "sec-websocket-protocol");
    let is_offered = |version: &Version| offered.split(',').any(|offered| offered.trim() == version.subprotocol());
    if let Some(version) = Version::ALL.into_iter().find(is_offered) {
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(version.subprotocol()));
    }
    *response.body_mut() = Body::Session(Session::Duplex(Box::new(session)));
    Ok(response)
}
