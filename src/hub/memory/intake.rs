//! Brings the log's entries into the node's memory, and drops entries that are too old.

use super::{Memory, View};
use crate::cursor::{Cursor, Id};
use crate::hub::id_of;
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
        let log_floor = extent.floor;
        self.view = Some(View { lineage: extent.lineage.clone(), log_floor, hole, floor, head });
    }

    fn truncate_after(&mut self, last: Id) {
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
            if id_of(&message) <= head.max(after) {
                continue;
            }
            match message.extras() {
                None => self.add(message, fresh),
                Some(extras) if extras.kind == Kind::Message => self.add_variants(&message, fresh),
                Some(extras) if extras.kind.is_of_members() => self.add(message, fresh),
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
        if after <= log_floor {
            self.clear();
            self.set_floor(after);
        } else if let Some(view) = &mut self.view {
            // Only single entries were deleted. The other entries are still in the log, and `earliest` begins with
            // them.
            view.hole = after;
            view.head = view.head.max(after);
        }
        for (_, slot) in &mut self.slots {
            slot.since = after;
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
            self.slots[slot].ring.pop_front();
            let since = &mut self.slots[slot].since;
            *since = (*since).max(id);
            self.drop_if_unused(slot);
            self.set_floor(id);
        }
    }
}
