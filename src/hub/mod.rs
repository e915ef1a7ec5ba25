//! The hub: a node's memory of the log, by channel, and the readers that wait on it.
//!
//! One task follows the log's tail and is the only writer. Everything a reader may see - epoch, head,
//! floor, rings - changes in one step under one lock, so that a reader never sees a head without the
//! messages before it. A reader holds the lock only to copy pointers out.

mod census;
mod copy;
mod direct;
mod memory;
mod outlet;
mod presence;
mod subscription;
mod tail;
mod traffic;
mod waiter;

pub use direct::{LIMIT, Rest, Room, Written};
pub use outlet::{Encoded, Format, Layout, Outlet, OwnedFormat};
pub use subscription::{Gap, Limit, Step, Subscription};
pub use traffic::{Fanned, LANES, Meter, Tally};

use crate::cursor::{Cursor, Id, Start};
use crate::log::census::{Census, Change, Counts};
use crate::log::{MessageLog, Retention};
use crate::message::{Channel, ClientId, Message};
use memory::Memory;
use parking_lot::{Mutex, RwLock};
use presence::Presence;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tail::Tail;
use tokio::sync::watch;
use traffic::Traffic;
use waiter::Waiter;

/// A node's view of the log.
pub struct Hub {
    memory: RwLock<Memory>,
    log: Arc<dyn MessageLog>,
    /// Where the tail has come to; `None` until the log was read to its end for the first time.
    head: watch::Sender<Option<Cursor>>,
    /// How far readers were handed what it has brought, or how far it goes that nobody is to wait for any more.
    handed_out: watch::Sender<Option<Cursor>>,
    /// Whether the log answers.
    reachable: watch::Sender<bool>,
    presence: Mutex<Presence>,
    /// Present once the hub follows its log.
    tail: Mutex<Option<Tail>>,
    traffic: Traffic,
    /// Hears of the same by lane.
    meter: OnceLock<Arc<dyn Meter>>,
    /// Messages that were read from the log.
    read: AtomicU64,
}

/// What `/channels/{channel}` tells.
#[derive(Debug, Default)]
pub struct ChannelCounts {
    /// Connected readers on this node, without those that are counted by client id.
    pub readers: Counts,
    /// Polling clients that have come to this node.
    pub pollers: Counts,
    /// Messages in this node's memory.
    pub retained: usize,
    /// The newest of them.
    pub last: Option<Cursor>,
}

/// What a node's memory of the log holds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Retained {
    /// Messages.
    pub messages: usize,
    /// Their size, by [`Message::weight`].
    pub bytes: usize,
    /// Channels that are read or retain something.
    pub channels: usize,
    /// Messages that were ever read from the log.
    pub read: u64,
}

impl Hub {
    /// A hub over a log. [`Hub::follow`] makes it live. A polling client counts for `away` beyond its
    /// request.
    pub fn new(log: Arc<dyn MessageLog>, retention: Retention, away: Duration) -> Arc<Hub> {
        Arc::new(Hub {
            memory: RwLock::new(Memory::new(retention)),
            log,
            head: watch::channel(None).0,
            handed_out: watch::channel(None).0,
            reachable: watch::channel(false).0,
            presence: Mutex::new(Presence::new(away)),
            tail: Mutex::new(None),
            traffic: Traffic::default(),
            meter: OnceLock::new(),
            read: AtomicU64::new(0),
        })
    }

    /// The log behind it.
    pub fn log(&self) -> &Arc<dyn MessageLog> {
        &self.log
    }

    /// Tells the census of all nodes what changes on this one, for ever.
    pub async fn tell(self: Arc<Hub>, census: Arc<dyn Census>) {
        census::tell(&self, &*census).await;
    }

    /// Follows the log's tail for ever.
    pub async fn follow(self: Arc<Hub>) {
        tail::follow(&self).await;
    }

    /// Takes in what was just appended, if nobody else is about it. It is handed out in the tail's turn.
    pub fn advance(&self) {
        if let Some(mut tail) = self.tail.try_lock()
            && let Some(tail) = tail.as_mut()
        {
            tail.advance(self);
        }
    }

