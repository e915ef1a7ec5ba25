//! The state of a server that its sessions and handlers share.

use super::access::authorizer::Authorizer;
use super::access::forwarded::Proxies;
use super::access::origin::{ListenerKind, OriginPolicy};
use super::http::access_log::AccessLog;
use super::limits::connections::{ConnectionKind, ConnectionPermit, Connections, DescriptorAllowance};
use super::limits::memory::BufferBudget;
use super::limits::rate_limiter::RateLimiter;
use super::metrics::delivery::DeliveryMetrics;
use super::metrics::http2::Http2Metrics;
use super::metrics::rejections::Rejections;
use super::net::drain::Drain;
use super::net::reactor::Reactor;
use super::net::timers::Timers;
use super::net::tls::Tls;
use crate::hub::Hub;
use crate::log::census::Census;
use crate::transport::params::Limits;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// How long a subscription waits for a node that has not read its log yet.
const READY_WAIT: Duration = Duration::from_secs(5);

/// What sessions and handlers share.
pub struct ServerState {
    /// The node's view of the log.
    pub hub: Arc<Hub>,
    /// The subscriber counts of other nodes; `None` without Redis.
    pub census: Option<Arc<dyn Census>>,
    /// Checks `Host` and `Origin`.
    pub origins: OriginPolicy,
    /// Decides about permissions.
    pub authorizer: Arc<Authorizer>,
    /// The trusted proxies.
    pub proxies: Proxies,
    /// The rate limits.
    pub rates: RateLimiter,
    /// The memory for data of clients.
    pub budget: Arc<BufferBudget>,
    /// Counts rejections.
    pub rejections: Rejections,
    /// The settings.
    pub settings: Settings,
    /// The connections to the public listeners.
    pub connections: Arc<Connections>,
    /// The connections to the admin listener.
    pub admin_connections: Arc<Connections>,
    /// The file descriptors that clients may use.
    pub descriptors: DescriptorAllowance,
    /// Tells whether the server is shutting down.
    pub drain: Drain,
    /// The reactor of the clients' sockets.
    pub reactor: Arc<Reactor>,
    /// The timers of parked readers.
    pub timers: Arc<Timers>,
    /// The certificate, if there is one.
    pub tls: Option<Arc<Tls>>,
    /// The metrics of HTTP/2.
    pub http2: Arc<Http2Metrics>,
    /// The access log, if there is one.
    pub access_log: Option<AccessLog>,
    /// The metrics of readers and publishers.
    pub delivery: Arc<DeliveryMetrics>,
}

impl ServerState {
    /// Waits until the node has read its log. False if that takes too long, or if the server shuts down.
    pub async fn is_ready(&self) -> bool {
        tokio::select! {
            biased;
            ready = tokio::time::timeout(READY_WAIT, self.hub.ready()) => ready.is_ok(),
            () = self.drain.begun() => false,
        }
    }

    /// A permit for a connection or a stream of a listener; `None`: close it without an answer. Only the public listeners
    /// answer connections beyond the limit.
    pub fn admit(&self, ip: IpAddr, listener: ListenerKind, kind: ConnectionKind) -> Option<ConnectionPermit> {
        match listener {
            ListenerKind::Public => self.connections.admit(self.proxies.counted(ip), kind),
            ListenerKind::Admin { .. } => {
                self.admin_connections.admit(None, kind).filter(|permit| !permit.is_over_limit)
            }
        }
    }
}

/// Settings of a server, from its flags.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The silence on a stream after which a heartbeat is sent.
    pub heartbeat: Duration,
    /// The most bytes of a payload.
    pub max_message: usize,
    /// The limits of a subscription.
    pub limits: Limits,
    /// The time for a request's head, and for its body, to arrive.
    pub request_timeout: Duration,
    /// The size of a socket's send buffer (`SO_SNDBUF`); 0 leaves it to the system.
    pub send_buffer: usize,
    /// How long a write may make no progress.
    pub write_timeout: Duration,
    /// Whether the hub writes to sockets directly where it can.
    pub direct_writes: bool,
    /// Whether the HTTP/1.1 fast path is used.
    pub plain_requests: bool,
}

impl Settings {
    /// The most bytes of a command: one that publishes the longest payload, with the fields around it. JSON may double the
    /// length of a text.
    pub fn max_command(&self) -> usize {
        self.max_message * 2 + 4096
    }
}
