//! Whether what a tail has read is all there was.

use super::entry::Counters;
use crate::cursor::Id;
use crate::log::Extent;

/// Up to where a tail has read everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) id: Id,
    /// How many entries were ever added up to here; `None` where that is not known.
    pub(super) added: Option<u64>,
}

/// What a read from a [`Position`] was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing is missing between the position and this one.
    Whole(Position),
    /// Entries behind the position may be gone unseen; all behind `after` and up to `upto` are read.
    Hole { after: Id, upto: Position },
    /// The log is not the one that was read before: it has fewer entries.
    Shrunk,
}

/// Judges a read that has brought these entries, all there were up to `upto`, by what the log tells of itself at a
/// later moment.
///
/// Entries vanish in two ways: from the front (anybody's trim), and one by one (XDEL). The log's floor covers the
/// first kind, its newest deleted entry the second. Where they lie behind the position, the numbers may still prove
/// that whatever is gone was read before.
pub(super) fn judge(from: Position, read: &[Id], upto: Id, log: &Extent, counters: Counters) -> Verdict {
    let count = read.len() as u64;
    let is_shrunk = from.added.is_some_and(|added| counters.added < added + count);
    if is_shrunk || log.end < upto {
        return Verdict::Shrunk;
    }
    // At the end of the log the position's number is known without counting.
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
    // All that is gone lies at or before the floor.
    let gone = counters.added.saturating_sub(counters.length);
    let read_and_gone = read.iter().filter(|id| **id <= log.floor).count() as u64;
    if from.added.is_some_and(|added| added + read_and_gone == gone) {
        return Verdict::Whole(Position { id: upto, added: numbered });
    }
    let upto = Position { id: upto.max(log.floor), added: Some(gone + count - read_and_gone) };
    Verdict::Hole { after: log.floor, upto }
}
