//! The retained log in this node's memory: a window in log order and a ring a channel.

use super::copy::{Taken, copy_one, unseen};
use super::waiter::Waiter;
use super::{ChannelCounts, Limit, Retained, id_of};
use crate::cursor::{Cursor, Epoch, Id};
use crate::log::census::Counts;
use crate::log::{Descent, Extent, Lineage, Resolved, Retention};
use crate::message::{Channel, ClientId, Message};
use slab::Slab;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

/// Epochs that this node remembers as gone. A cursor of one of them is a gap at once; of an unknown
/// one the log is asked, since it may be newer than this node.
const PAST_EPOCHS: usize = 64;

pub(super) struct Memory {
    retention: Retention,
    view: Option<View>,
    past: VecDeque<Epoch>,
    /// All retained messages with their channel's slot, in log order.
    window: VecDeque<(Arc<Message>, usize)>,
    bytes: usize,
    names: HashMap<Channel, usize>,
    slots: Slab<Slot>,
}

#[derive(Clone)]
struct View {
    lineage: Lineage,
    /// The log's own floor when it was last looked at. This node's is never below it.
    log_floor: Id,
    /// The newest entry that is missing from the middle of the log. Readers before it have to ask the log, also where
    /// this node still holds some of what lies between.
    hole: Id,
    /// All entries behind this position and up to the head are in the rings.
    floor: Id,
    head: Id,
}

/// A channel that is read or that retains something; any other costs nothing.
struct Slot {
    name: Channel,
    /// All messages of the channel behind this position and up to the head are in the ring. It is
    /// the channel's own floor: a quiet channel's readers do not age because others are busy.
    since: Id,
    ring: VecDeque<Arc<Message>>,
    readers: Slab<Arc<Waiter>>,
}

/// A reader's place in a channel.
#[derive(Debug)]
pub(super) struct Seat {
    slot: usize,
    reader: usize,
    pub(super) channel: Channel,
}

impl Seat {
    /// The channel's place in the memory, for as long as somebody sits here.
    pub(super) fn slot(&self) -> usize {
        self.slot
    }
}

/// What a position means to this node's memory.
pub(super) enum Look {
    /// All there is was copied out; the position is now this.
    Read(Cursor),
    /// Nothing of the channels lies between the position and this one, which may be of another epoch: look again.
    Rebased(Cursor),
    /// Something behind the position is gone; reading goes on here.
    Gap(Cursor),
    /// Only the log itself can tell: older than the memory, ahead of it, or of an unknown epoch.
    AskTheLog,
}

impl Memory {
    pub(super) fn new(retention: Retention) -> Memory {
        Memory {
            retention,
            view: None,
            past: VecDeque::new(),
            window: VecDeque::new(),
            bytes: 0,
            names: HashMap::new(),
            slots: Slab::new(),
        }
    }

    pub(super) fn seat(&mut self, channel: &Channel, waiter: &Arc<Waiter>) -> Seat {
        let slot = self.slot_of(channel);
        let reader = self.slots[slot].readers.insert(waiter.clone());
        // The name that all of its readers share, and not the one that was asked by.
        Seat { slot, reader, channel: self.slots[slot].name.clone() }
    }

    pub(super) fn unseat(&mut self, seat: &Seat) {
        let readers = &mut self.slots[seat.slot].readers;
        readers.remove(seat.reader);
        // Who has gone leaves an empty place, and a fan-out looks at all places. To shrink looks at them, too, so it is
        // not done at every leaving.
        if readers.len().is_power_of_two() && readers.len() * 4 < readers.capacity() {
            readers.shrink_to_fit();
        }
        self.drop_if_unused(seat.slot);
    }

    fn slot_of(&mut self, channel: &Channel) -> usize {
        if let Some(slot) = self.names.get(channel) {
            return *slot;
        }
        let since = self.view.as_ref().map_or(Id::ZERO, |view| view.floor.max(view.hole));
        let slot = Slot { name: channel.clone(), since, ring: VecDeque::new(), readers: Slab::new() };
        let slot = self.slots.insert(slot);
        self.names.insert(channel.clone(), slot);
        slot
    }

