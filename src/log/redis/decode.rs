//! Decodes consecutive entries: messages, entries that are not messages, and entries of formats that this node does not
//! read.
//!
//! The node does not guess the meaning of an entry in an unknown format. The entry may be for any channel and any
//! reader, so all readers of this node get a gap in place of the entry.

use super::entry::{Entry, Skipped};
use super::entry_fields::NotAMessage;
use super::format;
use super::read_history::Read;
use crate::cursor::{Cursor, Epoch, Id};
use crate::message::warn_ignored_exclude;
use prometheus_client::metrics::counter::Counter;
use std::sync::Arc;

/// Counts entries of formats that this node does not read, and logs some of them.
pub(super) struct Unreadable {
    counter: Counter,
}

impl Unreadable {
    pub(super) fn new(counter: Counter) -> Unreadable {
        Unreadable { counter }
    }

    /// Counts and logs an entry of a kind that this node does not know. It is not a message, so readers do not miss it.
    fn note_kind(&self, id: Id) {
        let count = self.counter.inc() + 1;
        if count.is_power_of_two() {
            tracing::warn!(
                %id, unreadable = count,
                "an entry of the log is of a kind that this node does not know, and is skipped: a newer Longtail has \
                 written it; upgrade this node"
            );
        }
    }

    fn note(&self, id: Id, format: u32) {
        let count = self.counter.inc() + 1;
        // An entry is logged only when the count is a power of two: a log full of such entries must not flood the
        // journal.
        if count.is_power_of_two() {
            tracing::warn!(
                %id, format, reads = ?format::READ, unreadable = count,
                "an entry of the log is of a format that this node does not read, and its readers are told of a gap: a \
                 newer Longtail has written it; upgrade this node"
            );
        }
    }
}

/// The result of decoding consecutive entries.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    /// The last of the unreadable entries at the beginning; `None` if the first entry is readable.
    pub(super) hole: Option<Id>,
    /// All entries that were decoded, with their messages.
    pub(super) read: Vec<Read>,
    /// The last entry that was decoded, whether or not it is a message.
    pub(super) upto: Option<Id>,
    /// Whether more entries follow and the next one is unreadable. A reader that continues after `upto` finds a hole in
    /// place of that entry.
    pub(super) is_cut: bool,
}

impl Decoded {
    /// Decodes entries and stops at the first unreadable entry after readable ones, so that the messages before a gap
    /// are delivered.
    pub(super) fn from(
        entries: Vec<Entry<'_>>,
        epoch: Epoch,
        max_payload: usize,
        (skipped, unreadable, ignored_excludes): (&Skipped, &Unreadable, &Counter),
    ) -> Decoded {
        let mut taken = Decoded { read: Vec::with_capacity(entries.len()), ..Decoded::default() };
        for entry in entries {
            let message = match entry.draft(max_payload) {
                Ok(draft) => {
                    if draft.ignored_exclude {
                        warn_ignored_exclude(ignored_excludes, "an entry of the log");
                    }
                    Some(Arc::new(draft.into_message(Some(Cursor { id: entry.id, epoch }))))
                }
                Err(NotAMessage::Skipped(reason)) => {
                    skipped.note(entry.id, reason);
                    None
                }
                Err(NotAMessage::UnknownKind) => {
                    unreadable.note_kind(entry.id);
                    None
                }
                Err(NotAMessage::Unreadable(_)) if taken.upto != taken.hole => {
                    taken.is_cut = true;
                    return taken;
                }
                Err(NotAMessage::Unreadable(format)) => {
                    unreadable.note(entry.id, format);
                    taken.hole = Some(entry.id);
                    None
                }
            };
            taken.read.push((entry.id, message));
            taken.upto = Some(entry.id);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry;
    use super::*;
    use redis::Value;

    /// One entry for each letter, with the ids 1-0, 2-0, …. A letter stands for a message, an entry of another format
    /// or of an unknown kind, or an entry that is not a message.
    fn take(kinds: &str) -> (Option<u64>, Vec<u64>, Option<u64>, bool) {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let entry = |(n, kind): (usize, char)| {
            let fields: &[&str] = match kind {
                'm' => &["channel", "todo", "data", "1"],
                'u' => &["v", "3", "channel", "todo", "data", "1"],
                'k' => &["v", "2", "channel", "todo", "data", "1", "kind", "later"],
                _ => &["nonsense", "1"],
            };
            let fields = fields.iter().map(|field| text(field)).collect();
            Value::Array(vec![text(&format!("{}-0", n + 1)), Value::Array(fields)])
        };
        let reply = Value::Array(kinds.chars().enumerate().map(entry).collect());
        let entries = entry::entries(&reply).expect("entries");
        let counters = (Skipped::new(Counter::default()), Unreadable::new(Counter::default()));
        let counters = (&counters.0, &counters.1, &Counter::default());
        let taken = Decoded::from(entries, "k3".parse().expect("an epoch"), 100, counters);
        let ids = taken.read.iter().filter_map(|(id, message)| message.as_ref().map(|_| id.ms)).collect();
        (taken.hole.map(|id| id.ms), ids, taken.upto.map(|id| id.ms), taken.is_cut)
    }

    #[test]
    fn an_unreadable_entry_is_a_hole_and_what_is_before_it_is_taken_first() {
        assert_eq!(take(""), (None, vec![], None, false));
        assert_eq!(take("mnm"), (None, vec![1, 3], Some(3), false));
        assert_eq!(take("mkm"), (None, vec![1, 3], Some(3), false), "an unknown kind is no gap");
        assert_eq!(take("u"), (Some(1), vec![], Some(1), false));
        assert_eq!(take("uumn"), (Some(2), vec![3], Some(4), false));
        assert_eq!(take("mmum"), (None, vec![1, 2], Some(2), true));
        assert_eq!(take("nu"), (None, vec![], Some(1), true));
        assert_eq!(take("umu"), (Some(1), vec![2], Some(2), true));
    }
}
