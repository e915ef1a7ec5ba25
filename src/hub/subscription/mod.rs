//! A reader: a set of channels and a cursor.
//!
//! This file has the methods that transports call to change and query a subscription. [`step`] reads messages.

mod outside_memory;
mod step;

pub use step::{Gap, Step};

use super::Hub;
use super::memory::Registration;
use super::outlet::Outlet;
use super::parking::{Allowance, Written};
use super::reader::Reader;
use crate::cursor::{Cursor, Epoch, Id, Start};
use crate::message::{Channel, ClientId};
use outside_memory::{LogRequest, OutsideMemory};
use smallvec::SmallVec;
use std::sync::Arc;

/// A reader with a cursor over any set of channels.
///
/// It reads only from the log and from the node's memory of the log. So a reader does not need a buffer when it changes
/// from old messages to new ones. A reader that falls behind the memory is handled like a reader with an old cursor.
pub struct Subscription {
    hub: Arc<Hub>,
    reader: Arc<Reader>,
    registrations: SmallVec<[Registration; 1]>,
    at: Cursor,
    client: Option<ClientId>,
    /// The maximum number of messages that are replayed after a gap.
    last: Option<u32>,
    has_begun: bool,
    /// Whether the subscription also reads entries about members that join or leave.
    reads_members: bool,
    /// Whether the subscription has given up its registrations and does not count as a reader.
    is_away: bool,
    /// The state of a reader whose position is not in the node's memory; `None` for all other readers.
    outside: Option<Box<OutsideMemory>>,
    /// The position that the reader had in the previous log when the present log replaced that log.
    left: Option<Box<Cursor>>,
}

impl Subscription {
    pub(super) fn open(
        hub: Arc<Hub>,
        transport: Option<&'static str>,
        channels: &[Channel],
        start: Start,
        last: Option<usize>,
        client: Option<ClientId>,
    ) -> Subscription {
        // A hub does not have a head until it has read its log. Such a hub is not ready, so this position is never
        // used.
        let nowhere = Cursor { id: Id::ZERO, epoch: Epoch::random() };
        let reader = Reader::new(transport);
        let mut subscription = Subscription {
            hub,
            reader,
            registrations: SmallVec::new(),
            at: nowhere,
            client,
            last: None,
            has_begun: false,
            reads_members: false,
            is_away: false,
            outside: None,
            left: None,
        };
        for channel in channels {
            subscription.register(channel);
        }
        subscription.park_slots();
        subscription.start(start, last);
        subscription
    }

    /// Moves to the position at which a reader that has not read yet wants to begin.
    pub fn start(&mut self, start: Start, last: Option<usize>) {
        let memory = self.hub.memory.read();
        let at = match (start, last) {
            (Start::After(cursor), _) => Some(cursor),
            (Start::Earliest, _) => memory.floor(),
            (Start::Latest, None) => memory.cursor(),
            (Start::Latest, Some(n)) => memory
                .floor()
                .map(|floor| Cursor { id: memory.nth_newest(&self.registrations, n, floor.id), epoch: floor.epoch }),
        };
        let hole = memory.hole();
        drop(memory);
        self.last = last.map(|last| u32::try_from(last).unwrap_or(u32::MAX));
        self.set_at(at.unwrap_or(self.at));
        let is_fresh = !matches!((start, last), (Start::After(_), _) | (Start::Latest, None));
        if is_fresh {
            self.outside = Some(Box::new(OutsideMemory { request: LogRequest::NotAsked, told: hole, is_fresh }));
        }
    }

    /// Goes on at an earlier position, if that is proven to be one.
    pub fn go_back(&mut self, at: Cursor) {
        if self.hub.memory.read().precedes(at, self.at) {
            self.set_at(at);
        }
    }

    /// The position up to which these channels have no entries after `cursor`; see [`Hub::unchanged_until`].
    pub fn unchanged_until(&self, channels: &[Channel], cursor: Cursor) -> Cursor {
        self.hub.unchanged_until(channels, cursor)
    }

    /// The position up to which [`poll_step`](Subscription::poll_step) has returned all messages of the channels.
    pub fn cursor(&self) -> Cursor {
        self.at
    }

    /// Whether a gap follows: the subscription has read its epoch up to a position, and the log has lost all entries of
    /// the epoch after this position.
    pub fn is_at_cut(&self) -> bool {
        self.hub.memory.read().is_at_cut(self.at)
    }

    /// The client. The subscription does not receive messages that exclude this client.
    pub fn client(&self) -> Option<&ClientId> {
        self.client.as_ref()
    }

