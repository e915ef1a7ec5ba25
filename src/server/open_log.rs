//! Opens the log that the configuration names: in memory, or in Redis with the bridge from PUBLISH and the subscriber
//! counts of other nodes.

use super::{StartError, bad_flag};
use crate::config::{BadConfig, Config};
use crate::log::MessageLog;
use crate::log::bridge::{self, BridgeConfig, ForeignPublishes, PublishPattern};
use crate::log::connections::{ConnectionStore, MemoryConnections};
use crate::log::memory::MemoryLog;
use crate::log::presence::{MemoryPresence, PresenceStore};
use crate::log::redis::{
    CallStream, Endpoint, RedisConfig, RedisLog, RedisPresence, RedisSealKeys, RedisSessions, RedisSubscriberCounts,
    RedisTold,
};
use crate::log::seal_keys::{MemorySealKeys, SealKeyStore};
use crate::log::sessions::{MemorySessions, SessionStore};
use crate::log::subscriber_counts::SubscriberCounts;
use crate::log::told::{MemoryTold, ToldStore};
use crate::serve;
use crate::transport::{Lifecycle, Params, Transport};
use prometheus_client::registry::Registry;
use redis::{ClientTlsConfig, TlsCertificates};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{info, warn};

/// The longest request of a polling client. Other nodes count a client for this time plus `--away-seconds`.
const LONGEST_REQUEST: Duration = Duration::from_secs(60);

/// A log, and the parts that belong to it.
pub struct OpenLog {
    /// The log.
    pub log: Arc<dyn MessageLog>,
    /// The task that appends to the log; `None` for a log in memory.
    pub appender: Option<JoinHandle<()>>,
    /// The counts of other nodes; `None` for a log in memory, which other nodes cannot use.
    pub remote_counts: Option<Arc<dyn SubscriberCounts>>,
    /// The stream of `--hook-stream` with its task, if it is set.
    pub calls: Option<(Arc<CallStream>, JoinHandle<()>)>,
    /// The members of channels; `None` if no channel has presence.
    pub presence: Option<Arc<dyn PresenceStore>>,
    /// The records of client sessions.
    pub sessions: Arc<dyn SessionStore>,
    /// The record of what the application was told about channels and members.
    pub told: Arc<dyn ToldStore>,
    /// The keys of sealed tokens.
    pub seal_keys: Arc<dyn SealKeyStore>,
    /// The records of connections that poll.
    pub connections: Arc<dyn ConnectionStore>,
    /// The bridge from PUBLISH. It does not run yet. `None` for a log in memory.
    pub bridge: Option<Bridge>,
    /// Whether the bridge has subscribed. Always true without a bridge.
    pub is_listening: watch::Receiver<bool>,
}

/// The bridge: it appends PUBLISHes in Redis to the log, and receives volatile messages of other nodes.
pub struct Bridge {
    log: Arc<RedisLog>,
    config: BridgeConfig,
    is_listening: watch::Sender<bool>,
}

impl Bridge {
    /// Runs the bridge until `stopping` is true.
    pub fn spawn(self, stopping: watch::Receiver<bool>) -> JoinHandle<()> {
        tokio::spawn(bridge::run(self.log, self.config, self.is_listening, stopping))
    }
}

/// The address of `--redis`, if it is set, with the certificates of the `--redis-tls-…` flags.
///
/// # Errors
///
/// The address or a certificate cannot be used.
pub fn endpoint(config: &Config) -> Result<Option<Endpoint>, BadConfig> {
    let Some(url) = &config.message_log.redis else { return Ok(None) };
    Endpoint::parse(url, certificates(config)?).map(Some).map_err(|error| bad_flag("--redis", &error))
}

/// The PUBLISHes that the log takes besides those of `--redis-subscribe`.
pub struct Publishes {
    /// Those of Laravel, for Pusher apps.
    pub of_apps: Vec<PublishPattern>,
    /// Those of Socket.IO's emitters.
    pub emitters: Option<ForeignPublishes>,
}

