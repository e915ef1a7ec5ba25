//! What a node counts of its readers and publishers; [`figures`](super::exporter) tells it to `/metrics`.
//!
//! A write adds to a few atomics of its thread's own shard and of its transport: nothing is counted
//! per receiver that is not counted per write, and no two threads share a cache line for it.

use crate::hub::{self, FanOutReport};
use crate::log::metrics::APPEND_BUCKETS;
use crate::message::Message;
use crate::serve::http::access_log::Entry;
use crate::transport::{self, Batch, CloseReason, Code};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// Threads that count share one of so many shards.
const SHARDS: usize = 8;

/// Upper bounds of messages in a write or a batch.
pub const BATCHES: [f64; 9] = [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 256.0, 1000.0];

/// Upper bounds from a message's id to its write, in seconds. Ids are of milliseconds.
pub const LAGS: [f64; 11] = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// What may become of an append that is not acknowledged.
const FAILURES: [Code; 2] = [Code::LogUnavailable, Code::OutcomeUnknown];

/// How old a thread's idea of the wall clock may be. Between, it goes by the monotonic one, which a
/// write has read anyhow; a clock that is set is followed after so long.
const CLOCK_AGE: Duration = Duration::from_secs(1);

/// Counts of `N` buckets and one for what is beyond; a sum in millionths.
#[derive(Debug)]
pub struct Buckets<const N: usize> {
    counts: [AtomicU64; N],
    beyond: AtomicU64,
    sum: AtomicU64,
}

impl<const N: usize> Default for Buckets<N> {
    fn default() -> Self {
        Buckets {
            counts: std::array::from_fn(|_| AtomicU64::new(0)),
            beyond: AtomicU64::new(0),
            sum: AtomicU64::new(0),
        }
    }
}

impl<const N: usize> Buckets<N> {
    fn observe(&self, bounds: &[f64; N], value: f64) {
        self.observe_all(bounds, value, 1);
    }

    /// The same value so many times.
    fn observe_all(&self, bounds: &[f64; N], value: f64, times: u64) {
        let bucket = bounds.iter().position(|bound| value <= *bound);
        bucket.map_or(&self.beyond, |bucket| &self.counts[bucket]).fetch_add(times, Relaxed);
        self.sum.fetch_add((value * 1e6) as u64 * times, Relaxed);
    }

    fn add_to(&self, sum: &mut Summed<N>) {
        for (sum, count) in sum.counts.iter_mut().zip(&self.counts) {
            *sum += count.load(Relaxed);
        }
        sum.beyond += self.beyond.load(Relaxed);
        sum.sum += self.sum.load(Relaxed) as f64 / 1e6;
    }
}

/// [`Buckets`] of all shards.
#[derive(Clone, Debug)]
pub struct Summed<const N: usize> {
    /// How many were in each.
    pub counts: [u64; N],
    /// How many were beyond the last.
    pub beyond: u64,
    /// The sum of all values.
    pub sum: f64,
}

impl<const N: usize> Default for Summed<N> {
    fn default() -> Self {
        Summed { counts: [0; N], beyond: 0, sum: 0.0 }
    }
}

impl<const N: usize> Summed<N> {
    /// How many values there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum::<u64>() + self.beyond
    }
}

/// What one thread counts of one transport. Aligned, so that it shares no cache line with another.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    bytes: AtomicU64,
    messages: AtomicU64,
    batches: Buckets<{ BATCHES.len() }>,
    lags: Buckets<{ LAGS.len() }>,
}

/// What is counted of a transport.
#[derive(Debug)]
struct Lane {
    transport: &'static str,
    open: AtomicI64,
    gaps: AtomicU64,
    rollovers: AtomicU64,
    shards: [Shard; SHARDS],
}

/// What a transport has come to.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Its name.
    pub transport: &'static str,
    /// Streams, sockets and requests that are there now.
    pub open: i64,
    /// Bytes written: bodies and frames, without heads.
    pub bytes: u64,
    /// Messages written.
    pub messages: u64,
    /// Gaps told.
    pub gaps: u64,
    /// Streams ended to give a browser its memory back.
    pub rollovers: u64,
    /// Messages in a write.
    pub batches: Summed<{ BATCHES.len() }>,
    /// From a message's id to its write, of those that came while the reader was there.
    pub lags: Summed<{ LAGS.len() }>,
}

