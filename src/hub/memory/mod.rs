//! The retained log in this node's memory: a window in log order, and a ring for each channel.
//!
//! The tail, which is the only writer, uses [`intake`]. Readers use [`lookup`].

mod copy;
mod intake;
mod lookup;

pub(super) use copy::{Copier, Recipient};
pub(super) use lookup::Lookup;

use super::counts::{ChannelCounts, Retained};
use super::message_id::id_of;
use super::reader::Reader;
use crate::cursor::{Cursor, Epoch, Id};
use crate::log::subscriber_counts::Counts;
use crate::log::{Lineage, Retention};
use crate::message::{Channel, Extras, Kind, Message};
use slab::Slab;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;

pub(super) struct Memory {
    retention: Retention,
    /// The epochs and bounds of the log when the node last read them; `None` until the node has reached the log.
    view: Option<View>,
    /// Epochs that have ended and are not in the log; see [`intake::PAST_EPOCHS`].
    past: VecDeque<Epoch>,
    /// All retained messages with their channel's slot, in log order. For a message to several channels, the window
    /// holds one variant for each channel, one after the other.
    window: VecDeque<(Arc<Message>, usize)>,
    /// The number of messages in the window that are further variants of another message in it.
    further_variants: usize,
    /// The size of the messages in the window.
    bytes: usize,
    /// The retained control entries. They have bounds of their own, so that they never take the place of messages.
    control: ControlWindow,
    names: HashMap<Channel, usize>,
    slots: Slab<Slot>,
}

/// The retained control entries with their channels' slots, in log order.
#[derive(Default)]
struct ControlWindow {
    entries: VecDeque<(Arc<Message>, usize)>,
    bytes: usize,
    /// The log may have dropped entries up to here before this node has read them.
    floor: Id,
    /// The newest entries that this node has dropped. Each element is that of the channels with one hash, so that a
    /// session with many changes does not make other sessions lose theirs.
    dropped: BTreeMap<u16, Id>,
}

impl ControlWindow {
    /// The position after which all retained entries of a channel are in the window.
    fn floor_of(&self, channel: &Channel) -> Id {
        self.floor.max(self.dropped.get(&hash_of(channel)).copied().unwrap_or_default())
    }
}

/// A hash of ten bits: it bounds the memory for [`ControlWindow::dropped`].
fn hash_of(channel: &Channel) -> u16 {
    let mut hasher = DefaultHasher::new();
    channel.as_str().hash(&mut hasher);
    (hasher.finish() & 0x3ff) as u16
}

#[derive(Clone)]
struct View {
    lineage: Lineage,
    /// The log's own floor of control entries when the node last read it.
    control_floor: Id,
    /// The log's own floor when the node last read it. This node's floor is never below it.
    log_floor: Id,
    /// The newest entry that is missing from the middle of the log. Readers before it have to ask the log, even if this
    /// node still holds some of the entries in between.
    hole: Id,
    /// All entries after this position and up to the head are in the rings.
    floor: Id,
    head: Id,
}

/// A channel that has readers or retained messages. Any other channel does not take memory.
struct Slot {
    name: Channel,
    /// All messages of the channel after this position and up to the head are in the ring. The position is the
    /// channel's own floor: readers of a quiet channel do not fall behind because other channels are busy.
    since: Id,
    ring: VecDeque<Arc<Message>>,
    readers: Slab<Arc<Reader>>,
}

impl Slot {
    /// Drops the entry with this id. It is the first one, unless a reserved channel has messages and control entries,
    /// which are kept for different times.
    fn drop_oldest(&mut self, id: Id) {
        match self.ring.front() {
            Some(first) if id_of(first) != id => self.ring.retain(|entry| id_of(entry) != id),
            _ => drop(self.ring.pop_front()),
        }
    }
}

/// A reader's registration with a channel.
#[derive(Debug)]
pub(super) struct Registration {
    slot: usize,
    reader: usize,
    pub(super) channel: Channel,
}

impl Registration {
    /// The channel's slot in the memory. It stays the same while the registration lasts.
    pub(super) fn slot(&self) -> usize {
        self.slot
    }
}

impl Memory {
    pub(super) fn new(retention: Retention) -> Memory {
        Memory {
            retention,
            view: None,
            past: VecDeque::new(),
            window: VecDeque::new(),
            further_variants: 0,
            bytes: 0,
            control: ControlWindow::default(),
            names: HashMap::new(),
            slots: Slab::new(),
        }
    }

    pub(super) fn register(&mut self, channel: &Channel, reader: &Arc<Reader>) -> Registration {
        let slot = self.slot_of(channel);
        let reader = self.slots[slot].readers.insert(reader.clone());
        // Returns a name that all readers of the channel share, and not the caller's own copy.
        Registration { slot, reader, channel: self.slots[slot].name.clone() }
    }

    pub(super) fn unregister(&mut self, registration: &Registration) {
        let readers = &mut self.slots[registration.slot].readers;
        readers.remove(registration.reader);
        // When a reader leaves the channel, its place stays empty, and a fan-out looks at all places. Shrinking the
        // list also looks at all places, so it is not done each time.
        if readers.len().is_power_of_two() && readers.len() * 4 < readers.capacity() {
            readers.shrink_to_fit();
        }
        self.drop_if_unused(registration.slot);
    }

    fn slot_of(&mut self, channel: &Channel) -> usize {
        if let Some(slot) = self.names.get(channel) {
            return *slot;
        }
        // A reserved channel has only control entries that matter to its readers.
        let since = match channel.is_reserved() {
            true => self.control.floor_of(channel),
            false => self.view.as_ref().map_or(Id::ZERO, |view| view.floor.max(view.hole)),
        };
        let slot = Slot { name: channel.clone(), since, ring: VecDeque::new(), readers: Slab::new() };
        let slot = self.slots.insert(slot);
        self.names.insert(channel.clone(), slot);
        slot
    }

