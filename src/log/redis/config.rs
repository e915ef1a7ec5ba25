//! How a log in Redis is kept, and the names of what belongs to it.

use crate::log::Retention;
use std::time::Duration;

/// How a log in Redis is reached and kept.
#[derive(Clone, Debug)]
pub struct RedisConfig {
    /// The prefix of the keys.
    pub prefix: String,
    /// What the log keeps.
    pub retention: Retention,
    /// How long an append that was sent waits for its outcome.
    pub timeout: Duration,
    /// How many replicas must have a batch before its appends are acknowledged.
    pub wait_replicas: u32,
    /// The longest payload that is taken from entries that others appended, in bytes.
    pub max_payload: usize,
    /// The bytes that idempotency keys may take in Redis.
    pub key_bytes: usize,
    /// The patterns whose PUBLISHes are taken in. They must be the same on all nodes of a log.
    pub subscribe: Vec<String>,
}

/// The names of keys and channels in Redis.
#[derive(Clone, Debug)]
pub struct Keys {
    /// The stream.
    pub log: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Keys {
        Keys { log: format!("{prefix}:log") }
    }

    /// A key that lies in the log's Cluster slot.
    pub fn beside(&self, name: &str) -> String {
        format!("{{{}}}:{name}", self.log)
    }

    /// The key of an idempotency key.
    pub fn idempotency(&self, scoped: &str) -> String {
        self.beside(&format!("key:{scoped}"))
    }

    /// The PUBLISH channel of volatile messages.
    pub fn volatile(&self) -> String {
        self.beside("volatile")
    }
}