    fn drop_if_unused(&mut self, slot: usize) {
        let unused = |slot: &Slot| slot.ring.is_empty() && slot.readers.is_empty();
        if self.slots.get(slot).is_some_and(unused) {
            let slot = self.slots.remove(slot);
            self.names.remove(&slot.name);
        }
    }

    /// The log was reached: keeps what is still in it and forgets the rest.
    pub(super) fn open(&mut self, extent: &Extent) {
        let known = self.view.as_ref().and_then(|view| {
            match extent.lineage.locate(Cursor { id: view.head, epoch: view.lineage.epoch }) {
                Descent::Same(id) | Descent::Beyond(id) => Some(id),
                Descent::Until(_) => Some(view.head),
                Descent::Unknown => None,
            }
        });
        if let Some(before) = self.view.as_ref().map(|view| view.lineage.epoch)
            && before != extent.lineage.epoch
        {
            self.past.push_back(before);
            if self.past.len() > PAST_EPOCHS {
                self.past.pop_front();
            }
        }
        // A log may come back that this node has read before: its epoch is not gone.
        self.past.retain(|epoch| *epoch != extent.lineage.epoch);
        let (floor, head, hole) = match (known, &self.view) {
            (Some(head), Some(view)) => {
                let (floor, hole) = (view.floor.min(head), view.hole.min(head));
                self.truncate_after(head);
                (floor, head, hole)
            }
            _ => {
                self.clear();
                (extent.floor, extent.floor, Id::ZERO)
            }
        };
        for (_, slot) in &mut self.slots {
            // Where ids have begun anew an old position is too high, never too low.
            slot.since = if known.is_some() { slot.since.min(head) } else { floor };
        }
        let log_floor = extent.floor;
        self.view = Some(View { lineage: extent.lineage.clone(), log_floor, hole, floor, head });
    }

    fn truncate_after(&mut self, last: Id) {
        while self.window.back().is_some_and(|(message, _)| id_of(message) > last) {
            if let Some((message, slot)) = self.window.pop_back() {
                self.bytes -= message.weight();
                self.slots[slot].ring.pop_back();
                self.drop_if_unused(slot);
            }
        }
    }

    fn clear(&mut self) {
        self.truncate_after(Id::ZERO);
    }

    /// Takes new entries in and adds them to `fresh`, each with its channel's slot. False where
    /// entries between were lost: then every reader is to look for itself.
    pub(super) fn extend(
        &mut self,
        after: Id,
        messages: Vec<Arc<Message>>,
        upto: Id,
        now_ms: u64,
        fresh: &mut Vec<(usize, Arc<Message>)>,
    ) -> bool {
        let Some((head, log_floor)) = self.view.as_ref().map(|view| (view.head, view.log_floor)) else { return true };
        let hole = after > head;
        if hole {
            // The log dropped entries that this node never saw. Nothing before them may be served
            // as if it were followed by what comes now, and every reader is to hear of it.
            if after <= log_floor {
                self.clear();
                self.set_floor(after);
            } else if let Some(view) = &mut self.view {
                // Single entries were deleted. The others are there, and `earliest` begins with them.
                view.hole = after;
                view.head = view.head.max(after);
            }
            for (_, slot) in &mut self.slots {
                slot.since = after;
            }
        }
        for message in messages {
            if id_of(&message) <= head.max(after) {
                continue;
            }
            let slot = self.slot_of(message.channel());
            self.bytes += message.weight();
            self.slots[slot].ring.push_back(message.clone());
            fresh.push((slot, message.clone()));
            self.window.push_back((message, slot));
        }
        if let Some(view) = &mut self.view {
            view.head = view.head.max(upto);
        }
        self.evict(now_ms);
        !hole
    }

    fn set_floor(&mut self, floor: Id) {
        if let Some(view) = &mut self.view {
            view.floor = view.floor.max(floor);
            view.head = view.head.max(floor);
        }
    }

