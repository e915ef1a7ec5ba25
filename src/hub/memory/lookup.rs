//! Looks up a reader's position in the node's memory, and copies the messages after it.

use super::copy::{Copier, Recipient, copy_one, unseen};
use super::{Memory, Registration, View};
use crate::cursor::{Cursor, Id};
use crate::hub::limit::Limit;
use crate::hub::message_id::id_of;
use crate::log::{Descent, Resolved};
use crate::message::{Channel, Message};
use std::sync::Arc;

/// The result of a lookup of a position in this node's memory.
pub(in crate::hub) enum Lookup {
    /// All messages up to the limit were copied out; this is the new position.
    Read(Cursor),
    /// The channels do not have messages between the old position and this one. This one may belong to another epoch,
    /// so the caller looks again.
    Rebased(Cursor),
    /// Messages after the old position were dropped. Reading continues at this position.
    Gap(Cursor),
    /// Only the log itself can decide: the position is older than the memory, ahead of it, or of an unknown epoch.
    AskTheLog,
}

impl Memory {
    /// Copies out the messages that a reader at `at` has not seen, and returns the reader's new position.
    pub(in crate::hub) fn look(
        &self,
        at: Cursor,
        registrations: &[Registration],
        recipient: Recipient<'_>,
        limit: Limit,
        out: &mut Vec<Arc<Message>>,
    ) -> Lookup {
        let Some(view) = &self.view else { return Lookup::AskTheLog };
        if at.epoch != view.lineage.epoch {
            return self.look_back(view, at, registrations, recipient, limit, out);
        }
        let is_whole = |registration: &Registration| self.slots[registration.slot].since <= at.id;
        if at.id > view.head || !registrations.iter().all(is_whole) {
            return Lookup::AskTheLog;
        }
        let cut = match registrations {
            [one] => copy_one(&self.slots[one.slot].ring, at.id, recipient, limit, out),
            several => self.copy_many(several, at.id, recipient, limit, out),
        };
        Lookup::Read(Cursor { id: cut.unwrap_or(view.head), epoch: view.lineage.epoch })
    }

    /// Looks up a position in an earlier epoch. The log's gap rule resolves the position.
    fn look_back(
        &self,
        view: &View,
        at: Cursor,
        registrations: &[Registration],
        recipient: Recipient<'_>,
        limit: Limit,
        out: &mut Vec<Arc<Message>>,
    ) -> Lookup {
        let cursor = |id| Cursor { id, epoch: view.lineage.epoch };
        let end = match view.lineage.resolve(at, view.log_floor) {
            Some(Resolved::At(id)) => return Lookup::Rebased(cursor(id)),
            Some(Resolved::Gap(id)) => return Lookup::Gap(cursor(id)),
            Some(Resolved::Until(end)) => end,
            None if self.past.contains(&at.epoch) => return Lookup::Gap(cursor(view.floor)),
            None => return Lookup::AskTheLog,
        };
        // The reader gets the messages up to the cut of its epoch, and then a gap.
        let before = out.len();
        let Lookup::Read(read) = self.look(cursor(at.id), registrations, recipient, limit, out) else {
            return Lookup::AskTheLog;
        };
        let kept = out[before..].iter().take_while(|message| id_of(message) <= end).count();
        let is_beyond = before + kept < out.len();
        out.truncate(before + kept);
        match (Cursor { id: if is_beyond { end } else { read.id.min(end) }, epoch: at.epoch }) {
            read if kept > 0 => Lookup::Read(read),
            read if read.id == end => Lookup::Rebased(read),
            // This node has not read up to the cut yet.
            _ => Lookup::AskTheLog,
        }
    }

    /// Finds a cursor among the epochs that this node knows.
    pub(in crate::hub) fn locate(&self, cursor: Cursor) -> Descent {
        self.view.as_ref().map_or(Descent::Unknown, |view| view.lineage.locate(cursor))
    }

    /// A cursor's position in the present epoch.
    pub(in crate::hub) fn place(&self, cursor: Cursor) -> Option<Cursor> {
        let lineage = &self.view.as_ref()?.lineage;
        Some(Cursor { id: lineage.place(cursor)?, epoch: lineage.epoch })
    }

    /// Whether a cursor is proven to come before another one.
    pub(in crate::hub) fn precedes(&self, one: Cursor, other: Cursor) -> bool {
        match self.view.as_ref().map(|view| (view.lineage.place(one), view.lineage.place(other))) {
            _ if one.epoch == other.epoch => one.id < other.id,
            Some((Some(one), Some(other))) => one < other,
            _ => false,
        }
    }