/// Opens the log: in Redis at `endpoint`, or in memory. `publishes`: what it takes besides `--redis-subscribe`.
pub async fn open_log(
    config: &Config,
    endpoint: Option<Endpoint>,
    publishes: Publishes,
    metrics: &mut Registry,
) -> Result<OpenLog, StartError> {
    let has_presence = !config.presence.presence.is_empty() || config.pusher.has_apps();
    let most = config.presence.presence_members as usize;
    let Some(endpoint) = endpoint else {
        info!("the log is in memory and ends with this process; --redis keeps it and shares it between nodes");
        let log = Arc::new(MemoryLog::new(config.message_log.retention()).with_key_bytes(config.message_log.key_bytes));
        let presence = has_presence.then(|| Arc::new(MemoryPresence::new(log.clone(), most)) as Arc<dyn PresenceStore>);
        let is_listening = watch::channel(true).1;
        let sessions = Arc::new(MemorySessions::new(log.clone()));
        let connections = Arc::new(MemoryConnections::new(log.clone()));
        return Ok(OpenLog {
            log,
            appender: None,
            remote_counts: None,
            presence,
            sessions,
            told: Arc::new(MemoryTold::default()),
            seal_keys: Arc::new(MemorySealKeys::default()),
            connections,
            calls: None,
            bridge: None,
            is_listening,
        });
    };
    let of_flags = config.message_log.patterns().unwrap_or_default().into_iter().map(PublishPattern::from);
    let patterns = of_flags.chain(publishes.of_apps).collect();
    let queue = config.message_log.redis_subscribe_queue as usize;
    let bridge = BridgeConfig { patterns, foreign: publishes.emitters, queue };
    let (log, appender) = open_redis(config, endpoint, bridge.globs()).await?;
    log.metrics().register(metrics);
    for pattern in bridge.globs() {
        info!("taking messages PUBLISHed to {pattern} into the log");
    }
    let counted = Duration::from_secs(config.away_seconds) + LONGEST_REQUEST;
    let remote_counts = Arc::new(RedisSubscriberCounts::new(log.clone(), counted, &polling()));
    let calls = config.hook.hook_stream.as_ref().map(|name| CallStream::start(log.clone(), name));
    let (listening, is_listening) = watch::channel(false);
    // The bridge also runs without a pattern, because it receives the volatile messages of other nodes.
    let bridge = Bridge { log: log.clone(), config: bridge, is_listening: listening };
    let info_bytes = config.presence.presence_info_bytes;
    let presence = || Arc::new(RedisPresence::new(log.clone(), most, info_bytes)) as Arc<dyn PresenceStore>;
    let presence = has_presence.then(presence);
    let sessions = Arc::new(RedisSessions::new(log.clone()));
    let told = Arc::new(RedisTold::new(log.clone()));
    let seal_keys = Arc::new(RedisSealKeys::new(log.clone()));
    Ok(OpenLog {
        told,
        log,
        appender: Some(appender),
        remote_counts: Some(remote_counts),
        calls,
        presence,
        connections: sessions.clone(),
        sessions,
        seal_keys,
        bridge: Some(bridge),
        is_listening,
    })
}

/// Connects to Redis once, so that a mistake in the configuration is an error at start.
async fn open_redis(
    config: &Config,
    endpoint: Endpoint,
    subscribe: Vec<String>,
) -> Result<(Arc<RedisLog>, JoinHandle<()>), StartError> {
    if endpoint.is_tls() {
        // A process has only one cryptography provider. An error means that the embedding program has already chosen a
        // provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    let described = endpoint.describe();
    let redis = RedisConfig {
        prefix: config.message_log.redis_prefix.clone(),
        retention: config.message_log.retention(),
        timeout: Duration::from_secs(config.message_log.publish_timeout),
        wait_replicas: config.message_log.redis_wait_replicas,
        max_payload: config.max_message_bytes,
        key_bytes: config.message_log.key_bytes,
        subscribe,
    };
    let (log, appender) = RedisLog::new(endpoint, redis);
    match log.probe().await {
        Ok(address) if address == described => info!("the log is the stream {} in Redis at {address}", log.keys().log),
        Ok(address) => info!("the log is the stream {} in Redis at {address} ({described})", log.keys().log),
        Err(error) if config.message_log.wait_for_log => {
            warn!(%error, "the log in Redis at {described} cannot be reached yet; the server waits for it");
        }
        Err(error) => {
            let way_out = error.advice();
            return Err(StartError::LogUnreachable(format!("the log in Redis at {described}: {error}{way_out}")));
        }
    }
    Ok((log, appender))
}

/// Reads the certificates that the `--redis-tls-…` flags name; `None` if there are none.
fn certificates(config: &Config) -> Result<Option<TlsCertificates>, BadConfig> {
    let read = |flag: &str, path: &Option<PathBuf>| match path {
        None => Ok(None),
        Some(path) => {
            let text = std::fs::read(path).map_err(|error| bad_flag(flag, &format!("{}: {error}", path.display())))?;
            if text.windows(10).any(|part| part == b"-----BEGIN") {
                return Ok(Some(text));
            }
            Err(bad_flag(flag, &format!("{} is not a PEM file", path.display())))
        }
    };
    let root_cert = read("--redis-tls-ca", &config.message_log.redis_tls_ca)?;
    let client_cert = read("--redis-tls-cert", &config.message_log.redis_tls_cert)?;
    let client_key = read("--redis-tls-key", &config.message_log.redis_tls_key)?;
    let client_tls =
        client_cert.zip(client_key).map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key });
    if root_cert.is_none() && client_tls.is_none() {
        return Ok(None);
    }
    Ok(Some(TlsCertificates { client_tls, root_cert }))
}

/// The names of the transports whose clients poll.
fn polling() -> Vec<&'static str> {
    let polls =
        |it: &&'static dyn Transport| matches!(it.lifecycle(&Params::default()), Lifecycle::Poll | Lifecycle::LongPoll);
    serve::transports().filter(polls).map(|it| it.name()).collect()
}
