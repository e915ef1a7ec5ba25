//! The keys of sealed bookmarks in the log's Redis. The script `lua/seal_keys.lua` has the rules.

use super::connection::{ANSWER_TIMEOUT, SEAL_KEYS};
use super::{RedisLog, ScriptError, text};
use crate::log::seal_keys::{ROTATE, SealKey, SealKeyStore, SealKeys};
use crate::log::{BoxFuture, Unreachable};
use redis::Value;
use std::sync::Arc;
use tokio::time::timeout;

/// A [`SealKeyStore`] in the log's Redis. It is asked about once a minute, so it opens a connection each time.
pub struct RedisSealKeys {
    log: Arc<RedisLog>,
}

impl RedisSealKeys {
    /// The keys beside a log.
    pub fn new(log: Arc<RedisLog>) -> RedisSealKeys {
        RedisSealKeys { log }
    }

    async fn ask(&self, new: &SealKey) -> Result<SealKeys, ScriptError> {
        let mut connection = self.log.connect(ANSWER_TIMEOUT).await?;
        let (candidate, life) = (connection.candidate(), ROTATE.as_millis().to_string());
        let args = [candidate.as_str(), &new.to_text(), &life];
        let answer = connection.run(&SEAL_KEYS, &[&self.log.keys().log], &args).await?;
        let Value::Array(answer) = answer else { return Err(ScriptError::Unexpected) };
        let [present, previous] = answer.as_slice() else { return Err(ScriptError::Unexpected) };
        let present = text(present).and_then(SealKey::parse).ok_or(ScriptError::Unexpected)?;
        Ok(SealKeys { present, previous: text(previous).and_then(SealKey::parse) })
    }
}

impl SealKeyStore for RedisSealKeys {
    fn keys<'a>(&'a self, new: &'a SealKey) -> BoxFuture<'a, Result<SealKeys, Unreachable>> {
        Box::pin(async move {
            let answered = timeout(ANSWER_TIMEOUT, self.ask(new)).await;
            answered.unwrap_or(Err(ScriptError::Unexpected)).map_err(|error| {
                tracing::debug!(%error, "the keys of sealed bookmarks are not available");
                Unreachable
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::redis::Endpoint;
    use crate::log::redis::connection::Connection;
    use crate::log::redis::histories::Server;

    #[tokio::test]
    async fn there_are_two_generations_of_keys() {
        let server = Server::start().await;
        let script = SEAL_KEYS.with_clock();
        let endpoint = Endpoint::parse(&server.url(), None).expect("an endpoint");
        let mut connection = Connection::open(&endpoint, "h:log", ANSWER_TIMEOUT * 10).await.expect("a connection");
        // The time, a new key, and the keys that the log has then. At the end, the clock goes back.
        for (now, new, present, previous) in [
            (10_000, "a", "a", ""),
            (10_500, "b", "a", ""),
            (11_000, "c", "c", "a"),
            (11_999, "d", "c", "a"),
            (12_000, "e", "e", "c"),
            (5_000, "f", "f", "e"),
            (5_999, "g", "f", "e"),
        ] {
            connection.send(redis::cmd("SET").arg("test:now").arg(now)).await.expect("an answer");
            let candidate = connection.candidate();
            let answer = connection.run(&script, &["h:log"], &[&candidate, new, "1000"]).await.expect("an answer");
            let Value::Array(answer) = answer else { panic!("{answer:?}") };
            assert_eq!(answer.iter().map(text).collect::<Vec<_>>(), [Some(present), Some(previous)], "at {now}");
        }
    }
}
