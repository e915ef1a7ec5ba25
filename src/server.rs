//! A whole server: built from a [`Config`], bound, run, drained.

mod descriptors;
mod error;
mod guard;
mod reload;

pub use error::{RunError, StartError};
pub use reload::Reloader;

use crate::config::{AccessLogTo, AddressOrOff, BadConfig, Config, Demo as DemoFlags};
use crate::hub::Hub;
use crate::log::MessageLog;
use crate::log::bridge::{self, BridgeConfig};
use crate::log::memory::MemoryLog;
use crate::log::redis::{Endpoint, RedisConfig, RedisLog, RedisSubscriberCounts};
use crate::log::subscriber_counts::SubscriberCounts;
use crate::serve::{
    self, Access, AccessLog, App, Authorizer, Bounds, Budget, Connections, Demo, Destination, Drain, Figures,
    Http2Metrics, Listeners, Meters, Nearness, Polls, Process, Proxies, Rates, Reactor, Refused, Settings, Timers, Tls,
};
use crate::service::{self, Sockets};
use crate::transport::{self, params::Limits};
use crate::weather::{Port, Speaks, Weather};
use prometheus_client::registry::Registry;
use redis::{ClientTlsConfig, TlsCertificates};
use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

/// How long what was heard of Redis and not appended may hold up the end.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A server that is bound and not yet running.
pub struct Server {
    app: Arc<App>,
    listeners: Listeners,
    /// The reactor's task, which ends before us only when it fails.
    hearing: JoinHandle<io::Result<()>>,
    drain_time: Duration,
    /// Whether it counts as started before its log was read.
    waits_for_log: bool,
    weather: Vec<Port>,
    bridge: Option<(Arc<RedisLog>, BridgeConfig, watch::Sender<bool>)>,
}

impl Server {
    /// Binds every address and finds the log.
    ///
    /// # Errors
    ///
    /// A configuration that cannot be served, an address that is taken, a log that is not there.
    pub async fn bind(config: &Config) -> Result<Server, StartError> {
        Server::bind_on(config, Sockets::default()).await
    }

    /// The same, on sockets that are bound already: they take the place of `--listen` and of
    /// `--tcp-listen`.
    ///
    /// # Errors
    ///
    /// Those of [`Server::bind`].
    pub async fn bind_on(config: &Config, sockets: Sockets) -> Result<Server, StartError> {
        Server::bind_all(config, None, sockets).await
    }

    /// The same with the comparison page in full, and its weather ports.
    ///
    /// # Errors
    ///
    /// Those of [`Server::bind`].
    pub async fn bind_demo(demo: &DemoFlags, sockets: Sockets) -> Result<Server, StartError> {
        demo.check()?;
        Server::bind_all(&demo.config, Some(demo.weather_listen), sockets).await
    }

