//! The log in Redis: one stream, `P:log`.
//!
//! Three connections: the [`tail`] blocks on one, [`append`] has one to itself, and ranges are read on
//! a third. What belongs to the log besides the stream lies under `{P:log}:…`, which is the same
//! Cluster slot. The scripts in `lua/` make each change one step.

mod append;
mod census;
mod connection;
mod detached;
mod endpoint;
mod entry;
mod error;
mod facts;
mod functions;
#[cfg(fuzzing)]
pub mod fuzzing;
mod own;
mod queue;
mod tail;

pub use census::RedisCensus;
pub(in crate::log) use connection::BRIDGE;
pub use connection::Connection;
pub use endpoint::{BadUrl, Endpoint};
pub(in crate::log) use entry::{draft_fields, text, volatile_from_json};
pub use error::ScriptError;

use super::metrics::Metrics;
use super::{AppendError, BoxFuture, Extent, MessageLog, Page, Resolved, Retention, TailEvent, Unreachable};
use crate::cursor::{Cursor, Epoch, Id};
use crate::message::{Draft, Message};
use detached::detached;
use entry::Skipped;
use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{MutexGuard, broadcast};
use tokio::time::Instant;
use tokio_stream::Stream;

/// Volatile messages that wait for the tail; past that the oldest are dropped, which they may be.
const VOLATILE_WAITING: usize = 1024;

/// How a log in Redis is reached and kept.
#[derive(Clone, Debug)]
pub struct RedisConfig {
    /// Prefix of the keys.
    pub prefix: String,
    /// What is kept.
    pub retention: Retention,
    /// How long an append that was sent waits for its outcome.
    pub timeout: Duration,
    /// How many replicas must have a batch before its appends are acknowledged.
    pub wait_replicas: u32,
    /// The longest payload that is taken from entries that others appended, in bytes.
    pub max_payload: usize,
}

/// A [`MessageLog`] in Redis.
pub struct RedisLog {
    /// For what goes on by itself.
    this: Weak<RedisLog>,
    endpoint: Endpoint,
    keys: Keys,
    config: RedisConfig,
    /// The last position this node knows to have been in the log. A log that no longer holds it has
    /// lost its end.
    seen: Mutex<Option<Cursor>>,
    queue: queue::Queue,
    own: own::Own,
    /// Whoever holds it is [`detached`], or those who wait for it would wait for his client, too.
    reader: tokio::sync::Mutex<Reader>,
    volatile: broadcast::Sender<Arc<Message>>,
    skipped: Skipped,
    /// The process (its `run_id`) that the newest connection leads to. All others follow it there.
    server: Mutex<String>,
    metrics: Metrics,
}

/// The connection for ranges and volatile messages.
#[derive(Default)]
struct Reader {
    connection: Option<Connection>,
    /// Since when nothing has been answered. Whoever asks may go before there is an answer, and be the only one to learn
    /// that there is none.
    asked: Option<Instant>,
}

impl Reader {
    /// Keeps it where there was an answer.
    fn has_answered(&mut self, is_well: bool) {
        self.asked = None;
        if !is_well {
            self.connection = None;
        }
    }
}

/// The names of keys and channels in Redis.
#[derive(Clone, Debug)]
pub struct Keys {
    /// The stream.
    pub log: String,
}

