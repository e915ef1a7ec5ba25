//! The hub's state, and what readers, publishers and the tail ask it.

use super::counts::{ChannelCounts, Retained};
use super::fan_out_stats::{FanOutCounts, FanOutObserver, FanOutStats};
use super::memory::{Memory, Registration};
use super::polling_clients::PollingClients;
use super::reader::Reader;
use super::tail_state::Tail;
use crate::cursor::Cursor;
use crate::log::subscriber_counts::CountChange;
use crate::log::{MessageLog, Retention};
use crate::message::{Channel, ClientId, Message};
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::watch;

/// A node's view of the log.
pub struct Hub {
    pub(super) memory: RwLock<Memory>,
    pub(super) log: Arc<dyn MessageLog>,
    /// The position of the tail; `None` until the tail has read the log to its end for the first time.
    head: watch::Sender<Option<Cursor>>,
    /// The position up to which messages were delivered to readers, or up to which publishers no longer wait for the
    /// delivery.
    handed_out: watch::Sender<Option<Cursor>>,
    /// Whether the log can be reached.
    pub(super) reachable: watch::Sender<bool>,
    polling: Mutex<PollingClients>,
    /// The tail; `None` until the hub follows its log.
    pub(super) tail: Mutex<Option<Tail>>,
    pub(super) fan_out_stats: FanOutStats,
    /// Receives the counts of fan-outs, by transport.
    pub(super) fan_out_observer: OnceLock<Arc<dyn FanOutObserver>>,
    /// The number of messages that were read from the log.
    pub(super) read: AtomicU64,
}

impl Hub {
    /// Makes a hub for a log; [`Hub::follow`] starts it. A polling client counts as a reader until `away` after the end
    /// of its request.
    pub fn new(log: Arc<dyn MessageLog>, retention: Retention, away: Duration) -> Arc<Hub> {
        Arc::new(Hub {
            memory: RwLock::new(Memory::new(retention)),
            log,
            head: watch::channel(None).0,
            handed_out: watch::channel(None).0,
            reachable: watch::channel(false).0,
            polling: Mutex::new(PollingClients::new(away)),
            tail: Mutex::new(None),
            fan_out_stats: FanOutStats::default(),
            fan_out_observer: OnceLock::new(),
            read: AtomicU64::new(0),
        })
    }

    /// The log behind the hub.
    pub fn log(&self) -> &Arc<dyn MessageLog> {
        &self.log
    }

    /// Sets the observer that receives the counts of fan-outs. Only the first call has an effect.
    pub fn observe_fan_out(&self, observer: Arc<dyn FanOutObserver>) {
        let _ = self.fan_out_observer.set(observer);
    }

    /// The statistics of fan-outs since the start.
    pub fn fan_out_counts(&self) -> FanOutCounts {
        self.fan_out_stats.total()
    }

    /// Waits until the node has read the log to its end for the first time. Cancel safe.
    pub async fn ready(&self) {
        // The sender is a part of `self`, so waiting cannot fail.
        let _ = self.head.subscribe().wait_for(Option::is_some).await;
    }

    /// Whether the node has read the log to its end and can reach it now.
    pub fn is_ready(&self) -> bool {
        self.head.borrow().is_some() && *self.reachable.borrow()
    }

    /// Waits until this node has read up to a cursor of its own epoch, so that a publisher can read its own message.
    /// Returns at once if the log has moved on to another epoch. Cancel safe.
    pub async fn reached(&self, cursor: Cursor) {
        if !self.has_reached(cursor) {
            let _ = self.head.subscribe().wait_for(|head| is_behind(cursor, *head)).await;
        }
    }

    /// Whether this node has read up to a cursor, or the log has left the cursor's epoch.
    pub fn has_reached(&self, cursor: Cursor) -> bool {
        is_behind(cursor, *self.head.borrow())
    }