    fn drop_if_unused(&mut self, slot: usize) {
        let is_unused = |slot: &Slot| slot.ring.is_empty() && slot.readers.is_empty();
        if self.slots.get(slot).is_some_and(is_unused) {
            let slot = self.slots.remove(slot);
            self.names.remove(&slot.name);
        }
    }

    /// The position up to which the node has read.
    pub(super) fn cursor(&self) -> Option<Cursor> {
        self.view.as_ref().map(|view| Cursor { id: view.head, epoch: view.lineage.epoch })
    }

    /// The position after which the node retains all messages.
    pub(super) fn floor(&self) -> Option<Cursor> {
        self.view.as_ref().map(|view| Cursor { id: view.floor, epoch: view.lineage.epoch })
    }

    /// The newest entry that is missing from the middle of the log, or zero.
    pub(super) fn hole(&self) -> Id {
        self.view.as_ref().map_or(Id::ZERO, |view| view.hole)
    }

    pub(super) fn counts(&self, channel: &Channel) -> ChannelCounts {
        let mut counts = ChannelCounts::default();
        if let Some(slot) = self.names.get(channel).map(|slot| &self.slots[*slot]) {
            let waiting = slot.readers.iter().filter(|(_, reader)| reader.is_waiting());
            counts.readers = by_transport(waiting.filter_map(|(_, reader)| reader.transport));
            counts.retained = slot.ring.len();
            counts.last = slot.ring.back().and_then(|message| message.cursor());
        }
        counts
    }

    /// The number of retained messages.
    fn messages(&self) -> usize {
        self.window.len() - self.further_variants
    }

    pub(super) fn retained(&self) -> Retained {
        Retained { messages: self.messages(), bytes: self.bytes, channels: self.names.len(), read: 0 }
    }

    /// The channels that have readers who count.
    pub(super) fn read_channels(&self) -> impl Iterator<Item = &Channel> {
        self.names.iter().filter_map(|(name, slot)| {
            let counts = |(_, reader): (_, &Arc<Reader>)| reader.transport.is_some() && reader.is_waiting();
            self.slots[*slot].readers.iter().any(counts).then_some(name)
        })
    }

    /// All channels that have readers or retained messages.
    pub(super) fn channels(&self) -> impl Iterator<Item = &Channel> {
        self.names.keys()
    }

    /// The number of a channel's registrations, whether they are in use or free. `None` if there are no readers, or if
    /// the slot belongs to another channel by now.
    pub(super) fn registrations(&self, slot: usize, channel: &Channel) -> Option<usize> {
        let slot = self.slots.get(slot).filter(|slot| slot.name == *channel)?;
        (!slot.readers.is_empty()).then(|| slot.readers.capacity())
    }

    /// Copies out the readers in a range of a channel's registrations.
    pub(super) fn readers(&self, slot: usize, channel: &Channel, range: Range<usize>, out: &mut Vec<Arc<Reader>>) {
        if let Some(slot) = self.slots.get(slot).filter(|slot| slot.name == *channel) {
            let readers = || range.clone().filter_map(|index| slot.readers.get(index));
            readers().for_each(|reader| reader.touch());
            out.reserve(range.len());
            for reader in readers() {
                out.push(reader.clone());
            }
        }
    }

    /// The position of a channel's last message before its newest `n` messages; `None` if not all of these are
    /// retained.
    pub(super) fn before(&self, slot: usize, n: usize) -> Option<Id> {
        let slot = self.slots.get(slot)?;
        match slot.ring.len().checked_sub(n)? {
            0 => Some(slot.since),
            rest => slot.ring.get(rest - 1).map(|message| id_of(message)),
        }
    }

    pub(super) fn wake_all(&self) {
        for (_, slot) in &self.slots {
            for (_, reader) in &slot.readers {
                reader.wake();
            }
        }
    }

    pub(super) fn deliver_volatile(&self, message: &Arc<Message>) {
        match message.extras() {
            None => self.readers_of(message.channel()).for_each(|reader| reader.push_volatile(message)),
            Some(extras) if extras.kind == Kind::Message => self.deliver_volatile_once(message, extras),
            Some(_) => {}
        }
    }

    /// Delivers a volatile message to several channels: each reader gets the variant of the first channel that it
    /// reads.
    fn deliver_volatile_once(&self, message: &Arc<Message>, extras: &Extras) {
        let except = extras.except.iter().flat_map(|item| self.readers_of(item.channel()));
        let mut served: HashSet<*const Reader> = except.map(Arc::as_ptr).collect();
        for channel in message.channels() {
            let mut variant = None;
            for reader in self.readers_of(channel) {
                if served.insert(Arc::as_ptr(reader)) {
                    let variant = variant.get_or_insert_with(|| match channel == message.channel() {
                        true => message.clone(),
                        false => Arc::new(message.variant(channel)),
                    });
                    reader.push_volatile(variant);
                }
            }
        }
    }

    fn readers_of(&self, channel: &Channel) -> impl Iterator<Item = &Arc<Reader>> {
        let slot = self.names.get(channel).and_then(|slot| self.slots.get(*slot));
        slot.into_iter().flat_map(|slot| slot.readers.iter().map(|(_, reader)| reader))
    }
}

/// Counts by transport. A text is allocated for each transport and not for each reader, since there may be many
/// readers.
pub(super) fn by_transport(transports: impl Iterator<Item = &'static str>) -> Counts {
    let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
    for transport in transports {
        *counts.entry(transport).or_default() += 1;
    }
    counts.into_iter().map(|(transport, count)| (transport.to_owned(), count)).collect()
}
