//! The log in Redis: one stream, `P:log`.
//!
//! Three connections: the [`tail`] blocks on one, [`append`] has one to itself, and ranges are read on
//! a third. What belongs to the log besides the stream lies under `{P:log}:…`, which is the same
//! Cluster slot. The scripts in `lua/` make each change one step.

mod agreement;
mod append;
mod connection;
mod detached;
mod endpoint;
mod entry;
mod error;
mod facts;
mod format;
mod functions;
#[cfg(fuzzing)]
pub mod fuzzing;
#[cfg(test)]
mod histories;
mod own;
mod peers;
mod queue;
mod seen;
mod subscriber_counts;
mod tail;
mod verify;

pub(in crate::log) use connection::BRIDGE;
pub use connection::Connection;
pub use endpoint::{BadUrl, Endpoint};
pub(in crate::log) use entry::{draft_fields, text, volatile_from_json};
pub use error::ScriptError;
pub use subscriber_counts::RedisSubscriberCounts;

use super::clock::LogClock;
use super::metrics::Metrics;
use super::{AppendError, BoxFuture, Extent, MessageLog, Page, Resolved, Retention, TailEvent, Unreachable};
use crate::cursor::{Cursor, Epoch, Id};
use crate::message::{Draft, Message};
use detached::detached;
use entry::{Counters, Skipped, text as text_of};
use parking_lot::Mutex;
use seen::{Read, Seen};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{MutexGuard, broadcast};
use tokio::time::Instant;
use tokio_stream::Stream;

/// Volatile messages that wait for the tail; past that the oldest are dropped, which they may be.
const VOLATILE_WAITING: usize = 1024;

/// Entries that are read at a time to compare histories.
const RANGE: usize = 256;

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
    /// The patterns whose PUBLISHes are taken in. All nodes of a log must have the same.
    pub subscribe: Vec<String>,
}