    /// Waits until all messages that this node has read so far were written to readers or left to the readers' tasks.
    /// If there are many readers, it waits for the first thousand. It does not wait if several messages of one channel
    /// are being gathered for the same writes: more messages in one write mean fewer writes. Cancel safe.
    pub async fn handed_out(&self) {
        let Some(head) = self.head() else { return };
        if self.tail.lock().as_ref().is_some_and(Tail::is_gathering) {
            return;
        }
        if !is_behind(head, *self.handed_out.borrow()) {
            let _ = self.handed_out.subscribe().wait_for(|handed_out| is_behind(head, *handed_out)).await;
        }
    }

    /// The position up to which the node has read.
    pub fn head(&self) -> Option<Cursor> {
        *self.head.borrow()
    }

    /// Whether a reader at this cursor is far from falling behind this node's memory: it is in the younger half, by
    /// count and by age.
    pub fn is_well_retained(&self, cursor: Cursor) -> bool {
        self.memory.read().is_well_retained(cursor, self.log.now_ms())
    }

    /// A cursor's position in the node's present epoch; `None` if the node does not know the cursor's epoch.
    pub fn place(&self, cursor: Cursor) -> Option<Cursor> {
        self.memory.read().place(cursor)
    }

    /// Whether a cursor is proven to come before another one.
    pub fn precedes(&self, one: Cursor, other: Cursor) -> bool {
        self.memory.read().precedes(one, other)
    }

    /// Waits until this node has read up to a cursor, which may be that of an epoch that the node does not know yet.
    /// Cancel safe.
    pub async fn reached_in_lineage(&self, cursor: Cursor) {
        let is_there = |head: &Option<Cursor>| {
            let place = self.place(cursor);
            head.is_some_and(|head| place.is_some_and(|place| head.epoch == place.epoch && head.id >= place.id))
        };
        let _ = self.head.subscribe().wait_for(is_there).await;
    }

    /// The position up to which these channels have no entries after `cursor`: the node's own position, if the memory
    /// tells so, and otherwise `cursor` itself.
    pub fn unchanged_until(&self, channels: &[Channel], cursor: Cursor) -> Cursor {
        self.memory.read().unchanged_until(channels, cursor)
    }

    /// The size of the node's memory.
    pub fn retained(&self) -> Retained {
        let retained = self.memory.read().retained();
        Retained { read: self.read.load(Ordering::Relaxed), ..retained }
    }

    /// Counts of one channel on this node.
    pub fn counts(&self, channel: &Channel) -> ChannelCounts {
        let mut counts = self.memory.read().counts(channel);
        counts.pollers = self.polling.lock().counts(channel);
        counts
    }

