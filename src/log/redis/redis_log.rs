//! The state of a log in Redis: its connections, and the knowledge that its parts share.

use super::control_entries::ControlEntries;
use super::decode::Unreadable;
use super::entry::Skipped;
use super::format_gate::FormatGate;
use super::local_append::LocalAppends;
use super::peers::Peers;
use super::queue::{Jobs, Queue};
use super::range_connection::RangeConnection;
use super::read_history::{Read, ReadHistory};
use super::verify::Position;
use super::{Connection, Endpoint, Keys, RedisConfig, ScriptError, format};
use crate::cursor::{Cursor, Epoch, Id};
use crate::log::Retention;
use crate::log::clock::LogClock;
use crate::log::metrics::LogMetrics;
use crate::message::{Draft, Message};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::broadcast;

/// The maximum number of volatile messages that wait for the tail. Beyond this limit the oldest are dropped: volatile
/// messages may get lost.
const VOLATILE_WAITING: usize = 1024;

/// A [`MessageLog`] in Redis.
pub struct RedisLog {
    /// A handle to the log itself, for futures that outlive their caller.
    pub(super) this: Weak<RedisLog>,
    pub(super) endpoint: Endpoint,
    pub(super) keys: Keys,
    pub(super) config: RedisConfig,
    /// The entries that the tail has read recently. If the log no longer holds these entries, the log has lost its end.
    pub(super) seen: Mutex<Option<ReadHistory>>,
    /// The log's mark, as the tail read it last.
    pub(super) mark: Mutex<Option<Cursor>>,
    pub(super) clock: LogClock,
    pub(super) queue: Queue,
    pub(super) local_appends: LocalAppends,
    /// Only futures that run [in a task of their own](in_own_task) lock it. Otherwise all callers that wait for the
    /// lock would also wait for the client of one caller.
    pub(super) ranges: tokio::sync::Mutex<RangeConnection>,
    pub(super) volatile: broadcast::Sender<Arc<Message>>,
    /// The error of the last volatile message, as it was logged.
    pub(super) volatile_error: Mutex<Option<String>>,
    pub(super) skipped: Skipped,
    pub(super) unreadable: Unreadable,
    pub(super) control_entries: ControlEntries,
    pub(super) peers: Arc<Peers>,
    pub(super) format_gate: FormatGate,
    /// The `run_id` of the process that the newest connection leads to. All other connections then move to the same
    /// server.
    pub(super) server: Mutex<String>,
    /// The number of times that the tail has seen the end of its connection.
    pub(super) tail_breaks: AtomicU64,
    /// The `run_id` of the process whose settings were checked most recently.
    pub(super) advised: Mutex<String>,
    pub(super) metrics: LogMetrics,
    /// The connection that a test uses instead of the endpoint.
    #[cfg(test)]
    pub(super) stand_in: Mutex<Option<Connection>>,
}

impl RedisLog {
    /// A log at an endpoint, and the drafts for an appender. The log connects when it is first used.
    pub(super) fn without_appender(endpoint: Endpoint, config: RedisConfig) -> (Arc<RedisLog>, Jobs) {
        let keys = Keys::new(&config.prefix);
        let timeout = config.timeout;
        let (queue, jobs) = Queue::new(timeout);
        let metrics = LogMetrics::default();
        metrics.format.set(i64::from(format::LOWEST));
        let log = Arc::new_cyclic(|this| RedisLog {
            this: this.clone(),
            queue,
            local_appends: LocalAppends::default(),
            endpoint,
            keys,
            peers: Arc::new(Peers::new(&config, metrics.format.clone())),
            format_gate: FormatGate::default(),
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
            unreadable: Unreadable::new(metrics.unreadable.clone()),
            control_entries: ControlEntries::default(),
            metrics,
            #[cfg(test)]
            stand_in: Mutex::default(),
        });
        (log, jobs)
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
    pub(super) fn tail_breaks(&self) -> u64 {
        self.tail_breaks.load(Ordering::Acquire)
    }

    /// The retention of the stream at this moment.
    pub(super) fn retention(&self) -> Retention {
        self.control_entries.retention(self.config.retention, self.clock.now_ms())
    }

    /// Records that the tail's connection gave an error. If Redis only does not answer in time, it may still read from
    /// the other connections.
    pub(super) fn note_tail_error(&self, error: &ScriptError) {
        if !error.is_timeout() {
            self.tail_breaks.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Records the position up to which the log is marked.
    pub(super) fn note_mark(&self, mark: Cursor) {
        *self.mark.lock() = Some(mark);
    }

    /// The position to which the mark has to be moved, and the count of entries up to it; `None` if the tail has not
    /// read beyond the mark.
    pub(super) fn unmarked(&self) -> Option<(Cursor, u64)> {
        let (at, added) = {
            let seen = self.seen.lock();
            let seen = seen.as_ref()?;
            (Cursor { id: seen.at().id, epoch: seen.epoch() }, seen.at().added?)
        };
        let is_marked = self.mark.lock().is_some_and(|mark| mark.epoch == at.epoch && mark.id >= at.id);
        (!is_marked).then_some((at, added))
    }

    /// Continues the history of the entries that were read, or begins a new history if the tail is at another position.
    pub(super) fn begin_history(&self, at: Cursor, added: Option<u64>) {
        let mut seen = self.seen.lock();
        let stays = seen.as_ref().is_some_and(|seen| seen.epoch() == at.epoch && seen.at().id == at.id);
        if !stays {
            *seen = Some(ReadHistory::new(at, added));
        }
    }

    pub(super) fn note_read(&self, epoch: Epoch, after: Id, read: &[Read], to: Position) {
        if let Some(seen) = self.seen.lock().as_mut().filter(|seen| seen.epoch() == epoch) {
            seen.go_on(after, read.iter().cloned(), to);
        }
    }
}
