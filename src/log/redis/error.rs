//! Why Redis gave no result, and the mend where we know it.

use redis::{ErrorKind, RedisError, ServerErrorKind};

/// Why a command gave no result.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// There is no connection. Nothing was sent.
    #[error("no connection to Redis: {}", explain(.0))]
    Unconnected(#[source] RedisError),
    /// There is a Redis, and it holds the log no more, or not yet.
    #[error("no primary: {0}")]
    NoPrimary(String),
    /// A Redis that cannot hold the log.
    #[error("{0}")]
    Unfit(String),
    /// Redis answered that it did not do it, and may do it later (it is loading, say).
    #[error("Redis is not ready: {}", explain(.0))]
    NotNow(#[source] RedisError),
    /// Redis answered that it did not do it, and would say so again.
    #[error("Redis refused: {}", explain(.0))]
    Refused(#[source] RedisError),
    /// It was sent, and no answer came.
    #[error("no answer from Redis: {0}")]
    Unanswered(#[source] RedisError),
    /// It was done, and not copied to as many replicas as it should be.
    #[error("{reached} of {wanted} replicas have it; --redis-wait-replicas wants them all")]
    Unreplicated {
        /// How many replicas have it.
        reached: i64,
        /// How many should.
        wanted: u32,
    },
    /// An answer that our scripts do not give.
    #[error("an answer from Redis that makes no sense")]
    Unexpected,
}

impl ScriptError {
    pub(super) fn of(error: RedisError) -> ScriptError {
        match error.kind() {
            ErrorKind::Server(
                ServerErrorKind::BusyLoading
                | ServerErrorKind::TryAgain
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ReadOnly
                | ServerErrorKind::Moved
                | ServerErrorKind::Ask,
            ) => ScriptError::NotNow(error),
            ErrorKind::Extension if matches!(error.code(), Some("BUSY" | "NOREPLICAS")) => ScriptError::NotNow(error),
            // With a code it is Redis that has spoken; anything else happened on the way.
            ErrorKind::Server(_) | ErrorKind::Extension => ScriptError::Refused(error),
            _ => ScriptError::Unanswered(error),
        }
    }

    pub(super) fn timed_out() -> RedisError {
        std::io::Error::from(std::io::ErrorKind::TimedOut).into()
    }

    /// Whether it may have been done, or may be done yet.
    pub(super) fn is_unsettled(&self) -> bool {
        matches!(self, ScriptError::Unanswered(_) | ScriptError::Unexpected | ScriptError::Unreplicated { .. })
    }
}

/// Redis's word, with the mend where we know it.
fn explain(error: &RedisError) -> String {
    let text = error.to_string();
    // A script that ran into an error says so in many words, and the code is inside.
    let is = |code: &str| error.code() == Some(code) || text.contains(code);
    let mend = if is("WRONGPASS") || error.kind() == ErrorKind::AuthenticationFailed {
        "the user or the password in --redis is wrong"
    } else if is("NOAUTH") {
        "it wants a password: put it into the URL of --redis"
    } else if is("NOPERM") || text.contains("executing the script can't") || text.contains("ACL failure in script") {
        "the user of --redis may not do that: docs/redis.md has the ACL line"
    } else if is("WRONGTYPE") {
        "the key of the log holds something else: DEL it, or set another --redis-prefix"
    } else if is("OOM") {
        "its memory is full: raise maxmemory, or lower --retain-bytes"
    } else if is("MISCONF") {
        "it cannot write its disk"
    } else if is("READONLY") {
        "it is a replica: name the primary in --redis"
    } else if is("NOREPLICAS") {
        "too few of its replicas are up (min-replicas-to-write)"
    } else if text.contains("certificate") || text.contains("Certificate") {
        "its certificate is not to be trusted: --redis-tls-ca names the authority, the URL the host"
    } else {
        return text;
    };
    format!("{text}; {mend}")
}
