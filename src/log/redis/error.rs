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
            ErrorKind::Extension if matches!(error.code(), Some("BUSY" | "NOREPLICAS" | "FORK")) => {
                ScriptError::NotNow(error)
            }
            // With a code it is Redis that has spoken; anything else happened on the way.
            ErrorKind::Server(_) | ErrorKind::Extension => ScriptError::Refused(error),
            _ => ScriptError::Unanswered(error),
        }
    }

    /// Whether the server has said nothing, which says nothing of whether it lives.
    pub(in crate::log) fn is_timeout(&self) -> bool {
        matches!(self, ScriptError::Unconnected(error) | ScriptError::Unanswered(error) if error.is_timeout())
    }

    pub(super) fn timed_out() -> RedisError {
        std::io::Error::from(std::io::ErrorKind::TimedOut).into()
    }

    pub(super) fn timed_out_in_tls() -> RedisError {
        std::io::Error::new(std::io::ErrorKind::TimedOut, "timed out (does this port speak TLS?)").into()
    }

    /// What to do where it keeps a node from starting, behind the error's own text: waiting where that may help.
    pub fn way_out(&self) -> &'static str {
        const WAIT: &str = "; see to it, or set --wait-for-log to wait for it";
        match self {
            ScriptError::Unconnected(error) | ScriptError::NotNow(error) | ScriptError::Refused(error) => {
                match (self, mend(error)) {
                    (_, Some(Mend { passes: false, .. })) => "",
                    (_, Some(_)) | (ScriptError::NotNow(_), None) => WAIT,
                    (ScriptError::Unconnected(_), None) => {
                        "; start it, mend --redis, or set --wait-for-log to wait for it"
                    }
                    _ => "; see to it",
                }
            }
            ScriptError::NoPrimary(_) | ScriptError::Unanswered(_) | ScriptError::Unreplicated { .. } => WAIT,
            ScriptError::Unfit(_) | ScriptError::Unexpected => "",
        }
    }

    /// Whether it may have been done, or may be done yet.
    pub(super) fn is_unsettled(&self) -> bool {
        matches!(self, ScriptError::Unanswered(_) | ScriptError::Unexpected | ScriptError::Unreplicated { .. })
    }
}

/// Redis's word, with the mend where we know it.
fn explain(error: &RedisError) -> String {
    let text = error.to_string();
    match mend(error) {
        Some(mend) => format!("{}; {}", text.trim_end_matches('.'), mend.text),
        None => text,
    }
}

struct Mend {
    text: &'static str,
    /// Whether somebody else's doing may mend it while we wait.
    passes: bool,
}

fn mend(error: &RedisError) -> Option<Mend> {
    let text = error.to_string();
    // A script that ran into an error says so in many words, and the code is inside.
    let is = |code: &str| error.code() == Some(code) || text.contains(code);
    let lasts = |text| Some(Mend { text, passes: false });
    let passes = |text| Some(Mend { text, passes: true });
    if is("WRONGPASS") || error.kind() == ErrorKind::AuthenticationFailed {
        lasts("the user or the password in --redis is wrong: redis://:PASSWORD@HOST/ or redis://USER:PASSWORD@HOST/")
    } else if is("NOAUTH") || text.contains("Authentication required") {
        lasts("it wants a password: --redis redis://:PASSWORD@HOST/")
    } else if text.contains("refused to switch database") {
        lasts("mend the number of the database in --redis, behind the host: redis://HOST/0")
    } else if is("NOPERM") || text.contains("executing the script can't") || text.contains("ACL failure in script") {
        lasts("the user of --redis may not do that: docs/redis.md has the ACL line")
    } else if is("WRONGTYPE") {
        lasts("the key of the log holds something else: DEL it, or set another --redis-prefix")
    } else if text.contains("exhausted the last possible ID") {
        lasts(
            "somebody has appended an entry with the greatest id there is, and the stream has no id behind it. XDEL of \
             the entry does not take the id back: RENAME the stream away (readers are told of a gap), or XDEL the \
             entry and then XSETID the stream to the id before it",
        )
    } else if is("OOM") {
        passes("its memory is full: raise maxmemory, or lower --retain-bytes")
    } else if is("MISCONF") {
        passes("it cannot write its disk")
    } else if is("READONLY") {
        passes("it is a replica: name the primary in --redis")
    } else if is("NOREPLICAS") {
        passes("too few of its replicas are up (min-replicas-to-write)")
    } else if text.contains("certificate") || text.contains("Certificate") {
        lasts("its certificate is not to be trusted: --redis-tls-ca names the authority, the URL the host")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis::ServerErrorKind::ResponseError;
    use std::io;

    #[test]
    fn waiting_is_offered_where_it_may_help() {
        let refused = || RedisError::from(io::Error::from(io::ErrorKind::ConnectionRefused));
        let no_database = (ResponseError.into(), "Redis server refused to switch database", "DB index is out of range");
        let no_database = || RedisError::from((no_database.0, no_database.1, no_database.2.to_owned()));
        let wrong = || RedisError::from((ErrorKind::AuthenticationFailed, "Password authentication failed"));
        for (error, says) in [
            (ScriptError::Unconnected(refused()), "start it, mend --redis"),
            (ScriptError::NoPrimary("h:1 is a replica".into()), "see to it"),
            (ScriptError::Unanswered(ScriptError::timed_out()), "see to it"),
        ] {
            let way_out = error.way_out();
            assert!(way_out.contains(says) && way_out.contains("--wait-for-log"), "{error}{way_out}");
        }
        for error in [
            ScriptError::Unconnected(wrong()),
            ScriptError::Unconnected(no_database()),
            ScriptError::Unfit("Redis 6.2 is too old".into()),
            ScriptError::Refused(RedisError::from((ResponseError.into(), "what is that"))),
        ] {
            assert!(!error.way_out().contains("--wait-for-log"), "{error}{}", error.way_out());
        }
        assert!(ScriptError::Unconnected(wrong()).to_string().contains("redis://:PASSWORD@HOST/"));
        assert!(ScriptError::Unconnected(no_database()).to_string().contains("the number of the database"));
    }
}
