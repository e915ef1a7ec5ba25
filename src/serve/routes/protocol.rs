//! The trait of a protocol of another library that flags switch on.

use super::response::Response;
use super::route::Route;
use crate::serve::http::peer::Peer;
use crate::serve::http::request::Request;
use crate::serve::state::ServerState;
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// A protocol with its settings. Its paths are served like those of an endpoint.
pub trait Protocol: Send + Sync {
    /// The rules for a path; `None` if the path does not belong to the protocol.
    fn route(&self, path: &str) -> Option<Route>;

    /// Answers a request with one of the route's methods, in the words of the protocol.
    fn answer<'a>(&'a self, state: &'a Arc<ServerState>, peer: &'a Peer, request: Request) -> BoxFuture<'a, Response>;

    /// What `/info` says about the protocol, under a name.
    fn info(&self) -> (&'static str, serde_json::Value);
}
