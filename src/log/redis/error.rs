//! Errors of commands in Redis, with the fix if it is known.

use redis::{ErrorKind, RedisError, ServerErrorKind};

/// The reason why a command gave no result.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// There is no connection. Nothing was sent.
    #[error("no connection to Redis: {}", explain(.0))]
    Unconnected(#[source] RedisError),
    /// Redis answers, but it does not hold the log yet, or no longer holds it.
    #[error("no primary: {0}")]
    NoPrimary(String),
    /// This Redis server cannot hold the log.
    #[error("{0}")]
    Unfit(String),
    /// Redis answered that it did not run the command, but a later attempt may succeed (for example, it is loading).
    #[error("Redis is not ready: {}", explain(.0))]
    NotNow(#[source] RedisError),
    /// Redis answered that it did not run the command. It would give the same answer to a repeated command.
    #[error("Redis refused: {}", explain(.0))]
    Refused(#[source] RedisError),
    /// The command was sent, but no answer came.
    #[error("no answer from Redis: {}", explain(.0))]
    Unanswered(#[source] RedisError),
    /// The command was run, but too few replicas have its result.
    #[error("{reached} of the {wanted} replicas that --redis-wait-replicas asks for have it")]
    Unreplicated {
        /// The number of replicas that have the result.
        reached: i64,
        /// The number of replicas that should have the result.
        wanted: u32,
    },
    /// This crate's scripts cannot give such an answer.
    #[error("unexpected answer from Redis")]
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
            // An error with a code is an answer of Redis. Any other error comes from the connection.
            ErrorKind::Server(_) | ErrorKind::Extension => ScriptError::Refused(error),
            _ => ScriptError::Unanswered(error),
        }
    }

    /// Whether the server did not answer in time. The server may still be alive.
    pub(in crate::log) fn is_timeout(&self) -> bool {
        matches!(self, ScriptError::Unconnected(error) | ScriptError::Unanswered(error) if error.is_timeout())
    }

    pub(super) fn timed_out() -> RedisError {
        std::io::Error::from(std::io::ErrorKind::TimedOut).into()
    }

    pub(super) fn timed_out_in_tls() -> RedisError {
        std::io::Error::new(std::io::ErrorKind::TimedOut, "timed out (does this port speak TLS?)").into()
    }

    /// Returns advice for an error that prevents a node from starting, as a text that follows the text of the error. It
    /// mentions `--wait-for-log` if waiting may help.
    pub fn advice(&self) -> &'static str {
        const WAIT: &str = "; fix that, or set --wait-for-log to wait for it";
        match self {
            ScriptError::Unconnected(error) | ScriptError::NotNow(error) | ScriptError::Refused(error) => {
                match (self, fix(error)) {
                    (_, Some(Fix { passes: false, .. })) => "",
                    (_, Some(_)) | (ScriptError::NotNow(_), None) => WAIT,
                    (ScriptError::Unconnected(_), None) => {
                        "; start it, correct --redis, or set --wait-for-log to wait for it"
                    }
                    _ => "; fix that",
                }
            }
            ScriptError::NoPrimary(_) | ScriptError::Unanswered(_) | ScriptError::Unreplicated { .. } => WAIT,
            ScriptError::Unfit(_) | ScriptError::Unexpected => "",
        }
    }

    /// What publishers hear. Any client may publish, so this text does not name an address, a user, a key or a setting.
    /// The whole error is for the server's log.
    pub(super) fn public_text(&self) -> &'static str {
        let or = |error, text| fix(error).map_or(text, |fix| fix.public_text);
        match self {
            ScriptError::Unconnected(error) => or(error, "Redis cannot be reached"),
            ScriptError::NotNow(error) => or(error, "Redis is not ready"),
            ScriptError::Refused(error) => or(error, "Redis refuses to append"),
            ScriptError::Unanswered(error) => or(error, "Redis does not answer"),
            ScriptError::NoPrimary(_) => "Redis has no primary at the moment",
            ScriptError::Unfit(_) => "this Redis server cannot hold the log",
            ScriptError::Unreplicated { .. } => "too few replicas of Redis have the message",
            ScriptError::Unexpected => "Redis gave an unexpected answer",
        }
    }

    /// Whether the command may have run, or may still run.
    pub(super) fn is_unsettled(&self) -> bool {
        matches!(self, ScriptError::Unanswered(_) | ScriptError::Unexpected | ScriptError::Unreplicated { .. })
    }
}

/// The text for publishers about a server that is not a usable Redis.
const UNREACHABLE: &str = "Redis cannot be reached";

/// Writes the text of Redis, and the fix if it is known.
fn explain(error: &RedisError) -> String {
    let text = if error.kind() == ErrorKind::Parse {
        // The text of the parser's error is not used: it has several lines and describes bytes.
        "the server at this address does not speak the Redis protocol".to_owned()
    } else if is_not_tls(error) {
        "the server at this address does not speak TLS".to_owned()
    } else {
        error.to_string().lines().map(str::trim).collect::<Vec<_>>().join(" ")
    };
    match fix(error) {
        Some(fix) => format!("{}; {}", text.trim_end_matches('.'), fix.text),
        None => text,
    }
}

