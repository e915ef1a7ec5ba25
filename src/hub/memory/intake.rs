//! Brings the log's entries into the node's memory, and drops entries that are too old.

use super::{Memory, View, hash_of};
use crate::cursor::{Cursor, Id};
use crate::hub::message_id::id_of;
use crate::hub::undelivered::Undelivered;
use crate::log::{Descent, Extent};
use crate::message::{Kind, Message};
use std::sync::Arc;

/// The number of ended epochs that this node remembers. For a cursor of such an epoch, the node reports a gap at once.
/// A cursor of an unknown epoch is resolved by the log, since the epoch may be newer than this node's knowledge.
pub(super) const PAST_EPOCHS: usize = 64;

impl Memory {
    /// Applies the extent of the log after a connection: keeps messages that are still in the log, and forgets the
    /// others.
    pub(in crate::hub) fn open(&mut self, extent: &Extent) {
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
        // If a log that this node has read before is back, its epoch no longer counts as ended.
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
            // If the log's ids have started again from a lower number, an old position is too high, never too low.
            slot.since = if known.is_some() { slot.since.min(head) } else { floor };
        }
        // The tail of a log that was not known begins at the log's floor.
        let control_floor = if known.is_some() { extent.control_floor } else { extent.control_floor.max(floor) };
        self.note_control_floor(control_floor);
        let (log_floor, control_floor) = (extent.floor, extent.control_floor);
        self.view = Some(View { lineage: extent.lineage.clone(), control_floor, log_floor, hole, floor, head });
    }

    /// Notes that the log may have dropped control entries up to here, before this node has read them.
    fn note_control_floor(&mut self, floor: Id) {
        self.control.floor = self.control.floor.max(floor);
        let reserved = self.slots.iter_mut().filter(|(_, slot)| slot.name.is_reserved());
        reserved.for_each(|(_, slot)| slot.since = slot.since.max(floor));
    }

    fn truncate_after(&mut self, last: Id) {
        self.truncate_messages_after(last);
        while self.control.entries.back().is_some_and(|(entry, _)| id_of(entry) > last) {
            if let Some((entry, slot)) = self.control.entries.pop_back() {
                self.control.bytes -= entry.weight();
                self.slots[slot].ring.pop_back();
                self.drop_if_unused(slot);
            }
        }
        self.control.floor = self.control.floor.min(last);
        self.control.dropped.values_mut().for_each(|id| *id = (*id).min(last));
    }

    fn truncate_messages_after(&mut self, last: Id) {
        while self.window.back().is_some_and(|(message, _)| id_of(message) > last) {
            if let Some((message, slot)) = self.window.pop_back() {
                self.bytes -= message.weight();
                if self.window.back().is_some_and(|(before, _)| id_of(before) == id_of(&message)) {
                    self.further_variants -= 1;
                }
                self.slots[slot].ring.pop_back();
                self.drop_if_unused(slot);
            }
        }
    }

    fn clear(&mut self) {
        self.truncate_after(Id::ZERO);
    }

    fn clear_messages(&mut self) {
        self.truncate_messages_after(Id::ZERO);
    }

    /// Adds new messages to the memory, and to `fresh` if their channels have readers. Entries that are not messages
    /// only move the position. After each message it drops the messages that the retention does not keep. A message
    /// counts once for each of its channels, so all messages of one event of the tail together could take a hundred
    /// times their bytes. Returns false if entries in between were lost. If entries were lost, every reader has to look
    /// up its position again.
    pub(in crate::hub) fn extend(
        &mut self,
        after: Id,
        messages: Vec<Arc<Message>>,
        upto: Id,
        now_ms: u64,
        fresh: &mut Undelivered,
    ) -> bool {
        let Some((head, log_floor)) = self.view.as_ref().map(|view| (view.head, view.log_floor)) else { return true };
        let has_hole = after > head;
        if has_hole {
            self.leave_hole(after, log_floor);
        }
        for message in messages {
            // A log that keeps control entries apart from messages has those of a hole.
            let from = if message.is_control() { head } else { head.max(after) };
            if id_of(&message) <= from {
                continue;
            }
            match message.extras() {
                None => self.add(message, fresh),
                Some(extras) if extras.kind == Kind::Message => self.add_variants(&message, fresh),
                Some(extras) if extras.kind.is_of_members() => self.add(message, fresh),
                Some(_) if message.channel().is_reserved() => self.add_control(message, fresh),
                Some(_) => {}
            }
            self.evict(now_ms);
        }
        if let Some(view) = &mut self.view {
            view.head = view.head.max(upto);
        }
        self.evict(now_ms);
        !has_hole
    }

    fn add(&mut self, message: Arc<Message>, fresh: &mut Undelivered) {
        let slot = self.slot_of(message.channel());
        let weight = message.weight();
        self.bytes += weight;
        self.slots[slot].ring.push_back(message.clone());
        // A reader that comes later looks into the ring first.
        if !self.slots[slot].readers.is_empty() {
            fresh.push(slot, message.clone(), weight);
        }
        self.window.push_back((message, slot));
    }

    fn add_control(&mut self, entry: Arc<Message>, fresh: &mut Undelivered) {
        let slot = self.slot_of(entry.channel());
        let weight = entry.weight();
        self.control.bytes += weight;
        self.slots[slot].ring.push_back(entry.clone());
        if !self.slots[slot].readers.is_empty() {
            fresh.push(slot, entry.clone(), weight);
        }
        self.control.entries.push_back((entry, slot));
    }

    /// Adds the variants of a message to the rings of its channels, except the channels whose readers do not get it.
    fn add_variants(&mut self, message: &Arc<Message>, fresh: &mut Undelivered) {
        let before = self.window.len();
        for channel in message.channels().iter().filter(|channel| !message.excludes_readers_of(channel)) {
            let is_first = channel == message.channel();
            self.add(if is_first { message.clone() } else { Arc::new(message.variant(channel)) }, fresh);
        }
        self.further_variants += (self.window.len() - before).saturating_sub(1);
    }

    /// The log dropped entries up to `after` that this node never saw. The hub must not serve earlier messages as if
    /// the new ones followed them directly. So every reader gets a gap.
    fn leave_hole(&mut self, after: Id, log_floor: Id) {
        let is_control_whole = self.view.as_ref().is_some_and(|view| view.control_floor < view.log_floor);
        if after <= log_floor {
            self.clear_messages();
            self.set_floor(after);
        } else if let Some(view) = &mut self.view {
            // Only single entries were deleted. The other entries are still in the log, and `earliest` begins with
            // them.
            view.hole = after;
            view.head = view.head.max(after);
        }
        for (_, slot) in self.slots.iter_mut().filter(|(_, slot)| !slot.name.is_reserved()) {
            slot.since = after;
        }
        if !is_control_whole {
            self.note_control_floor(after);
        }
    }

    fn set_floor(&mut self, floor: Id) {
        if let Some(view) = &mut self.view {
            view.floor = view.floor.max(floor);
            view.head = view.head.max(floor);
        }
    }

    /// Drops messages that the retention does not keep. `now_ms` is the time of the log's clock, as in ids.
    pub(in crate::hub) fn evict(&mut self, now_ms: u64) {
        let oldest_ms = now_ms.saturating_sub(self.retention.age.as_millis() as u64);
        while let Some((message, slot)) = self.window.front() {
            let (id, weight, slot) = (id_of(message), message.weight(), *slot);
            let is_over = self.messages() > self.retention.messages || self.bytes > self.retention.bytes;
            if !is_over && id.ms >= oldest_ms {
                break;
            }
            self.window.pop_front();
            self.bytes -= weight;
            if self.window.front().is_some_and(|(next, _)| id_of(next) == id) {
                self.further_variants -= 1;
            }
            self.slots[slot].drop_oldest(id);
            let since = &mut self.slots[slot].since;
            *since = (*since).max(id);
            self.drop_if_unused(slot);
            self.set_floor(id);
        }
        self.evict_control(oldest_ms);
    }

    fn evict_control(&mut self, oldest_ms: u64) {
        let most = self.retention.of_control();
        while let Some((entry, slot)) = self.control.entries.front() {
            let (id, weight, slot) = (id_of(entry), entry.weight(), *slot);
            let is_over = self.control.entries.len() > most.messages || self.control.bytes > most.bytes;
            if !is_over && id.ms >= oldest_ms {
                break;
            }
            self.control.entries.pop_front();
            self.control.bytes -= weight;
            self.control.dropped.insert(hash_of(&self.slots[slot].name), id);
            self.slots[slot].drop_oldest(id);
            let since = &mut self.slots[slot].since;
            *since = (*since).max(id);
            self.drop_if_unused(slot);
        }
    }
}
