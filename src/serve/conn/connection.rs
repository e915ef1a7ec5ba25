//! A new HTTP connection: TLS, detection of the protocol, and then HTTP/1 or HTTP/2.

use super::detect::{self, Protocol};
use super::{REJECTED_TIME, http1, http2};
use crate::serve::http::peer::Peer;
use crate::serve::net::stream::ClientStream;
use crate::serve::routes::context::Context;
use std::sync::Arc;

/// Serves a new connection.
pub async fn serve(context: Arc<Context>, io: ClientStream, peer: Peer) {
    if peer.is_over_limit {
        // No session begins on such a connection, so this future serves all of it.
        let _ = tokio::time::timeout(REJECTED_TIME, Box::pin(serve_protocol(context, io, peer))).await;
    } else {
        serve_protocol(context, io, peer).await;
    }
}

/// Serves HTTP/1 or HTTP/2 on a new connection, after TLS if the client starts it.
async fn serve_protocol(context: Arc<Context>, io: ClientStream, mut peer: Peer) {
    let state = &context.state;
    let Some((mut io, agreed)) = detect::secure(state, io).await else { return };
    peer.must_use_tls = state.tls.is_some() && agreed.is_none() && !detect::may_be_plain(state, &peer);
    match detect::detect(&mut io, agreed, &state.drain, state.settings.request_timeout).await {
        Some(Protocol::Http1) => http1::connection::serve(context, io, peer).await,
        Some(Protocol::Http2) => http2::serve(context, io, peer).await,
        None => {}
    }
}
