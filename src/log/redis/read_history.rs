//! The entries that this node has read most recently. These entries prove where two histories of the log diverge.
//!
//! If a log is opened at another server, or was replaced by an older copy, it holds the known entries up to some
//! position, and other entries may follow. The log's mark proves a part of them. There may be entries beyond the mark
//! that no node appended. For these, a node compares the entries that it has read with those of the log.

use super::verify::Position;
use crate::cursor::{Cursor, Epoch, Id};
use crate::message::Message;
use std::collections::VecDeque;
use std::sync::Arc;

/// The number of entries that a node remembers. The mark is moved every second, so in practice far fewer entries are
/// compared.
pub(super) const ENTRIES: usize = 4096;

/// The bytes that the remembered entries may keep in memory beyond the node's own memory of the log, by
/// [`Message::weight`].
const BYTES: usize = 4 << 20;

/// An entry's id, and its message; `None` for an entry that is not a message.
pub(super) type Read = (Id, Option<Arc<Message>>);

/// The newest entries that this node has read, without a hole between them.
#[derive(Clone)]
pub(super) struct ReadHistory {
    epoch: Epoch,
    /// All entries between this position and `at` are in `entries`.
    from: Id,
    entries: VecDeque<Read>,
    bytes: usize,
    at: Position,
    /// Whether the log's counters prove that the log is not the one that this node has read.
    is_refuted: bool,
}

