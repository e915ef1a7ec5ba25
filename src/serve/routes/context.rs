//! The data that the routes need in addition to the state of the server.

use super::demo_state::Demo;
use super::protocol::Protocol;
use crate::serve::session::poll_cache::PollCache;
use crate::serve::state::ServerState;
use prometheus_client::registry::Registry;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::watch;

/// The state of the server, and the data that only routes and connections need.
pub struct Context {
    /// The state of the server.
    pub state: Arc<ServerState>,
    /// The data that long polls share.
    pub polls: PollCache,
    /// The address for raw TCP, as `/info` shows it.
    pub tcp_address: Option<SocketAddr>,
    /// Whether this node has subscribed to the PUBLISH messages of Redis at least once. Always true without Redis.
    pub is_listening: watch::Receiver<bool>,
    /// The protocols of other libraries that flags switch on.
    pub protocols: Vec<Box<dyn Protocol>>,
    /// The demo, if the server was started with it.
    pub demo: Option<Demo>,
    /// The metrics that `/metrics` shows.
    pub registry: Registry,
}
