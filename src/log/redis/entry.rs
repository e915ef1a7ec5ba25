//! Converts replies of Redis into types of the log, and drafts into entries.

use super::format;
use crate::cursor::{Cursor, Epoch, Id};
use crate::log::publish_payload::reason;
use crate::log::{Ancestor, Extent, Lineage};
use crate::message::{Channel, Draft, DraftFields, Event, Message};
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
    /// How many entries were ever added.
    pub(super) added: u64,
    /// How many entries the stream holds now.
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
    /// How many entries were ever added; `None` if Redis does not know the count.
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

/// The entries in a reply of `XREAD` on one stream.
pub(super) fn read_entries(value: &Value) -> Option<Vec<Entry<'_>>> {
    match array(value)? {
        [] => Some(Vec::new()),
        [stream] => entries(array(stream)?.get(1)?),
        _ => None,
    }
}

/// The reason why an entry is not a message for this node.
#[derive(Debug)]
pub(super) enum NotAMessage {
    /// The entry is not a message for any node with this setting: a field is missing or not valid.
    Skipped(&'static str),
    /// The entry has a format that this node does not read.
    Unreadable(u32),
}

impl From<&'static str> for NotAMessage {
    fn from(reason: &'static str) -> NotAMessage {
        NotAMessage::Skipped(reason)
    }
}

impl Entry<'_> {
    /// Decodes the entry as a message, or returns why it is not a message.
    pub(super) fn message(&self, epoch: Epoch, max_payload: usize) -> Result<Message, NotAMessage> {
        Ok(self.draft(max_payload)?.into_message(Some(Cursor { id: self.id, epoch })))
    }

    /// Decodes the content of the entry, or returns why it is not a message. Any client of Redis may append to the
    /// stream, so the content may be invalid.
    pub(super) fn draft(&self, max_payload: usize) -> Result<Draft, NotAMessage> {
        let (mut channel, mut data, mut event, mut version) = (None, None, None, None);
        let (mut exclude, mut socket, mut ignored_exclude) = (None, None, false);
        for pair in self.fields.chunks_exact(2) {
            match bytes(&pair[0]) {
                Some(b"channel") => channel = Some(&pair[1]),
                Some(b"data") => data = Some(&pair[1]),
                Some(b"event") => event = Some(&pair[1]),
                Some(b"exclude") => exclude = Some(&pair[1]),
                Some(b"socket") => socket = Some(&pair[1]),
                // `longtail_publish` has left out an exclude that is not a client id.
                Some(b"ignored") => ignored_exclude = bytes(&pair[1]) == Some(b"exclude"),
                Some(b"v") => version = Some(&pair[1]),
                _ => {}
            }
        }
        // The format is checked first: in another format, the other fields may have another meaning.
        if let Some(version) = version {
            let version = bytes(version).and_then(format::parse).ok_or("its field `v` is not a format")?;
            if !format::READ.contains(&version) {
                return Err(NotAMessage::Unreadable(version));
            }
        }
        let channel = channel.ok_or("it has no field `channel`")?;
        let channel: Channel = text(channel).and_then(|name| name.parse().ok()).ok_or("its channel name is invalid")?;
        let data = bytes(data.ok_or("it has no field `data`")?).unwrap_or_default();
        let data = std::str::from_utf8(data).map_err(|_| "its data is not UTF-8")?;
        // A text that is not UTF-8 becomes empty, and the empty text is neither an event name nor a client id.
        let [event, exclude, socket] =
            [event, exclude, socket].map(|value| value.map(|value| text(value).unwrap_or_default()));
        let fields = DraftFields { data, event, exclude, socket, ..DraftFields::default() };
        let mut draft = fields.check(channel, max_payload).map_err(reason)?;
        draft.ignored_exclude |= ignored_exclude;
        Ok(draft)
    }
}

/// The fields and values of a draft's entry in a format that every node reads.
pub(super) fn fields_in(format: u32, draft: &Draft) -> Vec<String> {
    let mut fields = draft_fields(draft);
    // An entry without the field `v` has the lowest format.
    if format > format::LOWEST {
        fields.splice(0..0, ["v".into(), format.to_string()]);
    }
    fields
}

/// The fields and values of a draft's entry in the lowest format.
pub(in crate::log) fn draft_fields(draft: &Draft) -> Vec<String> {
    let mut fields = vec!["channel".into(), draft.channel.to_string(), "data".into(), draft.payload.as_str().into()];
    if draft.event != Event::default() {
        fields.extend(["event".into(), draft.event.as_str().into()]);
    }
    if let Some(exclude) = &draft.exclude {
        fields.extend(["exclude".into(), exclude.to_string()]);
    }
    fields
}

/// A volatile draft in the form that nodes send to each other: an array of the entry's fields and values.
pub(super) fn volatile_to_json(draft: &Draft) -> Vec<u8> {
    serde_json::to_vec(&draft_fields(draft)).unwrap_or_default()
}

/// The message that another node has sent with [`volatile_to_json`].
pub(in crate::log) fn volatile_from_json(json: &[u8], max_payload: usize) -> Option<Message> {
    let fields: Vec<String> = serde_json::from_slice(json).ok()?;
    let field = |name: &str| fields.chunks_exact(2).find(|pair| pair[0] == name).map(|pair| pair[1].as_str());
    // A volatile message is not kept and its delivery is not promised: this node drops one whose format it does not
    // read.
    field("v").is_none_or(|v| format::parse(v.as_bytes()).is_some_and(|v| format::READ.contains(&v))).then_some(())?;
    let (data, event, exclude) = (field("data")?, field("event"), field("exclude"));
    let draft = DraftFields { data, event, exclude, ..DraftFields::default() };
    draft.check(field("channel")?.parse().ok()?, max_payload).ok().map(|draft| draft.into_message(None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Payload;

    #[test]
    fn the_lowest_format_is_written_without_its_field() {
        let draft = Draft::new("todo".parse().expect("a channel"), Payload::from_any("1"));
        assert_eq!(fields_in(1, &draft), ["channel", "todo", "data", "1"]);
        assert_eq!(fields_in(2, &draft), ["v", "2", "channel", "todo", "data", "1"]);
    }
}