impl ReadHistory {
    /// A history that begins at a position.
    pub(super) fn new(at: Cursor, added: Option<u64>) -> ReadHistory {
        let at_position = Position { id: at.id, added };
        ReadHistory {
            epoch: at.epoch,
            from: at.id,
            entries: VecDeque::new(),
            bytes: 0,
            at: at_position,
            is_refuted: false,
        }
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(super) fn at(&self) -> Position {
        self.at
    }

    /// Records that the log's counters prove that the log is not the one that this node has read.
    pub(super) fn refute(&mut self) {
        self.is_refuted = true;
    }

    pub(super) fn is_refuted(&self) -> bool {
        self.is_refuted
    }

    /// The position at which the remembered entries begin.
    pub(super) fn from(&self) -> Id {
        self.from
    }

    /// The last entry that was read, or zero.
    pub(super) fn last(&self) -> Id {
        self.entries.back().map_or(Id::ZERO, |(id, _)| *id)
    }

    /// Adds these entries. These entries must be all entries of the log between `after` and the new position.
    pub(super) fn go_on(&mut self, after: Id, read: impl IntoIterator<Item = Read>, at: Position) {
        if after > self.at.id {
            self.entries.clear();
            self.bytes = 0;
            self.from = after;
        }
        for (id, message) in read {
            self.bytes += weight(&message);
            self.entries.push_back((id, message));
        }
        self.at = at;
        while self.entries.len() > ENTRIES || self.bytes > BYTES {
            let Some((id, message)) = self.entries.pop_front() else { break };
            self.bytes -= weight(&message);
            self.from = id;
        }
    }

    /// Returns the last position up to which the log holds, after `start`, exactly the entries that this node has read.
    /// `there`: the entries that the log holds after `start`, up to this node's position. Entries up to its `floor`,
    /// and the newest entry that was `deleted`, may be missing.
    pub(super) fn agree(&self, start: Id, there: &[Read], floor: Id, deleted: Id, end: Id) -> Id {
        if start < self.from {
            // The node has read the entries in between, but no longer remembers them.
            return start;
        }
        let mut agreed = start;
        let mut there = there.iter().peekable();
        for (id, message) in self.entries.iter().filter(|(id, _)| *id > start) {
            match there.peek() {
                // Two servers may give the same id to different entries.
                Some((other, theirs)) if other == id => {
                    if !is_same(message.as_deref(), theirs.as_deref()) {
                        return agreed;
                    }
                    there.next();
                }
                Some((other, _)) if other < id => return agreed,
                _ if *id == deleted || *id <= floor => {}
                _ => return agreed,
            }
            agreed = *id;
        }
        match there.peek() {
            // When this node read the log, it had no entries between the last entry and the position, and it has none
            // there now.
            None => agreed.max(self.at.id.min(end)),
            Some(_) => agreed,
        }
    }
}

fn weight(message: &Option<Arc<Message>>) -> usize {
    message.as_ref().map_or(0, |message| message.weight())
}

fn is_same(ours: Option<&Message>, theirs: Option<&Message>) -> bool {
    match (ours, theirs) {
        (Some(ours), Some(theirs)) => ours.is_same_as(theirs),
        (None, None) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Event, Payload};

    fn id(ms: u64) -> Id {
        Id { ms, seq: 0 }
    }

    fn epoch() -> Epoch {
        "a".parse().expect("an epoch")
    }

    fn read(ms: u64, data: &str) -> Read {
        let channel = "todo".parse().expect("a channel");
        let cursor = Cursor { id: id(ms), epoch: epoch() };
        let message = Message::new(Some(cursor), channel, Event::default(), &Payload::from_any(data), None);
        (id(ms), Some(Arc::new(message)))
    }

    fn seen(ids: &[u64]) -> ReadHistory {
        let mut seen = ReadHistory::new(Cursor { id: id(1), epoch: epoch() }, Some(1));
        for ms in ids {
            let at = Position { id: id(*ms), added: None };
            seen.go_on(seen.at.id, [read(*ms, "x")], at);
        }
        seen
    }

    #[test]
    fn histories_part_behind_the_last_entry_that_both_have() {
        let ours = seen(&[2, 3, 5, 7]);
        let cases: &[(&str, &[u64], u64, u64)] = &[
            ("all is there", &[2, 3, 5, 7], 9, 7),
            ("the end is lost", &[2, 3], 3, 3),
            ("nothing is there", &[], 1, 1),
            ("another entry lies between", &[2, 3, 4, 5, 7], 9, 3),
            ("another entry has taken the place of one", &[2, 3, 6], 9, 3),
            ("another entry has come first", &[1, 2], 9, 1),
        ];
        for (case, there, end, agreed) in cases {
            let there: Vec<Read> = there.iter().map(|ms| read(*ms, "x")).collect();
            // An entry at the start itself does not count as after the start.
            let there: Vec<Read> = there
                .into_iter()
                .map(|(at, m)| if at == id(1) { (Id { ms: 1, seq: 1 }, m) } else { (at, m) })
                .collect();
            assert_eq!(ours.agree(id(1), &there, Id::ZERO, Id::ZERO, id(*end)), id(*agreed), "{case}");
        }
    }

    #[test]
    fn an_equal_id_of_another_entry_is_where_they_part() {
        let there = [read(2, "x"), read(3, "another")];
        assert_eq!(seen(&[2, 3]).agree(id(1), &there, Id::ZERO, Id::ZERO, id(9)), id(2));
    }

    #[test]
    fn what_was_trimmed_or_deleted_is_not_lost() {
        let there = [read(5, "x")];
        assert_eq!(seen(&[2, 3, 5, 7]).agree(id(1), &there, id(3), id(7), id(9)), id(7));
        assert_eq!(seen(&[2, 3, 5, 7]).agree(id(1), &there, id(3), Id::ZERO, id(9)), id(5));
    }

    #[test]
    fn a_position_without_an_entry_counts_if_the_log_has_reached_it() {
        let mut ours = seen(&[2]);
        ours.go_on(id(2), [], Position { id: id(6), added: None });
        assert_eq!(ours.agree(id(1), &[read(2, "x")], Id::ZERO, Id::ZERO, id(8)), id(6));
        assert_eq!(ours.agree(id(1), &[read(2, "x")], Id::ZERO, Id::ZERO, id(4)), id(4));
        assert_eq!(ours.agree(id(1), &[read(2, "x"), read(5, "x")], Id::ZERO, Id::ZERO, id(8)), id(2));
    }

    #[test]
    fn what_is_no_longer_remembered_proves_nothing() {
        let mut ours = seen(&[2, 3]);
        ours.go_on(id(5), [read(7, "x")], Position { id: id(7), added: None });
        let there = [read(2, "x"), read(3, "x"), read(7, "x")];
        assert_eq!(ours.agree(id(1), &there, Id::ZERO, Id::ZERO, id(9)), id(1));
        assert_eq!(ours.agree(id(5), &there[2..], Id::ZERO, Id::ZERO, id(9)), id(7));
    }

    #[test]
    fn memory_is_bounded() {
        let mut ours = seen(&[]);
        for ms in 2..3 * ENTRIES as u64 {
            ours.go_on(ours.at.id, [read(ms, "x")], Position { id: id(ms), added: None });
        }
        assert_eq!(ours.entries.len(), ENTRIES);
        assert_eq!(ours.from, id(2 * ENTRIES as u64 - 1), "the entry before the first that is kept");
    }
}
