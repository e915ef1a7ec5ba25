//! Which paths show data of other clients, and which are served on the admin listener.

use crate::serve::access::credentials::Credentials;
use crate::serve::access::origin::ListenerKind;
use crate::serve::http::peer::Peer;
use crate::serve::state::ServerState;
use crate::transport::ApiError;
use hyper::HeaderMap;

/// Whether a path shows data of other clients.
pub fn is_private(path: &str) -> bool {
    path == "/metrics" || path == "/status" || path == "/channels" || path.starts_with("/channels/")
}

/// Whether a path is served on the admin listener: private paths, and what monitoring asks for.
pub fn is_on_admin_listener(path: &str) -> bool {
    is_private(path) || matches!(path, "/info" | "/healthz" | "/readyz")
}

/// Checks that the client may see a path.
///
/// # Errors
///
/// The path is private, and the client has no server key.
pub fn admit(state: &ServerState, peer: &Peer, path: &str, headers: &HeaderMap) -> Result<(), ApiError> {
    if peer.listener != ListenerKind::Public || !is_private(path) {
        return Ok(());
    }
    state.authorizer.admit_operator(&Credentials::new(peer.ip, "page", headers, false))
}
