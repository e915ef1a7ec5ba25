//! The server: connections, requests and sessions.
//!
//! The folders depend on each other in one direction, from `conn` down to `net`; `tests/imports.rs` checks it.

mod access;
mod application;
mod client_sessions;
mod conn;
mod events;
#[cfg(fuzzing)]
pub mod fuzzing;
mod hook;
mod http;
mod limits;
mod metrics;
mod net;
mod presence;
mod protocols;
mod publishing;
mod router;
mod routes;
mod session;
mod state;
mod transitions;

pub use access::allowed_origins::AllowedOrigins;
pub use access::authorizer::{AccessRules, Authorizer};
pub use access::forwarded::Proxies;
pub use access::keys::Keys;
pub use access::origin::{AccessMode, OriginPolicy};
pub use access::secret_file::{self, SHORT_SECRET};
pub use access::tokens::{BadKey, Tokens};
pub use access::webhook::{MAX_IN_FLIGHT, Webhook};
pub use client_sessions::metrics::{SealedMetrics, SessionMetrics};
pub use client_sessions::registry::{ClientSessions, SessionSettings};
pub use client_sessions::sealed_store::SealedSessions;
pub use conn::listener::{Listeners, serve};
pub use events::notifications::HookNotifications;
pub use events::upkeep;
pub use hook::call_type::CallType;
pub use hook::http::HttpTransport;
pub use hook::signature::HookSecret;
pub use hook::stream::StreamTransport;
pub use hook::{Hook, HookSettings, HookTransport};
pub use http::access_log::{AccessLog, AccessLogFile, Destination};
pub use limits::connections::{ConnectionLimits, Connections, DescriptorAllowance};
pub use limits::memory::BufferBudget;
pub use limits::rate_limiter::RateLimiter;
pub use metrics::delivery::DeliveryMetrics;
pub use metrics::exporter::Exporter;
pub use metrics::http2::Http2Metrics;
pub use metrics::process::ProcessMetrics;
pub use metrics::rejections::Rejections;
pub use net::drain::Drain;
pub use net::listen::bind;
pub use net::reactor::Reactor;
pub use net::timers::Timers;
pub use net::tls::{BadCertificate, Tls};
pub use presence::metrics::PresenceMetrics;
pub use presence::service::{Presence, PresenceSettings};
pub use protocols::pusher::{
    Pusher, PusherAppSettings, PusherMetrics, PusherWebhook, PusherWebhookEvent, PusherWebhookQueue,
};
pub use protocols::raw_websocket::{RawWebSocket, RawWebSocketPage};
pub use protocols::socketio::settings::{Action as SocketIoAction, Rule as SocketIoRule, SocketIoSettings};
pub use protocols::socketio::{BrowserClient, EMITTER_PATTERNS, EmitterIntake, SocketIo};
pub use protocols::sockjs::SockJs;
pub use protocols::sockjs::settings::{Close as SockJsClose, Prefix as SockJsPrefix, SockJsSettings};
pub use protocols::stomp::{Stomp, StompSettings};
pub use router::endpoints::{is_taken, transports};
pub use routes::context::Context;
pub use routes::demo_state::Demo;
#[cfg(feature = "demo")]
pub use routes::demo_state::HOP;
pub use routes::protocol::Protocol;
pub use routes::route::Origins;
pub use session::poll_cache::PollCache;
pub use state::{ServerState, Settings};
pub use transitions::TransitionConsumer;
pub use transitions::metrics::TransitionMetrics;
pub use transitions::occupancy::REPORT_PERIOD as TRANSITIONS_REPORT_PERIOD;
pub use transitions::sender::{self as transition_sender, TransitionSource};