    /// Drops what the retention does not keep. `now_ms` is the log's clock, as the ids are.
    pub(super) fn evict(&mut self, now_ms: u64) {
        let oldest_ms = now_ms.saturating_sub(self.retention.age.as_millis() as u64);
        while let Some((message, slot)) = self.window.front() {
            let (id, weight, slot) = (id_of(message), message.weight(), *slot);
            let over = self.window.len() > self.retention.messages || self.bytes > self.retention.bytes;
            if !over && id.ms >= oldest_ms {
                break;
            }
            self.window.pop_front();
            self.bytes -= weight;
            self.slots[slot].ring.pop_front();
            let since = &mut self.slots[slot].since;
            *since = (*since).max(id);
            self.drop_if_unused(slot);
            self.set_floor(id);
        }
    }

    pub(super) fn cursor(&self) -> Option<Cursor> {
        self.view.as_ref().map(|view| Cursor { id: view.head, epoch: view.lineage.epoch })
    }

    /// The newest entry that is missing from the middle of the log, or zero.
    pub(super) fn hole(&self) -> Id {
        self.view.as_ref().map_or(Id::ZERO, |view| view.hole)
    }

    pub(super) fn floor(&self) -> Option<Cursor> {
        self.view.as_ref().map(|view| Cursor { id: view.floor, epoch: view.lineage.epoch })
    }

    /// Copies out what a reader at `at` has not seen, and says where it stands then.
    pub(super) fn look(
        &self,
        at: Cursor,
        seats: &[Seat],
        client: Option<&ClientId>,
        limit: Limit,
        out: &mut Vec<Arc<Message>>,
    ) -> Look {
        let Some(view) = &self.view else { return Look::AskTheLog };
        if at.epoch != view.lineage.epoch {
            return self.look_back(view, at, seats, client, limit, out);
        }
        let is_whole = |seat: &Seat| self.slots[seat.slot].since <= at.id;
        if at.id > view.head || !seats.iter().all(is_whole) {
            return Look::AskTheLog;
        }
        let cut = match seats {
            [seat] => copy_one(&self.slots[seat.slot].ring, at.id, client, limit, out),
            seats => self.copy_many(seats, at.id, client, limit, out),
        };
        Look::Read(Cursor { id: cut.unwrap_or(view.head), epoch: view.lineage.epoch })
    }

    fn look_back(
        &self,
        view: &View,
        at: Cursor,
        seats: &[Seat],
        client: Option<&ClientId>,
        limit: Limit,
        out: &mut Vec<Arc<Message>>,
    ) -> Look {
        let cursor = |id| Cursor { id, epoch: view.lineage.epoch };
        let end = match view.lineage.resolve(at, view.log_floor) {
            Some(Resolved::At(id)) => return Look::Rebased(cursor(id)),
            Some(Resolved::Gap(id)) => return Look::Gap(cursor(id)),
            Some(Resolved::Until(end)) => end,
            None if self.past.contains(&at.epoch) => return Look::Gap(cursor(view.floor)),
            None => return Look::AskTheLog,
        };
        // Up to where the epoch was cut, and there the reader is told of a gap.
        let before = out.len();
        let Look::Read(read) = self.look(cursor(at.id), seats, client, limit, out) else { return Look::AskTheLog };
        let kept = out[before..].iter().take_while(|message| id_of(message) <= end).count();
        let is_beyond = before + kept < out.len();
        out.truncate(before + kept);
        match (Cursor { id: if is_beyond { end } else { read.id.min(end) }, epoch: at.epoch }) {
            read if kept > 0 => Look::Read(read),
            read if read.id == end => Look::Rebased(read),
            // This node has not come as far.
            _ => Look::AskTheLog,
        }
    }

    /// What a cursor means to the epochs of the log as this node knows them.
    pub(super) fn locate(&self, cursor: Cursor) -> Descent {
        self.view.as_ref().map_or(Descent::Unknown, |view| view.lineage.locate(cursor))
    }

    /// Whether a gap is all that comes next, since the position's epoch was cut there.
    pub(super) fn is_at_cut(&self, at: Cursor) -> bool {
        let lineage = self.view.as_ref().map(|view| &view.lineage).filter(|lineage| lineage.epoch != at.epoch);
        lineage.is_some_and(|lineage| matches!(lineage.locate(at), Descent::Beyond(_)))
    }

