//! Direct fan-out: the tail's own turn writes to sockets.
//!
//! A message for a thousand readers is a thousand `write`s. To wake a task for each of them costs nearly
//! as much again: a queue, a poll, a look into the ring, a timer. So a reader that parks leaves with the hub what
//! a delivery needs, on its [`Desk`]: where it stands, and an [`Outlet`] to its socket. When the tail has
//! taken news in, it goes through the channel's readers and writes the same bytes to each, once encoded.
//!
//! Only the plain case is served so. The reader stands right before the news; it is not left out of
//! any of them; its bounds hold them all; its socket takes all of it at once. In *every* other case nothing is decided
//! here: the desk is closed, the reader's task is woken and does what it always did, with its own cursor,
//! its gap rule, its deadline for a slow client. A socket that takes a part gets the rest from its
//! task, before anything else, so one batch is in flight, as ever.
//!
//! Two things keep both ways equal. A desk that is open belongs to the hub: the task writes nothing until it has
//! taken it back ([`unpark`](super::Subscription::unpark)), and that takes the lock under which the hub
//! writes. And the hub compares places, not events: a reader between *the channel's last message before
//! the news* and *the first of them* gets all; one behind them has had them; any other has its task
//! look into the ring. So it does not matter what was overtaken by what.
//!
//! A write never waits: the sockets do not block, and a full one is its task's business. After a
//! stretch of writes the tail lets others run; with several threads a large fan-out is divided among
//! them.

use super::outlet::{Encoded, Outlet, OwnedFormat};
use super::traffic::{Lanes, Tally};
use super::waiter::Waiter;
use super::{Hub, Limit, id_of};
use crate::cursor::{Cursor, Id};
use crate::message::{ClientId, Message};
use bytes::Bytes;
use smallvec::{SmallVec, smallvec};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// What a step of a reader carries at most. A direct write keeps to its bytes; its messages are those of a turn of the
/// tail, which may be more.
pub const LIMIT: Limit = Limit { messages: 256, bytes: 256 << 10 };

/// Readers that are copied out of the hub's memory at a time: its lock is not held while writing.
const STRIDE: usize = 64;

/// Writes of a fan-out before others may run, and behind which nobody waits for the end of it: some ten milliseconds. Counted
/// and not timed: a timer for each publish would have tokio wake itself each time.
const TURN: usize = 1024;

/// Readers of a channel that are worth another thread's while.
const SHARE: usize = 2048;

/// Formats whose bytes are kept while a fan-out lasts. Names of callbacks make formats, and clients choose them.
const FORMATS: usize = 8;

/// Where a reader leaves its state while it is parked.
#[derive(Default)]
pub(super) struct Desk {
    pub(super) client: Option<ClientId>,
    /// What it reads, as slots of the hub's memory, where that is several channels, whose messages have one order. Most
    /// read one, which need not be known: boxed, it takes a word of them.
    several: Option<Box<SmallVec<[usize; 4]>>>,
    parked: Option<Parked>,
    /// Whether the task was woken, or news were left to it, since it took the desk back last. Then the hub
    /// writes nothing: what comes later may not overtake it.
    is_called: bool,
}

/// A parked reader's state.
struct Parked {
    /// Everything up to here was written.
    at: Cursor,
    room: Room,
    written: Written,
}

/// What may be written to a parked reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// A stream: so many bytes, until a rollover.
    Bytes(usize),
    /// A poll: one answer with so many messages at most. Nothing is written behind it, and the task is not woken for it:
    /// the next request wakes it.
    Answer(usize),
}

impl Room {
    fn has(self, messages: usize, weight: usize) -> bool {
        match self {
            Room::Bytes(left) => weight <= left,
            Room::Answer(most) => messages <= most,
        }
    }
}

/// What was written for a reader while it was parked.
#[derive(Debug, Default)]
pub struct Written {
    /// Bytes that count against a rollover.
    pub weight: usize,
    /// When something was written last.
    pub at: Option<Instant>,
    /// What the socket did not take: it comes before anything else.
    pub rest: Rest,
}

/// The rest of a write. It keeps the whole, which many readers share that have stopped at different places: whoever counts
/// memory has to know it again.
#[derive(Clone, Debug, Default)]
pub struct Rest(Option<Box<Part>>);

/// Boxed: most parked readers never have any.
#[derive(Clone, Debug)]
struct Part {
    whole: Bytes,
    taken: usize,
}

static NOTHING: Bytes = Bytes::new();

impl Rest {
    /// What is to be written.
    pub fn bytes(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |part| &part.whole[part.taken..])
    }

    /// What it is the rest of.
    pub fn whole(&self) -> &Bytes {
        self.0.as_ref().map_or(&NOTHING, |part| &part.whole)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Written,
    /// It has had them.
    Passed,
    ForTheTask,
}

impl Desk {
    /// Leaves the reader's state here, unless there is something for its task already.
    pub(super) fn park(&mut self, at: Cursor, room: Room) {
        if !self.is_called {
            self.parked = Some(Parked { at, room, written: Written::default() });
        }
    }

