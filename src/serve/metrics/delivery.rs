//! Metrics of readers and publishers. [`exporter`](super::exporter) writes them for `/metrics`.
//!
//! A write adds to a few atomics of its transport. A fan-out counts once for all its writes.

use crate::hub::{self, FanOutReport};
use crate::log::metrics::APPEND_BUCKETS;
use crate::message::Message;
use crate::transport::{CloseReason, Code, Transport};
use prometheus_client::metrics::counter::Counter;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// The upper bounds of the buckets for messages in a write.
pub const BATCHES: [f64; 9] = [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 256.0, 1000.0];

/// The upper bounds of the buckets for the time from a message's id to its write, in seconds. Ids have milliseconds.
pub const LAGS: [f64; 11] = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// The error codes of an append that is not acknowledged.
const FAILURES: [Code; 2] = [Code::LogUnavailable, Code::OutcomeUnknown];

/// A histogram of `N` buckets, and one more bucket for larger values. The sum is in millionths.
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

    /// Counts one value several times.
    fn observe_all(&self, bounds: &[f64; N], value: f64, times: u64) {
        let bucket = bounds.iter().position(|bound| value <= *bound);
        bucket.map_or(&self.beyond, |bucket| &self.counts[bucket]).fetch_add(times, Relaxed);
        self.sum.fetch_add((value * 1e6) as u64 * times, Relaxed);
    }

    fn read(&self) -> Summed<N> {
        Summed {
            counts: std::array::from_fn(|bucket| self.counts[bucket].load(Relaxed)),
            beyond: self.beyond.load(Relaxed),
            sum: self.sum.load(Relaxed) as f64 / 1e6,
        }
    }
}

/// The values of a histogram.
#[derive(Clone, Debug)]
pub struct Summed<const N: usize> {
    /// The count of each bucket.
    pub counts: [u64; N],
    /// The count of larger values.
    pub beyond: u64,
    /// The sum of all values.
    pub sum: f64,
}

impl<const N: usize> Summed<N> {
    /// The count of all values.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum::<u64>() + self.beyond
    }
}

/// The counters of a transport.
#[derive(Debug)]
struct TransportCounters {
    transport: &'static str,
    open: AtomicI64,
    gaps: AtomicU64,
    rollovers: AtomicU64,
    bytes: AtomicU64,
    messages: AtomicU64,
    batches: Buckets<{ BATCHES.len() }>,
    lags: Buckets<{ LAGS.len() }>,
}

/// The totals of a transport.
#[derive(Clone, Debug)]
pub struct Totals {
    /// The name of the transport.
    pub transport: &'static str,
    /// Open streams, sockets and polls.
    pub open: i64,
    /// Bytes written: bodies and frames, without heads.
    pub bytes: u64,
    /// Messages written.
    pub messages: u64,
    /// Gaps reported.
    pub gaps: u64,
    /// Streams that ended so that a browser can free its memory.
    pub rollovers: u64,
    /// The number of messages in a write.
    pub batches: Summed<{ BATCHES.len() }>,
    /// The time from a message's id to its write, for messages that came while the reader was connected.
    pub lags: Summed<{ LAGS.len() }>,
}

/// The metrics of all transports.
#[derive(Debug)]
pub struct DeliveryMetrics {
    transports: Vec<TransportCounters>,
    byes: [AtomicU64; CloseReason::ALL.len()],
    published: [AtomicU64; PublishSource::ALL.len()],
    appends: Buckets<{ APPEND_BUCKETS.len() }>,
    failures: [AtomicU64; FAILURES.len()],
    /// Messages whose `exclude` is not a client id.
    pub ignored_excludes: Counter,
    /// The time at which the server started.
    pub began: Instant,
}

impl DeliveryMetrics {
    /// Makes the metrics for readers by these transports.
    pub fn new(transports: impl Iterator<Item = &'static dyn Transport>) -> DeliveryMetrics {
        let counters = |transport: &'static dyn Transport| TransportCounters {
            transport: transport.name(),
            open: AtomicI64::new(0),
            gaps: AtomicU64::new(0),
            rollovers: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            messages: AtomicU64::new(0),
            batches: Buckets::default(),
            lags: Buckets::default(),
        };
        DeliveryMetrics {
            transports: transports.map(counters).collect(),
            byes: Default::default(),
            published: Default::default(),
            appends: Buckets::default(),
            failures: Default::default(),
            ignored_excludes: Counter::default(),
            began: Instant::now(),
        }
    }
}

/// The way in which a message was published.
#[derive(Clone, Copy, Debug)]
pub enum PublishSource {
    /// By `POST /publish`.
    Http,
    /// A command on a WebSocket or on raw TCP published the message.
    Command,
    /// The application published the message, in an answer to the hook.
    Hook,
}

