//! The node's tail: one blocking `XREAD`, and the log's identity behind each; and what the node has appended
//! itself, which comes sooner (see [`own`](super::own)).

use super::entry::{Counters, Identity};
use super::format::Taken;
use super::own::Stretch;
use super::seen::{Read, Seen};
use super::verify::{Position, Verdict, judge};
use super::{Connection, RedisLog, ScriptError, connection, entry};
use crate::cursor::{Cursor, Epoch, Id};
use crate::log::{BoxFuture, Descent, Extent, Lineage, Resolved, TailEvent};
use crate::message::Message;
use redis::Value;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, Sleep};
use tokio_stream::Stream;
use tracing::{info, warn};

/// Entries read at a time.
const COUNT: usize = 512;

/// How long an `XREAD` blocks: a log that was lost is noticed after this time at the latest.
const BLOCK: Duration = Duration::from_millis(1000);

/// How long Redis may take beyond that before it is taken for gone.
const GRACE: Duration = Duration::from_secs(2);

/// While this node's appends follow one another, each looks at the log for the tail, and an `XREAD` would only
/// repeat that. This long after the last one the tail reads again itself, so that is by how much an
/// entry of somebody else may come later.
const QUIET: Duration = Duration::from_millis(1);

const FIRST_PAUSE: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 50 });
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Earlier epochs in which this node remembers where it stood: a log may be moved away and put back.
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

/// A read under way. It has the connection, so that events may be told meanwhile.
type Reading = BoxFuture<'static, (Connection, Result<[Value; 2], ScriptError>)>;

enum State {
    /// There is no connection, or it is to be opened anew.
    Closed,
    /// Nothing was asked.
    Idle(Connection),
    /// An `XREAD` is under way.
    Reading(Reading),
    /// This node appends, and the tail follows that.
    Following { connection: Connection, last: Instant, quiet: Pin<Box<Sleep>> },
}

pub(super) struct Tail {
    log: Arc<RedisLog>,
    state: State,
    /// How long a read waits for entries; `None` where a test must not wait.
    block: Option<Duration>,
    /// What is to be told next.
    events: VecDeque<TailEvent>,
    /// Up to where everything was read, and in which epoch.
    at: Option<(Epoch, Position)>,
    past: VecDeque<(Epoch, Position)>,
    /// The log as it was opened.
    lineage: Option<Lineage>,
    end: Id,
    caught_up: bool,
    /// Whether something of this node's own came since the last read began.
    has_own: bool,
    is_lost: bool,
    pause: Duration,
    /// Why the log could not be reached, as it was logged.
    reported: String,
    /// Why entries could not be read, on a connection that is well.
    unread: Option<String>,
}

