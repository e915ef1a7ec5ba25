//! Admits operators to the paths that show data of all clients.

use super::endpoint::Audience;
use crate::serve::access::credentials::Credentials;
use crate::serve::access::origin::ListenerKind;
use crate::serve::http::peer::Peer;
use crate::serve::state::ServerState;
use crate::transport::ApiError;
use hyper::HeaderMap;

/// Whether a listener serves a path of this audience. The admin listener serves the paths for operators and for
/// monitoring.
pub fn is_served(audience: Audience, listener: ListenerKind) -> bool {
    listener == ListenerKind::Public || audience != Audience::Clients
}

/// Checks that the client may see a path of this audience.
///
/// # Errors
///
/// The path is for operators, and the client has no server key.
pub fn admit(state: &ServerState, peer: &Peer, audience: Audience, headers: &HeaderMap) -> Result<(), ApiError> {
    if peer.listener != ListenerKind::Public || audience != Audience::Operators {
        return Ok(());
    }
    state.authorizer.admit_operator(&Credentials::new(peer.ip, "page", headers, false))
}
