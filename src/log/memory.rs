//! The log in this process's memory: the default, for one node. The messages are lost when the process ends.

use super::clock::LogClock;
use super::idempotency::{KEY_BYTES, KeyHash, RememberedKeys};
use super::queued::Queued;
use super::{AppendError, BoxFuture, Extent, Lineage, MessageLog, Page, Resolved, Retention, TailEvent, Unreachable};
use crate::cursor::{Cursor, Epoch, Id};
use crate::message::{Draft, Message};
use parking_lot::Mutex;
use smallvec::SmallVec;
use std::collections::{VecDeque, vec_deque};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tokio::sync::broadcast::{self, error::TryRecvError};
use tokio::task::coop;
use tokio_stream::Stream;

/// The maximum number of volatile messages that wait for the tail. Beyond this limit the oldest are dropped: volatile
/// messages may get lost.
const VOLATILE_WAITING: usize = 1024;

/// The maximum number of entries that a tail reads at a time.
const CHUNK: usize = 512;

/// A [`MessageLog`] that exists only as long as the process.
pub struct MemoryLog {
    state: Mutex<State>,
    volatile: broadcast::Sender<Arc<Message>>,
    retention: Retention,
    clock: LogClock,
}

struct State {
    epoch: Epoch,
    messages: Entries,
    /// Control entries have bounds of their own, so that they never take the place of messages.
    control: Entries,
    end: Id,
    keys: RememberedKeys,
    /// The wakers of tails that have read all entries. A tail that is woken reads the log itself, so it cannot miss
    /// entries.
    idle: SmallVec<[Waker; 1]>,
}

/// Entries that share their bounds, oldest first.
#[derive(Default)]
struct Entries {
    entries: VecDeque<Arc<Message>>,
    bytes: usize,
    /// The newest entry that was dropped.
    floor: Id,
}

impl Entries {
    fn push(&mut self, message: Message) {
        self.bytes += message.weight();
        self.entries.push_back(Arc::new(message));
    }

    fn trim(&mut self, retention: &Retention, now_ms: u64) {
        let oldest_ms = now_ms.saturating_sub(retention.age.as_millis() as u64);
        while let Some(message) = self.entries.front() {
            let id = id_of(message);
            let over = self.entries.len() > retention.messages || self.bytes > retention.bytes;
            if !over && id.ms >= oldest_ms {
                break;
            }
            self.bytes -= message.weight();
            self.floor = id;
            self.entries.pop_front();
        }
    }

    fn after(&self, from: Id) -> vec_deque::Iter<'_, Arc<Message>> {
        self.entries.range(self.entries.partition_point(|message| id_of(message) <= from)..)
    }
}

fn id_of(message: &Message) -> Id {
    message.cursor().map_or(Id::ZERO, |cursor| cursor.id)
}

impl MemoryLog {
    /// An empty log of a fresh epoch.
    pub fn new(retention: Retention) -> MemoryLog {
        let state = State {
            epoch: Epoch::random(),
            messages: Entries::default(),
            control: Entries::default(),
            end: Id::ZERO,
            keys: RememberedKeys::new(KEY_BYTES),
            idle: SmallVec::new(),
        };
        let volatile = broadcast::channel(VOLATILE_WAITING).0;
        MemoryLog { state: Mutex::new(state), volatile, retention, clock: LogClock::here() }
    }

    /// Sets the maximum number of bytes that the log's idempotency keys may take.
    pub fn with_key_bytes(self, bytes: usize) -> MemoryLog {
        self.state.lock().keys = RememberedKeys::new(bytes);
        self
    }

    pub(in crate::log) fn append_now(&self, drafts: Vec<Draft>) -> Result<Vec<Option<Cursor>>, AppendError> {
        // Keys are hashed without the lock. In the plain case there are no keys.
        let has_keys = drafts.iter().any(|draft| draft.key.is_some());
        let key_of = |draft: &Draft| KeyHash::of(draft).filter(|_| !draft.volatile);
        let keys: Vec<_> = if has_keys { drafts.iter().map(key_of).collect() } else { Vec::new() };
        let mut state = self.state.lock();
        let now_ms = self.clock.now_ms();
        if has_keys {
            state.keys.admit(&drafts, &keys, now_ms)?;
        }
        let mut keys = keys.into_iter();
        let mut cursors = Vec::with_capacity(drafts.len());
        for draft in drafts {
            let key = keys.next().flatten();
            if draft.volatile {
                let message = draft.into_message(None);
                // For a volatile message it is not an error if no tail receives it.
                let _ = self.volatile.send(Arc::new(message));
                cursors.push(None);
                continue;
            }
            if let Some(first) = key.and_then(|key| state.keys.find(key, now_ms)) {
                cursors.push(Some(Cursor { id: first, epoch: state.epoch }));
                continue;
            }
            let cursor = state.push(draft, now_ms);
            if let Some(key) = key {
                state.keys.remember(key, cursor.id);
            }
            cursors.push(Some(cursor));
        }
        state.trim(&self.retention, now_ms);
        let idle = std::mem::take(&mut state.idle);
        drop(state);
        idle.into_iter().for_each(Waker::wake);
        Ok(cursors)
    }

    fn page_at(&self, at: Cursor) -> Page {
        self.state.lock().page(at, CHUNK, self.clock.now_ms())
    }

    /// The end of the log.
    pub(in crate::log) fn end(&self) -> Cursor {
        let state = self.state.lock();
        Cursor { id: state.end, epoch: state.epoch }
    }