    /// What the reader reads, as slots of the hub's memory: to be told before it parks.
    pub(super) fn set_slots(&mut self, slots: impl ExactSizeIterator<Item = usize>) {
        self.several = (slots.len() > 1).then(|| Box::new(slots.collect()));
    }

    /// Whether this was a poll, and is answered.
    pub(super) fn is_answered(&self) -> bool {
        let is_answered = |parked: &Parked| matches!(parked.room, Room::Answer(_)) && parked.written.at.is_some();
        self.parked.as_ref().is_some_and(is_answered)
    }

    /// Gives it back: where the reader stands, and what was written for it.
    pub(super) fn unpark(&mut self) -> Option<(Cursor, Written)> {
        self.is_called = false;
        self.parked.take().map(|parked| (parked.at, parked.written))
    }

    /// Nothing more is written until the task has parked again.
    pub(super) fn close(&mut self) {
        self.is_called = true;
    }

    /// Writes news, where nothing stands against it. What is for the task closes the desk before it is unlocked.
    pub(super) fn offer(
        &mut self,
        outlet: Option<&dyn Outlet>,
        news: &News,
        shared: &mut Shared,
        now: Instant,
    ) -> Outcome {
        let (Some(outlet), Some(parked)) = (outlet, &mut self.parked) else { return Outcome::ForTheTask };
        if self.is_called || parked.at.epoch != news.head.epoch {
            return Outcome::ForTheTask;
        }
        if parked.at.id >= news.last {
            return Outcome::Passed;
        }
        let is_next = news.before <= parked.at.id && parked.at.id < news.first;
        let is_ordered = self.several.as_ref().is_none_or(|slots| !news.are_of_several(slots));
        let is_wanted = |client: &ClientId| !news.messages.iter().any(|message| message.excludes(client));
        if !is_next || !is_ordered || !(news.is_for_all || self.client.as_ref().is_none_or(is_wanted)) {
            return Outcome::ForTheTask;
        }
        let encoded = shared.encoded(outlet, news);
        if !parked.room.has(news.messages.len(), encoded.weight) {
            return Outcome::ForTheTask;
        }
        let (size, weight) = (encoded.bytes.len(), encoded.weight);
        // Nothing written, or an error: the task finds the same messages, and the same error.
        let Ok(n @ 1..) = outlet.write(&encoded.bytes) else { return Outcome::ForTheTask };
        if n < size {
            parked.written.rest = Rest(Some(Box::new(Part { whole: encoded.bytes, taken: n })));
        }
        parked.at = news.head;
        match &mut parked.room {
            Room::Bytes(left) => *left -= weight,
            Room::Answer(_) => self.is_called = true,
        }
        parked.written.weight += weight;
        parked.written.at = Some(now);
        shared.tally.deliveries += news.messages.len() as u64;
        shared.tally.writes += 1;
        shared.tally.bytes += n as u64;
        shared.lanes.add(outlet.transport(), weight);
        if n < size { Outcome::ForTheTask } else { Outcome::Written }
    }
}

/// Mostly one.
type Messages = SmallVec<[Arc<Message>; 1]>;

/// The new messages of one channel.
pub(super) struct News {
    pub(super) slot: usize,
    pub(super) messages: Messages,
    /// The channel's last message before them.
    before: Id,
    first: Id,
    last: Id,
    /// What the node had read when they were handed to the fan-out.
    head: Cursor,
    /// All that have news up to `head`, in order; `None` where it is this one alone.
    of: Option<Arc<[usize]>>,
    /// Whether nobody is left out of any of them.
    is_for_all: bool,
    /// How many places the channel's readers take, and the first that nobody has been handed them in.
    places: usize,
    next: AtomicUsize,
}

impl News {
    /// The next readers' places, for whoever asks: places may be empty, and threads are not equally fast.
    fn next_places(&self) -> Option<Range<usize>> {
        let start = self.next.fetch_add(STRIDE, Ordering::Relaxed);
        (start < self.places).then(|| start..(start + STRIDE).min(self.places))
    }

    /// Whether they and other news of the same turn are of these channels.
    fn are_of_several(&self, slots: &[usize]) -> bool {
        let have_news = |slot: &&usize| self.of.as_ref().is_some_and(|of| of.binary_search(slot).is_ok());
        slots.iter().filter(have_news).nth(1).is_some()
    }
}

/// The bytes of each format, while a fan-out lasts.
#[derive(Default)]
pub(super) struct Shared {
    formats: SmallVec<[(OwnedFormat, Encoded); 1]>,
    tally: Tally,
    lanes: Lanes,
}

impl Shared {
    /// Counts news that are a task's.
    pub(super) fn left_to_a_task(&mut self) {
        self.tally.for_tasks += 1;
    }

    fn encoded(&mut self, outlet: &dyn Outlet, news: &News) -> Encoded {
        let format = outlet.format();
        if let Some((_, encoded)) = self.formats.iter().find(|(known, _)| known.is(format)) {
            return encoded.clone();
        }
        let encoded = outlet.encode(&news.messages, news.head);
        self.tally.encoded += 1;
        if self.formats.len() < FORMATS {
            self.formats.push((format.to_owned(), encoded.clone()));
        }
        encoded
    }
}