/// All that is counted.
#[derive(Debug)]
pub struct Meters {
    lanes: Vec<Lane>,
    byes: [AtomicU64; CloseReason::ALL.len()],
    published: [AtomicU64; 2],
    appends: Buckets<{ APPEND_BUCKETS.len() }>,
    failures: [AtomicU64; FAILURES.len()],
    /// When the server began.
    pub began: Instant,
}

impl Default for Meters {
    fn default() -> Meters {
        let lane = |transport: &&dyn transport::Transport| Lane {
            transport: transport.name(),
            open: AtomicI64::new(0),
            gaps: AtomicU64::new(0),
            rollovers: AtomicU64::new(0),
            shards: Default::default(),
        };
        Meters {
            lanes: transport::ALL.iter().map(lane).collect(),
            byes: Default::default(),
            published: Default::default(),
            appends: Buckets::default(),
            failures: Default::default(),
            began: Instant::now(),
        }
    }
}

/// The way that a message came in by.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    /// `POST /publish`.
    Http,
    /// A command on a WebSocket or on raw TCP.
    Command,
}

impl Way {
    /// Both.
    pub const ALL: [(Way, &'static str); 2] = [(Way::Http, "http"), (Way::Command, "command")];
}

impl Meters {
    /// Counts a reader in, for as long as the meter lives.
    pub fn open(self: &Arc<Meters>, transport: &'static str) -> Meter {
        let lane = self.lanes.iter().position(|lane| lane.transport == transport).unwrap_or_default();
        self.lanes[lane].open.fetch_add(1, Relaxed);
        Meter { meters: self.clone(), lane, entry: None }
    }

    /// A reader was sent away with this word.
    pub fn bye(&self, bye: CloseReason) {
        if let Some(index) = CloseReason::ALL.iter().position(|known| *known == bye) {
            self.byes[index].fetch_add(1, Relaxed);
        }
    }

    /// Messages were published and are in the log.
    pub fn published(&self, way: Way, messages: usize, began: Instant) {
        self.published[way as usize].fetch_add(messages as u64, Relaxed);
        self.appends.observe(&APPEND_BUCKETS, began.elapsed().as_secs_f64());
    }

    /// An append was not acknowledged.
    pub fn append_failed(&self, code: Code) {
        if let Some(index) = FAILURES.iter().position(|known| *known == code) {
            self.failures[index].fetch_add(1, Relaxed);
        }
    }

    /// What each transport has come to.
    pub fn totals(&self) -> Vec<Totals> {
        self.lanes.iter().map(Lane::totals).collect()
    }

    /// How many readers were sent away for each reason.
    pub fn byes(&self) -> impl Iterator<Item = (CloseReason, u64)> + '_ {
        CloseReason::ALL.iter().copied().zip(&self.byes).map(|(bye, count)| (bye, count.load(Relaxed)))
    }

    /// How many messages came in by each way.
    pub fn ways(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Way::ALL.into_iter().map(|(way, name)| (name, self.published[way as usize].load(Relaxed)))
    }

    /// How long appends took.
    pub fn appends(&self) -> Summed<{ APPEND_BUCKETS.len() }> {
        let mut sum = Summed::default();
        self.appends.add_to(&mut sum);
        sum
    }

    /// Appends that were not acknowledged, by code.
    pub fn failures(&self) -> impl Iterator<Item = (Code, u64)> + '_ {
        FAILURES.into_iter().zip(&self.failures).map(|(code, count)| (code, count.load(Relaxed)))
    }
}

