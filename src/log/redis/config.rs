//! The settings of a log in Redis, and the names of its keys and channels.

use crate::log::Retention;
use std::time::Duration;

/// The settings of a log in Redis.
#[derive(Clone, Debug)]
pub struct RedisConfig {
    /// The prefix of the keys.
    pub prefix: String,
    /// The retention of the log.
    pub retention: Retention,
    /// The time for which a publisher waits for the outcome of its append, in all.
    pub timeout: Duration,
    /// The number of replicas that must have a batch before its appends are acknowledged.
    pub wait_replicas: u32,
    /// The longest payload, in bytes, of an entry that counts as a message.
    pub max_payload: usize,
    /// The bytes that idempotency keys may take in Redis.
    pub key_bytes: usize,
    /// The patterns of the PUBLISH channels whose messages are appended. The patterns must be the same on all nodes of
    /// a log.
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

    /// A key in the log's Cluster slot.
    pub fn beside(&self, name: &str) -> String {
        format!("{{{}}}:{name}", self.log)
    }

    /// The key in Redis of an idempotency key.
    pub fn idempotency(&self, scoped: &str) -> String {
        self.beside(&format!("key:{scoped}"))
    }

    /// The PUBLISH channel of volatile messages.
    pub fn volatile(&self) -> String {
        self.beside("volatile")
    }
}