    async fn bind_all(config: &Config, weather: Option<SocketAddr>, sockets: Sockets) -> Result<Server, StartError> {
        let (mut config, handed) = (config.clone(), sockets.http.len() + usize::from(sockets.tcp.is_some()));
        // What holds for addresses of our own holds for these: an open server stays on loopback.
        if !sockets.http.is_empty() {
            config.listen = sockets.http.iter().map(|socket| socket.local_addr()).collect::<Result<_, _>>()?;
        }
        if let Some(socket) = &sockets.tcp {
            config.tcp_listen = AddressOrOff(Some(socket.local_addr()?));
        }
        let config = &config;
        config.check()?;
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Process));
        let metrics = registry.sub_registry_with_prefix("longtail");
        let tls = match (&config.tls_cert, &config.tls_key) {
            (Some(certificate), Some(key)) => {
                let tls = Tls::new(certificate.clone(), key.clone(), metrics);
                Some(Arc::new(tls.map_err(|error| bad_flag("--tls-cert, --tls-key", &error))?))
            }
            _ => None,
        };
        let (nearness, authorizer) = match config.access.guarded_by() {
            Some(_) => (Nearness::Guarded, Authorizer::Guarded(Box::new(guard::guard(&config.access, metrics)?))),
            None if config.access.open => (Nearness::Open, Authorizer::Open),
            None => (Nearness::Loopback, Authorizer::Open),
        };
        let http: Vec<_> = match sockets.http {
            none if none.is_empty() => {
                config.listen.iter().map(|address| listen_on("--listen", *address, false)).collect::<Result<_, _>>()?
            }
            handed => handed.into_iter().map(TcpListener::from_std).collect::<Result<_, _>>()?,
        };
        let tcp = match sockets.tcp {
            None => config.tcp_listen.0.map(|address| listen_on("--tcp-listen", address, true)).transpose()?,
            Some(socket) => Some(TcpListener::from_std(socket)?),
        };
        let admin =
            config.access.admin_listen.map(|address| listen_on("--admin-listen", address, false)).transpose()?;
        if handed > 0 {
            info!(handed, "listening on sockets that the service manager has bound");
        }
        for listener in &http {
            let scheme = if tls.is_some() { "https" } else { "http" };
            info!("listening on {scheme}://{}", listener.local_addr()?);
        }
        let tcp_address = tcp.as_ref().map(|tcp| tcp.local_addr()).transpose()?;
        if let Some(address) = tcp_address {
            info!("listening on tcp://{address}");
        }
        if let Some(address) = admin.as_ref().map(|admin| admin.local_addr()).transpose()? {
            info!("listening on http://{address} for the keepers");
            if !address.ip().is_loopback() {
                warn!("--admin-listen {address}: whoever reaches it sees the channels' names and all figures");
            }
        }
        if config.access.open {
            info!("open: anybody who can reach this server may subscribe and publish");
        }

        let (mut behind_weather, mut ports, mut demo) = (None, Vec::new(), None);
        if let Some(first) = weather {
            let behind = serve::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
            ports = weather_ports(first, behind.local_addr()?, tcp_address)?;
            let addresses = ports.iter().map(|port| Ok((port.lane, port.listener.local_addr()?)));
            let addresses = addresses.collect::<std::io::Result<Vec<_>>>()?;
            info!("weather on the ports of {}, one for each transport: see /info", first.ip());
            let raw: Vec<_> = ports
                .iter()
                .filter(|port| port.speaks == Speaks::Bytes)
                .map(|port| port.listener.local_addr())
                .collect::<Result<_, _>>()?;
            demo = Some(Demo::new(Arc::new(Weather::default()), addresses, raw.try_into().ok()));
            behind_weather = Some(behind);
        }

        let retention = config.retention();
        let redis = match &config.redis {
            Some(url) => Some(open_redis(config, url).await?),
            None => None,
        };
        let log: Arc<dyn MessageLog> = match &redis {
            Some(log) => log.clone(),
            None => {
                info!("the log is in memory and ends with this process; --redis keeps it and shares it between nodes");
                Arc::new(MemoryLog::new(retention))
            }
        };
        if let Some(log) = &redis {
            log.metrics().register(metrics);
        }
        let refused = Refused::register(metrics);
        let budget = Budget::new(config.max_buffer_bytes, refused.clone(), metrics);
        let bridge = BridgeConfig {
            patterns: config.patterns().unwrap_or_default(),
            queue: config.redis_subscribe_queue as usize,
        };
        for pattern in bridge.patterns.iter().filter(|_| redis.is_some()) {
            info!("taking in what is PUBLISHed to {pattern}");
        }
        // Volatile messages of other nodes come the same way, so it also listens without a pattern.
        let (listening, is_listening) = watch::channel(redis.is_none());
        let bridge = redis.map(|log| (log, bridge, listening));
        let away = Duration::from_secs(config.away_seconds);
        // A polling client counts for so long beyond the longest request.
        let longest = away + Duration::from_secs(60);
        let census = bridge
            .as_ref()
            .map(|(log, ..)| Arc::new(RedisSubscriberCounts::new(log.clone(), longest)) as Arc<dyn SubscriberCounts>);
        let hub = Hub::new(log, retention, away);
        let access_log = open_access_log(&config.access_log)?;
        let (reactor, hearing) = Reactor::start()?;
        let room = descriptors::room(config, demo.is_some())?;
        let connections = Connections::new(Bounds {
            most: config.max_connections as usize,
            sockets: room.places,
            per_ip: config.max_connections_per_ip as usize,
            told: room.told,
        });
        let (meters, drain) = (Arc::new(Meters::default()), Drain::default());
        hub.observe_fan_out(meters.clone());
        metrics.register_collector(Box::new(Figures {
            meters: meters.clone(),
            connections: connections.clone(),
            hub: hub.clone(),
            drain: drain.clone(),
        }));
        if let Some(log) = &access_log {
            let help = "Lines of the access log that were dropped since the disk was slow";
            metrics.register("access_log_dropped_lines", help, log.dropped.clone());
        }
        let app = App {
            hub,
            census: census.clone(),
            access: Access { nearness, allow_origin: config.access.allow_origin.clone() },
            authorizer: Arc::new(authorizer),
            proxies: Proxies::new(config.access.trusted_proxy.clone(), config.access.proxy_protocol),
            rates: Rates::new(config.request_rate, config.publish_rate),
            budget,
            refused,
            settings: Settings {
                heartbeat: Duration::from_secs(config.heartbeat_seconds),
                max_message: config.max_message_bytes,
                limits: Limits { channels: config.max_channels as usize },
                request_timeout: Duration::from_secs(config.request_timeout),
                send_buffer: config.send_buffer_bytes,
                write_timeout: Duration::from_secs(config.write_timeout),
                direct_writes: config.direct_writes,
                plain_requests: config.plain_requests,
            },
            connections,
            keepers: Connections::of_keepers(room.keepers),
            room,
            drain,
            access_log,
            reactor,
            timers: Timers::start(),
            tls,
            http2: Http2Metrics::new(metrics),
            tcp_address,
            is_listening,
            demo,
            meters,
            metrics: registry,
            polls: Polls::default(),
        };
        let drain_time = Duration::from_secs(config.drain_seconds);
        let listeners = Listeners { http, behind_weather, tcp, admin };
        let waits_for_log = config.wait_for_log;
        Ok(Server { app: Arc::new(app), listeners, hearing, drain_time, waits_for_log, weather: ports, bridge })
    }

    /// The addresses that HTTP is served on.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.listeners.http.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// What serves, for who drives it without a socket.
    #[cfg(fuzzing)]
    pub fn app(&self) -> Arc<App> {
        self.app.clone()
    }

    /// The address at which a browser on this machine finds the demo, if there is one.
    pub fn demo_address(&self) -> Option<String> {
        self.app.demo.as_ref()?;
        let mut address = *self.local_addrs().first()?;
        if address.ip().is_unspecified() {
            address.set_ip(if address.is_ipv4() {
                [127, 0, 0, 1].into()
            } else {
                std::net::Ipv6Addr::LOCALHOST.into()
            });
        }
        let scheme = if self.app.tls.is_some() { "https" } else { "http" };
        Some(format!("{scheme}://{address}/"))
    }

    /// Where raw TCP clients connect.
    pub fn tcp_addr(&self) -> Option<SocketAddr> {
        self.app.tcp_address
    }

    /// Reads again what is read from files, when it is told to.
    pub fn reloader(&self) -> Reloader {
        Reloader::new(self.app.tls.clone())
    }

    /// Serves until `shutdown` resolves, then drains. Returns when all connections are gone or the
    /// time to drain is up.
    ///
    /// # Errors
    ///
    /// Nothing can be heard of clients, or could not be from the beginning. What is not of clients was ended in good order.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
        let app = self.app.clone();
        let census = self.app.census.clone();
        let teller = census.clone().map(|census| tokio::spawn(self.app.hub.clone().report_counts(census)));
        let follower = tokio::spawn(self.app.hub.clone().follow());
        let (stop, stopping) = watch::channel(false);
        let bridge =
            self.bridge.map(|(log, config, listening)| tokio::spawn(bridge::run(log, config, listening, stopping)));
        let supervisor = tokio::spawn(supervise(self.app.clone(), self.waits_for_log));
        let (drain, reactor) = (self.app.drain.clone(), self.app.reactor.clone());
        let weather = self.app.demo.as_ref().map(|demo| demo.weather.clone()).unwrap_or_default();
        let blowing: Vec<_> = self.weather.into_iter().map(|port| tokio::spawn(weather.clone().blow(port))).collect();
        let serving = async {
            let serving = serve::serve(self.app, self.listeners, self.drain_time);
            tokio::pin!(serving);
            tokio::select! {
                served = &mut serving => return served,
                () = shutdown => {}
            }
            info!(seconds = self.drain_time.as_secs(), "draining: readers are sent away, and may come back");
            // What clients have sent in time is answered, and they would be cut for having sent nothing.
            reactor.catch_up().await;
            drain.begin();
            service::stopping();
            serving.await
        };
        let ended = tokio::select! {
            served = serving => served.map_err(RunError::from),
            heard = self.hearing => Err(RunError::Reactor(match heard {
                Ok(Ok(())) => "its task has ended".into(),
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            })),
        };
        if let Err(error) = &ended {
            // Clients cannot be told, so there is nothing to drain.
            error!("{error}");
            // It listens no longer: who is refused tries another node.
            app.drain.begin();
            service::stopping();
        }
        for port in blowing {
            port.abort();
        }
        if let Some(teller) = teller {
            teller.abort();
        }
        if let Some(census) = census {
            let _ = tokio::time::timeout(LAST_WORDS, census.leave()).await;
        }
        stop.send_replace(true);
        if let Some(bridge) = bridge {
            let _ = tokio::time::timeout(LAST_WORDS, bridge).await;
        }
        follower.abort();
        supervisor.abort();
        if let Some(log) = &app.access_log {
            log.flush();
        }
        info!("stopped");
        ended
    }
}