/// Lanes of the hub are ours, by number.
impl hub::FanOutObserver for Meters {
    fn fanned_out(&self, fanned: &FanOutReport<'_>) {
        let (Some(lane), Some(oldest)) = (self.lanes.get(fanned.transport), fanned.messages.first()) else { return };
        let (shard, each) = (&lane.shards[SHARD.get()], fanned.messages.len());
        shard.bytes.fetch_add(fanned.bytes, Relaxed);
        shard.messages.fetch_add(fanned.writes * each as u64, Relaxed);
        shard.batches.observe_all(&BATCHES, each as f64, fanned.writes);
        // A parked reader was there before any of them.
        if let Some(cursor) = oldest.cursor() {
            let lag = Duration::from_millis(wall_clock_ms(fanned.at).saturating_sub(cursor.id.ms));
            shard.lags.observe_all(&LAGS, lag.as_secs_f64(), fanned.writes);
        }
    }
}

impl Lane {
    fn totals(&self) -> Totals {
        let mut totals = Totals {
            transport: self.transport,
            open: self.open.load(Relaxed),
            gaps: self.gaps.load(Relaxed),
            rollovers: self.rollovers.load(Relaxed),
            ..Totals::default()
        };
        for shard in &self.shards {
            totals.bytes += shard.bytes.load(Relaxed);
            totals.messages += shard.messages.load(Relaxed);
            shard.batches.add_to(&mut totals.batches);
            shard.lags.add_to(&mut totals.lags);
        }
        totals
    }
}

/// One reader's place in the counts: it is open for as long as this lives.
pub struct Meter {
    meters: Arc<Meters>,
    lane: usize,
    /// Its line of the access log, where there is one.
    entry: Option<Box<Entry>>,
}

impl Meter {
    fn lane(&self) -> &Lane {
        &self.meters.lanes[self.lane]
    }

    fn shard(&self) -> &Shard {
        &self.lane().shards[SHARD.get()]
    }

    /// Its line of the access log is written when it ends.
    pub fn log(&mut self, mut entry: Entry) {
        entry.transport = self.lane().transport;
        self.entry = Some(Box::new(entry));
    }

    /// The transport's name.
    pub fn transport(&self) -> &'static str {
        self.lane().transport
    }

    /// Where the hub counts what it writes.
    pub fn number(&self) -> usize {
        self.lane
    }

    /// The hub has written bytes, and counted them.
    pub fn wrote_directly(&mut self, bytes: usize) {
        if let Some(entry) = &mut self.entry {
            entry.bytes += bytes as u64;
        }
    }

    /// Bytes are written.
    pub fn bytes(&mut self, bytes: usize) {
        self.wrote_directly(bytes);
        self.shard().bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// A batch is written, at `now`, to a reader that is here since `since`. Its oldest message tells
    /// the lag, unless it is older than the reader: who comes back with an old cursor does not lag.
    pub fn batch(&self, messages: &[Arc<Message>], since: Instant, now: Instant) {
        if messages.is_empty() {
            return;
        }
        let shard = self.shard();
        shard.messages.fetch_add(messages.len() as u64, Relaxed);
        shard.batches.observe(&BATCHES, messages.len() as f64);
        let Some(oldest) = messages.iter().find_map(|message| message.cursor()) else { return };
        // The log's clock may be another machine's: what it is ahead counts as no lag.
        let lag = Duration::from_millis(wall_clock_ms(now).saturating_sub(oldest.id.ms));
        if lag <= now.saturating_duration_since(since) {
            shard.lags.observe(&LAGS, lag.as_secs_f64());
        }
    }

    /// A batch is the answer to a poll that came at `asked`, in so many bytes.
    pub fn answer(&mut self, batch: &Batch, asked: Instant, bytes: usize) {
        self.bytes(bytes);
        self.batch(&batch.messages, asked, Instant::now());
        if batch.gap.is_some() {
            self.gap();
        }
    }

    /// A gap is told.
    pub fn gap(&self) {
        self.lane().gaps.fetch_add(1, Relaxed);
    }

    /// The reader is sent away.
    pub fn bye(&self, bye: CloseReason) {
        self.meters.bye(bye);
        if bye == CloseReason::Rollover {
            self.lane().rollovers.fetch_add(1, Relaxed);
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.lane().open.fetch_sub(1, Relaxed);
    }
}

static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static SHARD: Cell<usize> = Cell::new(THREADS.fetch_add(1, Relaxed) % SHARDS);
    static CLOCK: Cell<Option<(Instant, u64)>> = const { Cell::new(None) };
}