impl PublishSource {
    /// All sources, with their labels.
    pub const ALL: [(PublishSource, &'static str); 3] =
        [(PublishSource::Http, "http"), (PublishSource::Command, "command"), (PublishSource::Hook, "hook")];

    /// Its label.
    pub fn name(self) -> &'static str {
        PublishSource::ALL[self as usize].1
    }
}

impl DeliveryMetrics {
    /// Counts a reader as open while the result exists.
    pub fn open(self: &Arc<DeliveryMetrics>, transport: &'static str) -> ReaderMetrics {
        let index = self.transports.iter().position(|known| known.transport == transport).unwrap_or_default();
        self.transports[index].open.fetch_add(1, Relaxed);
        ReaderMetrics { metrics: self.clone(), index }
    }

    /// Counts a farewell.
    pub fn bye(&self, bye: CloseReason) {
        if let Some(index) = CloseReason::ALL.iter().position(|known| *known == bye) {
            self.byes[index].fetch_add(1, Relaxed);
        }
    }

    /// Counts messages that were published and are in the log.
    pub fn published(&self, source: PublishSource, messages: usize, began: Instant) {
        self.published[source as usize].fetch_add(messages as u64, Relaxed);
        self.appends.observe(&APPEND_BUCKETS, began.elapsed().as_secs_f64());
    }

    /// Counts an append that was not acknowledged.
    pub fn append_failed(&self, code: Code) {
        if let Some(index) = FAILURES.iter().position(|known| *known == code) {
            self.failures[index].fetch_add(1, Relaxed);
        }
    }

    /// The totals of each transport.
    pub fn totals(&self) -> Vec<Totals> {
        self.transports.iter().map(TransportCounters::totals).collect()
    }

    /// The number of farewells of each kind.
    pub fn byes(&self) -> impl Iterator<Item = (CloseReason, u64)> + '_ {
        CloseReason::ALL.iter().copied().zip(&self.byes).map(|(bye, count)| (bye, count.load(Relaxed)))
    }

    /// The number of messages from each source.
    pub fn sources(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        PublishSource::ALL.into_iter().map(|(source, name)| (name, self.published[source as usize].load(Relaxed)))
    }

    /// The durations of appends.
    pub fn appends(&self) -> Summed<{ APPEND_BUCKETS.len() }> {
        self.appends.read()
    }

    /// Appends that were not acknowledged, by code.
    pub fn failures(&self) -> impl Iterator<Item = (Code, u64)> + '_ {
        FAILURES.into_iter().zip(&self.failures).map(|(code, count)| (code, count.load(Relaxed)))
    }
}

/// The hub reports its writes here, by the index of the transport.
impl hub::FanOutObserver for DeliveryMetrics {
    fn fanned_out(&self, fanned: &FanOutReport<'_>) {
        let (Some(counters), Some(oldest)) = (self.transports.get(fanned.transport), fanned.messages.first()) else {
            return;
        };
        let each = fanned.messages.len();
        counters.bytes.fetch_add(fanned.bytes, Relaxed);
        counters.messages.fetch_add(fanned.writes * each as u64, Relaxed);
        counters.batches.observe_all(&BATCHES, each as f64, fanned.writes);
        // A parked reader was already connected when these messages came.
        if let Some(cursor) = oldest.cursor() {
            let lag = Duration::from_millis(wall_clock_ms().saturating_sub(cursor.id.ms));
            counters.lags.observe_all(&LAGS, lag.as_secs_f64(), fanned.writes);
        }
    }
}

impl TransportCounters {
    fn totals(&self) -> Totals {
        Totals {
            transport: self.transport,
            open: self.open.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            messages: self.messages.load(Relaxed),
            gaps: self.gaps.load(Relaxed),
            rollovers: self.rollovers.load(Relaxed),
            batches: self.batches.read(),
            lags: self.lags.read(),
        }
    }
}

/// The metrics of one reader. The reader counts as open while this value exists.
pub struct ReaderMetrics {
    metrics: Arc<DeliveryMetrics>,
    /// The transport's index in `transports`.
    index: usize,
}

impl ReaderMetrics {
    fn counters(&self) -> &TransportCounters {
        &self.metrics.transports[self.index]
    }

