//! The state of the tail: its connection, and the position up to which it has read.

use crate::cursor::{Cursor, Epoch, Id};
use crate::log::redis::connection::TailRead;
use crate::log::redis::local_append::AppendedRun;
use crate::log::redis::read_history::Read;
use crate::log::redis::verify::Position;
use crate::log::redis::{Connection, RedisLog, ScriptError};
use crate::log::{BoxFuture, Lineage, TailEvent};
use crate::message::Message;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, Sleep};
use tracing::info;

/// The maximum number of entries that are read at a time.
pub(super) const COUNT: usize = 512;

/// The maximum time for which an `XREAD` blocks. The node notices the loss of a log after this time at the latest.
pub(super) const BLOCK: Duration = Duration::from_millis(1000);

/// While this node's appends follow one another, each of them also checks the log for the tail, and an `XREAD` would
/// only repeat the check. After this time without an append, the tail itself reads again. So an entry of another
/// publisher may be delayed by this time.
pub(super) const QUIET: Duration = Duration::from_millis(1);

pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 50 });
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A read that is under way. It owns the connection, so that the tail can emit events at the same time.
pub(super) type Reading = BoxFuture<'static, (Connection, Result<TailRead, ScriptError>)>;

pub(super) enum TailState {
    /// There is no connection, or the log has to be opened again.
    Closed,
    /// There is a connection, but no read is under way.
    Idle(Connection),
    /// An `XREAD` is under way.
    Reading(Reading),
    /// This node appends, and the tail follows its appends without reading.
    Following { connection: Connection, last: Instant, quiet: Pin<Box<Sleep>> },
}

pub(in crate::log::redis) struct Tail {
    pub(super) log: Arc<RedisLog>,
    pub(super) state: TailState,
    /// The time for which a read waits for entries; `None` in a test in which a read must not wait.
    pub(super) block: Option<Duration>,
    /// The next events.
    pub(super) events: VecDeque<TailEvent>,
    /// The position up to which the tail has read all entries, and its epoch.
    pub(super) at: Option<(Epoch, Position)>,
    pub(super) past: VecDeque<(Epoch, Position)>,
    /// The log's epochs at the time when the log was opened.
    pub(super) lineage: Option<Lineage>,
    pub(super) end: Id,
    pub(super) caught_up: bool,
    /// Whether this node has appended entries since the last read began.
    pub(super) has_own: bool,
    pub(super) is_lost: bool,
    /// Whether a read did not return in time. If so, and until the tail has caught up, it reads only as many bytes at a
    /// time as a slow path can carry in time. Such a read costs Redis more, so it is not the usual one.
    pub(super) is_slow: bool,
    pub(super) pause: Duration,
    /// The error of the last attempt to reach the log, as it was logged.
    pub(super) reported: String,
    /// The error of the last read on a working connection, as it was logged.
    pub(super) unread: Option<String>,
}

impl Tail {
    pub(in crate::log::redis) fn new(log: Arc<RedisLog>) -> Tail {
        Tail {
            log,
            block: Some(BLOCK),
            state: TailState::Closed,
            events: VecDeque::new(),
            at: None,
            past: VecDeque::new(),
            lineage: None,
            end: Id::ZERO,
            caught_up: false,
            has_own: false,
            is_lost: false,
            is_slow: false,
            pause: FIRST_PAUSE,
            reported: String::new(),
            unread: None,
        }
    }

    pub(super) fn has_moved(&self, connection: &Connection) -> bool {
        let has_moved = self.log.has_moved(connection.server().1);
        if has_moved {
            info!("the log has moved to another server");
        }
        has_moved
    }

    /// Goes on with this node's own appends, if the next append continues at this position.
    pub(super) fn take_own(&mut self, own: Option<AppendedRun>) -> bool {
        let Some((epoch, at)) = self.at else { return false };
        let Some((messages, upto)) = own.and_then(|own| own.beyond(Cursor { id: at.id, epoch })) else { return false };
        let read: Vec<Read> =
            messages.into_iter().filter_map(|message| Some((message.cursor()?.id, Some(message)))).collect();
        let added = at.added.map(|added| added + read.len() as u64);
        self.go_on(at.id, read, Position { id: upto, added });
        true
    }

    /// Goes on after a hole: the entries up to a position were deleted, or this node cannot read them.
    pub(super) fn go_on_behind(&mut self, hole: Option<Id>, at: Id, mut read: Vec<Read>, to: Position) {
        let after = hole.map_or(at, |hole| hole.max(at));
        read.retain(|(id, _)| *id > after);
        self.go_on(after, read, to);
    }

    /// Goes on to a position, unless the tail is already past it.
    pub(super) fn go_on(&mut self, after: Id, read: Vec<Read>, to: Position) {
        let Some((epoch, at)) = &mut self.at else { return };
        if to.id < at.id {
            return;
        }
        let (epoch, is_news) = (*epoch, to.id > at.id);
        *at = to;
        self.log.note_read(epoch, after, &read, to);
        self.log.control_entries.note(&read, &self.log.config.retention);
        if is_news {
            let age_ms = self.log.clock.now_ms().saturating_sub(to.id.ms);
            self.log.metrics.lag.set(age_ms as f64 / 1000.0);
            let messages: Vec<Arc<Message>> = read.into_iter().filter_map(|(_, message)| message).collect();
            self.events.push_back(TailEvent::Entries { after, messages, upto: to.id });
        }
    }
}