/// The wall clock at `now`, in milliseconds since 1970.
fn wall_clock_ms(now: Instant) -> u64 {
    match CLOCK.get() {
        Some((at, ms)) if now.saturating_duration_since(at) < CLOCK_AGE => {
            ms + now.saturating_duration_since(at).as_millis() as u64
        }
        _ => {
            let ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_millis() as u64);
            CLOCK.set(Some((now, ms)));
            ms
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::{Cursor, Epoch, Id};
    use crate::message::{Event, Payload};

    fn message(ms: u64) -> Arc<Message> {
        let cursor = Cursor { id: Id { ms, seq: 0 }, epoch: Epoch::random() };
        let channel = "a".parse().expect("valid");
        Arc::new(Message::new(Some(cursor), channel, Event::default(), &Payload::from_any("1"), None))
    }

    fn of(meters: &Meters, transport: &str) -> Totals {
        meters.totals().into_iter().find(|totals| totals.transport == transport).expect("a transport")
    }

    #[test]
    fn counts_add_up_over_threads() {
        let meters = Arc::new(Meters::default());
        let threads = (0..2 * SHARDS).map(|_| {
            let mut meter = meters.open("sse");
            std::thread::spawn(move || {
                let now = Instant::now();
                meter.batch(&[message(0), message(1)], now, now);
                meter.bytes(10);
                meter
            })
        });
        let kept: Vec<_> = threads.map(|thread| thread.join().expect("a thread")).collect();
        let totals = of(&meters, "sse");
        assert_eq!((totals.open, totals.messages, totals.bytes), (16, 32, 160));
        assert_eq!((totals.batches.counts[1], totals.batches.count(), totals.batches.sum), (16, 16, 32.0));
        drop(kept);
        assert_eq!((of(&meters, "sse").open, of(&meters, "ws").messages), (0, 0));
    }

    #[test]
    fn what_the_hub_has_written_counts_by_its_lane() {
        let meters = Arc::new(Meters::default());
        let meter = meters.open("tcp");
        let at = Instant::now();
        let messages = [message(wall_clock_ms(at) - 20), message(wall_clock_ms(at))];
        hub::FanOutObserver::fanned_out(
            &*meters,
            &FanOutReport { transport: meter.number(), writes: 3, bytes: 30, messages: &messages, at },
        );
        let totals = of(&meters, "tcp");
        assert_eq!((totals.messages, totals.bytes, totals.batches.counts[1], totals.batches.sum), (6, 30, 3, 6.0));
        assert_eq!((totals.lags.count(), totals.lags.counts[4]), (3, 3));
        assert!(
            transport::ALL.len() <= hub::MAX_TRANSPORTS,
            "the hub tells fewer lanes apart than there are transports"
        );
    }

    #[test]
    fn what_is_older_than_its_reader_is_no_lag() {
        let meters = Arc::new(Meters::default());
        let meter = meters.open("ws");
        let now = Instant::now();
        let ms = wall_clock_ms(now);
        meter.batch(&[message(ms - 20), message(ms)], now - Duration::from_secs(1), now);
        meter.batch(&[message(ms - 2000)], now - Duration::from_secs(1), now);
        // From a machine whose clock is ahead.
        meter.batch(&[message(ms + 500)], now - Duration::from_secs(1), now);
        let lags = of(&meters, "ws").lags;
        assert_eq!((lags.count(), lags.counts[4], lags.counts[0]), (2, 1, 1));
        assert!((lags.sum - 0.02).abs() < 1e-9, "{}", lags.sum);
    }

    #[test]
    fn byes_count_by_their_code() {
        let meters = Arc::new(Meters::default());
        let meter = meters.open("multipart");
        meter.bye(CloseReason::Rollover);
        meter.bye(CloseReason::Drain);
        meters.bye(CloseReason::Drain);
        let byes: Vec<_> = meters.byes().filter(|(_, count)| *count > 0).map(|(bye, n)| (bye.code(), n)).collect();
        assert_eq!((byes, of(&meters, "multipart").rollovers), (vec![(4000, 1), (4001, 2)], 1));
    }
}
