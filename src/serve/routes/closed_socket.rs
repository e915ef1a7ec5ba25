//! A WebSocket that the server closes at once.

use super::response::{self, Body, Response};
use crate::serve::http::peer::Peer;
use crate::serve::http::request::Request;
use crate::serve::http::upgrade::Upgrade;
use crate::serve::session::duplex::DuplexSession;
use crate::serve::session::open::open_pump;
use crate::serve::session::protocol_commands::Commands;
use crate::serve::session::session::Session;
use crate::serve::state::ServerState;
use crate::transport::{ApiError, Params, RequestHead, Transport};
use bytes::Bytes;
use std::sync::Arc;

/// Answers the handshake of a WebSocket that is closed at once, with these last bytes. A client that speaks the WebSocket
/// of 2010 is refused.
///
/// # Errors
///
/// The request is not the handshake of a WebSocket.
pub fn answer(
    state: &Arc<ServerState>,
    peer: &Peer,
    request: Request,
    transport: &'static dyn Transport,
    farewell: Bytes,
) -> Result<Response, ApiError> {
    let (head, _body) = request.into_parts();
    let upgrade = Upgrade::check(&head)?;
    let params = Params::default();
    let opening = transport.open(&params, &RequestHead::default())?;
    let mut pump = open_pump(state, transport, &params, opening, None);
    pump.hold(peer.address_permit.clone());
    pump.end(farewell);
    let mut response = response::whole(upgrade.status(), "", "");
    upgrade.write_headers(response.headers_mut());
    let session = DuplexSession::new(state, transport, pump, Commands::Refused)?;
    *response.body_mut() = Body::Session(Session::Duplex(Box::new(session)));
    Ok(response)
}
