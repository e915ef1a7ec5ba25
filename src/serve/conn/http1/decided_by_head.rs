//! Decides whether a request's head alone determines how the server handles the request. If it does, the values that
//! the server derives from one head also hold for the next head with the same bytes.
//!
//! A feature that treats single requests differently (a quota, a tracing id, an address list) must be added here.

use crate::serve::http::peer::Peer;
use crate::serve::state::ServerState;

/// The kinds of requests for which the server derives values from a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// A whole poll, including the channels that the client may read.
    Poll,
    /// A publish without its permission, which the server checks for each publish.
    Publish,
}

/// Whether the head alone decides. It does not if a proxy sends the requests of many clients, or if the server must ask
/// for a permission.
pub fn is_decided_by_head(state: &ServerState, peer: &Peer, scope: Scope) -> bool {
    !state.proxies.trusts(peer.ip) && (scope == Scope::Publish || state.authorizer.is_open())
}