/// Binds an address that a flag names; `off`: whether there need be none.
fn listen_on(flag: &str, address: SocketAddr, off: bool) -> std::io::Result<TcpListener> {
    serve::bind(address).map_err(|error| {
        let off = if off { ", or `off`" } else { "" };
        let mend = match error.kind() {
            ErrorKind::AddrInUse => format!("it is in use already; choose another{off}"),
            ErrorKind::AddrNotAvailable => format!("this machine has no such address; choose another{off}"),
            ErrorKind::PermissionDenied => format!(
                "this user may not listen on a port below 1024; choose another{off}, or let systemd bind it \
                 (docs/operations.md)"
            ),
            _ => format!("it cannot be listened on: {error}"),
        };
        std::io::Error::new(error.kind(), format!("{flag} {address}: {mend}"))
    })
}

/// A port for each transport of browsers and for raw TCP, and two for the reader that changes its transport:
/// each is an origin of its own, since a browser opens six connections to one. `first`: port 0 is any.
fn weather_ports(first: SocketAddr, http: SocketAddr, tcp: Option<SocketAddr>) -> Result<Vec<Port>, std::io::Error> {
    let browsers = transport::ALL.iter().filter(|transport| transport.in_browsers()).map(|transport| transport.name());
    let lanes = browsers.chain([serve::HOP]).map(|lane| (lane, Speaks::Http, http));
    let raw = tcp.into_iter().flat_map(|mut tcp| {
        if tcp.ip().is_unspecified() {
            let near = if tcp.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
            tcp.set_ip(near);
        }
        ["tcp", "hop-tcp"].map(|lane| (lane, Speaks::Bytes, tcp))
    });
    let bind = |(offset, (lane, speaks, upstream))| {
        let mut address = first;
        if first.port() != 0 {
            let port = first.port().checked_add(offset).ok_or_else(|| {
                std::io::Error::other(format!("--weather-listen {first}: the ports that follow it are too few"))
            })?;
            address.set_port(port);
        }
        Ok(Port { lane, speaks, listener: listen_on("--weather-listen", address, false)?, upstream })
    };
    (0u16..).zip(lanes.chain(raw)).map(bind).collect()
}