    /// Names the client.
    pub fn set_client(&mut self, client: ClientId) {
        self.reader.parking().client = Some(client.clone());
        self.client = Some(client);
    }

    /// Sets whether the subscription also reads entries about members that join or leave.
    pub fn read_members(&mut self, reads_members: bool) {
        self.reader.parking().reads_members = reads_members;
        self.reads_members = reads_members;
    }

    /// Gives the hub a way to write to the reader while it is parked.
    pub fn set_outlet(&mut self, outlet: Box<dyn Outlet>) {
        self.reader.parking().client = self.client.clone();
        self.reader.set_outlet(outlet);
    }

    /// Parks the reader after a [`Step::Idle`]. From now on, the hub may write messages within the allowance, and then
    /// moves the cursor. Only the hub may write to the socket until [`unpark`](Subscription::unpark).
    pub fn park(&mut self, allowance: Allowance) {
        if self.outside.is_some() || self.registrations.is_empty() || self.reader.outlet().is_none() {
            return;
        }
        self.reader.parking().park(self.at, allowance);
    }

    /// Takes the parked state back, so that the hub stops writing. Returns the hub's writes. Call it before a step,
    /// whether or not the reader has parked: then the hub's writes cannot overtake later ones.
    pub fn unpark(&mut self) -> Written {
        let Some((at, written)) = self.reader.parking().unpark() else { return Written::default() };
        self.set_at(at);
        written
    }

    /// Whether the subscription has ever read a channel. Before that it keeps its initial position.
    pub fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// The number of channels that the subscription reads.
    pub fn channels(&self) -> usize {
        self.registrations.len()
    }

    /// Whether the subscription reads this channel.
    pub fn reads(&self, channel: &Channel) -> bool {
        self.registrations.iter().any(|registration| registration.channel == *channel)
    }

    /// Adds a channel. The subscription reads it from the present position on.
    pub fn add(&mut self, channel: &Channel) {
        if self.register(channel) {
            self.park_slots();
            self.drop_request();
        }
    }

    fn register(&mut self, channel: &Channel) -> bool {
        let is_new = !self.reads(channel);
        if is_new {
            self.registrations.push(self.hub.register(channel, &self.reader));
            self.has_begun = true;
        }
        is_new
    }

    /// Stops reading a channel.
    pub fn remove(&mut self, channel: &Channel) {
        if let Some(index) = self.registrations.iter().position(|registration| registration.channel == *channel) {
            let registration = self.registrations.swap_remove(index);
            self.hub.unregister(&[registration]);
            self.park_slots();
            self.drop_request();
        }
    }

    /// Gives up the registrations: until it has [come back](Subscription::come_back), the subscription does not count
    /// as a reader and is not woken.
    pub fn leave(&mut self) {
        if !std::mem::replace(&mut self.is_away, true) {
            self.hub.unregister(&self.registrations);
            self.drop_request();
            // A reader misses the volatile messages that are sent while it is away, so it must not get old ones when it
            // returns.
            drop(self.reader.take_volatile());
        }
    }

    /// Reads the same channels again, from a new start.
    pub fn come_back(&mut self, start: Start) {
        if std::mem::take(&mut self.is_away) {
            for registration in &mut self.registrations {
                *registration = self.hub.register(&registration.channel, &self.reader);
            }
            self.park_slots();
        }
        self.start(start, self.last.map(|last| last as usize));
    }

    /// The channels that the subscription reads.
    pub fn names(&self) -> impl Iterator<Item = &Channel> {
        self.registrations.iter().map(|registration| &registration.channel)
    }

    fn set_at(&mut self, at: Cursor) {
        if at != self.at {
            self.at = at;
            self.settle();
        }
    }

    /// Drops a question to the log that concerned other channels.
    fn drop_request(&mut self) {
        if self.is_asking() {
            self.settle();
        }
    }

    fn is_asking(&self) -> bool {
        self.outside.as_deref().is_some_and(|outside| matches!(outside.request, LogRequest::UnderWay(_)))
    }

    /// Forgets the question and the answer about the previous position. A gap that was reported to the reader still
    /// counts up to its end.
    fn settle(&mut self) {
        if let Some(outside) = self.outside.as_deref_mut() {
            outside.request = LogRequest::NotAsked;
            if outside.told <= self.at.id {
                self.outside = None;
            }
        }
    }

    fn park_slots(&self) {
        self.reader.parking().set_slots(self.registrations.iter().map(Registration::slot));
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if !self.is_away {
            self.hub.unregister(&self.registrations);
        }
    }
}
