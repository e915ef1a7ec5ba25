//! The hub: a node's memory of the log, by channel, and the readers that wait on it.
//!
//! One task follows the log's tail and is the only writer. Everything a reader may see - epoch, head,
//! floor, rings - changes in one step under one lock, so that a reader never sees a head without the
//! messages before it. A reader holds the lock only to copy pointers out.

mod memory;
mod subscription;
mod tail;
mod waiter;

pub use subscription::{Gap, Limit, Step, Subscription};

use crate::cursor::{Cursor, Id, Start};
use crate::log::{MessageLog, Retention};
use crate::message::{Channel, ClientId, Message};
use memory::Memory;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;
use waiter::Waiter;

/// A node's view of the log.
pub struct Hub {
    memory: RwLock<Memory>,
    log: Arc<dyn MessageLog>,
    /// Where the tail has come to; `None` until the log was read to its end for the first time.
    head: watch::Sender<Option<Cursor>>,
    /// Whether the log answers.
    reachable: watch::Sender<bool>,
}

/// What `/channels/{channel}` tells.
#[derive(Debug, Default)]
pub struct ChannelCounts {
    /// Connected readers on this node, by transport.
    pub readers: BTreeMap<&'static str, usize>,
    /// Messages in this node's memory.
    pub retained: usize,
    /// The newest of them.
    pub last: Option<Cursor>,
}

impl Hub {
    /// A hub over a log. [`Hub::follow`] makes it live.
    pub fn new(log: Arc<dyn MessageLog>, retention: Retention) -> Arc<Hub> {
        Arc::new(Hub {
            memory: RwLock::new(Memory::new(retention)),
            log,
            head: watch::channel(None).0,
            reachable: watch::channel(false).0,
        })
    }

    /// The log behind it.
    pub fn log(&self) -> &Arc<dyn MessageLog> {
        &self.log
    }

    /// Follows the log's tail for ever.
    pub async fn follow(self: Arc<Hub>) {
        tail::follow(&self).await;
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
        let there = |head: &Option<Cursor>| match head {
            Some(head) => head.id >= cursor.id || head.epoch != cursor.epoch,
            None => false,
        };
        let _ = self.head.subscribe().wait_for(there).await;
    }

    /// Opens a subscription. The hub must be [`ready`](Hub::ready).
    ///
    /// `last` begins `latest` with that many retained messages, and bounds what is replayed after a
    /// gap.
    pub fn subscribe(
        self: &Arc<Hub>,
        transport: &'static str,
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
        self.memory.read().is_well_retained(cursor)
    }

    /// Counts of one channel on this node.
    pub fn counts(&self, channel: &Channel) -> ChannelCounts {
        self.memory.read().counts(channel)
    }

    /// Wakes every reader, so that each looks at what concerns them all (a drain, say).
    pub fn wake_all(&self) {
        self.memory.read().wake_all();
    }

    fn seat(&self, channel: &Channel, waiter: &Arc<Waiter>) -> memory::Seat {
        self.memory.write().seat(channel, waiter)
    }

    fn unseat(&self, seats: &[memory::Seat]) {
        let mut memory = self.memory.write();
        for seat in seats {
            memory.unseat(seat);
        }
    }

    fn set_head(&self, head: Cursor) {
        self.head.send_replace(Some(head));
    }

    fn deliver_volatile(&self, message: &Arc<Message>) {
        self.memory.read().deliver_volatile(message);
    }
}

/// The id of a message of the log.
fn id_of(message: &Message) -> Id {
    message.cursor().map_or(Id::ZERO, |cursor| cursor.id)
}
