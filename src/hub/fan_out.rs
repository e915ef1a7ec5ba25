//! Direct fan-out: the task that follows the log writes to sockets itself.
//!
//! A message for a thousand readers takes a thousand `write`s. If the hub also woke a task for each reader, a delivery
//! would cost nearly twice as much: a wake-up takes a queue, a poll, a search in the ring and a timer. So a reader that
//! parks leaves two things with the hub for a delivery ([`Parking`](super::parking::Parking)): its position, and an
//! [`Outlet`](super::Outlet) to its socket. When the tail has read new messages, it goes through the channel's readers
//! and writes the same bytes to each. The bytes are encoded once.
//!
//! The hub writes only in the plain case:
//! - The reader's position is right before the new messages.
//! - No message excludes the reader.
//! - No other channel of the reader has news (for example, another variant of the message).
//! - The reader's bounds have room for all messages.
//! - The socket accepts all bytes at once.
//!
//! In *every* other case the hub does not decide anything: it ends the parking and wakes the reader's task. The task
//! then delivers the messages itself, with its own cursor, its gap rule and its deadline for a slow client. If a socket
//! accepts only a part of the bytes, the reader's task writes the rest before anything else, so that only one batch is
//! in flight.
//!
//! Two rules ensure that both ways of delivery have the same result. First, while a reader is parked, only the hub
//! writes: the task does not write until it has taken its state back ([`unpark`](super::Subscription::unpark)). To take
//! it back, the task needs the lock that the hub holds while it writes. Second, the hub compares positions, not events:
//! a reader between *the channel's last message before the new ones* and *the first new one* gets all new messages. A
//! reader past the new messages already has them. The task of any other reader looks for messages in the ring. So the
//! order in which events arrive does not matter.
//!
//! A write never waits: the sockets do not block, and the reader's task handles a socket that is full. After many
//! writes the tail lets other tasks run. With several threads, a large fan-out is divided among them.

use super::Hub;
use super::limit::LIMIT;
use super::message_id::id_of;
use super::news::{FanOutShare, Messages, News};
use super::reader::Reader;
use super::undelivered::Undelivered;
use crate::cursor::Cursor;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The number of writes that a fan-out makes in a row (about ten milliseconds). Then the fan-out lets other tasks run,
/// and publishers no longer wait for the end of the fan-out. Writes are counted instead of timed: with a timer for each
/// publish, tokio would wake itself each time.
const WRITES_IN_A_ROW: usize = 1024;

/// The number of readers of a channel above which a fan-out uses several threads.
const READERS_A_THREAD: usize = 2048;

/// Delivers new messages to all readers of their channels.
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
            // The next messages have to wait, because a queue of unfinished fan-outs would be unbounded.
            while parts.join_next().await.is_some() {}
            pacer.wrote(hub, news.registrations / threads).await;
        } else {
            hand_out(hub, &news, &mut pacer).await;
        }
    }
}

/// The data about a channel that a fan-out needs; `None` if the channel has no readers.
fn news(hub: &Hub, slot: usize, messages: Messages, head: Cursor, channels: Option<Arc<[usize]>>) -> Option<News> {
    let (first, last) = (id_of(messages.first()?), id_of(messages.last()?));
    let is_for_all = messages.iter().all(|message| message.is_for_all());
    let has_members = !is_for_all && messages.iter().any(|message| !message.is_for_readers());
    let excludes_channels = !is_for_all && messages.iter().any(|message| message.excludes_channels());
    let memory = hub.memory.read();
    let registrations = memory.registrations(slot, messages[0].channel())?;
    let bytes: usize = messages.iter().map(|message| message.object().len()).sum();
    let before = memory.before(slot, messages.len()).filter(|_| messages.len() == 1 || bytes <= LIMIT.bytes);
    drop(memory);
    // With this value, no reader's position counts as right before the new messages, so the task of every reader reads
    // them itself.
    let before = before.unwrap_or(last);
    let next = AtomicUsize::new(0);
    Some(News {
        slot,
        messages,
        before,
        first,
        last,
        head,
        channels,
        is_for_all,
        excludes_channels,
        has_members,
        registrations,
        next,
    })
}

/// Lets other tasks run after many writes. The count continues from one channel to the next.
#[derive(Default)]
struct Pacer {
    /// The number of writes since other tasks could run.
    writes: usize,
    /// The readers to write to next. The list is kept from one fan-out to the next, so that its memory is reused.
    readers: Vec<Arc<Reader>>,
}

impl Pacer {
    /// Counts writes. After many writes it lets other tasks run. Publishers that wait for the end of the fan-out may
    /// then continue.
    async fn wrote(&mut self, hub: &Hub, readers: usize) {
        self.writes += readers;
        if self.writes >= WRITES_IN_A_ROW {
            self.writes = 0;
            hub.wait_no_more();
            tokio::task::yield_now().await;
        }
    }
}

/// Delivers new messages to the readers of a channel that no other thread serves.
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