    /// The transport's name.
    pub fn transport(&self) -> &'static str {
        self.counters().transport
    }

    /// The index of the transport, for the hub.
    pub fn number(&self) -> usize {
        self.index
    }

    /// Counts bytes that were written.
    pub fn bytes(&self, bytes: usize) {
        self.counters().bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// Counts a batch that was written at `now` to a reader that has been connected since `since`. The oldest message
    /// of the batch determines the lag, unless it is older than the reader: a reader that returns with an old cursor
    /// does not lag.
    pub fn batch(&self, messages: &[Arc<Message>], since: Instant, now: Instant) {
        if messages.is_empty() {
            return;
        }
        let counters = self.counters();
        counters.messages.fetch_add(messages.len() as u64, Relaxed);
        counters.batches.observe(&BATCHES, messages.len() as f64);
        let Some(oldest) = messages.iter().find_map(|message| message.cursor()) else { return };
        // The log may use the clock of another machine. If that clock is ahead, the lag counts as zero.
        let lag = Duration::from_millis(wall_clock_ms().saturating_sub(oldest.id.ms));
        if lag <= now.saturating_duration_since(since) {
            counters.lags.observe(&LAGS, lag.as_secs_f64());
        }
    }

    /// Counts the response to a poll; the request arrived at `asked`.
    pub fn answer(&self, messages: &[Arc<Message>], has_gap: bool, asked: Instant) {
        self.batch(messages, asked, Instant::now());
        if has_gap {
            self.gap();
        }
    }

    /// Counts a gap that was reported.
    pub fn gap(&self) {
        self.counters().gaps.fetch_add(1, Relaxed);
    }

    /// Counts a farewell of this reader.
    pub fn bye(&self, bye: CloseReason) {
        self.metrics.bye(bye);
        if bye == CloseReason::Rollover {
            self.counters().rollovers.fetch_add(1, Relaxed);
        }
    }
}

impl Drop for ReaderMetrics {
    fn drop(&mut self) {
        self.counters().open.fetch_sub(1, Relaxed);
    }
}

/// The wall clock, in milliseconds since 1970.
fn wall_clock_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_millis() as u64)
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

    fn metrics() -> Arc<DeliveryMetrics> {
        Arc::new(DeliveryMetrics::new(crate::transport::ALL.iter().copied()))
    }

    fn of(metrics: &DeliveryMetrics, transport: &str) -> Totals {
        metrics.totals().into_iter().find(|totals| totals.transport == transport).expect("a transport")
    }

    #[test]
    fn counts_add_up_over_threads() {
        let metrics = metrics();
        let threads = (0..16).map(|_| {
            let reader = metrics.open("sse");
            std::thread::spawn(move || {
                let now = Instant::now();
                reader.batch(&[message(0), message(1)], now, now);
                reader.bytes(10);
                reader
            })
        });
        let kept: Vec<_> = threads.map(|thread| thread.join().expect("a thread")).collect();
        let totals = of(&metrics, "sse");
        assert_eq!((totals.open, totals.messages, totals.bytes), (16, 32, 160));
        assert_eq!((totals.batches.counts[1], totals.batches.count(), totals.batches.sum), (16, 16, 32.0));
        drop(kept);
        assert_eq!((of(&metrics, "sse").open, of(&metrics, "ws").messages), (0, 0));
    }

    #[test]
    fn writes_of_the_hub_count_by_transport() {
        let metrics = metrics();
        let reader = metrics.open("tcp");
        let ms = wall_clock_ms();
        let messages = [message(ms - 2000), message(ms)];
        hub::FanOutObserver::fanned_out(
            &*metrics,
            &FanOutReport { transport: reader.number(), writes: 3, bytes: 30, messages: &messages },
        );
        let totals = of(&metrics, "tcp");
        assert_eq!((totals.messages, totals.bytes, totals.batches.counts[1], totals.batches.sum), (6, 30, 3, 6.0));
        // The lag is more than one second and less than five seconds, because a busy machine may be late.
        assert_eq!((totals.lags.count(), totals.lags.counts[9]), (3, 3));
    }

    #[test]
    fn messages_older_than_their_reader_do_not_count_as_lag() {
        let metrics = metrics();
        let reader = metrics.open("ws");
        let now = Instant::now();
        let (ms, since) = (wall_clock_ms(), now - Duration::from_secs(5));
        reader.batch(&[message(ms - 300), message(ms)], since, now);
        reader.batch(&[message(ms - 20_000)], since, now);
        // This message comes from a machine whose clock is ahead.
        reader.batch(&[message(ms + 60_000)], since, now);
        let lags = of(&metrics, "ws").lags;
        assert_eq!((lags.count(), lags.counts[8], lags.counts[0]), (2, 1, 1));
        assert!((0.3..1.0).contains(&lags.sum), "{}", lags.sum);
    }

    #[test]
    fn byes_count_by_their_code() {
        let metrics = metrics();
        let reader = metrics.open("multipart");
        reader.bye(CloseReason::Rollover);
        reader.bye(CloseReason::Drain);
        metrics.bye(CloseReason::Drain);
        let byes: Vec<_> = metrics.byes().filter(|(_, count)| *count > 0).map(|(bye, n)| (bye.code(), n)).collect();
        assert_eq!((byes, of(&metrics, "multipart").rollovers), (vec![(4000, 1), (4001, 2)], 1));
    }
}
