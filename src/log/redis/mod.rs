//! The log in Redis: one stream, `P:log`.
//!
//! There are three connections: the [`tail`] blocks on the first, [`append`] uses the second, and [`ranges`] are read
//! on the third. Counts and the [`call_stream`] have connections of their own. All other keys of the log have names of
//! the form `{P:log}:…`, so they are in the same Cluster slot as the stream. Each script in `lua/` makes its changes in
//! one step.

mod abort_on_drop;
mod append;
mod call_stream;
mod config;
mod connection;
mod control_entries;
mod decode;
mod endpoint;
mod entry;
mod entry_fields;
mod error;
mod format;
mod format_gate;
mod functions;
#[cfg(fuzzing)]
pub mod fuzzing;
#[cfg(test)]
pub(crate) mod histories;
mod local_append;
mod opening;
mod peers;
mod presence;
mod queue;
mod ranges;
mod read_history;
mod seal_keys;
mod server_info;
mod sessions;
mod settings;
mod subscriber_counts;
mod tail;
mod verify;

pub use call_stream::{CallStream, StreamCall, Unanswered};
pub use config::{Keys, RedisConfig};
pub(in crate::log) use connection::BRIDGE;
pub use connection::Connection;
pub use endpoint::{BadUrl, Endpoint};
pub(in crate::log) use entry::text;
pub(in crate::log) use entry_fields::{draft_fields, volatile_from_json};
pub use error::ScriptError;
pub use presence::RedisPresence;
pub use seal_keys::RedisSealKeys;
pub use sessions::RedisSessions;
pub use subscriber_counts::RedisSubscriberCounts;

use super::clock::LogClock;
use super::metrics::LogMetrics;
use super::queued::Queued;
use super::{AppendError, BoxFuture, MessageLog, Page, Retention, TailEvent, Unreachable};
use crate::cursor::Cursor;
use crate::message::{Draft, Message};
use abort_on_drop::in_own_task;
use entry::Skipped;
use parking_lot::Mutex;
use read_history::ReadHistory;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio_stream::Stream;

/// The maximum number of volatile messages that wait for the tail. Beyond this limit the oldest are dropped: volatile
/// messages may get lost.
const VOLATILE_WAITING: usize = 1024;

/// A [`MessageLog`] in Redis.
pub struct RedisLog {
    /// A handle to the log itself, for futures that outlive their caller.
    this: Weak<RedisLog>,
    endpoint: Endpoint,
    keys: Keys,
    config: RedisConfig,
    /// The entries that the tail has read recently. If the log no longer holds these entries, the log has lost its end.
    seen: Mutex<Option<ReadHistory>>,
    /// The log's mark, as the tail read it last.
    mark: Mutex<Option<Cursor>>,
    clock: LogClock,
    queue: queue::Queue,
    local_appends: local_append::LocalAppends,
    /// Only futures that run [in a task of their own](in_own_task) lock it. Otherwise all callers that wait for the
    /// lock would also wait for the client of one caller.
    ranges: tokio::sync::Mutex<ranges::RangeConnection>,
    volatile: broadcast::Sender<Arc<Message>>,
    /// The error of the last volatile message, as it was logged.
    volatile_error: Mutex<Option<String>>,
    skipped: Skipped,
    unreadable: decode::Unreadable,
    control_entries: control_entries::ControlEntries,
    peers: peers::Peers,
    format_gate: format_gate::FormatGate,
    /// The `run_id` of the process that the newest connection leads to. All other connections then move to the same
    /// server.
    server: Mutex<String>,
    /// The number of times that the tail has seen the end of its connection.
    tail_breaks: AtomicU64,
    /// The `run_id` of the process whose settings were checked most recently.
    advised: Mutex<String>,
    metrics: LogMetrics,
    /// The connection that a test uses instead of the endpoint.
    #[cfg(test)]
    stand_in: Mutex<Option<Connection>>,
}

impl RedisLog {
    /// A log at an endpoint, and the task of its appender. The log connects when it is first used. The task ends with
    /// the log. The server must watch the task: if the task ends before the log, appends fail.
    pub fn new(endpoint: Endpoint, config: RedisConfig) -> (Arc<RedisLog>, JoinHandle<()>) {
        let (log, jobs) = RedisLog::without_appender(endpoint, config);
        let appender = tokio::spawn(append::run(Arc::downgrade(&log), jobs));
        (log, appender)
    }

    fn without_appender(endpoint: Endpoint, config: RedisConfig) -> (Arc<RedisLog>, queue::Jobs) {
        let keys = Keys::new(&config.prefix);
        let timeout = config.timeout;
        let (queue, jobs) = queue::Queue::new(timeout);
        let metrics = LogMetrics::default();
        metrics.format.set(i64::from(format::LOWEST));
        let log = Arc::new_cyclic(|this| RedisLog {
            this: this.clone(),
            queue,
            local_appends: local_append::LocalAppends::default(),
            endpoint,
            keys,
            peers: peers::Peers::new(&config),
            format_gate: format_gate::FormatGate::default(),
            config,
            seen: Mutex::new(None),
            mark: Mutex::new(None),
            clock: LogClock::here(),
            ranges: tokio::sync::Mutex::default(),
            volatile: broadcast::channel(VOLATILE_WAITING).0,
            volatile_error: Mutex::default(),
            server: Mutex::new(String::new()),
            tail_breaks: AtomicU64::new(0),
            advised: Mutex::new(String::new()),
            skipped: Skipped::new(metrics.skipped.clone()),
            unreadable: decode::Unreadable::new(metrics.unreadable.clone()),
            control_entries: control_entries::ControlEntries::default(),
            metrics,
            #[cfg(test)]
            stand_in: Mutex::default(),
        });
        (log, jobs)
    }

