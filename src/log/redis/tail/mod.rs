//! The node's tail: one blocking `XREAD` after the other, each followed by a check of the log's identity. The tail gets
//! the node's own appends earlier (see [`local_append`](super::local_append)).

mod open;
mod read;

use super::connection::TailRead;
use super::local_append::AppendedRun;
use super::read_history::Read;
use super::verify::Position;
use super::{Connection, RedisLog, ScriptError};
use crate::cursor::{Cursor, Epoch, Id};
use crate::log::{BoxFuture, Lineage, TailEvent};
use crate::message::Message;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, Sleep};
use tokio_stream::Stream;
use tracing::info;

/// The maximum number of entries that are read at a time.
const COUNT: usize = 512;

/// The approximate number of bytes that are read at a time on a slow path.
const SLOW_BYTES: usize = 1 << 20;

/// The maximum time for which an `XREAD` blocks. The node notices the loss of a log after this time at the latest.
const BLOCK: Duration = Duration::from_millis(1000);

/// If a blocking `XREAD` has not returned after its own time and this additional time, the node treats Redis as
/// unreachable.
const GRACE: Duration = Duration::from_secs(2);

/// While this node's appends follow one another, each of them also checks the log for the tail, and an `XREAD` would
/// only repeat the check. After this time without an append, the tail itself reads again. So an entry of another
/// publisher may be delayed by this time.
const QUIET: Duration = Duration::from_millis(1);

const FIRST_PAUSE: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 50 });
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The number of earlier epochs in which this node remembers its position: a log may be moved away and put back.
const PAST: usize = 64;

pub(super) fn tail(log: Arc<RedisLog>) -> impl Stream<Item = TailEvent> + Send {
    let mut volatile = log.volatile.subscribe();
    let mut tail = Tail::new(log);
    let entries = async_stream::stream! {
        loop {
            yield tail.next().await;
        }
    };
    async_stream::stream! {
        tokio::pin!(entries);
        loop {
            tokio::select! {
                event = futures_util::future::poll_fn(|cx| entries.as_mut().poll_next(cx)) => match event {
                    Some(event) => yield event,
                    None => return,
                },
                message = volatile.recv() => match message {
                    Ok(message) => yield TailEvent::Volatile(message),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                },
            }
        }
    }
}

/// A read that is under way. It owns the connection, so that the tail can emit events at the same time.
type Reading = BoxFuture<'static, (Connection, Result<TailRead, ScriptError>)>;

enum TailState {
    /// There is no connection, or the log has to be opened again.
    Closed,
    /// There is a connection, but no read is under way.
    Idle(Connection),
    /// An `XREAD` is under way.
    Reading(Reading),
    /// This node appends, and the tail follows its appends without reading.
    Following { connection: Connection, last: Instant, quiet: Pin<Box<Sleep>> },
}

pub(super) struct Tail {
    log: Arc<RedisLog>,
    state: TailState,
    /// The time for which a read waits for entries; `None` in a test in which a read must not wait.
    block: Option<Duration>,
    /// The next events.
    events: VecDeque<TailEvent>,
    /// The position up to which the tail has read all entries, and its epoch.
    at: Option<(Epoch, Position)>,
    past: VecDeque<(Epoch, Position)>,
    /// The log's epochs at the time when the log was opened.
    lineage: Option<Lineage>,
    end: Id,
    caught_up: bool,
    /// Whether this node has appended entries since the last read began.
    has_own: bool,
    is_lost: bool,
    /// Whether a read did not return in time. If so, and until the tail has caught up, it reads only as many bytes at a
    /// time as a slow path can carry in time. Such a read costs Redis more, so it is not the usual one.
    is_slow: bool,
    pause: Duration,
    /// The error of the last attempt to reach the log, as it was logged.
    reported: String,
    /// The error of the last read on a working connection, as it was logged.
    unread: Option<String>,
}

