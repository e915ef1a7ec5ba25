//! The server: listeners, requests, streams, and how they end.

mod access;
mod access_log;
mod application;
mod authorize;
mod commands;
mod counts;
mod diagnose;
mod drain;
mod duplex;
mod figures;
#[cfg(fuzzing)]
pub mod fuzzing;
mod io;
mod limits;
mod listener;
mod meters;
mod pages;
mod poll;
mod process;
mod publish;
mod pump;
mod reply;
mod router;
mod stream;
mod subscribe;

pub use access::{Access, Nearness};
pub use access_log::{AccessLog, Destination};
pub use application::Application;
pub use authorize::Authorizer;
pub use drain::Drain;
pub use figures::Figures;
pub use limits::Connections;
pub use listener::{Listeners, bind, serve};
pub use meters::Meters;
pub use process::Process;

use crate::hub::Hub;
use crate::log::census::Census;
use crate::transport::params::Limits;
use prometheus_client::registry::Registry;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// What every request and stream needs.
pub struct App {
    /// The node's view of the log.
    pub hub: Arc<Hub>,
    /// What other nodes count; `None` where there are none.
    pub census: Option<Arc<dyn Census>>,
    /// Who may talk to us.
    pub access: Access,
    /// Who may read and publish what.
    pub authorizer: Arc<Authorizer>,
    /// The settings.
    pub settings: Settings,
    /// How many there are.
    pub connections: Arc<Connections>,
    /// Whether we are going.
    pub drain: Drain,
    /// Where raw TCP clients connect.
    pub tcp_address: Option<SocketAddr>,
    /// Whether what is PUBLISHed in Redis is heard, or was heard once; always true without Redis.
    pub is_listening: watch::Receiver<bool>,
    /// Where requests are written down.
    pub access_log: Option<AccessLog>,
    /// What is counted.
    pub meters: Arc<Meters>,
    /// What `/metrics` tells.
    pub metrics: Registry,
}

/// Bounds and times.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Silence before a heartbeat.
    pub heartbeat: Duration,
    /// Bytes of a payload.
    pub max_message: usize,
    /// Of a subscription.
    pub limits: Limits,
    /// For a request's head and body to arrive.
    pub request_timeout: Duration,
    /// For a client to take something of what is written.
    pub write_timeout: Duration,
}

impl Settings {
    /// The longest command: one that publishes the longest payload, and what stands around it. A text
    /// may be twice as long in JSON.
    pub fn max_command(&self) -> usize {
        self.max_message * 2 + 4096
    }
}

/// How long a subscription waits for a node that has not read its log yet.
const READY_WAIT: Duration = Duration::from_secs(5);
