//! Opens the WebSocket of a client.

use super::apps::{App, AppPermit};
use super::connection::Connection;
use super::metrics::Refused;
use super::state::PusherState;
use super::transport::{Frames, PusherSocket, refusal};
use crate::message::ClientId;
use crate::serve::http::headers::last_field;
use crate::serve::http::peer::Peer;
use crate::serve::http::request::Request;
use crate::serve::http::upgrade::Upgrade;
use crate::serve::routes::response::{self, Body, Response};
use crate::serve::session::duplex::DuplexSession;
use crate::serve::session::open::open_pump;
use crate::serve::session::protocol_commands::Commands;
use crate::serve::session::protocol_stream::Ends;
use crate::serve::session::session::Session;
use crate::serve::state::ServerState;
use crate::transport::encoding::TEXT_FRAME;
use crate::transport::{Accepted, ApiError, Params};
use crate::wire::pusher::close::{self, CloseCode};
use hyper::header::{self, HeaderValue};
use std::sync::Arc;

/// A client that may connect.
struct Admitted {
    app: Arc<App>,
    permit: AppPermit,
    version: u32,
}

/// Opens the connection of a client. A refusal is a code in a close frame, because scripts cannot read the status of a
/// handshake.
///
/// # Errors
///
/// The request is not the handshake of a WebSocket.
pub async fn open(
    pusher: &PusherState,
    state: &Arc<ServerState>,
    peer: &Peer,
    request: Request,
    key: &str,
) -> Result<Response, ApiError> {
    // The body is kept until this function ends: hyper would otherwise begin to discard it before the response is ready.
    let (head, _body) = request.into_parts();
    let upgrade = match Upgrade::check(&head) {
        Ok(upgrade) => upgrade,
        Err(refusal) => {
            let mut response = response::refused(&refusal);
            response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            return Ok(response);
        }
    };
    let protocol = last_field(head.uri.query().unwrap_or_default().as_bytes(), None, "protocol");
    let admitted = admit(pusher, state, key, protocol.as_deref()).await;
    let mut response = response::whole(upgrade.status(), "", "");
    upgrade.write_headers(response.headers_mut());
    let transport = &PusherSocket;
    let socket = new_socket_id();
    let params = Params { client: Some(socket.clone()), ..Params::default() };
    let (encoding, reads_errors) =
        admitted.as_ref().map_or((&TEXT_FRAME, true), |admitted| (admitted.app.encoding, admitted.version <= 5));
    let mut pump = open_pump(state, transport, &params, Accepted::new("", Frames { encoding, reads_errors }), None);
    pump.hold(peer.address_permit.clone());
    let commands: Commands = match admitted {
        Ok(Admitted { app, permit, .. }) => {
            // The filter takes out control entries, and repeats an event for each channel of the client.
            pump.filter().repeat_per_channel();
            pump.set_ends(Ends::new(state.settings.heartbeat, state.settings.drain));
            pump.hello();
            let connection = Connection::new(app, permit, peer.ip, socket, pusher.metrics.clone());
            Commands::Protocol(Box::new(connection))
        }
        Err(code) => {
            pusher.metrics.refused(Refused::Connection);
            pump.end(refusal(code));
            Commands::Refused
        }
    };
    let session = DuplexSession::new(state, transport, pump, commands)?;
    *response.body_mut() = Body::Session(Session::Duplex(Box::new(session)));
    Ok(response)
}

/// Decides whether a client may connect.
async fn admit(
    pusher: &PusherState,
    state: &ServerState,
    key: &str,
    protocol: Option<&str>,
) -> Result<Admitted, CloseCode> {
    let app = pusher.apps.with_key(key).ok_or(CloseCode::UnknownApp)?.clone();
    let version = close::check_version(protocol)?;
    if !app.enabled {
        return Err(CloseCode::DisabledApp);
    }
    // Behind a load balancer, another node takes the client.
    if state.drain.has_begun() {
        return Err(CloseCode::Reconnect);
    }
    if state.hub.head().is_none() && !state.is_ready().await {
        return Err(CloseCode::OverCapacity);
    }
    let permit = app.admit().ok_or(CloseCode::OverQuota)?;
    Ok(Admitted { app, permit, version })
}

/// A new id of a socket: two random numbers that a script can hold. The id is a part of what the application signs, so
/// nobody can guess it.
fn new_socket_id() -> ClientId {
    let (one, other) = uuid::Uuid::new_v4().as_u64_pair();
    ClientId::Token(format!("{}.{}", one >> 11, other >> 11).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::pusher::names::is_socket_id;
    use std::collections::HashSet;

    #[test]
    fn ids_of_sockets_are_unique_and_safe_numbers() {
        let ids: HashSet<String> = (0..1000).map(|_| new_socket_id().to_string()).collect();
        assert_eq!(ids.len(), 1000);
        for id in ids {
            assert!(is_socket_id(&id), "{id}");
            assert!(id.split('.').all(|number| number.parse::<u64>().is_ok_and(|number| number < 1 << 53)), "{id}");
        }
    }
}