impl Tail {
    pub(super) fn new(log: Arc<RedisLog>) -> Tail {
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

    async fn next(&mut self) -> TailEvent {
        loop {
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            self.advance().await;
        }
    }

    async fn advance(&mut self) {
        self.state = match std::mem::replace(&mut self.state, TailState::Closed) {
            TailState::Closed => self.open().await,
            TailState::Idle(connection) => self.begin_reading(connection),
            TailState::Reading(reading) => self.wait(reading).await,
            TailState::Following { connection, last, quiet } => self.follow(connection, last, quiet).await,
        };
    }

    fn begin_reading(&mut self, mut connection: Connection) -> TailState {
        let Some((_, at)) = self.at else { return TailState::Closed };
        if self.has_moved(&connection) {
            return TailState::Closed;
        }
        self.has_own = false;
        // The entry at the end of the log may have been deleted: a read that waits for it would wait forever.
        let block = self.block.filter(|_| self.caught_up);
        let key = self.log.keys.log.clone();
        let limits = self.is_slow.then(|| self.log.reply_limits(SLOW_BYTES));
        TailState::Reading(Box::pin(async move {
            let read = match limits {
                Some(limits) => connection.read_bounded_and_identify(&key, at.id, COUNT, limits).await,
                None => connection.read_and_identify(&key, at.id, COUNT, block).await,
            };
            (connection, read)
        }))
    }

    fn has_moved(&self, connection: &Connection) -> bool {
        let has_moved = self.log.has_moved(connection.server().1);
        if has_moved {
            info!("the log has moved to another server");
        }
        has_moved
    }

    async fn wait(&mut self, mut reading: Reading) -> TailState {
        tokio::select! {
            biased;
            own = self.log.local_appends.next() => {
                self.has_own |= self.take_own(own);
                TailState::Reading(reading)
            }
            (connection, read) = &mut reading => self.take(connection, read).await,
        }
    }

    /// Follows this node's appends until the node stops appending or another publisher appends.
    async fn follow(&mut self, connection: Connection, mut last: Instant, mut quiet: Pin<Box<Sleep>>) -> TailState {
        tokio::select! {
            biased;
            own = self.log.local_appends.next() => {
                if !self.take_own(own) {
                    return TailState::Idle(connection);
                }
                last = Instant::now();
            }
            // Appends do not reset this timer: a reset for each append would cost more than one more check here.
            () = &mut quiet => {
                if last.elapsed() >= QUIET {
                    return TailState::Idle(connection);
                }
                quiet.as_mut().reset(last + QUIET);
            }
        }
        if self.log.has_moved(connection.server().1) {
            return TailState::Closed;
        }
        TailState::Following { connection, last, quiet }
    }

    /// Goes on with this node's own appends, if the next append continues at this position.
    fn take_own(&mut self, own: Option<AppendedRun>) -> bool {
        let Some((epoch, at)) = self.at else { return false };
        let Some((messages, upto)) = own.and_then(|own| own.beyond(Cursor { id: at.id, epoch })) else { return false };
        let read: Vec<Read> =
            messages.into_iter().filter_map(|message| Some((message.cursor()?.id, Some(message)))).collect();
        let added = at.added.map(|added| added + read.len() as u64);
        self.go_on(at.id, read, Position { id: upto, added });
        true
    }

    /// Goes on after a hole: the entries up to a position were deleted, or this node cannot read them.
    fn go_on_behind(&mut self, hole: Option<Id>, at: Id, mut read: Vec<Read>, to: Position) {
        let after = hole.map_or(at, |hole| hole.max(at));
        read.retain(|(id, _)| *id > after);
        self.go_on(after, read, to);
    }

    /// Goes on to a position, unless the tail is already past it.
    fn go_on(&mut self, after: Id, read: Vec<Read>, to: Position) {
        let Some((epoch, at)) = &mut self.at else { return };
        if to.id < at.id {
            return;
        }
        let (epoch, is_news) = (*epoch, to.id > at.id);
        *at = to;
        self.log.note_read(epoch, after, &read, to);
        if is_news {
            let age_ms = self.log.clock.now_ms().saturating_sub(to.id.ms);
            self.log.metrics.lag.set(age_ms as f64 / 1000.0);
            let messages: Vec<Arc<Message>> = read.into_iter().filter_map(|(_, message)| message).collect();
            self.events.push_back(TailEvent::Entries { after, messages, upto: to.id });
        }
    }
}

#[cfg(test)]
impl Tail {
    /// Opens the log, or reads the present entries without waiting for more.
    pub(super) async fn step(&mut self) -> Vec<TailEvent> {
        self.block = None;
        loop {
            self.advance().await;
            if matches!(self.state, TailState::Closed | TailState::Idle(_)) {
                return self.events.drain(..).collect();
            }
        }
    }

    pub(super) fn is_open(&self) -> bool {
        !matches!(self.state, TailState::Closed)
    }

    /// Its connection breaks.
    pub(super) fn close(&mut self) {
        self.state = TailState::Closed;
    }
}
