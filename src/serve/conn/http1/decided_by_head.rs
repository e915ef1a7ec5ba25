//! Whether a request's head alone decides what the server does with it, so that what was derived from one head holds for the
//! next one that is the same.
//!
//! A feature that treats single requests differently (a quota, a tracing id, an address list) must be added here.

use crate::serve::http::peer::Peer;
use crate::serve::state::ServerState;

/// What is derived from a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// A whole poll: also which channels the client may read.
    Poll,
    /// A publish up to its permission, which is checked for each publish.
    Publish,
}

/// Whether the head alone decides. It does not if a proxy sends requests of many clients, or if a permission must be asked
/// for.
pub fn is_decided_by_head(state: &ServerState, peer: &Peer, scope: Scope) -> bool {
    !state.proxies.trusts(peer.ip) && (scope == Scope::Publish || state.authorizer.is_open())
}
