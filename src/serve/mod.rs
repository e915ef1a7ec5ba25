//! The server: listeners, requests, streams, and how they end.

mod access;
mod conn;
#[cfg(fuzzing)]
pub mod fuzzing;
mod http;
mod limits;
mod metrics;
mod net;
mod publishing;
mod routes;
mod session;

pub use access::authorizer::{Authorizer, Guard};
pub use access::forwarded::Proxies;
pub use access::keys::Keys;
pub use access::origin::{Access, Nearness};
pub use access::tokens::{BadKey, Tokens};
pub use access::webhook::{MAX_IN_FLIGHT, Webhook};
pub use conn::http2::Metrics as Http2Metrics;
pub use conn::listener::{Listeners, serve};
pub use http::access_log::{AccessLog, Destination};
pub use limits::connections::{Bounds, Connections, Room};
pub use limits::memory::Budget;
pub use limits::rate_limiter::Rates;
pub use metrics::delivery::Meters;
pub use metrics::exporter::Figures;
pub use metrics::process::Process;
pub use metrics::rejections::Refused;
pub use net::drain::Drain;
pub use net::listen::bind;
pub use net::reactor::Reactor;
pub use net::timers::Timers;
pub use net::tls::{BadCertificate, Tls};
pub use routes::demo::Demo;
#[cfg(feature = "demo")]
pub use routes::demo::HOP;
pub use session::long_poll::Shared as Polls;

use crate::hub::Hub;
use crate::log::subscriber_counts::SubscriberCounts;
use crate::transport::params::Limits;
use access::origin::Door;
use limits::connections::{Admission, Kind};
use prometheus_client::registry::Registry;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// What every request and stream needs.
pub struct App {
    /// The node's view of the log.
    pub hub: Arc<Hub>,
    /// What other nodes count; `None` where there are none.
    pub census: Option<Arc<dyn SubscriberCounts>>,
    /// Who may talk to us.
    pub access: Access,
    /// Who may read and publish what.
    pub authorizer: Arc<Authorizer>,
    /// Which proxies are believed.
    pub proxies: Proxies,
    /// How much in a time.
    pub rates: Rates,
    /// How much memory there is for clients.
    pub budget: Arc<Budget>,
    /// What was refused.
    pub refused: Refused,
    /// The settings.
    pub settings: Settings,
    /// How many there are.
    pub connections: Arc<Connections>,
    /// Those of the keepers' door.
    pub keepers: Arc<Connections>,
    /// Descriptors that clients may take.
    pub room: Room,
    /// Whether we are going.
    pub drain: Drain,
    /// Where clients' sockets are watched.
    pub reactor: Arc<Reactor>,
    /// Timers of parked readers.
    pub timers: Arc<Timers>,
    /// The certificate, where there is one.
    pub tls: Option<Arc<Tls>>,
    /// What is counted of HTTP/2.
    pub http2: Arc<Http2Metrics>,
    /// Where raw TCP clients connect.
    pub tcp_address: Option<SocketAddr>,
    /// Whether what is PUBLISHed in Redis is heard, or was heard once; always true without Redis.
    pub is_listening: watch::Receiver<bool>,
    /// The demo, where it was asked for.
    pub demo: Option<Demo>,
    /// Where requests are written down.
    pub access_log: Option<AccessLog>,
    /// What is counted.
    pub meters: Arc<Meters>,
    /// What `/metrics` tells.
    pub metrics: Registry,
    /// What waiting polls have in common.
    pub polls: Polls,
}

impl App {
    /// Waits for a node that has not read its log yet; false: it takes too long, or the server is going.
    async fn is_ready(&self) -> bool {
        tokio::select! {
            biased;
            ready = tokio::time::timeout(READY_WAIT, self.hub.ready()) => ready.is_ok(),
            () = self.drain.begun() => false,
        }
    }

    /// A place at a door, or one to be told that there is none. At the keepers' nobody is told.
    fn admission(&self, ip: IpAddr, door: Door, kind: Kind) -> Option<Admission> {
        match door {
            Door::Public => self.connections.admit(self.proxies.counted(ip), kind),
            Door::Admin { .. } => self.keepers.admit(None, kind).filter(|admission| !admission.is_over),
        }
    }
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
    /// Bytes that the system may hold in a socket; 0 leaves it to the system.
    pub send_buffer: usize,
    /// For a client to take something of what is written.
    pub write_timeout: Duration,
    /// Whether the log's tail writes to sockets itself where it can.
    pub direct_writes: bool,
    /// Whether plain requests are read without hyper.
    pub plain_requests: bool,
}

impl Settings {
    /// The longest command: one that publishes the longest payload, and what stands around it. A text
    /// may be twice as long in JSON.
    pub fn max_command(&self) -> usize {
        self.max_message * 2 + 4096
    }
}

/// How long a connection beyond the limits has from its handshake to its end. It holds one of the few places of those who are
/// told so, and one that asks nothing would keep them from operators that ask how the node is.
const TOLD_TIME: Duration = Duration::from_secs(5);

/// How long a subscription waits for a node that has not read its log yet.
const READY_WAIT: Duration = Duration::from_secs(5);