fn open_access_log(to: &AccessLogTo) -> Result<Option<AccessLog>, BadConfig> {
    let destination = match to {
        AccessLogTo::Off => return Ok(None),
        AccessLogTo::Stdout => Destination::Stdout,
        AccessLogTo::File(path) => Destination::File(path.clone()),
    };
    AccessLog::open(&destination).map(Some).map_err(|error| match &destination {
        Destination::File(path) => bad_flag("--access-log", &format!("{}: {error}", path.display())),
        Destination::Stdout => bad_flag("--access-log", &error),
    })
}

/// Tells the service manager how we are.
async fn supervise(app: Arc<App>, waits_for_log: bool) {
    let ready = async {
        if !waits_for_log {
            app.hub.ready().await;
        }
    };
    let status = || {
        let readers: i64 = app.meters.totals().iter().map(|totals| totals.open).sum();
        let retained = app.hub.retained();
        let log = if app.hub.is_ready() { "" } else { "; the log cannot be reached" };
        format!("{readers} readers of {} channels, {} messages retained{log}", retained.channels, retained.messages)
    };
    service::supervise(ready, status).await;
}

async fn open_redis(config: &Config, url: &str) -> Result<Arc<RedisLog>, StartError> {
    let endpoint = Endpoint::parse(url, certificates(config)?).map_err(|error| bad_flag("--redis", &error))?;
    if endpoint.is_tls() {
        // The one that everything of ours uses; an error means that somebody has chosen before us.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    let described = endpoint.describe();
    let redis = RedisConfig {
        prefix: config.redis_prefix.clone(),
        retention: config.retention(),
        timeout: Duration::from_secs(config.publish_timeout),
        wait_replicas: config.redis_wait_replicas,
        max_payload: config.max_message_bytes,
        subscribe: config.patterns().unwrap_or_default().iter().map(ToString::to_string).collect(),
    };
    let log = RedisLog::new(endpoint, redis);
    match log.probe().await {
        Ok(address) if address == described => info!("the log is the stream {} in Redis at {address}", log.keys().log),
        Ok(address) => info!("the log is the stream {} in Redis at {address} ({described})", log.keys().log),
        Err(error) if config.wait_for_log => {
            warn!(%error, "the log in Redis at {described} cannot be reached yet; waiting")
        }
        Err(error) => {
            let way_out = error.advice();
            return Err(StartError::LogUnreachable(format!("the log in Redis at {described}: {error}{way_out}")));
        }
    }
    Ok(log)
}

fn bad_flag(flag: &str, error: &dyn std::fmt::Display) -> BadConfig {
    BadConfig::new(format!("{flag}: {error}"))
}

/// What `--redis-tls-…` name, where one of them is given.
fn certificates(config: &Config) -> Result<Option<TlsCertificates>, BadConfig> {
    let read = |flag: &str, path: &Option<PathBuf>| match path {
        None => Ok(None),
        Some(path) => {
            let text = std::fs::read(path).map_err(|error| bad_flag(flag, &format!("{}: {error}", path.display())))?;
            if text.windows(10).any(|part| part == b"-----BEGIN") {
                return Ok(Some(text));
            }
            Err(bad_flag(flag, &format!("{} holds no PEM", path.display())))
        }
    };
    let root_cert = read("--redis-tls-ca", &config.redis_tls_ca)?;
    let client_cert = read("--redis-tls-cert", &config.redis_tls_cert)?;
    let client_key = read("--redis-tls-key", &config.redis_tls_key)?;
    let client_tls =
        client_cert.zip(client_key).map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key });
    if root_cert.is_none() && client_tls.is_none() {
        return Ok(None);
    }
    Ok(Some(TlsCertificates { client_tls, root_cert }))
}