    /// Whether a gap follows, because the position's epoch was cut there.
    pub(in crate::hub) fn is_at_cut(&self, at: Cursor) -> bool {
        let lineage = self.view.as_ref().map(|view| &view.lineage).filter(|lineage| lineage.epoch != at.epoch);
        lineage.is_some_and(|lineage| matches!(lineage.locate(at), Descent::Beyond(_)))
    }

    /// Merges several rings into log order. Only channels with new messages take part.
    fn copy_many(
        &self,
        registrations: &[Registration],
        after: Id,
        recipient: Recipient<'_>,
        limit: Limit,
        out: &mut Vec<Arc<Message>>,
    ) -> Option<Id> {
        let mut news: Vec<_> = registrations
            .iter()
            .map(|registration| &self.slots[registration.slot].ring)
            .filter(|ring| ring.back().is_some_and(|message| id_of(message) > after))
            .map(|ring| ring.range(unseen(ring, after)..).peekable())
            .collect();
        let mut copier = Copier::new(limit);
        loop {
            let heads = news.iter_mut().enumerate().filter_map(|(index, ring)| Some((id_of(ring.peek()?), index)));
            let (id, oldest) = heads.min()?;
            let Some(mut message) = news[oldest].next() else { continue };
            if message.extras().is_some() {
                // Only the variants of one message have equal ids. The reader gets one of them.
                for ring in &mut news {
                    if let Some(variant) = ring.next_if(|message| id_of(message) == id)
                        && variant.place() < message.place()
                    {
                        message = variant;
                    }
                }
                if registrations.iter().any(|registration| message.excludes_readers_of(&registration.channel)) {
                    copier.skip(message);
                    continue;
                }
            }
            if let Some(cut) = copier.copy(message, recipient, out) {
                return Some(cut);
            }
        }
    }

    /// The position right before the `n`th newest retained message of these channels, but not before `least`. Entries
    /// about members do not count.
    pub(in crate::hub) fn nth_newest(&self, registrations: &[Registration], n: usize, least: Id) -> Id {
        let Some(view) = &self.view else { return least };
        let rings = registrations.iter().map(|registration| &self.slots[registration.slot].ring);
        let mut rings: Vec<_> =
            rings.map(|ring| ring.iter().rev().filter(|message| message.is_for_readers()).peekable()).collect();
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

    /// Whether a channel is known to have no entries after a position and up to another one, in the present epoch.
    pub(in crate::hub) fn has_nothing_between(&self, registration: &Registration, from: Id, upto: Id) -> bool {
        let slot = &self.slots[registration.slot];
        let next = slot.ring.get(slot.ring.partition_point(|entry| id_of(entry) <= from));
        slot.since <= from && next.is_none_or(|entry| id_of(entry) > upto)
    }

    /// The head, if these channels have no entries after `cursor`; otherwise `cursor`, in the present epoch if the log
    /// has all entries of its epoch.
    pub(in crate::hub) fn unchanged_until(&self, channels: &[Channel], cursor: Cursor) -> Cursor {
        let Some(view) = &self.view else { return cursor };
        let Descent::Same(id) = view.lineage.locate(cursor) else { return cursor };
        let cursor = Cursor { id, epoch: view.lineage.epoch };
        let is_unchanged = |channel: &Channel| match self.names.get(channel).map(|slot| &self.slots[*slot]) {
            Some(slot) => slot.since.max(slot.ring.back().map_or(Id::ZERO, |entry| id_of(entry))) <= cursor.id,
            None if channel.is_reserved() => self.control.floor_of(channel) <= cursor.id,
            None => view.floor.max(view.hole) <= cursor.id,
        };
        if cursor.id <= view.head && channels.iter().all(is_unchanged) {
            return Cursor { id: view.head, epoch: cursor.epoch };
        }
        cursor
    }

    /// Whether a reader at this cursor is in the younger half of the memory, by count and by age. `now_ms` is the time
    /// of the log's clock.
    pub(in crate::hub) fn is_well_retained(&self, cursor: Cursor, now_ms: u64) -> bool {
        let Some(view) = self.view.as_ref().filter(|view| view.lineage.epoch == cursor.epoch) else { return false };
        let is_young = cursor.id.ms >= now_ms.saturating_sub(self.retention.age.as_millis() as u64 / 2);
        let behind = self.window.len() - self.window.partition_point(|(message, _)| id_of(message) <= cursor.id);
        let are_few = behind <= self.retention.messages / 2;
        cursor.id >= view.floor && is_young && are_few && self.bytes <= self.retention.bytes / 2
    }
}