/// A [`MessageLog`] in Redis.
pub struct RedisLog {
    /// For what goes on by itself.
    this: Weak<RedisLog>,
    endpoint: Endpoint,
    keys: Keys,
    config: RedisConfig,
    /// What the tail has read of late. A log that no longer holds it has lost its end.
    seen: Mutex<Option<Seen>>,
    /// The log's mark, as the tail has last read it.
    mark: Mutex<Option<Cursor>>,
    clock: LogClock,
    queue: queue::Queue,
    own: own::Own,
    /// Whoever holds it is [`detached`], or those who wait for it would wait for his client, too.
    reader: tokio::sync::Mutex<Reader>,
    volatile: broadcast::Sender<Arc<Message>>,
    skipped: Skipped,
    unreadable: format::Unreadable,
    peers: peers::Peers,
    /// The process (its `run_id`) that the newest connection leads to. All others follow it there.
    server: Mutex<String>,
    /// The process (its `run_id`) whose settings were last looked at for what breaks a promise.
    advised: Mutex<String>,
    metrics: Metrics,
    /// What a test connects to in place of the endpoint.
    #[cfg(test)]
    stand_in: Mutex<Option<Connection>>,
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
        let timeout = config.timeout;
        let (log, jobs) = RedisLog::without_appender(endpoint, config);
        tokio::spawn(append::run(Arc::downgrade(&log), jobs, timeout));
        log
    }

    fn without_appender(endpoint: Endpoint, config: RedisConfig) -> (Arc<RedisLog>, queue::Jobs) {
        let keys = Keys::new(&config.prefix);
        let timeout = config.timeout;
        let (queue, jobs) = queue::Queue::new(timeout);
        let metrics = Metrics::default();
        metrics.format.set(i64::from(format::LOWEST));
        let log = Arc::new_cyclic(|this| RedisLog {
            this: this.clone(),
            queue,
            own: own::Own::default(),
            endpoint,
            keys,
            peers: peers::Peers::new(&config),
            config,
            seen: Mutex::new(None),
            mark: Mutex::new(None),
            clock: LogClock::here(),
            reader: tokio::sync::Mutex::default(),
            volatile: broadcast::channel(VOLATILE_WAITING).0,
            server: Mutex::new(String::new()),
            advised: Mutex::new(String::new()),
            skipped: Skipped::new(metrics.skipped.clone()),
            unreadable: format::Unreadable::new(metrics.unreadable.clone()),
            metrics,
            #[cfg(test)]
            stand_in: Mutex::default(),
        });
        (log, jobs)
    }

    /// Connects once, to tell at start whether the log can be reached, and where it is.
    ///
    /// # Errors
    ///
    /// Why not.
    pub async fn probe(&self) -> Result<String, ScriptError> {
        let mut connection = self.connect(connection::ANSWER_TIMEOUT).await?;
        self.open(&mut connection).await?;
        self.peers.renew(self, &mut connection).await?;
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
        let connection = self.reach(answer_within).await?;
        let facts = connection.facts();
        let mut server = self.server.lock();
        if *server != facts.run_id {
            server.clone_from(&facts.run_id);
        }
        drop(server);
        let mut advised = self.advised.lock();
        // One that is loading is looked at by the first connection after that: no script runs before, and so no
        // connection to it lasts.
        if *advised != facts.run_id && !facts.is_loading {
            advised.clone_from(&facts.run_id);
            for advice in facts.advice(self.config.retention.bytes) {
                tracing::warn!("{advice}");
            }
        }
        drop(advised);
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

    async fn reach(&self, answer_within: Duration) -> Result<Connection, ScriptError> {
        #[cfg(test)]
        if let Some(connection) = self.stand_in.lock().clone() {
            return Ok(connection);
        }
        Connection::open(&self.endpoint, &self.keys.log, answer_within).await
    }

    /// Whether a connection to this server (its `run_id`) leads to another than the newest one does: the log
    /// has moved (a failover), and a primary that was replaced in good order keeps its connections for a while.
    pub(in crate::log) fn has_moved(&self, server: &str) -> bool {
        *self.server.lock() != server
    }

    /// Finds the log's extent, and ends an epoch whose entries may not all be there: see `lua/open.lua`.
    async fn open(&self, connection: &mut Connection) -> Result<(Extent, Counters), ScriptError> {
        // As it is now: the tail may go on meanwhile.
        let seen = self.seen.lock().clone();
        let (wanted, extent) = self.ask_to_open(connection, seen.as_ref(), String::new()).await?;
        let (Some(seen), false) = (seen, wanted.is_empty()) else { return Ok(extent) };
        let start = match wanted.as_str() {
            "all" => seen.from().max(extent.0.floor),
            // What lies before the floor is gone, and a node that came later remembers none of it.
            mark => mark.parse::<Id>().map_err(|_| ScriptError::Unexpected)?.max(extent.0.floor),
        };
        let there = self.entries_between(connection, start, seen.at().id, extent.0.lineage.epoch).await?;
        let proven = seen.agree(start, &there, extent.0.floor, extent.0.deleted, extent.0.end);
        let (wanted, extent) = self.ask_to_open(connection, Some(&seen), proven.to_string()).await?;
        if wanted.is_empty() { Ok(extent) } else { Err(ScriptError::Unexpected) }
    }

    async fn ask_to_open(
        &self,
        connection: &mut Connection,
        seen: Option<&Seen>,
        proven: String,
    ) -> Result<(String, (Extent, Counters)), ScriptError> {
        let text = |text: Option<String>| text.unwrap_or_default();
        let args = [
            connection.candidate(),
            text(seen.map(|seen| seen.epoch().to_string())),
            match seen.filter(|seen| seen.is_refuted()) {
                Some(_) => "refuted".to_owned(),
                None => text(seen.and_then(|seen| seen.at().added).map(|added| added.to_string())),
            },
            text(seen.map(|seen| seen.last().to_string())),
            proven,
        ];
        let reply = connection.run(&connection::OPEN, &[&self.keys.log], &args).await?;
        let Some([wanted, extent]) = entry::array(&reply) else { return Err(ScriptError::Unexpected) };
        let wanted = text_of(wanted).ok_or(ScriptError::Unexpected)?.to_owned();
        Ok((wanted, entry::extent(extent).ok_or(ScriptError::Unexpected)?))
    }

    /// What the log holds behind a position and up to another, as far as it is worth comparing.
    async fn entries_between(
        &self,
        connection: &mut Connection,
        mut after: Id,
        upto: Id,
        epoch: Epoch,
    ) -> Result<Vec<Read>, ScriptError> {
        let mut found = Vec::new();
        while after < upto && found.len() <= seen::ENTRIES {
            let reply = connection.range(&self.keys.log, after, upto, RANGE).await?;
            let entries = entry::entries(&reply).ok_or(ScriptError::Unexpected)?;
            let Some(last) = entries.last().map(|entry| entry.id) else { break };
            let is_full = entries.len() >= RANGE;
            let message = |entry: &entry::Entry<'_>| entry.message(epoch, self.config.max_payload).ok().map(Arc::new);
            found.extend(entries.iter().map(|entry| (entry.id, message(entry))));
            if !is_full {
                break;
            }
            after = last;
        }
        Ok(found)
    }

    /// Notes the position up to which the log is marked.
    fn note_mark(&self, mark: Cursor) {
        *self.mark.lock() = Some(mark);
    }

    /// The position that the mark is to be moved to, and its number, if the tail has read beyond it.
    fn unmarked(&self) -> Option<(Cursor, u64)> {
        let (at, added) = {
            let seen = self.seen.lock();
            let seen = seen.as_ref()?;
            (Cursor { id: seen.at().id, epoch: seen.epoch() }, seen.at().added?)
        };
        let is_marked = self.mark.lock().is_some_and(|mark| mark.epoch == at.epoch && mark.id >= at.id);
        (!is_marked).then_some((at, added))
    }

    /// The connection for ranges and volatile messages, about to be asked something.
    async fn reader(&self) -> Result<MutexGuard<'_, Reader>, ScriptError> {
        let mut reader = self.reader.lock().await;
        let is_silent = reader.asked.is_some_and(|asked| asked.elapsed() > connection::ANSWER_TIMEOUT);
        if is_silent || reader.connection.as_ref().is_some_and(|connection| self.has_moved(connection.server().1)) {
            *reader = Reader::default();
        }
        if reader.connection.is_none() {
            let mut connection = self.connect(connection::ANSWER_TIMEOUT).await?;
            // Before anything is read: what another reign has written must get no cursor of the epoch before.
            self.open(&mut connection).await?;
            reader.connection = Some(connection);
        }
        reader.asked.get_or_insert_with(Instant::now);
        Ok(reader)
    }

    async fn read_page(&self, after: Cursor, limit: usize) -> Result<Page, ScriptError> {
        let mut reader = self.reader().await?;
        let connection = reader.connection.as_mut().ok_or(ScriptError::Unexpected)?;
        let args = [connection.candidate(), after.id.to_string(), limit.to_string()];
        let reply = connection.run(&connection::READ, &[&self.keys.log], &args).await;
        reader.has_answered(reply.is_ok());
        drop(reader);
        let reply = reply.inspect_err(|_| self.metrics.lost("read"))?;
        let [extent, entries] = entry::array(&reply).ok_or(ScriptError::Unexpected)? else {
            return Err(ScriptError::Unexpected);
        };
        let (mut extent, _) = entry::extent(extent).ok_or(ScriptError::Unexpected)?;
        self.clock.set(extent.now_ms);
        let end = match extent.resolve(after) {
            Resolved::Gap(id) if id != after.id => return Ok(Page { extent, messages: Vec::new(), upto: id }),
            Resolved::Until(end) => end,
            Resolved::Gap(_) | Resolved::At(_) => extent.end,
        };
        let mut entries = entry::entries(entries).ok_or(ScriptError::Unexpected)?;
        // A page that is not full reaches the end, also where the last entries were deleted.
        entries.retain(|entry| entry.id <= end);
        let is_full = entries.len() >= limit;
        let last = entries.last().map_or(after.id, |entry| entry.id);
        let taken = self.take(entries, extent.lineage.epoch);
        if let Some(hole) = taken.hole {
            // To this node the log begins behind what it cannot read.
            extent.floor = extent.floor.max(hole);
            extent.deleted = extent.deleted.max(hole);
            return Ok(Page { extent, messages: Vec::new(), upto: hole });
        }
        let upto = match taken.upto {
            Some(upto) if taken.is_cut => upto,
            _ if is_full => last,
            _ => end.max(last),
        };
        let messages = taken.read.into_iter().filter_map(|(_, message)| message).collect();
        Ok(Page { extent, messages, upto })
    }

    /// Entries in a row as this node reads them. Those that are no messages are counted and logged.
    fn take(&self, entries: Vec<entry::Entry<'_>>, epoch: Epoch) -> format::Taken {
        format::Taken::from(entries, epoch, self.config.max_payload, (&self.skipped, &self.unreadable))
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

    fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }
}
