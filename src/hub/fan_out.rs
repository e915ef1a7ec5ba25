//! Direct fan-out: the tail's own turn writes to sockets.
//!
//! A message for a thousand readers is a thousand `write`s. Waking a task for each of them costs nearly
//! as much again: a queue, a poll, a look into the ring, a timer. So a reader that parks leaves with the hub what
//! a delivery needs ([`Parking`](super::parking::Parking)): where it stands, and an
//! [`Outlet`](super::Outlet) to its socket. When the tail has taken news in, it goes through the channel's readers and
//! writes the same bytes to each, encoded once.
//!
//! Only the plain case is served in this way. The reader stands right before the news, no message excludes it, its
//! bounds have room for all of them, and its socket accepts all bytes at once. In *every* other case nothing is decided
//! here: the parking is closed and the reader's task is woken. The task does what it does without a fan-out, with its
//! own cursor, its gap rule and its deadline for a slow client. If a socket accepts only a part, its task writes the
//! rest before anything else, so that one batch is in flight.
//!
//! Two things keep both ways equal. First, a parking that is open belongs to the hub: the task writes nothing until it has
//! taken its state back ([`unpark`](super::Subscription::unpark)), and that takes the lock under which the hub
//! writes. Second, the hub compares positions, not events: a reader between *the channel's last message before
//! the news* and *the first of them* gets all of them; a reader behind them has had them; the task of any other looks
//! into the ring. So it does not matter which event overtakes which.
//!
//! A write never waits: the sockets do not block, and a full one is left to its task. After many writes the tail
//! lets other tasks run. With several threads, a large fan-out is divided among them.

use super::news::{FanOutShare, Messages, News};
use super::reader::Reader;
use super::undelivered::Undelivered;
use super::{Hub, LIMIT, id_of};
use crate::cursor::Cursor;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Writes of a fan-out after which other tasks may run, and after which publishers no longer wait for the end of the fan-out:
/// some ten milliseconds. They are counted and not timed: with a timer for each publish, tokio would wake itself each
/// time.
const WRITES_IN_A_ROW: usize = 1024;

/// How many readers of a channel are worth the work of another thread.
const READERS_A_THREAD: usize = 2048;

/// Hands news out to all readers of their channels.
pub(super) async fn fan_out(hub: &Arc<Hub>, mut undelivered: Undelivered, head: Option<Cursor>) {
    if undelivered.has_log_changed {
        hub.wake_all();
    }
    let Some(head) = head else { return };
    let channels = undelivered.by_channel();
    let slots = (channels.len() > 1).then(|| channels.iter().map(|(slot, _)| *slot).collect::<Arc<[usize]>>());
    let mut pacer = Pacer::default();
    for (slot, messages) in channels {
        let Some(news) = news(hub, slot, messages, head, slots.clone()) else { continue };
        let is_large = news.registrations > READERS_A_THREAD;
        let threads = if is_large { tokio::runtime::Handle::current().metrics().num_workers() } else { 1 };
        if threads > 1 {
            let news = Arc::new(news);
            let mut parts = JoinSet::new();
            for _ in 0..threads {
                let (hub, news) = (hub.clone(), news.clone());
                parts.spawn(async move { hand_out(&hub, &news, &mut Pacer::default()).await });
            }
            // The next news waits: a queue of unfinished fan-outs would have no bound.
            while parts.join_next().await.is_some() {}
            pacer.wrote(hub, news.registrations / threads).await;
        } else {
            hand_out(hub, &news, &mut pacer).await;
        }
    }
}

/// What a fan-out has to know about a channel. `None` if it has no readers.
fn news(hub: &Hub, slot: usize, messages: Messages, head: Cursor, channels: Option<Arc<[usize]>>) -> Option<News> {
    let (first, last) = (id_of(messages.first()?), id_of(messages.last()?));
    let is_for_all = messages.iter().all(|message| message.is_for_all());
    let memory = hub.memory.read();
    let registrations = memory.registrations(slot, messages[0].channel())?;
    let bytes: usize = messages.iter().map(|message| message.object().len()).sum();
    let before = memory.before(slot, messages.len()).filter(|_| messages.len() == 1 || bytes <= LIMIT.bytes);
    drop(memory);
    // No reader can stand right before the last message: this leaves the news to all tasks.
    let before = before.unwrap_or(last);
    let next = AtomicUsize::new(0);
    Some(News { slot, messages, before, first, last, head, channels, is_for_all, registrations, next })
}

/// Lets other tasks run after many writes. The count continues from one channel to the next.
#[derive(Default)]
struct Pacer {
    /// Writes since others could run.
    writes: usize,
    /// The readers that are written to next. The list is kept so that its memory is reused.
    readers: Vec<Arc<Reader>>,
}

impl Pacer {
    /// Notes writes. After many of them it lets other tasks run, and lets the publishers continue that wait for the
    /// end.
    async fn wrote(&mut self, hub: &Hub, readers: usize) {
        self.writes += readers;
        if self.writes >= WRITES_IN_A_ROW {
            self.writes = 0;
            hub.wait_no_more();
            tokio::task::yield_now().await;
        }
    }
}

/// Hands news to those readers of a channel that no other thread has taken.
async fn hand_out(hub: &Hub, news: &News, pacer: &mut Pacer) {
    let mut share = FanOutShare::default();
    while let Some(registrations) = news.next_registrations() {
        hub.memory.read().readers(news.slot, news.messages[0].channel(), registrations, &mut pacer.readers);
        let now = Instant::now();
        for reader in &pacer.readers {
            reader.offer(news, &mut share, now);
        }
        let written = pacer.readers.len();
        pacer.readers.clear();
        pacer.wrote(hub, written).await;
    }
    hub.fan_out_stats.add(&share.counts);
    if let Some(observer) = hub.fan_out_observer.get() {
        share.transports.report(&**observer, &news.messages);
    }
}