impl Tail {
    pub(super) fn new(log: Arc<RedisLog>) -> Tail {
        Tail {
            log,
            block: Some(BLOCK),
            state: State::Closed,
            events: VecDeque::new(),
            at: None,
            past: VecDeque::new(),
            lineage: None,
            end: Id::ZERO,
            caught_up: false,
            has_own: false,
            is_lost: false,
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
        self.state = match std::mem::replace(&mut self.state, State::Closed) {
            State::Closed => self.open().await,
            State::Idle(connection) => self.begin_reading(connection),
            State::Reading(reading) => self.wait(reading).await,
            State::Following { connection, last, quiet } => self.follow(connection, last, quiet).await,
        };
    }

    async fn open(&mut self) -> State {
        self.log.own.leave();
        let opened = async {
            let mut connection = self.log.connect(BLOCK + GRACE).await?;
            let opened = self.log.open(&mut connection).await?;
            // Also after SCRIPT FLUSH: a read that cannot be identified leads here.
            connection.know_identity().await?;
            Ok::<_, ScriptError>((connection, opened))
        };
        let (connection, (extent, counters)) = match opened.await {
            Ok(opened) => opened,
            Err(error) => {
                if self.reported != error.to_string() {
                    self.reported = error.to_string();
                    warn!(%error, "the log cannot be reached; readers stay connected, and the node tries again");
                }
                self.lose();
                if !self.events.is_empty() {
                    return State::Closed;
                }
                // Jitter, or all nodes would come back in the same moment.
                tokio::time::sleep(self.pause.mul_f64(0.5 + fastrand::f64())).await;
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                return State::Closed;
            }
        };
        if std::mem::take(&mut self.is_lost) {
            self.reported.clear();
            info!(epoch = %extent.lineage.epoch, end = %extent.end, "the log is reached again");
        }
        self.pause = FIRST_PAUSE;
        self.log.metrics.reachable.set(1);
        self.resume(extent, counters);
        State::Idle(connection)
    }

    /// Tells that the log is lost, once.
    fn lose(&mut self) {
        if !std::mem::replace(&mut self.is_lost, true) {
            self.log.metrics.reachable.set(0);
            self.events.push_back(TailEvent::Lost);
        }
    }

    /// Goes on where this node stood, if the log still holds that.
    fn resume(&mut self, extent: Extent, counters: Counters) {
        let epoch = extent.lineage.epoch;
        let from = self.position_in(&extent, counters);
        if let Some(before) = self.at.filter(|(before, _)| *before != epoch) {
            self.past.push_back(before);
            if self.past.len() > PAST {
                self.past.pop_front();
            }
        }
        self.past.retain(|(of, _)| *of != epoch);
        self.at = Some((epoch, from));
        self.end = extent.end;
        self.lineage = Some(extent.lineage.clone());
        self.log.clock.set(extent.now_ms);
        self.log.begin_seen(Cursor { id: from.id, epoch }, from.added);
        self.events.push_back(TailEvent::Opened(extent));
        self.events.push_back(TailEvent::Entries { after: from.id, messages: Vec::new(), upto: from.id });
        self.catch_up();
    }

    fn position_in(&self, extent: &Extent, counters: Counters) -> Position {
        let whole = |id| {
            // All entries up to the floor are gone, and no other.
            let gone = (id == extent.floor && extent.deleted == extent.floor).then(|| counters.added - counters.length);
            Position { id, added: if id == extent.end { Some(counters.added) } else { gone } }
        };
        let known = self.at.iter().chain(self.past.iter().rev());
        let known =
            known.filter(|(epoch, at)| extent.lineage.locate(Cursor { id: at.id, epoch: *epoch }) != Descent::Unknown);
        let Some((epoch, at)) = known.into_iter().next() else { return whole(extent.floor) };
        match extent.resolve(Cursor { id: at.id, epoch: *epoch }) {
            // Its number stays: the entries up to there are the same.
            Resolved::At(id) => Position { id, added: at.added },
            // Readers are told of the gap behind that by their own cursors. A log that was put back has numbers of its own.
            Resolved::Until(_) => whole(at.id),
            Resolved::Gap(id) if id == at.id && *epoch == extent.lineage.epoch => Position { id, added: at.added },
            Resolved::Gap(id) => whole(id),
        }
    }

    fn catch_up(&mut self) {
        let Some((epoch, at)) = self.at else { return };
        if !self.caught_up && at.id >= self.end {
            self.caught_up = true;
            self.events.push_back(TailEvent::CaughtUp);
        }
        if self.caught_up {
            self.log.own.stand(Cursor { id: at.id, epoch }, at.added);
        }
    }

    fn begin_reading(&mut self, mut connection: Connection) -> State {
        let Some((_, at)) = self.at else { return State::Closed };
        if self.has_moved(&connection) {
            return State::Closed;
        }
        self.has_own = false;
        // The end may be no entry's id (it was deleted): waiting for more would be waiting for ever.
        let block = self.block.filter(|_| self.caught_up);
        let key = self.log.keys.log.clone();
        State::Reading(Box::pin(async move {
            let read = connection.read_and_identify(&key, at.id, COUNT, block).await;
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

    async fn wait(&mut self, mut reading: Reading) -> State {
        tokio::select! {
            biased;
            own = self.log.own.next() => {
                self.has_own |= self.take_own(own);
                State::Reading(reading)
            }
            (connection, read) = &mut reading => self.take(connection, read).await,
        }
    }

    /// Follows what this node appends until it appends no more, or somebody else does.
    async fn follow(&mut self, connection: Connection, mut last: Instant, mut quiet: Pin<Box<Sleep>>) -> State {
        tokio::select! {
            biased;
            own = self.log.own.next() => {
                if !self.take_own(own) {
                    return State::Idle(connection);
                }
                last = Instant::now();
            }
            // Not set anew by each append, which would cost more than it does to look again.
            () = &mut quiet => {
                if last.elapsed() >= QUIET {
                    return State::Idle(connection);
                }
                quiet.as_mut().reset(last + QUIET);
            }
        }
        if self.log.has_moved(connection.server().1) {
            return State::Closed;
        }
        State::Following { connection, last, quiet }
    }

    /// Goes on with what this node has appended, if it continues this place.
    fn take_own(&mut self, own: Option<Stretch>) -> bool {
        let Some((epoch, at)) = self.at else { return false };
        let Some((messages, upto)) = own.and_then(|own| own.beyond(Cursor { id: at.id, epoch })) else { return false };
        let read: Vec<Read> =
            messages.into_iter().filter_map(|message| Some((message.cursor()?.id, Some(message)))).collect();
        let added = at.added.map(|added| added + read_len(&read));
        self.go_on(at.id, read, Position { id: upto, added });
        true
    }

    /// Goes on, and tells that what lies up to a hole is gone, or cannot be read by this node.
    fn go_on_behind(&mut self, hole: Option<Id>, at: Id, mut read: Vec<Read>, to: Position) {
        let after = hole.map_or(at, |hole| hole.max(at));
        read.retain(|(id, _)| *id > after);
        self.go_on(after, read, to);
    }

    /// Goes on to a position, if that is any further.
    fn go_on(&mut self, after: Id, read: Vec<Read>, to: Position) {
        let Some((epoch, at)) = &mut self.at else { return };
        if to.id < at.id {
            return;
        }
        let (epoch, is_news) = (*epoch, to.id > at.id);
        *at = to;
        self.log.see(epoch, after, &read, to);
        if is_news {
            let age_ms = self.log.clock.now_ms().saturating_sub(to.id.ms);
            self.log.metrics.lag.set(age_ms as f64 / 1000.0);
            let messages: Vec<Arc<Message>> = read.into_iter().filter_map(|(_, message)| message).collect();
            self.events.push_back(TailEvent::Entries { after, messages, upto: to.id });
        }
    }

    /// Takes in what a read has brought.
    async fn take(&mut self, connection: Connection, read: Result<[Value; 2], ScriptError>) -> State {
        let [read, identity] = match read {
            Ok(replies) => replies,
            Err(error) => {
                warn!(%error, "the connection to the log is lost");
                self.log.metrics.lost("tail");
                return State::Closed;
            }
        };
        // Looked at behind the block and before its entries count: a stream that was lost
        // and begun anew answers without a hint.
        let Some(identity) = entry::identity(&identity).filter(|now| Some(&now.lineage) == self.lineage.as_ref())
        else {
            return State::Closed;
        };
        let Some((epoch, at)) = self.at else { return State::Closed };
        let read = read.extract_error().map_err(ScriptError::of);
        let entries = read.and_then(|read| {
            let entries = entry::read_entries(&read).ok_or(ScriptError::Unexpected)?;
            let is_full = entries.len() >= COUNT;
            let entries = entries.into_iter().filter(|entry| entry.id > at.id).collect();
            Ok((self.log.take(entries, epoch), is_full))
        });
        let (taken, is_full) = match entries {
            // A reader that was told that the log is lost is told that it is there.
            Ok(_) if self.unread.take().is_some() => return State::Closed,
            Ok(entries) => entries,
            Err(error) => return self.cannot_read(connection, &error).await,
        };
        let is_full = is_full || taken.is_cut;
        match self.check(connection, taken, is_full, &identity).await {
            Ok(connection) => self.settle(connection),
            Err(Some(error)) => {
                warn!(%error, "the connection to the log is lost");
                self.log.metrics.lost("tail");
                State::Closed
            }
            Err(None) => State::Closed,
        }
    }

    /// The connection is well: to open another would say that the log is there.
    async fn cannot_read(&mut self, connection: Connection, error: &ScriptError) -> State {
        if self.unread.replace(error.to_string()) != self.unread {
            warn!(%error, "the log cannot be read");
        }
        if self.is_lost {
            tokio::time::sleep(LONGEST_PAUSE).await;
        }
        self.lose();
        State::Idle(connection)
    }

    fn settle(&mut self, connection: Connection) -> State {
        self.catch_up();
        if !self.has_own {
            return State::Idle(connection);
        }
        let last = Instant::now();
        State::Following { connection, last, quiet: Box::pin(tokio::time::sleep(QUIET)) }
    }

    /// Finds out whether these entries are all there was, and goes on behind them.
    ///
    /// # Errors
    ///
    /// The log is to be opened anew; why, if the connection is at fault.
    async fn check(
        &mut self,
        mut connection: Connection,
        taken: Taken,
        is_full: bool,
        identity: &Identity,
    ) -> Result<Connection, Option<ScriptError>> {
        let Some((epoch, at)) = self.at else { return Err(None) };
        self.log.note_mark(Cursor { id: identity.mark, epoch });
        let (read, hole) = (taken.read, taken.hole);
        let mut upto = read.last().map_or(at.id, |(id, _)| *id);
        if !is_full && !self.caught_up {
            // A read that is not full has reached the end, which was there before it began.
            upto = upto.max(self.end);
        }
        let numbered = at.added.map(|added| added + read_len(&read));
        // An end that is no entry of this read may be one that the log has no longer.
        let is_read = read.last().is_none_or(|(id, _)| *id == upto) && (upto == at.id || !read.is_empty());
        if is_read && numbered.is_some() && identity.added == numbered {
            self.go_on_behind(hole, at.id, read, Position { id: upto, added: numbered });
            return Ok(connection);
        }
        // Others have appended since the read, or something is missing: the log is asked in one step.
        let args = [connection.candidate()];
        let reply = connection.run(&connection::CHECK, &[&self.log.keys.log], &args).await.map_err(Some)?;
        let (extent, counters) = entry::extent(&reply).ok_or(None)?;
        if Some(&extent.lineage) != self.lineage.as_ref() {
            return Err(None);
        }
        self.log.clock.set(extent.now_ms);
        let ids: Vec<Id> = read.iter().map(|(id, _)| *id).collect();
        match judge(at, &ids, upto, &extent, counters) {
            Verdict::Whole(to) => self.go_on_behind(hole, at.id, read, to),
            Verdict::Hole { after, upto } => {
                // With the log's floor as it is now: it says whether all before the hole is gone, too. Not where the
                // hole is at the log's end and nothing came since: each read would wake all readers.
                if upto.id > at.id {
                    self.events.push_back(TailEvent::Opened(extent));
                }
                self.go_on_behind(Some(after).max(hole), at.id, read, upto);
            }
            Verdict::Shrunk => {
                warn!("the log has fewer entries than this node has read: it was put back to an earlier state");
                // A node that opens the log may not see it: the log may have grown beyond what was read.
                if let Some(seen) = self.log.seen.lock().as_mut().filter(|seen| seen.epoch() == epoch) {
                    seen.refute();
                }
                // Or a server that miscounts would be asked without a pause.
                tokio::time::sleep(FIRST_PAUSE).await;
                return Err(None);
            }
        }
        Ok(connection)
    }
}

#[cfg(test)]
impl Tail {
    /// Opens the log, or reads what is there without waiting for more.
    pub(super) async fn step(&mut self) -> Vec<TailEvent> {
        self.block = None;
        loop {
            self.advance().await;
            if matches!(self.state, State::Closed | State::Idle(_)) {
                return self.events.drain(..).collect();
            }
        }
    }

    pub(super) fn is_open(&self) -> bool {
        !matches!(self.state, State::Closed)
    }

    /// Its connection breaks.
    pub(super) fn close(&mut self) {
        self.state = State::Closed;
    }
}

fn read_len(read: &[Read]) -> u64 {
    read.len() as u64
}

impl RedisLog {
    /// Goes on with what was seen of the log, or begins anew where the tail stands elsewhere.
    fn begin_seen(&self, at: Cursor, added: Option<u64>) {
        let mut seen = self.seen.lock();
        let stays = seen.as_ref().is_some_and(|seen| seen.epoch() == at.epoch && seen.at().id == at.id);
        if !stays {
            *seen = Some(Seen::new(at, added));
        }
    }

    fn see(&self, epoch: Epoch, after: Id, read: &[Read], to: Position) {
        if let Some(seen) = self.seen.lock().as_mut().filter(|seen| seen.epoch() == epoch) {
            seen.go_on(after, read.iter().cloned(), to);
        }
    }
}