    /// Has somebody hear what is written to readers in the tail's own turn: the first who asks for it.
    pub fn meter_by(&self, meter: Arc<dyn Meter>) {
        let _ = self.meter.set(meter);
    }

    /// What was written to readers in the tail's own turn.
    pub fn traffic(&self) -> Tally {
        self.traffic.total()
    }

    /// Waits until the log was read to its end for the first time. Cancel safe.
    pub async fn ready(&self) {
        // The sender lives in self, so this cannot fail.
        let _ = self.head.subscribe().wait_for(Option::is_some).await;
    }

    /// Whether the log was read to its end and can be reached now.
    pub fn is_ready(&self) -> bool {
        self.head.borrow().is_some() && *self.reachable.borrow()
    }

    /// Waits until this node has read up to a cursor of its own epoch, so that who publishes reads
    /// what he wrote. Returns at once when the log has moved on to another epoch. Cancel safe.
    pub async fn reached(&self, cursor: Cursor) {
        if !self.has_reached(cursor) {
            let _ = self.head.subscribe().wait_for(|head| is_behind(cursor, *head)).await;
        }
    }

    /// Whether it has.
    pub fn has_reached(&self, cursor: Cursor) -> bool {
        is_behind(cursor, *self.head.borrow())
    }

    /// Waits until readers were handed all that this node has read by now, or left to their tasks; where they
    /// are many, until a thousand were. Not where several messages of one channel wait to go out in the same writes: the
    /// more they are, the fewer the writes. Cancel safe.
    pub async fn handed_out(&self) {
        let Some(head) = self.head() else { return };
        if self.tail.lock().as_ref().is_some_and(Tail::is_gathering) {
            return;
        }
        if !is_behind(head, *self.handed_out.borrow()) {
            let _ = self.handed_out.subscribe().wait_for(|handed_out| is_behind(head, *handed_out)).await;
        }
    }

    /// Opens a subscription. The hub must be [`ready`](Hub::ready).
    ///
    /// `last` begins `latest` with that many retained messages, and bounds what is replayed after a
    /// gap. It counts as a reader by `transport`, unless that is `None`.
    pub fn subscribe(
        self: &Arc<Hub>,
        transport: Option<&'static str>,
        channels: &[Channel],
        start: Start,
        last: Option<usize>,
        client: Option<ClientId>,
    ) -> Subscription {
        Subscription::open(self.clone(), transport, channels, start, last, client)
    }

    /// The position the node has read up to.
    pub fn head(&self) -> Option<Cursor> {
        *self.head.borrow()
    }

    /// Whether a reader at this cursor is far from falling off this node's memory: it stands in the
    /// younger half, by count and by age.
    pub fn is_well_retained(&self, cursor: Cursor) -> bool {
        self.memory.read().is_well_retained(cursor, self.log.now_ms())
    }

    /// What its memory holds.
    pub fn retained(&self) -> Retained {
        let retained = self.memory.read().retained();
        Retained { read: self.read.load(Ordering::Relaxed), ..retained }
    }

    /// Counts of one channel on this node.
    pub fn counts(&self, channel: &Channel) -> ChannelCounts {
        let mut counts = self.memory.read().counts(channel);
        counts.pollers = self.presence.lock().counts(channel);
        counts
    }