    /// Connects once, to check at the start that the log can be reached. Returns the address of the log's server.
    ///
    /// # Errors
    ///
    /// The reason why the log cannot be reached.
    pub async fn probe(&self) -> Result<String, ScriptError> {
        let mut connection = self.connect(connection::ANSWER_TIMEOUT).await?;
        self.open(&mut connection).await?;
        self.peers.renew(self, &mut connection).await?;
        Ok(connection.info().address.clone())
    }

    /// The names of the log's keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The settings of the log.
    pub fn config(&self) -> &RedisConfig {
        &self.config
    }

    /// The log's metrics.
    pub fn metrics(&self) -> &LogMetrics {
        &self.metrics
    }

    /// Passes a volatile message that came from Redis to the tail.
    pub(in crate::log) fn deliver_volatile(&self, message: Message) {
        // Without a tail there are no readers, so a message without a receiver is not an error.
        let _ = self.volatile.send(Arc::new(message));
    }

    /// Opens a connection to the log. Each answer may take up to `answer_within`.
    pub(in crate::log) async fn connect(&self, answer_within: Duration) -> Result<Connection, ScriptError> {
        let connection = self.reach(answer_within).await?;
        let info = connection.info();
        if info.is_loading {
            // Redis does not run scripts yet. A connection that outlasted the loading would keep outdated answers about
            // the server.
            return Err(ScriptError::NoPrimary("Redis is loading its data".into()));
        }
        let mut server = self.server.lock();
        if *server != info.run_id {
            server.clone_from(&info.run_id);
        }
        drop(server);
        let mut advised = self.advised.lock();
        if *advised != info.run_id {
            advised.clone_from(&info.run_id);
            for advice in info.advice(self.config.retention.bytes) {
                tracing::warn!("{advice}");
            }
        }
        drop(advised);
        Ok(connection)
    }

    /// Opens a connection to one server of a Cluster, which does not have to own the log's slot.
    pub(in crate::log) async fn connect_to(
        &self,
        address: &str,
        answer_within: Duration,
    ) -> Result<Connection, ScriptError> {
        Connection::open_at(&self.endpoint, address, answer_within).await
    }

    /// Appends drafts that are not volatile. Drafts in a format that not every node reads wait before they are queued,
    /// so they do not delay other drafts.
    async fn append_durable(&self, drafts: Vec<Draft>, queued: &Queued) -> Result<Vec<Cursor>, AppendError> {
        let format = drafts.iter().map(format::needed_by).max().unwrap_or(format::LOWEST);
        let deadlines = self.queue.deadlines();
        if format == format::LOWEST || self.format_gate.is_open(&self.peers, format) {
            return self.queue.append(drafts, deadlines, queued).await;
        }
        let admission = self.format_gate.pass(self.this.clone(), format, deadlines.withdraw_at);
        self.queue.append_after(admission, drafts, self.queue.after_a_wait(deadlines), queued).await
    }

    /// Whether an entry of this draft may be written, as far as this node knows the other nodes. A PUBLISH cannot wait
    /// until this node knows all of them for certain: the PUBLISHes behind it would wait, too.
    pub(in crate::log) fn may_write(&self, draft: &Draft) -> bool {
        let format = format::needed_by(draft);
        format == format::LOWEST || format <= self.peers.known_format()
    }

    async fn reach(&self, answer_within: Duration) -> Result<Connection, ScriptError> {
        #[cfg(test)]
        if let Some(connection) = self.stand_in.lock().clone() {
            return Ok(connection);
        }
        Connection::open(&self.endpoint, &self.keys.log, answer_within).await
    }

    /// Whether a connection to this server (by its `run_id`) is outdated, because the newest connection leads to
    /// another server. The log has then moved (a failover), and a primary that was replaced in an orderly way keeps its
    /// connections for a while.
    pub(in crate::log) fn has_moved(&self, server: &str) -> bool {
        *self.server.lock() != server
    }

    /// Returns how many connections of the tail have ended. Another connection that is older than the last of these
    /// ends has probably ended too. A command on it may not reach Redis, so such a connection is not used for new
    /// commands.
    fn tail_breaks(&self) -> u64 {
        self.tail_breaks.load(Ordering::Acquire)
    }

    /// The retention of the stream at this moment.
    fn retention(&self) -> Retention {
        self.control_entries.retention(self.config.retention, self.clock.now_ms())
    }

    /// Records that the tail's connection gave an error. If Redis only does not answer in time, it may still read from
    /// the other connections.
    fn note_tail_error(&self, error: &ScriptError) {
        if !error.is_timeout() {
            self.tail_breaks.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Records the position up to which the log is marked.
    fn note_mark(&self, mark: Cursor) {
        *self.mark.lock() = Some(mark);
    }

    /// The position to which the mark has to be moved, and the count of entries up to it; `None` if the tail has not
    /// read beyond the mark.
    fn unmarked(&self) -> Option<(Cursor, u64)> {
        let (at, added) = {
            let seen = self.seen.lock();
            let seen = seen.as_ref()?;
            (Cursor { id: seen.at().id, epoch: seen.epoch() }, seen.at().added?)
        };
        let is_marked = self.mark.lock().is_some_and(|mark| mark.epoch == at.epoch && mark.id >= at.id);
        (!is_marked).then_some((at, added))
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
