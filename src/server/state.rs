//! Builds the state that every request uses, from parts that are already open.

use super::pusher::OpenPusher;
use super::{raw_websocket, socketio, sockjs, stomp};
use crate::config::Config;
use crate::hub::Hub;
use crate::log::MessageLog;
use crate::log::connections::ConnectionStore;
use crate::log::presence::PresenceStore;
use crate::log::seal_keys::SealKeyStore;
use crate::log::sessions::SessionStore;
use crate::log::subscriber_counts::SubscriberCounts;
use crate::message::Pattern;
use crate::serve::{
    self, AccessLog, Authorizer, BrowserClient, BufferBudget, CallType, ClientSessions, ConnectionLimits, Connections,
    Context, DeliveryMetrics, Demo, DescriptorAllowance, Drain, Exporter, Hook, Http2Metrics, OriginPolicy, PollCache,
    Presence, PresenceMetrics, PresenceSettings, Proxies, RateLimiter, RawWebSocketPage, Reactor, Rejections,
    SealedMetrics, SealedSessions, ServerState, SessionMetrics, SessionSettings, Settings, SockJsPrefix, Timers, Tls,
};
use crate::transport::params::Limits;
use futures_util::future::BoxFuture;
use prometheus_client::registry::Registry;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tracing::warn;

/// The parts that the steps of the start have opened: files, sockets and connections.
pub struct Parts {
    /// The log.
    pub log: Arc<dyn MessageLog>,
    /// The counts of other nodes; `None` if there are no other nodes.
    pub remote_counts: Option<Arc<dyn SubscriberCounts>>,
    /// The members of channels; `None` if no channel has presence.
    pub presence: Option<Arc<dyn PresenceStore>>,
    /// The records of client sessions.
    pub sessions: Arc<dyn SessionStore>,
    /// The keys of sealed tokens.
    pub seal_keys: Arc<dyn SealKeyStore>,
    /// The records of connections that poll.
    pub connections: Arc<dyn ConnectionStore>,
    /// The library for pages of Socket.IO.
    pub socketio_client: Option<BrowserClient>,
    /// The prefixes of SockJS.
    pub sockjs_prefixes: Vec<SockJsPrefix>,
    /// Whether the bridge from PUBLISH has subscribed.
    pub is_listening: watch::Receiver<bool>,
    /// The rules for pages that may use the server.
    pub origins: OriginPolicy,
    /// The rules for clients that may subscribe and publish.
    pub authorizer: Authorizer,
    /// The hook, if it is on.
    pub hook: Option<Arc<Hook>>,
    /// The certificate, if there is one.
    pub tls: Option<Arc<Tls>>,
    /// The access log, if it is on.
    pub access_log: Option<AccessLog>,
    /// The reactor of client sockets.
    pub reactor: Arc<Reactor>,
    /// The timers of parked readers.
    pub timers: Arc<Timers>,
    /// The file descriptors that clients may use.
    pub descriptors: DescriptorAllowance,
    /// The address of raw TCP, if it is on.
    pub tcp_address: Option<SocketAddr>,
    /// The demo's API; only in `longtail demo`.
    pub demo: Option<Demo>,
    /// The Pusher apps.
    pub pusher: OpenPusher,
    /// The paths of plain WebSocket pages.
    pub raw_websocket: Vec<RawWebSocketPage>,
}

/// The additional parts that `longtail demo` opens. The default value is empty.
#[derive(Default)]
pub struct OpenDemo {
    /// The demo's API.
    pub api: Option<Demo>,
    /// The accept loops of the demo's ports.
    pub tasks: Vec<BoxFuture<'static, ()>>,
    /// The number of descriptors that the demo needs.
    pub descriptors: u64,
}