    /// A client polls these channels, and may take so long for it.
    pub fn polled<'a>(
        &self,
        transport: &'static str,
        channels: impl IntoIterator<Item = &'a Channel>,
        client: &ClientId,
        time: Duration,
    ) {
        self.presence.lock().polled(transport, channels, client, time);
    }

    /// A client that may have polled reads these channels by a stream or a socket now.
    pub fn left_polling(&self, channels: &[Channel], client: &ClientId) {
        self.presence.lock().left(channels, client);
    }

    /// The first channels by name that begin with a prefix, behind one that is given: those that are
    /// read here, or retain something. Takes time for each channel that there is.
    pub fn names(&self, prefix: &str, after: &str, limit: usize) -> Vec<Channel> {
        let mut least: BTreeSet<Channel> = BTreeSet::new();
        let mut offer = |channel: &Channel| {
            let name = channel.as_str();
            let is_wanted = name.starts_with(prefix) && name > after;
            // Most are only compared here: the lock is not held for sorting all of them.
            if is_wanted && (least.len() < limit || least.last().is_some_and(|greatest| channel < greatest)) {
                least.insert(channel.clone());
                if least.len() > limit {
                    least.pop_last();
                }
            }
        };
        self.memory.read().channels().for_each(&mut offer);
        self.presence.lock().channels().for_each(&mut offer);
        least.into_iter().collect()
    }

    /// What has changed for the other nodes' census, or everything.
    fn changes(&self, everything: bool) -> Vec<Change> {
        let mut presence = self.presence.lock();
        presence.track();
        if everything {
            presence.forget_told();
        }
        let (mut channels, clients) = presence.take();
        drop(presence);
        if everything {
            channels.extend(self.memory.read().channels().cloned());
        }
        let channels = channels.into_iter().map(|channel| {
            let counts = self.counts(&channel);
            Change::Channel(channel, counts.readers, !counts.pollers.is_empty())
        });
        // Channels first: where everything is told, the other nodes know of none until they come.
        channels.chain(clients).collect()
    }

    /// Wakes every reader, so that each looks at what concerns them all (a drain, say).
    pub fn wake_all(&self) {
        self.memory.read().wake_all();
    }

    fn seat(&self, channel: &Channel, waiter: &Arc<Waiter>) -> memory::Seat {
        let seat = self.memory.write().seat(channel, waiter);
        // After the change: told in between, the old counts would stand.
        self.presence.lock().touch(channel);
        seat
    }

    fn unseat(&self, seats: &[memory::Seat]) {
        let mut memory = self.memory.write();
        for seat in seats {
            memory.unseat(seat);
        }
        drop(memory);
        let mut presence = self.presence.lock();
        if presence.is_tracking() {
            seats.iter().for_each(|seat| presence.touch(&seat.channel));
        }
    }

    fn set_head(&self, head: Cursor) {
        tell(&self.head, head);
    }

    fn set_handed_out(&self, upto: Cursor) {
        tell(&self.handed_out, upto);
    }

    /// Whoever waits until what is read by now is handed out has waited long enough.
    fn wait_no_more(&self) {
        if let Some(head) = self.head() {
            self.set_handed_out(head);
        }
    }

    fn deliver_volatile(&self, message: &Arc<Message>) {
        self.memory.read().deliver_volatile(message);
    }
}

/// Tells a place to those who wait for it. Within an epoch it goes forward only: a fan-out that ends may be behind what it
/// has told while it lasted.
fn tell(place: &watch::Sender<Option<Cursor>>, cursor: Cursor) {
    place.send_if_modified(|known| {
        if is_behind(cursor, known.filter(|known| known.epoch == cursor.epoch)) {
            return false;
        }
        *known = Some(cursor);
        // To tell nobody costs as much as to tell somebody. Who comes later looks before he waits.
        place.receiver_count() > 0
    });
}

/// Whether a cursor's place is behind a node that has read up to `head`, or lost.
fn is_behind(cursor: Cursor, head: Option<Cursor>) -> bool {
    head.is_some_and(|head| head.id >= cursor.id || head.epoch != cursor.epoch)
}

/// The id of a message of the log.
fn id_of(message: &Message) -> Id {
    message.cursor().map_or(Id::ZERO, |cursor| cursor.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_goes_forward_only_but_into_another_epoch() {
        let (epoch, place) = (crate::cursor::Epoch::random(), watch::channel(None).0);
        let told = |n, epoch| {
            tell(&place, Cursor { id: Id { ms: n, seq: 0 }, epoch });
            place.borrow().map(|cursor| cursor.id.to_string())
        };
        assert_eq!(told(2, epoch).as_deref(), Some("2-0"));
        assert_eq!(told(1, epoch).as_deref(), Some("2-0"));
        assert_eq!(told(3, epoch).as_deref(), Some("3-0"));
        assert_eq!(told(1, crate::cursor::Epoch::random()).as_deref(), Some("1-0"));
    }
}
