//! Builds a complete server from a [`Config`], binds its addresses, runs it and drains it.

mod access;
#[cfg(feature = "demo")]
mod demo;
mod descriptors;
mod drain;
mod error;
mod hook;
mod listen;
mod open_log;
mod pusher;
mod raw_websocket;
mod reload;
mod run;
mod socketio;
mod sockjs;
mod state;
mod stomp;
mod transitions;
mod welcome;

pub use error::{RunError, StartError};
pub use reload::Reloader;
pub use welcome::Welcome;

#[cfg(feature = "demo")]
use crate::config::Demo as DemoFlags;
use crate::config::{AccessLogTo, BadConfig, Config};
use crate::logging;
use crate::serve::{
    AccessLog, Context, Destination, Listeners, ProcessMetrics, Reactor, Timers, Tls, TransitionMetrics,
    TransitionSource,
};
use crate::systemd::Sockets;
use drain::DrainTimes;
use error::bad_flag;
use futures_util::future::BoxFuture;
use open_log::{Bridge, OpenLog, Publishes};
use prometheus_client::registry::Registry;
use state::{OpenDemo, Parts};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// A server that is bound but does not run yet.
pub struct Server {
    context: Arc<Context>,
    listeners: Listeners,
    /// The reactor's task. This task runs until the server ends. If the task ends earlier, it has failed.
    reactor_task: JoinHandle<io::Result<()>>,
    /// Other tasks that run until the server ends, each with a description.
    needed_tasks: Vec<(&'static str, JoinHandle<()>)>,
    drain: DrainTimes,
    /// Whether the server reports its start to the service manager before it has read the log.
    waits_for_log: bool,
    /// The accept loops of the demo's ports.
    demo_tasks: Vec<BoxFuture<'static, ()>>,
    /// What the application is told about channels and members, if it is told anything.
    transitions: Option<TransitionSource>,
    bridge: Option<Bridge>,
}

impl Server {
    /// Binds every address and connects to the log.
    ///
    /// # Errors
    ///
    /// The configuration is invalid, an address cannot be bound, or the log is unreachable.
    pub async fn bind(config: &Config) -> Result<Server, StartError> {
        Server::bind_on(config, Sockets::default()).await
    }

    /// Like [`Server::bind`], but on inherited sockets. They take the place of `--listen` and of `--tcp-listen`.
    ///
    /// # Errors
    ///
    /// The errors of [`Server::bind`].
    pub async fn bind_on(config: &Config, sockets: Sockets) -> Result<Server, StartError> {
        Server::bind_all(config, |_| Ok(OpenDemo::default()), sockets).await
    }

    /// Like [`Server::bind_on`], with the demo's API and the ports of its fault proxy.
    ///
    /// # Errors
    ///
    /// The errors of [`Server::bind`].
    #[cfg(feature = "demo")]
    pub async fn bind_demo(flags: &DemoFlags, sockets: Sockets) -> Result<Server, StartError> {
        flags.check()?;
        Server::bind_all(&flags.config, |listeners| demo::open(flags.weather_listen, listeners), sockets).await
    }