/// What the tail has taken in and not handed out.
#[derive(Default)]
pub(super) struct Fresh {
    /// Messages with their channel's slot, in log order.
    pub(super) messages: Vec<(usize, Arc<Message>)>,
    /// Every reader is to look for itself: the log has changed under them.
    pub(super) is_upset: bool,
}

impl Fresh {
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty() && !self.is_upset
    }

    /// As much as is handed out at a time.
    pub(super) fn is_full(&self) -> bool {
        self.messages.len() >= LIMIT.messages
    }

    /// Whether any of the messages behind the first `before` is of a channel of those.
    pub(super) fn repeats(&self, before: usize) -> bool {
        let (first, rest) = self.messages.split_at(before.min(self.messages.len()));
        rest.iter().any(|(slot, _)| first.iter().any(|(known, _)| known == slot))
    }

    /// What concerns everybody makes single news needless.
    pub(super) fn upset(&mut self) {
        self.messages.clear();
        self.is_upset = true;
    }

    /// The messages by channel, each in log order.
    fn by_channel(&mut self) -> Vec<(usize, Messages)> {
        let mut messages = std::mem::take(&mut self.messages);
        // Stable: within a channel the log's order stays.
        messages.sort_by_key(|(slot, _)| *slot);
        let mut channels: Vec<(usize, Messages)> = Vec::new();
        for (slot, message) in messages {
            match channels.last_mut() {
                Some((last, same)) if *last == slot => same.push(message),
                _ => channels.push((slot, smallvec![message])),
            }
        }
        channels
    }
}

/// Hands news out to all who read them.
pub(super) async fn fan_out(hub: &Arc<Hub>, mut fresh: Fresh, head: Option<Cursor>) {
    if fresh.is_upset {
        hub.wake_all();
    }
    let Some(head) = head else { return };
    let channels = fresh.by_channel();
    let of = (channels.len() > 1).then(|| channels.iter().map(|(slot, _)| *slot).collect::<Arc<[usize]>>());
    let mut turn = Turn::default();
    for (slot, messages) in channels {
        let Some(news) = news(hub, slot, messages, head, of.clone()) else { continue };
        let threads = if news.places > SHARE { tokio::runtime::Handle::current().metrics().num_workers() } else { 1 };
        if threads > 1 {
            let news = Arc::new(news);
            let mut parts = JoinSet::new();
            for _ in 0..threads {
                let (hub, news) = (hub.clone(), news.clone());
                parts.spawn(async move { hand_out(&hub, &news, &mut Turn::default()).await });
            }
            // The next news wait: a queue of unfinished fan-outs would have no bound.
            while parts.join_next().await.is_some() {}
            turn.wrote(hub, news.places / threads).await;
        } else {
            hand_out(hub, &news, &mut turn).await;
        }
    }
}

/// What a fan-out has to know of a channel. None if there are no readers.
fn news(hub: &Hub, slot: usize, messages: Messages, head: Cursor, of: Option<Arc<[usize]>>) -> Option<News> {
    let (first, last) = (id_of(messages.first()?), id_of(messages.last()?));
    let is_for_all = messages.iter().all(|message| message.is_for_all());
    let memory = hub.memory.read();
    let places = memory.places(slot, messages[0].channel())?;
    let bytes: usize = messages.iter().map(|message| message.object().len()).sum();
    let before = memory.before(slot, messages.len()).filter(|_| messages.len() == 1 || bytes <= LIMIT.bytes);
    drop(memory);
    // A place that nobody can stand at sends all to their tasks.
    let before = before.unwrap_or(last);
    Some(News { slot, messages, before, first, last, head, of, is_for_all, places, next: AtomicUsize::new(0) })
}

/// A stretch of writes, which goes on from one channel to the next.
#[derive(Default)]
struct Turn {
    /// Since others could run.
    writes: usize,
    /// Those who are written to, for a moment.
    readers: Vec<Arc<Waiter>>,
}

impl Turn {
    /// Lets others run behind a stretch of writes, and those go on who wait for its end.
    async fn wrote(&mut self, hub: &Hub, readers: usize) {
        self.writes += readers;
        if self.writes >= TURN {
            self.writes = 0;
            hub.wait_no_more();
            tokio::task::yield_now().await;
        }
    }
}

/// Hands news to those of a channel's readers that nobody else does.
async fn hand_out(hub: &Hub, news: &News, turn: &mut Turn) {
    let mut shared = Shared::default();
    let mut now = Instant::now();
    while let Some(places) = news.next_places() {
        hub.memory.read().readers(news.slot, news.messages[0].channel(), places, &mut turn.readers);
        now = Instant::now();
        for reader in &turn.readers {
            reader.offer(news, &mut shared, now);
        }
        let written = turn.readers.len();
        turn.readers.clear();
        turn.wrote(hub, written).await;
    }
    hub.traffic.add(&shared.tally);
    if let Some(meter) = hub.meter.get() {
        shared.lanes.tell(&**meter, &news.messages, now);
    }
}
