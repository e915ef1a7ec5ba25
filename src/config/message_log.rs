//! The flags of the log of messages: Redis, the bridge from PUBLISH, and the retention.

use super::error::BadConfig;
use super::values::{redis_prefix, size};
use crate::log::Retention;
use crate::log::bridge::{BadPattern, parse_patterns};
use crate::log::redis::Endpoint;
use crate::message::Pattern;
use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args};
use std::path::PathBuf;
use std::time::Duration;

/// Memory for two of the longest idempotency keys in Redis. One publisher may use half of it, which is one key.
const MIN_KEYS: usize = 4 << 10;

/// The flags of the log of messages.
#[derive(Args, Clone, Debug)]
pub struct MessageLogFlags {
    /// Redis that stores the log: `redis://…`, `rediss://…` (TLS), `redis+unix://…`,
    /// `redis+sentinel://HOST:PORT,…/SERVICE` or `redis+cluster://HOST:PORT,…`. By default the log is in
    /// memory
    #[arg(long, env = "LONGTAIL_REDIS", value_name = "URL", hide_env_values = true, help_heading = "Log")]
    pub redis: Option<String>,

    /// Certificate authority for Redis's certificate, a PEM file. It replaces the system's authorities
    #[arg(long, env = "LONGTAIL_REDIS_TLS_CA", value_name = "FILE", help_heading = "Log")]
    pub redis_tls_ca: Option<PathBuf>,

    /// Client certificate for Redis, a PEM file
    #[arg(long, env = "LONGTAIL_REDIS_TLS_CERT", value_name = "FILE", help_heading = "Log")]
    pub redis_tls_cert: Option<PathBuf>,

    /// Private key of the client certificate, a PEM file
    #[arg(long, env = "LONGTAIL_REDIS_TLS_KEY", value_name = "FILE", help_heading = "Log")]
    pub redis_tls_key: Option<PathBuf>,

    /// Replicas that must have a message before the server acknowledges it. If fewer replicas confirm in time, the
    /// answer is `outcome_unknown`
    #[arg(long, env = "LONGTAIL_REDIS_WAIT_REPLICAS", value_name = "N", default_value_t = 0, help_heading = "Log")]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=100))]
    pub redis_wait_replicas: u32,

    /// Prefix of the keys in Redis: the log is the stream `P:log`
    #[arg(long, env = "LONGTAIL_REDIS_PREFIX", value_name = "P", default_value = "longtail", help_heading = "Log")]
    #[arg(value_parser = redis_prefix)]
    pub redis_prefix: String,

    /// Redis channels whose PUBLISHed messages are appended to the log, or `off`. The channel's name is the
    /// part that a trailing `*` matches. Repeatable
    #[arg(long, env = "LONGTAIL_REDIS_SUBSCRIBE", value_name = "PATTERN|off", default_value = "push:*")]
    #[arg(value_delimiter = ' ', action = ArgAction::Append, help_heading = "Log")]
    pub redis_subscribe: Vec<String>,

    /// Limit on PUBLISHed messages that wait to be appended while Redis stalls or another node takes over
    #[arg(long, env = "LONGTAIL_REDIS_SUBSCRIBE_QUEUE", value_name = "N", default_value_t = 100_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=10_000_000), help_heading = "Log")]
    pub redis_subscribe_queue: u64,

    /// Starts the server even if the log is unreachable, and waits for the log
    #[arg(long, env = "LONGTAIL_WAIT_FOR_LOG", value_parser = BoolishValueParser::new(), help_heading = "Log")]
    pub wait_for_log: bool,

    /// Retention: the maximum age in seconds of the messages that the log keeps
    #[arg(long, env = "LONGTAIL_RETAIN_SECONDS", value_name = "S", default_value_t = 600, help_heading = "Log")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    pub retain_seconds: u64,

    /// Retention: the maximum number of messages that the log keeps
    #[arg(long, env = "LONGTAIL_RETAIN_MESSAGES", value_name = "N", default_value_t = 100_000, help_heading = "Log")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub retain_messages: u64,

    /// Retention: the maximum number of bytes of messages that the log keeps. Use a size such as `64MiB`, or a number
    #[arg(long, env = "LONGTAIL_RETAIN_BYTES", value_name = "SIZE", default_value = "64MiB", help_heading = "Log")]
    #[arg(value_parser = size)]
    pub retain_bytes: usize,

    /// Retention: the limit on entries that change client sessions, in percent of --retain-messages and --retain-bytes, in
    /// addition to the messages
    #[arg(long, env = "LONGTAIL_RETAIN_CONTROL", value_name = "PERCENT", default_value_t = 10, help_heading = "Log")]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=100))]
    pub retain_control: u8,

    /// Memory for idempotency keys, here or in Redis: a size such as `64MiB`, or a number. The server remembers each
    /// key for five minutes. The keys of a publisher may take as much memory as then remains free. Above this share,
    /// its new keys get 429
    #[arg(long, env = "LONGTAIL_KEY_BYTES", value_name = "SIZE", default_value = "64MiB", help_heading = "Log")]
    #[arg(value_parser = size)]
    pub key_bytes: usize,

    /// Seconds for which a publish waits for Redis before the server answers it with `outcome_unknown`. Without a
    /// connection to Redis it waits half as long
    #[arg(long, env = "LONGTAIL_PUBLISH_TIMEOUT", value_name = "S", default_value_t = 8, help_heading = "Log")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=300))]
    pub publish_timeout: u64,
}

impl MessageLogFlags {
    /// Checks rules that clap cannot check.
    ///
    /// # Errors
    ///
    /// The first invalid value or combination.
    pub(super) fn check(&self) -> Result<(), BadConfig> {
        let bad = |text: String| Err(BadConfig::new(text));
        if self.key_bytes < MIN_KEYS {
            return bad(format!("--key-bytes: use at least {MIN_KEYS} bytes"));
        }
        if let Err(error) = self.patterns() {
            return bad(format!("--redis-subscribe: {error}"));
        }
        if let Some(Err(error)) = self.redis.as_deref().map(|url| Endpoint::parse(url, None)) {
            return bad(format!("--redis: {error}"));
        }
        if self.redis_tls_cert.is_some() != self.redis_tls_key.is_some() {
            return bad("--redis-tls-cert and --redis-tls-key need each other: set both or neither".into());
        }
        Ok(())
    }

    /// The patterns of `--redis-subscribe`.
    ///
    /// # Errors
    ///
    /// A pattern that is not valid, or two patterns that overlap.
    pub fn patterns(&self) -> Result<Vec<Pattern>, BadPattern> {
        match self.redis_subscribe.as_slice() {
            [off] if off == "off" => Ok(Vec::new()),
            patterns => parse_patterns(patterns),
        }
    }

    /// The retention of the log.
    pub fn retention(&self) -> Retention {
        Retention {
            age: Duration::from_secs(self.retain_seconds),
            messages: self.retain_messages as usize,
            bytes: self.retain_bytes,
            control: self.retain_control,
        }
    }
}
