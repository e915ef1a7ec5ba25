//! The regular tasks of the appender besides appending: it moves the mark, renews the node's record, looks for the
//! primary and trims the log.

use super::appender::Appender;
use crate::log::redis::connection::{MARK, TRIM};
use crate::log::redis::{RedisLog, entry, text};
use tracing::warn;

impl Appender {
    /// Moves the log's mark to the tail's position, if other programs append to the log.
    pub(in crate::log::redis) async fn mark(&mut self, log: &RedisLog) {
        let (Some(connection), Some((at, added))) = (&mut self.connection, log.unmarked()) else { return };
        let args = [connection.candidate(), at.epoch.to_string(), at.id.to_string(), added.to_string()];
        if let Err(error) = connection.run(&MARK, &[&log.keys.log], &args).await {
            tracing::debug!(%error, "the log's mark could not be moved");
            self.lose(log);
        }
    }

    /// Renews this node's record, reads the records of the other nodes, and keeps `longtail_publish` loaded.
    pub(super) async fn renew(&mut self, log: &RedisLog) {
        if let Err(error) = self.connected(log).await {
            tracing::debug!(%error, "no connection to renew this node's record");
            return;
        }
        let Some(connection) = &mut self.connection else { return };
        let renewed = async {
            log.peers.renew(connection).await?;
            self.functions.look_after(connection, false).await
        };
        if let Err(error) = renewed.await {
            tracing::debug!(%error, "this node's record could not be renewed");
            self.lose(log);
        }
    }

    /// Changes to the primary that the sentinels name, even if the old primary still answers.
    pub(super) async fn look_for_the_primary(&mut self, log: &RedisLog) {
        if let Some(connection) = &self.connection
            && log.endpoint.has_moved(connection.server().0).await
        {
            self.connection = None;
            if let Err(error) = self.connected(log).await {
                tracing::debug!(%error, "the new primary cannot be reached yet");
            }
        }
    }

    /// Does one round of trimming. Returns whether another round is needed.
    pub(super) async fn trim(&mut self, log: &RedisLog) -> bool {
        let retention = log.retention();
        if self.connected(log).await.is_err() {
            return false;
        }
        let Some(connection) = &mut self.connection else { return false };
        let args = [
            connection.candidate(),
            retention.messages.to_string(),
            retention.age.as_millis().to_string(),
            retention.bytes.to_string(),
        ];
        let reply = match connection.run(&TRIM, &[&log.keys.log], &args).await {
            Ok(reply) => reply,
            Err(error) => {
                if self.untrimmed.replace(error.to_string()) != self.untrimmed {
                    warn!(%error, "the log could not be trimmed");
                }
                self.lose(log);
                return false;
            }
        };
        self.untrimmed = None;
        let Some([redis::Value::Int(dropped), redis::Value::Int(more), redis::Value::Int(bytes), now]) =
            entry::array(&reply)
        else {
            return false;
        };
        if let Some(now_ms) = text(now).and_then(|now| now.parse().ok()) {
            log.clock.set(now_ms);
        }
        log.metrics.trimmed.inc_by((*dropped).try_into().unwrap_or(0));
        log.metrics.trimmed_bytes.inc_by((*bytes).try_into().unwrap_or(0));
        *more != 0
    }
}