/// Builds the state, and the context of the routes around it.
pub fn context(config: &Config, mut registry: Registry, parts: Parts) -> Context {
    let metrics = registry.sub_registry_with_prefix("longtail");
    let hub = Hub::new(parts.log, config.message_log.retention(), Duration::from_secs(config.away_seconds));
    let rejections = Rejections::register(metrics);
    let budget = BufferBudget::new(config.max_buffer_bytes, rejections.counter("memory"), metrics);
    let (connections, drain) = (connections(config, &parts.descriptors), Drain::default());
    let delivery = delivery(&hub, &connections, &drain, metrics);
    let presence = parts.presence.map(|store| presence(config, parts.pusher.presence, store, metrics));
    let store = parts.connections;
    let socketio = socketio::protocol(config, parts.socketio_client, store.clone(), metrics);
    let sockjs = sockjs::protocol(config, parts.sockjs_prefixes, store, metrics);
    let raw_websocket = raw_websocket::protocol(parts.raw_websocket);
    let stomp = stomp::protocol(&config.stomp);
    let protocols = [socketio, sockjs, parts.pusher.protocol, raw_websocket, stomp].into_iter().flatten().collect();
    let settings_of_sessions = SessionSettings {
        most: config.max_sessions as usize,
        away: Duration::from_secs(config.away_seconds),
        per_network: config.max_sessions_per_ip as usize,
    };
    let sessions = ClientSessions::new(settings_of_sessions, parts.sessions, SessionMetrics::register(metrics));
    let tells_ends = parts.hook.as_ref().is_some_and(|hook| hook.takes(CallType::Disconnect));
    let sealed = SealedMetrics::register(metrics);
    let (keys, record) = (parts.seal_keys, sessions.clone());
    let sealed = SealedSessions::new(record, hub.clone(), presence.clone(), tells_ends, keys, sealed);
    let state = ServerState {
        hub,
        sessions,
        sealed,
        remote_counts: parts.remote_counts,
        presence,
        origins: parts.origins,
        authorizer: Arc::new(parts.authorizer),
        hook: parts.hook,
        proxies: Proxies::new(config.access.trusted_proxy.clone(), config.access.proxy_protocol),
        rates: RateLimiter::new(config.request_rate, config.publish_rate, config.hook.event_rate),
        budget,
        rejections,
        settings: settings(config),
        connections,
        admin_connections: Connections::of_admin(parts.descriptors.admin),
        descriptors: parts.descriptors,
        drain,
        access_log: parts.access_log,
        reactor: parts.reactor,
        timers: parts.timers,
        tls: parts.tls,
        http2: Http2Metrics::new(metrics),
        delivery,
    };
    Context {
        state: Arc::new(state),
        polls: PollCache::default(),
        tcp_address: parts.tcp_address,
        is_listening: parts.is_listening,
        protocols,
        demo: parts.demo,
        registry,
    }
}

/// Presence in the channels that the flags name, and in those of the apps.
fn presence(
    config: &Config,
    of_apps: Vec<Pattern>,
    store: Arc<dyn PresenceStore>,
    metrics: &mut Registry,
) -> Arc<Presence> {
    let named = config.presence.patterns().unwrap_or_default();
    let settings = PresenceSettings {
        channels: named.into_iter().chain(of_apps).collect(),
        members: config.presence.presence_members as usize,
        info_bytes: config.presence.presence_info_bytes,
        away: Duration::from_secs(config.away_seconds),
    };
    let access = &config.access;
    if !config.presence.presence.is_empty()
        && access.token_secret.is_none()
        && access.token_secret_file.is_none()
        && access.token_public_key.is_none()
        && access.authorize_url.is_none()
    {
        warn!("--presence: users are not known, so channels have no members: set up tokens, or --authorize-url");
    }
    Presence::new(settings, store, PresenceMetrics::register(metrics))
}

/// The limits on connections that follow from flags and file descriptors.
fn connections(config: &Config, descriptors: &DescriptorAllowance) -> Arc<Connections> {
    Connections::new(ConnectionLimits {
        most: config.max_connections as usize,
        sockets: descriptors.connections,
        per_ip: config.max_connections_per_ip as usize,
        rejected: descriptors.rejected,
    })
}

/// The metrics of deliveries. The hub and the sessions update them.
fn delivery(
    hub: &Arc<Hub>,
    connections: &Arc<Connections>,
    drain: &Drain,
    metrics: &mut Registry,
) -> Arc<DeliveryMetrics> {
    let delivery = Arc::new(DeliveryMetrics::new(serve::transports()));
    hub.observe_fan_out(delivery.clone());
    let help = "Publications with an exclude or an item of except that is not a name and leaves out nobody";
    metrics.register("publish_ignored_excludes", help, delivery.ignored_excludes.clone());
    metrics.register_collector(Box::new(Exporter {
        delivery: delivery.clone(),
        connections: connections.clone(),
        hub: hub.clone(),
        drain: drain.clone(),
    }));
    delivery
}

/// The limits and times that flags set.
fn settings(config: &Config) -> Settings {
    Settings {
        heartbeat: Duration::from_secs(config.heartbeat_seconds),
        max_message: config.max_message_bytes,
        limits: Limits { channels: config.max_channels as usize },
        request_timeout: Duration::from_secs(config.request_timeout),
        keep_alive_timeout: Duration::from_secs(config.keep_alive_timeout),
        send_buffer: config.send_buffer_bytes,
        write_timeout: Duration::from_secs(config.write_timeout),
        drain: Duration::from_secs(config.drain_seconds),
        direct_writes: config.direct_writes,
        websocket_hixie: config.raw_websocket.websocket_hixie,
        plain_requests: config.plain_requests,
    }
}
