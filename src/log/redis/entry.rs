//! Converts replies of Redis into types of the log.

use super::entry_fields::{EntryFields, NotAMessage};
use crate::cursor::{Cursor, Epoch, Id};
use crate::log::{Ancestor, Extent, Lineage};
use crate::message::{Draft, Message};
use prometheus_client::metrics::counter::Counter;
use redis::Value;

/// An entry of the stream, borrowed from a reply.
#[derive(Clone)]
pub(super) struct Entry<'a> {
    pub(super) id: Id,
    fields: &'a [Value],
}

/// Counts entries that are not messages, and logs some of them.
pub(super) struct Skipped {
    counter: Counter,
}

impl Skipped {
    pub(super) fn new(counter: Counter) -> Skipped {
        Skipped { counter }
    }

    pub(super) fn note(&self, id: Id, reason: &'static str) {
        let count = self.counter.inc() + 1;
        // An entry is logged only when the count is a power of two: many such entries must not flood the journal.
        if count.is_power_of_two() || count <= 16 {
            tracing::warn!(%id, reason, skipped = count, "skipped an entry of the log that is not a message");
        }
    }
}

pub(super) fn array(value: &Value) -> Option<&[Value]> {
    match value {
        Value::Array(items) => Some(items),
        Value::Nil => Some(&[]),
        _ => None,
    }
}

fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.as_bytes()),
        _ => None,
    }
}

pub(in crate::log) fn text(value: &Value) -> Option<&str> {
    std::str::from_utf8(bytes(value)?).ok()
}

/// The stream's own counters at the moment of an [`Extent`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counters {
    /// The number of entries that were ever added.
    pub(super) added: u64,
    /// The number of entries that the stream holds now.
    pub(super) length: u64,
}

/// Parses the reply of a script's `extent`.
pub(super) fn extent(value: &Value) -> Option<(Extent, Counters)> {
    let [epoch, floor, end, now_ms, ancestors, added, length, deleted] = array(value)? else { return None };
    let ancestors = array(ancestors)?.chunks_exact(3).map(|ancestor| {
        let (epoch, last) = (text(&ancestor[0])?.parse().ok()?, text(&ancestor[1])?.parse().ok()?);
        Some(Ancestor { epoch, last, is_cut: count(&ancestor[2])? > 0 })
    });
    let lineage = Lineage { epoch: text(epoch)?.parse().ok()?, ancestors: ancestors.collect::<Option<_>>()? };
    let floor: Id = text(floor)?.parse().ok()?;
    let deleted: Id = text(deleted)?.parse().ok()?;
    let end = text(end)?.parse().ok()?;
    let now_ms = text(now_ms)?.parse().ok()?;
    let extent = Extent { lineage, floor, deleted: deleted.max(floor), end, now_ms };
    Some((extent, Counters { added: count(added)?, length: count(length)? }))
}

fn count(value: &Value) -> Option<u64> {
    match value {
        Value::Int(count) => (*count).try_into().ok(),
        other => text(other)?.parse().ok(),
    }
}

/// The log's identity at one moment.
pub(super) struct Identity {
    pub(super) lineage: Lineage,
    /// The position up to which all entries are known to belong to this epoch and this server.
    pub(super) mark: Id,
    /// The number of entries that were ever added; `None` if Redis does not know it.
    pub(super) added: Option<u64>,
}

/// Parses the reply of `lua/identify.lua`; `None` for a log that has no identity.
pub(super) fn identity(reply: &Value) -> Option<Identity> {
    let mut words = text(reply)?.split(' ');
    let epoch = words.next()?.parse().ok()?;
    let mark = words.next()?.parse().ok()?;
    let added = words.next()?.parse().ok();
    let mut ancestors = Vec::new();
    while let Some(epoch) = words.next() {
        let (last, cut) = (words.next()?, words.next()?);
        ancestors.push(Ancestor { epoch: epoch.parse().ok()?, last: last.parse().ok()?, is_cut: cut != "0" });
    }
    Some(Identity { lineage: Lineage { epoch, ancestors }, mark, added })
}

/// The entries in a reply of `XRANGE`.
pub(super) fn entries(value: &Value) -> Option<Vec<Entry<'_>>> {
    let entry = |value| {
        let [id, fields] = array(value)? else { return None };
        Some(Entry { id: text(id)?.parse().ok()?, fields: array(fields)? })
    };
    array(value)?.iter().map(entry).collect()
}

impl Entry<'_> {
    /// Decodes the entry as a message, or returns why it is not a message.
    pub(super) fn message(&self, epoch: Epoch, max_payload: usize) -> Result<Message, NotAMessage> {
        Ok(self.draft(max_payload)?.into_message(Some(Cursor { id: self.id, epoch })))
    }

    /// Decodes the content of the entry, or returns why it is not a message.
    pub(super) fn draft(&self, max_payload: usize) -> Result<Draft, NotAMessage> {
        let pairs = self.fields.chunks_exact(2);
        let pairs = pairs.filter_map(|pair| Some((bytes(&pair[0])?, bytes(&pair[1]).unwrap_or_default())));
        EntryFields::collect(pairs).draft(max_payload)
    }
}
