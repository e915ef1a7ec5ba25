//! The log in Redis as a [`MessageLog`]: it starts the appender and the tail, and passes drafts and reads on.

use super::abort_on_drop::in_own_task;
use super::{Endpoint, RedisConfig, RedisLog, ScriptError, append, connection, format, tail};
use crate::cursor::Cursor;
use crate::log::queued::Queued;
use crate::log::{AppendError, BoxFuture, MessageLog, Page, TailEvent, Unreachable};
use crate::message::Draft;
use std::pin::Pin;
use std::sync::Arc;
use tokio::task::JoinHandle;
use tokio_stream::Stream;

impl RedisLog {
    /// A log at an endpoint, and the task of its appender. The log connects when it is first used. The task ends with
    /// the log. The server must watch the task: if the task ends before the log, appends fail.
    pub fn new(endpoint: Endpoint, config: RedisConfig) -> (Arc<RedisLog>, JoinHandle<()>) {
        let (log, jobs) = RedisLog::without_appender(endpoint, config);
        let appender = tokio::spawn(append::run(Arc::downgrade(&log), jobs));
        (log, appender)
    }

    /// Connects once, to check at the start that the log can be reached. Returns the address of the log's server.
    ///
    /// # Errors
    ///
    /// The reason why the log cannot be reached.
    pub async fn probe(&self) -> Result<String, ScriptError> {
        let mut connection = self.connect(connection::ANSWER_TIMEOUT).await?;
        self.open(&mut connection).await?;
        self.peers.renew(&mut connection).await?;
        Ok(connection.info().address.clone())
    }

    /// Appends drafts that are not volatile. Drafts in a format that not every node reads wait before they are queued,
    /// so they do not delay other drafts.
    async fn append_durable(&self, drafts: Vec<Draft>, queued: &Queued) -> Result<Vec<Cursor>, AppendError> {
        let format = drafts.iter().map(format::needed_by).max().unwrap_or(format::LOWEST);
        let deadlines = self.queue.deadlines();
        if format == format::LOWEST || self.format_gate.is_open(&self.peers, format) {
            return self.queue.append(drafts, deadlines, queued).await;
        }
        let admission = self.format_gate.pass(Arc::downgrade(&self.peers), format, deadlines.withdraw_at);
        self.queue.append_after(admission, drafts, self.queue.after_a_wait(deadlines), queued).await
    }
}

impl MessageLog for RedisLog {
    fn append_in_order(
        &self,
        drafts: Vec<Draft>,
        queued: Queued,
    ) -> BoxFuture<'_, Result<Vec<Option<Cursor>>, AppendError>> {
        Box::pin(async move {
            let is_volatile: Vec<bool> = drafts.iter().map(|draft| draft.volatile).collect();
            let (volatile, durable): (Vec<_>, Vec<_>) = drafts.into_iter().partition(|draft| draft.volatile);
            let cursors = if durable.is_empty() {
                // Volatile messages have no place in the log.
                queued.set();
                Vec::new()
            } else {
                self.append_durable(durable, &queued).await?
            };
            if !volatile.is_empty() {
                let this = self.this.clone();
                let sent = in_own_task(async move { this.upgrade()?.append_volatile(volatile).await.err() }).await;
                if let (Some(error), true) = (sent, cursors.is_empty()) {
                    return Err(error);
                }
            }
            let mut cursors = cursors.into_iter();
            Ok(is_volatile.into_iter().map(|volatile| if volatile { None } else { cursors.next() }).collect())
        })
    }

    fn read(&self, after: Cursor, limit: usize) -> BoxFuture<'_, Result<Page, Unreachable>> {
        let this = self.this.clone();
        Box::pin(in_own_task(async move {
            let log = this.upgrade().ok_or(Unreachable)?;
            log.read_page(after, limit).await.map_err(|error| {
                tracing::debug!(%error, "the log could not be read");
                Unreachable
            })
        }))
    }

    fn tail(self: Arc<Self>) -> Pin<Box<dyn Stream<Item = TailEvent> + Send>> {
        Box::pin(tail::tail(self))
    }

    fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }
}