/// Whether the server answered a TLS handshake in another protocol.
fn is_not_tls(error: &RedisError) -> bool {
    error.to_string().contains("InvalidContentType")
}

struct Fix {
    text: &'static str,
    /// The kind of the error, for publishers.
    public_text: &'static str,
    /// Whether the error may go away while the node waits.
    passes: bool,
}

fn fix(error: &RedisError) -> Option<Fix> {
    let text = error.to_string();
    // The text of a script's error is long, and contains the error code.
    let is = |code: &str| error.code() == Some(code) || text.contains(code);
    let lasts = |public_text, text| Some(Fix { text, public_text, passes: false });
    let passes = |public_text, text| Some(Fix { text, public_text, passes: true });
    if error.kind() == ErrorKind::Parse {
        lasts(UNREACHABLE, "it may be an HTTP server, or a port with TLS (rediss://): correct --redis")
    } else if is_not_tls(error) {
        lasts(UNREACHABLE, "correct --redis, or use redis:// for a Redis without TLS")
    } else if is("WRONGPASS") || error.kind() == ErrorKind::AuthenticationFailed {
        lasts(
            "Redis refuses the login",
            "the user or the password in --redis is wrong: redis://:PASSWORD@HOST/ or redis://USER:PASSWORD@HOST/",
        )
    } else if is("NOAUTH") || text.contains("Authentication required") {
        lasts("Redis refuses the login", "it requires a password: --redis redis://:PASSWORD@HOST/")
    } else if text.contains("refused to switch database") {
        lasts(
            "Redis refuses the login",
            "correct the number of the database in --redis, after the host: redis://HOST/0",
        )
    } else if is("NOPERM") || text.contains("executing the script can't") || text.contains("ACL failure in script") {
        lasts(
            "Redis does not allow the server to append",
            "the user of --redis is not allowed to do that: docs/redis.md has the ACL line",
        )
    } else if is("WRONGTYPE") {
        lasts(
            "the log in Redis cannot be used",
            "the key of the log is not a stream: DEL it, or set another --redis-prefix",
        )
    } else if text.contains("exhausted the last possible ID") {
        lasts(
            "the log in Redis has used up its ids",
            "another program has appended an entry with the greatest possible id, and no id can follow it. XDEL of the entry \
             does not free the id: RENAME the stream away (readers are told of a gap), or XDEL the \
             entry and then XSETID the stream to the id before it",
        )
    } else if is("OOM") {
        passes("the memory of Redis is full", "its memory is full: raise maxmemory, or lower --retain-bytes")
    } else if is("MISCONF") {
        passes("Redis cannot write to its disk", "it cannot write to its disk")
    } else if is("READONLY") {
        passes("Redis is a replica", "it is a replica: name the primary in --redis")
    } else if is("NOREPLICAS") {
        passes("too few replicas of Redis are up", "too few of its replicas are up (min-replicas-to-write)")
    } else if text.contains("certificate") || text.contains("Certificate") {
        lasts(
            UNREACHABLE,
            "its certificate is not trusted: name the authority with --redis-tls-ca, and in the URL the host that the \
             certificate is for",
        )
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
            (ScriptError::Unconnected(refused()), "start it, correct --redis"),
            (ScriptError::NoPrimary("h:1 is a replica".into()), "fix that"),
            (ScriptError::Unanswered(ScriptError::timed_out()), "fix that"),
        ] {
            let advice = error.advice();
            assert!(advice.contains(says) && advice.contains("--wait-for-log"), "{error}{advice}");
        }
        for error in [
            ScriptError::Unconnected(wrong()),
            ScriptError::Unconnected(no_database()),
            ScriptError::Unfit("Redis 6.2 is too old".into()),
            ScriptError::Refused(RedisError::from((ResponseError.into(), "what is that"))),
        ] {
            assert!(!error.advice().contains("--wait-for-log"), "{error}{}", error.advice());
        }
        for (error, public) in [
            (ScriptError::Unconnected(wrong()), "Redis refuses the login"),
            (ScriptError::NoPrimary("h:1 is a replica".into()), "Redis has no primary at the moment"),
            (ScriptError::Refused(no_database()), "Redis refuses the login"),
            (ScriptError::Refused(RedisError::from((ResponseError.into(), "secret"))), "Redis refuses to append"),
        ] {
            assert_eq!(error.public_text(), public, "{error}");
        }
        assert!(ScriptError::Unconnected(wrong()).to_string().contains("redis://:PASSWORD@HOST/"));
        assert!(ScriptError::Unconnected(no_database()).to_string().contains("the number of the database"));
    }
}
