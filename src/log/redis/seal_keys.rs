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