    /// Records that a client polls these channels. The request may take up to `time`.
    pub fn polled<'a>(
        &self,
        transport: &'static str,
        channels: impl IntoIterator<Item = &'a Channel>,
        client: &ClientId,
        time: Duration,
    ) {
        self.polling.lock().polled(transport, channels, client, time);
    }

    /// Records that a client, which may have polled before, now reads these channels by a stream or a socket.
    pub fn left_polling(&self, channels: &[Channel], client: &ClientId) {
        self.polling.lock().left(channels, client);
    }

    /// Returns the first `limit` channels in the order of their names. Each name begins with `prefix` and comes after
    /// `after`, and each channel has readers or retained messages here. Reserved channels are left out. The call takes
    /// time in proportion to the number of all channels.
    pub fn names(&self, prefix: &str, after: &str, limit: usize) -> Vec<Channel> {
        let mut least: BTreeSet<Channel> = BTreeSet::new();
        let mut offer = |channel: &Channel| {
            let name = channel.as_str();
            let is_wanted = name.starts_with(prefix) && name > after && !channel.is_reserved();
            // Most names are only compared, so that the lock is not held while all of them are sorted.
            if is_wanted && (least.len() < limit || least.last().is_some_and(|greatest| channel < greatest)) {
                least.insert(channel.clone());
                if least.len() > limit {
                    least.pop_last();
                }
            }
        };
        self.memory.read().channels().for_each(&mut offer);
        self.polling.lock().channels().for_each(&mut offer);
        least.into_iter().collect()
    }

    /// The channels that have readers on this node.
    pub fn occupied(&self) -> Vec<Channel> {
        let mut channels: BTreeSet<Channel> = self.memory.read().read_channels().cloned().collect();
        channels.extend(self.polling.lock().channels().cloned());
        channels.retain(|channel| !channel.is_reserved());
        channels.into_iter().collect()
    }

    /// The changes of this node's counts since the last report, or all counts.
    pub(super) fn changes(&self, everything: bool) -> Vec<CountChange> {
        let mut polling = self.polling.lock();
        polling.track();
        if everything {
            polling.report_all();
        }
        let (mut channels, clients) = polling.take_changes();
        drop(polling);
        if everything {
            channels.extend(self.memory.read().channels().filter(|channel| !channel.is_reserved()).cloned());
        }
        let channels = channels.into_iter().map(|channel| {
            let counts = self.counts(&channel);
            CountChange::Channel(channel, counts.readers, !counts.pollers.is_empty())
        });
        // Channels come first: before a full report, the other nodes do not know the channels of this node.
        channels.chain(clients).collect()
    }

    /// Wakes every reader, so that each checks for a change that concerns all readers (for example, a drain).
    pub fn wake_all(&self) {
        self.memory.read().wake_all();
    }

    pub(super) fn register(&self, channel: &Channel, reader: &Arc<Reader>) -> Registration {
        let registration = self.memory.write().register(channel, reader);
        // The change is recorded after it was made: otherwise a report in between would contain the old counts.
        if !channel.is_reserved() {
            self.polling.lock().touch(channel);
        }
        registration
    }

    pub(super) fn unregister(&self, registrations: &[Registration]) {
        let mut memory = self.memory.write();
        for registration in registrations {
            memory.unregister(registration);
        }
        drop(memory);
        let mut polling = self.polling.lock();
        if polling.is_tracking() {
            let counted = registrations.iter().filter(|registration| !registration.channel.is_reserved());
            counted.for_each(|registration| polling.touch(&registration.channel));
        }
    }

    pub(super) fn set_head(&self, head: Cursor) {
        advance(&self.head, head);
    }

    pub(super) fn set_handed_out(&self, upto: Cursor) {
        advance(&self.handed_out, upto);
    }

    /// Wakes all tasks that wait for the delivery of the messages that were read so far.
    pub(super) fn wait_no_more(&self) {
        if let Some(head) = self.head() {
            self.set_handed_out(head);
        }
    }

    pub(super) fn deliver_volatile(&self, message: &Arc<Message>) {
        self.memory.read().deliver_volatile(message);
    }
}

/// Moves a position forward and wakes the tasks that wait for it. Within an epoch the position never goes back,
/// although a fan-out may end at a lower position than one that was announced earlier.
fn advance(position: &watch::Sender<Option<Cursor>>, cursor: Cursor) {
    position.send_if_modified(|known| {
        if is_behind(cursor, known.filter(|known| known.epoch == cursor.epoch)) {
            return false;
        }
        *known = Some(cursor);
        // Without this check, a notification would cost the same with and without receivers. A later receiver checks
        // the value before it waits.
        position.receiver_count() > 0
    });
}

/// Whether a node that has read up to `head` has read up to this cursor, or the log is now in another epoch.
fn is_behind(cursor: Cursor, head: Option<Cursor>) -> bool {
    head.is_some_and(|head| head.id >= cursor.id || head.epoch != cursor.epoch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::{Epoch, Id};

    #[test]
    fn a_position_never_goes_back_within_an_epoch() {
        let (epoch, position) = (Epoch::random(), watch::channel(None).0);
        let told = |n, epoch| {
            advance(&position, Cursor { id: Id { ms: n, seq: 0 }, epoch });
            position.borrow().map(|cursor| cursor.id.to_string())
        };
        assert_eq!(told(2, epoch).as_deref(), Some("2-0"));
        assert_eq!(told(1, epoch).as_deref(), Some("2-0"));
        assert_eq!(told(3, epoch).as_deref(), Some("3-0"));
        assert_eq!(told(1, Epoch::random()).as_deref(), Some("1-0"));
    }
}