    /// Waits until there is news for a tail at position `at`. Returns a volatile message, or `None` if there are new
    /// entries.
    fn poll_news(
        &self,
        cx: &mut Context<'_>,
        at: Id,
        volatile: &mut broadcast::Receiver<Arc<Message>>,
    ) -> Poll<Option<Arc<Message>>> {
        // The lock is held to the end of the function, so that a later append finds the waker.
        let mut state = self.state.lock();
        if state.end > at {
            return Poll::Ready(None);
        }
        loop {
            match volatile.try_recv() {
                Ok(message) => return Poll::Ready(Some(message)),
                Err(TryRecvError::Lagged(_)) => {}
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        if !state.idle.iter().any(|waker| waker.will_wake(cx.waker())) {
            state.idle.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl State {
    fn push(&mut self, draft: Draft, now_ms: u64) -> Cursor {
        // Several messages may be appended in one millisecond, and an id is never given twice.
        let id = Id { ms: now_ms, seq: 0 }.max(self.end.next());
        let cursor = Cursor { id, epoch: self.epoch };
        let message = draft.into_message(Some(cursor));
        self.end = id;
        if message.is_control() {
            self.control.push(message)
        } else {
            self.messages.push(message)
        }
        cursor
    }

    fn trim(&mut self, retention: &Retention, now_ms: u64) {
        self.messages.trim(retention, now_ms);
        self.control.trim(&retention.of_control(), now_ms);
    }

    fn extent(&self, now_ms: u64) -> Extent {
        let (floor, end) = (self.messages.floor, self.end);
        let lineage = Lineage { epoch: self.epoch, ancestors: Vec::new() };
        Extent { lineage, floor, deleted: floor, control_floor: self.control.floor, end, now_ms }
    }

    /// The control entries after a position and up to another one. They may be there although the messages between
    /// the positions are not.
    fn control_between(&self, from: Id, upto: Id) -> Vec<Arc<Message>> {
        self.control.after(from).take_while(|entry| id_of(entry) <= upto).cloned().collect()
    }

    fn page(&self, after: Cursor, limit: usize, now_ms: u64) -> Page {
        let extent = self.extent(now_ms);
        let from = match extent.resolve(after) {
            Resolved::At(from) | Resolved::Until(from) => from,
            Resolved::Gap(upto) => return Page { extent, messages: Vec::new(), upto },
        };
        let (mut messages, mut control) = (self.messages.after(from).peekable(), self.control.after(from).peekable());
        let in_order = std::iter::from_fn(|| match (messages.peek(), control.peek()) {
            (Some(message), Some(entry)) if id_of(entry) < id_of(message) => control.next(),
            (None, _) => control.next(),
            _ => messages.next(),
        });
        let taken: Vec<_> = in_order.take(limit).cloned().collect();
        let whole = messages.peek().is_none() && control.peek().is_none();
        let last = taken.last().map_or(from, |message| id_of(message));
        let upto = if whole { self.end.max(from) } else { last };
        Page { extent, messages: taken, upto }
    }
}

impl MessageLog for MemoryLog {
    fn append_in_order(
        &self,
        drafts: Vec<Draft>,
        queued: Queued,
    ) -> BoxFuture<'_, Result<Vec<Option<Cursor>>, AppendError>> {
        Box::pin(async move {
            queued.set();
            self.append_now(drafts)
        })
    }

    fn read(&self, after: Cursor, limit: usize) -> BoxFuture<'_, Result<Page, Unreachable>> {
        Box::pin(async move {
            let mut state = self.state.lock();
            let now_ms = self.clock.now_ms();
            state.trim(&self.retention, now_ms);
            Ok(state.page(after, limit, now_ms))
        })
    }

    fn tail(self: Arc<Self>) -> Pin<Box<dyn Stream<Item = TailEvent> + Send>> {
        // The tail subscribes here and not at the first poll, so that it gets every message that is published from now
        // on.
        let mut volatile = self.volatile.subscribe();
        Box::pin(async_stream::stream! {
            let extent = self.state.lock().extent(self.clock.now_ms());
            let mut at = Cursor { id: extent.floor, epoch: extent.lineage.epoch };
            let (end, mut told) = (extent.end, extent.control_floor);
            let mut caught_up = false;
            yield TailEvent::Opened(extent);
            loop {
                let mut page = self.page_at(at);
                if page.upto > at.id {
                    // A burst may have been trimmed before the tail read it. In that case `after` shows the gap.
                    let after = at.id.max(page.extent.floor);
                    if after > at.id || page.extent.control_floor > at.id.max(told) {
                        // The extent shows whether control entries were trimmed, too. Only sessions have to know that.
                        told = page.extent.control_floor;
                        yield TailEvent::Opened(page.extent.clone());
                    }
                    if after > at.id && page.messages.is_empty() {
                        page.messages = self.state.lock().control_between(at.id, page.upto);
                    }
                    at.id = page.upto;
                    yield TailEvent::Entries { after, messages: page.messages, upto: at.id };
                }
                if !caught_up && at.id >= end {
                    caught_up = true;
                    yield TailEvent::CaughtUp;
                }
                if at.id < page.extent.end {
                    continue;
                }
                // Each poll counts against tokio's budget: a flood of volatile messages must not block all other tasks.
                let news = coop::cooperative(poll_fn(|cx| self.poll_news(cx, at.id, &mut volatile)));
                if let Some(message) = news.await {
                    yield TailEvent::Volatile(message);
                }
            }
        })
    }

    fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }
}
