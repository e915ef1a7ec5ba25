//! Decides whether a tail has read all entries that the log had.

use super::entry::Counters;
use crate::cursor::Id;
use crate::log::Extent;

/// The position up to which a tail has read all entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) id: Id,
    /// The number of entries that were ever added up to this position; `None` if it is not known.
    pub(super) added: Option<u64>,
}

/// The verdict on a read from a [`Position`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing is missing between that position and this one.
    Whole(Position),
    /// The tail may have missed entries after the position that were deleted. The tail has read all entries after
    /// `after` and up to `upto`.
    Hole { after: Id, upto: Position },
    /// The log is not the one that the tail has read before, because it has fewer entries.
    Shrunk,
}

/// Judges a read by the log's counters at a later moment. `read`: the entries that the read has returned. The log had
/// no other entries after the position and up to `upto`.
///
/// Entries disappear in two ways: from the front (a trim by any program), and one by one (XDEL). The log's floor covers
/// the first kind, and its newest deleted entry covers the second. If these positions come after the tail's, the counts
/// may still prove that the tail had read all entries that were deleted.
pub(super) fn judge(from: Position, read: &[Id], upto: Id, log: &Extent, counters: Counters) -> Verdict {
    let count = read.len() as u64;
    let is_shrunk = from.added.is_some_and(|added| counters.added < added + count);
    if is_shrunk || log.end < upto {
        return Verdict::Shrunk;
    }
    // At the end of the log, the position's count is the log's own.
    let at_end = (log.end == upto).then_some(counters.added);
    let numbered = from.added.map(|added| added + count);
    if at_end.is_some() && at_end == numbered {
        return Verdict::Whole(Position { id: upto, added: numbered });
    }
    if log.deleted > log.floor && log.deleted > from.id {
        return Verdict::Hole { after: log.deleted.min(upto), upto: Position { id: upto, added: at_end } };
    }
    if log.floor <= from.id {
        return Verdict::Whole(Position { id: upto, added: numbered.or(at_end) });
    }
    // All deleted entries are at or before the floor.
    let gone = counters.added.saturating_sub(counters.length);
    let read_and_gone = read.iter().filter(|id| **id <= log.floor).count() as u64;
    if from.added.is_some_and(|added| added + read_and_gone == gone) {
        return Verdict::Whole(Position { id: upto, added: numbered });
    }
    let upto = Position { id: upto.max(log.floor), added: Some(gone + count - read_and_gone) };
    Verdict::Hole { after: log.floor, upto }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::Epoch;
    use crate::log::Lineage;
    use proptest::prelude::*;

    /// A stream as Redis keeps it, and the floor as the scripts keep it.
    #[derive(Clone, Debug, Default)]
    struct Stream {
        live: Vec<u64>,
        added: u64,
        last: u64,
        deleted: u64,
        floor: Id,
        /// The number of entries that had been dropped when the floor was last updated.
        audited: u64,
    }

    #[derive(Clone, Copy, Debug)]
    enum Change {
        Add,
        /// A trim by a node, which knows the last entry that it drops.
        Trim,
        /// A trim by another program.
        TrimByOthers,
        Delete(usize),
    }

    fn id(ms: u64) -> Id {
        Id { ms, seq: 0 }
    }

    impl Stream {
        fn change(&mut self, change: Change) {
            match change {
                Change::Add => {
                    // Not every id belongs to an entry.
                    self.last += 2;
                    self.added += 1;
                    self.live.push(self.last);
                }
                Change::Trim if !self.live.is_empty() => {
                    self.audit();
                    self.floor = id(self.live.remove(0));
                    self.audited += 1;
                }
                Change::TrimByOthers if !self.live.is_empty() => drop(self.live.remove(0)),
                Change::Delete(choice) if !self.live.is_empty() => {
                    let gone = self.live.remove(choice % self.live.len());
                    self.deleted = self.deleted.max(gone);
                }
                _ => {}
            }
        }

        fn gone(&self) -> u64 {
            self.added - self.live.len() as u64
        }

        fn audit(&mut self) {
            if self.gone() > self.audited {
                self.audited = self.gone();
                self.floor = self.floor.max(self.live.first().map_or(id(self.last), |first| id(*first).before()));
            }
        }

        fn tell(&mut self) -> (Extent, Counters) {
            self.audit();
            let lineage = Lineage { epoch: Epoch::random(), ancestors: Vec::new() };
            let (floor, end) = (self.floor, id(self.last));
            let extent = Extent { lineage, floor, deleted: floor.max(id(self.deleted)), end, now_ms: 0 };
            (extent, Counters { added: self.added, length: self.live.len() as u64 })
        }

        fn behind(&self, at: u64, count: usize) -> Vec<Id> {
            self.live.iter().filter(|ms| **ms > at).take(count).map(|ms| id(*ms)).collect()
        }
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            4 => Just(Change::Add),
            1 => Just(Change::Trim),
            1 => Just(Change::TrimByOthers),
            1 => (0..20usize).prop_map(Change::Delete),
        ]
    }

    fn changes() -> impl Strategy<Value = Vec<Change>> {
        proptest::collection::vec(change(), 0..12)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        /// This holds for any entries that are added and removed before the read, or between the read and the check of
        /// the counts.
        #[test]
        fn nothing_is_whole_where_an_entry_is_missing(
            before in changes(),
            between in changes(),
            after in changes(),
            count in 1..6usize,
            is_numbered: bool,
        ) {
            let mut stream = Stream::default();
            before.into_iter().for_each(|change| stream.change(change));
            let from = Position { id: id(stream.last), added: is_numbered.then_some(stream.added) };
            let begun = stream.last;
            let mut all = Vec::new();
            let mut apply = |stream: &mut Stream, changes: Vec<Change>| for change in changes {
                stream.change(change);
                if let Change::Add = change {
                    all.push(id(stream.last));
                }
            };
            apply(&mut stream, between);
            let read = stream.behind(begun, count);
            let upto = read.last().copied().unwrap_or(from.id);
            apply(&mut stream, after);
            let (extent, counters) = stream.tell();
            let number = |to: Id| all.iter().filter(|id| **id <= to).count() as u64;
            let added_before = counters.added - all.len() as u64;
            match judge(from, &read, upto, &extent, counters) {
                Verdict::Shrunk => prop_assert!(false, "nothing was put back"),
                Verdict::Whole(to) => {
                    let wanted: Vec<Id> = all.iter().copied().filter(|id| *id <= to.id).collect();
                    prop_assert_eq!(&read, &wanted, "all up to {} were added and read", to.id);
                    prop_assert!(to.added.is_none_or(|added| added == added_before + wanted.len() as u64), "{:?}", to);
                }
                Verdict::Hole { after, upto } => {
                    let wanted: Vec<Id> = all.iter().copied().filter(|id| *id > after && *id <= upto.id).collect();
                    let read: Vec<Id> = read.iter().copied().filter(|id| *id > after).collect();
                    prop_assert_eq!(read, wanted, "all behind the hole are read");
                    prop_assert!(upto.added.is_none_or(|added| added == added_before + number(upto.id)), "{:?}", upto);
                    prop_assert!(after > from.id || upto.id == from.id, "a hole is behind the position");
                }
            }
        }

        /// Entries that disappear after they were read are not a hole: the counters prove it.
        #[test]
        fn what_is_read_before_it_goes_is_whole(before in changes(), added in 0..10u64, trimmed in 0..20usize) {
            let mut stream = Stream::default();
            before.into_iter().for_each(|change| stream.change(change));
            let from = Position { id: id(stream.last), added: Some(stream.added) };
            (0..added).for_each(|_| stream.change(Change::Add));
            let read = stream.behind(from.id.ms, 100);
            let upto = read.last().copied().unwrap_or(from.id);
            (0..trimmed).for_each(|_| stream.change(Change::TrimByOthers));
            let (extent, counters) = stream.tell();
            let whole = Verdict::Whole(Position { id: upto, added: from.added.map(|number| number + added) });
            prop_assert_eq!(judge(from, &read, upto, &extent, counters), whole);
        }

        /// A log that has fewer entries than were read was replaced by an older copy.
        #[test]
        fn fewer_entries_than_were_read_are_another_log(added in 1..20u64, lost in 1..20u64, read in 0..5u64) {
            let lost = lost.min(added);
            let from = Position { id: id(2 * added), added: Some(added) };
            let mut stream = Stream::default();
            // The new log gets as many entries as were read, with later ids.
            (0..added - lost).for_each(|_| stream.change(Change::Add));
            stream.last = stream.last.max(2 * added);
            (0..read).for_each(|_| stream.change(Change::Add));
            let read = stream.behind(from.id.ms, 100);
            let upto = read.last().copied().unwrap_or(from.id);
            let (extent, counters) = stream.tell();
            prop_assert_eq!(judge(from, &read, upto, &extent, counters), Verdict::Shrunk);
        }
    }
}