impl Keys {
    fn new(prefix: &str) -> Keys {
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

impl RedisLog {
    /// A log at an endpoint. Connects when it is used; appends need a tokio runtime from now on.
    pub fn new(endpoint: Endpoint, config: RedisConfig) -> Arc<RedisLog> {
        let keys = Keys::new(&config.prefix);
        let timeout = config.timeout;
        let (queue, jobs) = queue::Queue::new(timeout);
        let metrics = Metrics::default();
        let log = Arc::new_cyclic(|this| RedisLog {
            this: this.clone(),
            queue,
            own: own::Own::default(),
            endpoint,
            keys,
            config,
            seen: Mutex::new(None),
            reader: tokio::sync::Mutex::default(),
            volatile: broadcast::channel(VOLATILE_WAITING).0,
            server: Mutex::new(String::new()),
            skipped: Skipped::new(metrics.skipped.clone()),
            metrics,
        });
        tokio::spawn(append::run(Arc::downgrade(&log), jobs, timeout));
        log
    }

    /// Connects once, to tell at start whether the log can be reached, and where it is.
    ///
    /// # Errors
    ///
    /// Why not.
    pub async fn probe(&self) -> Result<String, ScriptError> {
        let mut connection = self.connect(connection::ANSWER_TIMEOUT).await?;
        self.open(&mut connection).await?;
        Ok(connection.facts().address.clone())
    }

    /// The names of its keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// How it is kept.
    pub fn config(&self) -> &RedisConfig {
        &self.config
    }

    /// The figures it keeps of itself.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Hands a volatile message that came from Redis to the tail.
    pub(in crate::log) fn deliver_volatile(&self, message: Message) {
        // No tail, no reader: nothing is lost that anybody waits for.
        let _ = self.volatile.send(Arc::new(message));
    }

    /// Opens a connection. `answer_within` is how long each answer may take.
    pub(in crate::log) async fn connect(&self, answer_within: Duration) -> Result<Connection, ScriptError> {
        let connection = Connection::open(&self.endpoint, &self.keys.log, answer_within).await?;
        let facts = connection.facts();
        let mut server = self.server.lock();
        if *server != facts.run_id {
            server.clone_from(&facts.run_id);
            for advice in facts.advice(self.config.retention.bytes) {
                tracing::warn!("{advice}");
            }
        }
        drop(server);
        Ok(connection)
    }

    /// Opens a connection to one server of a Cluster, wherever the log is.
    pub(in crate::log) async fn connect_to(
        &self,
        address: &str,
        answer_within: Duration,
    ) -> Result<Connection, ScriptError> {
        Connection::open_at(&self.endpoint, address, answer_within).await
    }

    /// Whether a connection to this server (its `run_id`) leads to another than the newest one does: the log
    /// has moved (a failover), and a primary that was replaced in good order keeps its connections for a while.
    pub(in crate::log) fn has_moved(&self, server: &str) -> bool {
        *self.server.lock() != server
    }

    /// Finds the log's extent, and makes it whole: see `lua/open.lua`.
    async fn open(&self, connection: &mut Connection) -> Result<Extent, ScriptError> {
        let seen = *self.seen.lock();
        let (id, epoch) =
            seen.map_or((Id::ZERO.to_string(), String::new()), |seen| (seen.id.to_string(), seen.epoch.to_string()));
        let candidate = Epoch::random().to_string();
        let reply = connection.run(&connection::OPEN, &[&self.keys.log], &[&candidate, &id, &epoch]).await?;
        entry::extent(&reply).ok_or(ScriptError::Unexpected)
    }

    /// Notes a position that is in the log.
    fn note_seen(&self, cursor: Cursor) {
        let mut seen = self.seen.lock();
        if seen.is_none_or(|seen| seen.epoch != cursor.epoch || seen.id < cursor.id) {
            *seen = Some(cursor);
        }
    }

    /// The connection for ranges and volatile messages, about to be asked something.
    async fn reader(&self) -> Result<MutexGuard<'_, Reader>, ScriptError> {
        let mut reader = self.reader.lock().await;
        let is_silent = reader.asked.is_some_and(|asked| asked.elapsed() > connection::ANSWER_TIMEOUT);
        if is_silent || reader.connection.as_ref().is_some_and(|connection| self.has_moved(connection.server().1)) {
            *reader = Reader::default();
        }
        if reader.connection.is_none() {
            reader.connection = Some(self.connect(connection::ANSWER_TIMEOUT).await?);
        }
        reader.asked.get_or_insert_with(Instant::now);
        Ok(reader)
    }

    async fn read_page(&self, after: Cursor, limit: usize) -> Result<Page, ScriptError> {
        let mut reader = self.reader().await?;
        let connection = reader.connection.as_mut().ok_or(ScriptError::Unexpected)?;
        let args = [Epoch::random().to_string(), after.id.to_string(), limit.to_string()];
        let reply = connection.run(&connection::READ, &[&self.keys.log], &args).await;
        reader.has_answered(reply.is_ok());
        drop(reader);
        let reply = reply.inspect_err(|_| self.metrics.lost("read"))?;
        let [extent, entries] = entry::array(&reply).ok_or(ScriptError::Unexpected)? else {
            return Err(ScriptError::Unexpected);
        };
        let extent = entry::extent(extent).ok_or(ScriptError::Unexpected)?;
        if let Resolved::Gap(id) = extent.resolve(after) {
            return Ok(Page { extent, messages: Vec::new(), upto: id });
        }
        let entries = entry::entries(entries).ok_or(ScriptError::Unexpected)?;
        // A page that is not full reaches the end, also where the last entries were deleted.
        let is_full = entries.len() >= limit;
        let last = entries.last().map_or(after.id, |entry| entry.id);
        let upto = if is_full { last } else { extent.end.max(last) };
        let messages = self.messages(entries, extent.epoch);
        Ok(Page { extent, messages, upto })
    }

    /// The entries that are messages; the others are counted and logged.
    fn messages(&self, entries: Vec<entry::Entry<'_>>, epoch: Epoch) -> Vec<Arc<Message>> {
        let parse = |entry: entry::Entry<'_>| {
            let message = entry.message(epoch, self.config.max_payload);
            message.map_err(|reason| self.skipped.note(entry.id, reason)).ok().map(Arc::new)
        };
        entries.into_iter().filter_map(parse).collect()
    }

    async fn append_volatile(&self, drafts: Vec<Draft>) -> Result<(), AppendError> {
        let texts: Vec<Vec<u8>> = drafts.iter().map(entry::volatile_to_json).collect();
        // Those before it in the line may each wait for a Redis that does not answer.
        let reader = tokio::time::timeout(self.config.timeout, self.reader()).await;
        let reader = reader.unwrap_or_else(|_| Err(ScriptError::Unconnected(ScriptError::timed_out())));
        let unavailable = |error: ScriptError| AppendError::Unavailable(error.to_string());
        let mut reader = reader.map_err(unavailable)?;
        let connection = reader.connection.as_mut().ok_or_else(|| unavailable(ScriptError::Unexpected))?;
        let sent = connection.publish(&self.keys.volatile(), &texts).await;
        reader.has_answered(sent.is_ok());
        // A Redis that was stopped sends them when it goes on.
        sent.map_err(|error| if error.is_unsettled() { AppendError::OutcomeUnknown } else { unavailable(error) })
    }
}

impl MessageLog for RedisLog {
    fn append(&self, drafts: Vec<Draft>) -> BoxFuture<'_, Result<Vec<Option<Cursor>>, AppendError>> {
        Box::pin(async move {
            let is_volatile: Vec<bool> = drafts.iter().map(|draft| draft.volatile).collect();
            let (volatile, durable): (Vec<_>, Vec<_>) = drafts.into_iter().partition(|draft| draft.volatile);
            let cursors = if durable.is_empty() { Vec::new() } else { self.queue.append(durable).await? };
            if !volatile.is_empty() {
                let this = self.this.clone();
                let sent = detached(async move { this.upgrade()?.append_volatile(volatile).await.err() }).await;
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
        Box::pin(detached(async move {
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
}