    /// Merges several rings into log order. Only channels with news take part.
    fn copy_many(
        &self,
        seats: &[Seat],
        after: Id,
        client: Option<&ClientId>,
        limit: Limit,
        out: &mut Vec<Arc<Message>>,
    ) -> Option<Id> {
        let mut news: Vec<_> = seats
            .iter()
            .map(|seat| &self.slots[seat.slot].ring)
            .filter(|ring| ring.back().is_some_and(|message| id_of(message) > after))
            .map(|ring| ring.range(unseen(ring, after)..).peekable())
            .collect();
        let mut taken = Taken::new(limit);
        loop {
            // Ids are of the whole log, so no two are equal.
            let heads = news.iter_mut().enumerate().filter_map(|(index, ring)| Some((id_of(ring.peek()?), index)));
            let (_, oldest) = heads.min()?;
            if let Some(message) = news[oldest].next()
                && let Some(cut) = taken.take(message, client, out)
            {
                return Some(cut);
            }
        }
    }

    /// Right before the `n`th newest retained message of these channels, but not before `least`.
    pub(super) fn nth_newest(&self, seats: &[Seat], n: usize, least: Id) -> Id {
        let Some(view) = &self.view else { return least };
        let mut rings: Vec<_> = seats.iter().map(|seat| self.slots[seat.slot].ring.iter().rev().peekable()).collect();
        let mut at = view.head;
        for _ in 0..n {
            let newest = rings.iter_mut().filter_map(|ring| ring.peek().map(|message| id_of(message))).max();
            let Some(id) = newest.filter(|id| *id > least) else { return least };
            at = id.before();
            for ring in &mut rings {
                ring.next_if(|message| id_of(message) == id);
            }
        }
        at.max(least)
    }

    /// `now_ms` is the log's clock.
    pub(super) fn is_well_retained(&self, cursor: Cursor, now_ms: u64) -> bool {
        let Some(view) = self.view.as_ref().filter(|view| view.lineage.epoch == cursor.epoch) else { return false };
        let young = cursor.id.ms >= now_ms.saturating_sub(self.retention.age.as_millis() as u64 / 2);
        let behind = self.window.len() - self.window.partition_point(|(message, _)| id_of(message) <= cursor.id);
        let few = behind <= self.retention.messages / 2;
        cursor.id >= view.floor && young && few && self.bytes <= self.retention.bytes / 2
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

    /// All channels that are read or retain something.
    pub(super) fn retained(&self) -> Retained {
        Retained { messages: self.window.len(), bytes: self.bytes, channels: self.names.len(), read: 0 }
    }

    pub(super) fn channels(&self) -> impl Iterator<Item = &Channel> {
        self.names.keys()
    }

    /// How many places a channel's readers take, taken or not. `None` without readers, or where the slot has
    /// become another channel's meanwhile.
    pub(super) fn places(&self, slot: usize, channel: &Channel) -> Option<usize> {
        let slot = self.slots.get(slot).filter(|slot| slot.name == *channel)?;
        (!slot.readers.is_empty()).then(|| slot.readers.capacity())
    }

    /// Copies out the readers in some of these places.
    pub(super) fn readers(&self, slot: usize, channel: &Channel, places: Range<usize>, out: &mut Vec<Arc<Waiter>>) {
        if let Some(slot) = self.slots.get(slot).filter(|slot| slot.name == *channel) {
            let read: usize =
                places.clone().filter_map(|place| slot.readers.get(place)).map(|reader| reader.prefetch()).sum();
            std::hint::black_box(read);
            out.extend(places.filter_map(|place| slot.readers.get(place)).cloned());
        }
    }

    /// The position of a channel's last message before its newest `n`; `None` where not all of these
    /// are retained.
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
        if let Some(slot) = self.names.get(message.channel()).and_then(|slot| self.slots.get(*slot)) {
            for (_, reader) in &slot.readers {
                reader.push_volatile(message);
            }
        }
    }
}

/// Counts by name. A text is made for each name, and not for each reader, of whom there may be many.
pub(super) fn by_transport(transports: impl Iterator<Item = &'static str>) -> Counts {
    let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
    for transport in transports {
        *counts.entry(transport).or_default() += 1;
    }
    counts.into_iter().map(|(transport, count)| (transport.to_owned(), count)).collect()
}