    async fn bind_all(
        config: &Config,
        open_demo: impl FnOnce(&mut Listeners) -> io::Result<OpenDemo>,
        sockets: Sockets,
    ) -> Result<Server, StartError> {
        let config = &listen::with_inherited(config, &sockets)?;
        config.check()?;
        let mut registry = registry();
        let metrics = registry.sub_registry_with_prefix("longtail");
        let tls = certificate(config, metrics)?;
        let apps = pusher::apps(&config.pusher)?;
        let (needs_users, spelled) = (!config.presence.presence.is_empty(), pusher::spelled_prefixes(&apps));
        let (origins, authorizer) = access::access(&config.access, needs_users, spelled, metrics)?;
        let access_log = access_log(&config.access_log, metrics)?;
        // Mistakes in flags are found before the server listens, and before it waits for the log.
        let (endpoint, http) = (open_log::endpoint(config)?, hook::http_transport(&config.hook)?);
        let (socketio_client, emitters) = (socketio::browser_client(config)?, socketio::emitters(config)?);
        let (raw_websocket, sockjs_prefixes) = (raw_websocket::pages(config)?, sockjs::prefixes(config)?);
        let of_apps = pusher::publish_patterns(&apps, &config.message_log)?;
        let mut listeners = listen::listen(config, sockets)?;
        let demo = open_demo(&mut listeners)?;
        let (pusher, webhooks) = pusher::open(apps, metrics)?;
        let open = open_log::open_log(config, endpoint, Publishes { of_apps, emitters }, metrics).await?;
        let OpenLog { log, appender, remote_counts, presence, sessions, .. } = open;
        let OpenLog { connections, seal_keys, told, calls, bridge, is_listening, .. } = open;
        let (members, (calls, calls_task)) = (presence.clone(), calls.unzip());
        let hook = hook::hook(&config.hook, http, calls, metrics);
        let (reactor, reactor_task) = Reactor::start()?;
        let (timers, timers_task) = Timers::start();
        let timers_task = ("the task of the timers", timers_task);
        let appender = appender.map(|task| ("the task that appends to the log", task));
        let calls_task = calls_task.map(|task| ("the task that sends events to workers", task));
        // This call counts open descriptors, so it comes after all steps of the start that open descriptors.
        let descriptors = descriptors::allowance(config, demo.descriptors)?;
        let tcp_address = listeners.tcp.as_ref().map(|tcp| tcp.local_addr()).transpose()?;
        listen::announce(&listeners, config, tls.is_some())?;
        let parts = Parts {
            log,
            remote_counts,
            sessions,
            seal_keys,
            connections,
            socketio_client,
            sockjs_prefixes,
            presence,
            is_listening,
            origins,
            authorizer,
            hook,
            tls,
            access_log,
            reactor,
            timers,
            descriptors,
            tcp_address,
            demo: demo.api,
            pusher,
            raw_websocket,
        };
        let notifies = config.hook.notifies_transitions() || !webhooks.is_empty();
        let told_metrics = notifies.then(|| TransitionMetrics::register(registry.sub_registry_with_prefix("longtail")));
        let context = Arc::new(state::context(config, registry, parts));
        raw_websocket::check_paths(config, &context)?;
        let source = |metrics| transitions::source(&context.state, members, told, webhooks, metrics);
        let transitions = told_metrics.and_then(source);
        Ok(Server {
            context,
            transitions,
            listeners,
            reactor_task,
            needed_tasks: appender.into_iter().chain(calls_task).chain([timers_task]).collect(),
            drain: DrainTimes {
                delay: Duration::from_secs(config.drain_delay),
                limit: Duration::from_secs(config.drain_seconds),
            },
            waits_for_log: config.message_log.wait_for_log,
            demo_tasks: demo.tasks,
            bridge,
        })
    }

    /// Returns the addresses of the HTTP listeners.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.listeners.http.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// Returns the address of the listener for raw TCP.
    pub fn tcp_addr(&self) -> Option<SocketAddr> {
        self.context.tcp_address
    }

    /// Returns the state that handlers use, for a fuzzer that calls the handlers without a socket.
    #[cfg(fuzzing)]
    pub fn state(&self) -> Arc<crate::serve::ServerState> {
        self.context.state.clone()
    }

    /// Returns where clients reach the server, for the people who have started it.
    pub fn welcome(&self) -> Welcome {
        let scheme = if self.context.state.tls.is_some() { "https" } else { "http" };
        Welcome::new(scheme, &self.local_addrs())
    }

    /// Returns a future that ends when the running server has read the log.
    pub fn ready(&self) -> impl Future<Output = ()> + Send + use<> {
        let state = self.context.state.clone();
        async move { state.hub.ready().await }
    }

    /// Returns whether the server is a demo.
    pub fn is_demo(&self) -> bool {
        self.context.demo.is_some()
    }

    /// Returns a reloader, which reloads files while the server runs.
    pub fn reloader(&self) -> Reloader {
        let state = &self.context.state;
        let access_log = state.access_log.as_ref().and_then(AccessLog::file);
        Reloader::new(state.tls.clone(), state.hook.clone(), access_log)
    }
}

/// The registry of metrics, with those of the process and of its log lines.
fn registry() -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(ProcessMetrics));
    let metrics = registry.sub_registry_with_prefix("longtail");
    if let Some(dropped) = logging::dropped_lines() {
        metrics.register("logging_dropped_lines", "Log lines that standard error did not take", dropped);
    }
    registry
}

/// The certificate of `--tls-cert`, if it is set.
fn certificate(config: &Config, metrics: &mut Registry) -> Result<Option<Arc<Tls>>, BadConfig> {
    let (Some(certificate), Some(key)) = (&config.tls_cert, &config.tls_key) else { return Ok(None) };
    let tls = Tls::new(certificate.clone(), key.clone(), metrics);
    tls.map(|tls| Some(Arc::new(tls))).map_err(|error| bad_flag("--tls-cert, --tls-key", &error))
}

/// The access log, if `--access-log` is set.
fn access_log(to: &AccessLogTo, metrics: &mut Registry) -> Result<Option<AccessLog>, BadConfig> {
    let (destination, at) = match to {
        AccessLogTo::Off => return Ok(None),
        AccessLogTo::Stdout => (Destination::Stdout, String::new()),
        AccessLogTo::File(path) => (Destination::File(path.clone()), format!("{}: ", path.display())),
    };
    let log = AccessLog::open(&destination);
    let log = log.map_err(|error| bad_flag("--access-log", &format_args!("{at}{error}")))?;
    let help = "Access log lines that could not be written, or not fast enough";
    metrics.register("access_log_dropped_lines", help, log.dropped().clone());
    Ok(Some(log))
}
