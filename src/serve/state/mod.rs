//! The state of a server that its sessions and handlers share.

mod settings;

pub use settings::Settings;

use crate::hub::Hub;
use crate::log::subscriber_counts::SubscriberCounts;
use crate::serve::access::authorizer::Authorizer;
use crate::serve::access::forwarded::Proxies;
use crate::serve::access::origin::{ListenerKind, OriginPolicy};
use crate::serve::client_sessions::bookmark_store::BookmarkStore;
use crate::serve::client_sessions::id::SessionId;
use crate::serve::client_sessions::protocol::Bookmarks;
use crate::serve::client_sessions::registry::ClientSessions;
use crate::serve::client_sessions::sealed_store::SealedSessions;
use crate::serve::hook::Hook;
use crate::serve::http::access_log::AccessLog;
use crate::serve::limits::connections::{ConnectionKind, ConnectionPermit, Connections, DescriptorAllowance};
use crate::serve::limits::memory::BufferBudget;
use crate::serve::limits::rate_limiter::RateLimiter;
use crate::serve::metrics::delivery::DeliveryMetrics;
use crate::serve::metrics::http2::Http2Metrics;
use crate::serve::metrics::rejections::Rejections;
use crate::serve::net::drain::Drain;
use crate::serve::net::reactor::Reactor;
use crate::serve::net::timers::Timers;
use crate::serve::net::tls::Tls;
use crate::serve::presence::service::Presence;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// The time for which a subscription waits for a node that has not read its log yet.
const READY_WAIT: Duration = Duration::from_secs(5);

/// The state that sessions and handlers share.
pub struct ServerState {
    /// The node's view of the log.
    pub hub: Arc<Hub>,
    /// The subscriber counts of other nodes; `None` without Redis.
    pub remote_counts: Option<Arc<dyn SubscriberCounts>>,
    /// The members of channels; `None` if no channel has presence.
    pub presence: Option<Arc<Presence>>,
    /// The sessions of clients.
    pub sessions: Arc<ClientSessions>,
    /// The sessions whose bookmarks their clients bring.
    pub sealed: Arc<SealedSessions>,
    /// Checks `Host` and `Origin`.
    pub origins: OriginPolicy,
    /// Decides about permissions.
    pub authorizer: Arc<Authorizer>,
    /// Calls the application for events of clients, if there is one.
    pub hook: Option<Arc<Hook>>,
    /// The trusted proxies.
    pub proxies: Proxies,
    /// The rate limits.
    pub rates: RateLimiter,
    /// The memory budget for data of clients.
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
    /// Tells sessions and handlers whether the server is shutting down.
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
    /// The store of these bookmarks.
    pub fn bookmarks(&self, bookmarks: Bookmarks) -> &dyn BookmarkStore {
        match bookmarks {
            Bookmarks::Record => &*self.sessions,
            Bookmarks::Sealed { .. } => &*self.sealed,
        }
    }

    /// The store of the bookmark that a client brings: an id and a token have different forms.
    pub fn bookmarks_of(&self, brought: &str) -> &dyn BookmarkStore {
        if SessionId::parse(brought).is_some() { &*self.sessions } else { &*self.sealed }
    }

    /// Waits until the node has read its log. Returns false if this takes too long, or if the server shuts down.
    pub async fn is_ready(&self) -> bool {
        tokio::select! {
            biased;
            ready = tokio::time::timeout(READY_WAIT, self.hub.ready()) => ready.is_ok(),
            () = self.drain.begun() => false,
        }
    }

    /// Returns a permit for a connection or a stream of a listener; `None` if it has to be closed without an answer.
    /// Only the public listeners answer connections beyond the limit.
    pub fn admit(&self, ip: IpAddr, listener: ListenerKind, kind: ConnectionKind) -> Option<ConnectionPermit> {
        match listener {
            ListenerKind::Public => self.connections.admit(self.proxies.counted(ip), kind),
            ListenerKind::Admin { .. } => {
                self.admin_connections.admit(None, kind).filter(|permit| !permit.is_over_limit)
            }
        }
    }
}
