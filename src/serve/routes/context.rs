//! What the routes need besides the state of the server.

use super::demo_state::Demo;
use crate::serve::session::poll_cache::PollCache;
use crate::serve::state::ServerState;
use prometheus_client::registry::Registry;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::watch;

/// The state of the server, and what only routes and connections need.
pub struct Context {
    /// The state of the server.
    pub state: Arc<ServerState>,
    /// What long polls share.
    pub polls: PollCache,
    /// The address for raw TCP, as `/info` shows it.
    pub tcp_address: Option<SocketAddr>,
    /// Whether PUBLISH messages of Redis have been received, now or before. Always true without Redis.
    pub is_listening: watch::Receiver<bool>,
    /// The demo, if the server was started with it.
    pub demo: Option<Demo>,
    /// What `/metrics` shows.
    pub registry: Registry,
}
