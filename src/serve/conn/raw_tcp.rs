//! A new raw TCP connection: lines of JSON, with or without TLS.

use super::{REJECTED_TIME, detect};
use crate::message::ClientId;
use crate::serve::access::credentials::Credentials;
use crate::serve::http::peer::Peer;
use crate::serve::net::stream::ClientStream;
use crate::serve::session::commands::CommandHandler;
use crate::serve::session::duplex::DuplexSession;
use crate::serve::session::open::open_pump;
use crate::serve::state::ServerState;
use crate::transport::{CloseReason, Control, Lifecycle, Params, RequestHead, Transport};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;

/// Serves a new connection.
pub async fn serve(state: Arc<ServerState>, io: ClientStream, peer: Peer, transport: &'static dyn Transport) {
    if peer.is_over_limit {
        let _ = tokio::time::timeout(REJECTED_TIME, Box::pin(start(state, io, peer, transport))).await;
    } else {
        start(state, io, peer, transport).await;
    }
}

/// Starts the session, or sends a farewell.
async fn start(state: Arc<ServerState>, io: ClientStream, peer: Peer, transport: &'static dyn Transport) {
    let Some((mut io, _)) = detect::secure(&state, io).await else { return };
    let params = Params { client: Some(ClientId::random()), ..Params::default() };
    let Ok(opening) = transport.open(&params, &RequestHead::default()) else { return };
    let rejected = if peer.is_over_limit {
        Some((CloseReason::TooManyConnections, Duration::from_millis(fastrand::u64(2000..8000))))
    } else {
        // If a `subscribe` arrives before the node is ready, it is read when the node is ready.
        (!state.is_ready().await).then(|| (CloseReason::Drain, state.drain.retry()))
    };
    if let Some((bye, retry)) = rejected {
        let mut out = Vec::new();
        state.delivery.bye(bye);
        opening.envelope.control(&Control::Bye { bye, retry: Some(retry), cursor: None }, &mut out);
        if io.write_all(&out).await.is_ok() {
            io.linger().await;
        }
        return;
    }
    debug_assert_eq!(transport.lifecycle(&params), Lifecycle::Socket);
    let mut pump = open_pump(&state, transport, &params, opening, None);
    if let Some(log) = &state.access_log {
        pump.log(log.begin_raw(peer.ip));
    }
    let commands = CommandHandler::new(Arc::new(Credentials::anonymous(peer.ip, transport.name())));
    // The session runs in a separate task, so that the memory of this task is freed.
    if let Ok(session) = DuplexSession::new(&state, transport, pump, commands) {
        session.spawn(state, io, peer);
    }
}
