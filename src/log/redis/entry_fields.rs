//! The fields of an entry: how a node writes a draft, and how it reads an entry of any program.
//!
//! An entry of an ordinary message has format 1, without the field `v`. Only an entry that needs a field of format 2
//! has that format. An entry that another program adds may have the fields of format 2 without `v`.

use super::format;
use crate::log::publish_payload::{OTHER_FIELDS, bad_channels, reason};
use crate::message::{
    BadChannel, CONTROL_BYTES, Channel, Channels, Draft, DraftFields, Event, ExceptItem, Extras, Kind, MAX_ATTACHMENTS,
    Message,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use std::sync::Arc;

/// The reason why an entry is not a message for this node.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotAMessage {
    /// The entry is not a message for any node with this setting: a field is missing or not valid.
    Skipped(&'static str),
    /// The entry has a format that this node does not read.
    Unreadable(u32),
    /// The entry has a kind that this node does not know. Readers do not need such an entry: an entry that they need
    /// gets another format.
    UnknownKind,
}

impl From<&'static str> for NotAMessage {
    fn from(reason: &'static str) -> NotAMessage {
        NotAMessage::Skipped(reason)
    }
}

/// The fields of an entry that this node reads, with their values unchanged.
#[derive(Default)]
pub(super) struct EntryFields<'a> {
    version: Option<&'a [u8]>,
    channel: Option<&'a [u8]>,
    channels: Option<&'a [u8]>,
    data: Option<&'a [u8]>,
    args: Option<&'a [u8]>,
    event: Option<&'a [u8]>,
    exclude: Option<&'a [u8]>,
    socket: Option<&'a [u8]>,
    except: Option<&'a [u8]>,
    kind: Option<&'a [u8]>,
    binary: Option<&'a [u8]>,
    is_text: bool,
    ignored_exclude: bool,
}

impl<'a> EntryFields<'a> {
    /// Collects the fields from names and values.
    pub(super) fn collect(pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> EntryFields<'a> {
        let mut fields = EntryFields::default();
        for (name, value) in pairs {
            match name {
                b"v" => fields.version = Some(value),
                b"channel" => fields.channel = Some(value),
                b"channels" => fields.channels = Some(value),
                b"data" => fields.data = Some(value),
                b"args" => fields.args = Some(value),
                b"event" => fields.event = Some(value),
                b"exclude" => fields.exclude = Some(value),
                b"socket" => fields.socket = Some(value),
                b"except" => fields.except = Some(value),
                b"kind" => fields.kind = Some(value),
                b"binary" => fields.binary = Some(value),
                b"text" => fields.is_text = value == b"1",
                // `longtail_publish` has left out an `exclude` or an item of `except` that cannot be used.
                b"ignored" => fields.ignored_exclude = value == b"exclude",
                _ => {}
            }
        }
        fields
    }

    /// Reads the content of the entry, or returns why it is not a message. Any client of Redis may append to the
    /// stream.
    pub(super) fn draft(mut self, max_payload: usize) -> Result<Draft, NotAMessage> {
        // The format is checked first: in another format, the other fields may have another meaning.
        let version = match self.version {
            Some(version) => Some(format::parse(version).ok_or("its field `v` is not a format")?),
            None => None,
        };
        if let Some(version) = version.filter(|version| !format::READ.contains(version)) {
            return Err(NotAMessage::Unreadable(version));
        }
        match version {
            Some(format::EXTENDED) => {}
            None => (self.kind, self.binary, self.is_text) = (None, None, false),
            Some(_) => {
                let EntryFields { channel, data, event, exclude, socket, ignored_exclude, .. } = self;
                self = EntryFields { channel, data, event, exclude, socket, ignored_exclude, ..EntryFields::default() };
            }
        }
        let kind = match self.kind {
            Some(kind) => text(kind).and_then(Kind::named).ok_or(NotAMessage::UnknownKind)?,
            None => Kind::Message,
        };
        let parse = |name: &str| match version {
            Some(format::EXTENDED) => Channel::of_server(name),
            _ => name.parse(),
        };
        let channels = self.channels(parse)?;
        let max_payload = if kind == Kind::Session { max_payload.saturating_add(CONTROL_BYTES) } else { max_payload };
        let (data, is_args) = self.payload()?;
        let data = std::str::from_utf8(data).map_err(|_| "its data is not UTF-8")?;
        // A text that is not UTF-8 becomes empty, and the empty text is neither an event name nor a client id.
        let [event, exclude, socket] =
            [self.event, self.exclude, self.socket].map(|value| value.map(|value| text(value).unwrap_or_default()));
        let fields = DraftFields { data, is_args, event, exclude, socket, ..DraftFields::default() };
        let mut draft = fields.check(channels, max_payload).map_err(reason)?;
        draft.ignored_exclude |= self.ignored_exclude;
        if !draft.channels().iter().all(|channel| kind.fits(channel)) {
            return Err("its kind does not fit its channel".into());
        }
        if self.except.is_none() && self.binary.is_none() && !self.is_text && kind == Kind::Message {
            return Ok(draft);
        }
        let mut extras = draft.extras.take().map(Arc::unwrap_or_clone).unwrap_or_default();
        let except = self.except(parse)?;
        draft.ignored_exclude |= except.iter().any(Option::is_none);
        extras.except = except.into_iter().flatten().collect();
        extras.attachments = attachments(self.binary.unwrap_or_default(), max_payload)?;
        extras.is_text = self.is_text;
        extras.kind = kind;
        Ok(draft.with_extras(extras))
    }

    /// The channels. Only an entry with a kind may name a reserved channel, because only the server writes such
    /// entries.
    fn channels(&self, parse: impl Fn(&str) -> Result<Channel, BadChannel>) -> Result<Channels, NotAMessage> {
        let parse = |name: &str| match parse(name)? {
            channel if channel.is_reserved() && self.kind.is_none() => Err(BadChannel::Reserved),
            channel => Ok(channel),
        };
        let names = match (self.channel, self.channels) {
            (Some(channel), None) => [text(channel).unwrap_or_default()].to_vec(),
            (None, Some(channels)) => list(channels),
            (Some(_), Some(_)) => return Err("it has a field `channel` and a field `channels`".into()),
            (None, None) => return Err("it has no field `channel`".into()),
        };
        Channels::parse_by(names, parse).map_err(|error| bad_channels(error).into())
    }

    /// The payload, and whether it is an array of arguments: the field `args` marks `data` as such an array, or is the
    /// array itself.
    fn payload(&self) -> Result<(&'a [u8], bool), NotAMessage> {
        match (self.data, self.args) {
            (Some(data), None | Some(b"0")) => Ok((data, false)),
            (Some(data), Some(b"1")) => Ok((data, true)),
            (None, Some(args)) => Ok((args, true)),
            (Some(_), Some(_)) => Err("it has a field `data` and a field `args`".into()),
            (None, None) => Err("it has no field `data`".into()),
        }
    }

    /// The items of `except`; `None` for each item that cannot be used.
    fn except(
        &self,
        parse: impl Fn(&str) -> Result<Channel, BadChannel>,
    ) -> Result<Vec<Option<ExceptItem>>, NotAMessage> {
        let names = self.except.map(list).unwrap_or_default();
        if names.len() > crate::message::MAX_EXCEPT {
            return Err("its except has more than 100 items".into());
        }
        Ok(names.into_iter().map(|name| parse(name).ok().map(ExceptItem::new)).collect())
    }
}

fn text(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value).ok()
}

/// The items of a list. Their number is at most one more than the limit on items.
fn list(value: &[u8]) -> Vec<&str> {
    text(value).unwrap_or_default().split(',').take(Channels::MAX.max(crate::message::MAX_EXCEPT) + 1).collect()
}

/// The binary parts. Together they have at most as many bytes as a payload.
fn attachments(value: &[u8], max_bytes: usize) -> Result<Box<[bytes::Bytes]>, NotAMessage> {
    if value.is_empty() {
        return Ok(Box::default());
    }
    if value.len() / 4 * 3 > max_bytes.saturating_add(3 * Channels::MAX) {
        return Err("its binary parts are larger than --max-message-bytes".into());
    }
    if value.iter().filter(|byte| **byte == b',').count() >= MAX_ATTACHMENTS {
        return Err("it has more than 256 binary parts".into());
    }
    let parts = value.split(|byte| *byte == b',').map(|part| BASE64.decode(part).map(Into::into));
    Ok(parts.collect::<Result<_, _>>().map_err(|_| "its binary parts are not base64")?)
}

/// The fields and values of a draft's entry, in the lowest format that can hold the draft.
pub(in crate::log) fn draft_fields(draft: &Draft) -> Vec<String> {
    let format = format::needed_by(draft);
    let mut fields = Vec::with_capacity(8);
    let mut put = |name: &str, value: String| fields.extend([name.to_owned(), value]);
    // An entry without the field `v` has the lowest format.
    if format > format::LOWEST {
        put("v", format.to_string());
    }
    match draft.channels() {
        [channel] => put("channel", channel.to_string()),
        several => put("channels", join(several.iter().map(Channel::as_str))),
    }
    put("data", draft.payload.as_str().into());
    if draft.event != Event::default() {
        put("event", draft.event.as_str().into());
    }
    if let Some(exclude) = &draft.exclude {
        put("exclude", exclude.to_string());
    }
    if draft.kind() != Kind::Message || draft.channels().iter().any(Channel::is_reserved) {
        put("kind", draft.kind().as_str().to_owned());
    }
    let Some(Extras { except, is_args, is_text, attachments, .. }) = draft.extras.as_deref() else { return fields };
    if !except.is_empty() {
        put("except", join(except.iter().map(|item| item.channel().as_str())));
    }
    if *is_args {
        put("args", "1".into());
    }
    if *is_text {
        put("text", "1".into());
    }
    if !attachments.is_empty() {
        let parts: Vec<String> = attachments.iter().map(|part| BASE64.encode(part)).collect();
        put("binary", parts.join(","));
    }
    fields
}

fn join<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(",")
}

/// A volatile draft in the form that nodes send to each other: an array of the entry's fields and values.
pub(super) fn volatile_to_json(draft: &Draft) -> Vec<u8> {
    serde_json::to_vec(&draft_fields(draft)).unwrap_or_default()
}

/// The message that another node has sent with [`volatile_to_json`]. A volatile message is not kept and its delivery is
/// not promised: this node drops a volatile message whose format it does not read.
pub(in crate::log) fn volatile_from_json(json: &[u8], max_payload: usize) -> Option<Message> {
    // Any client of Redis may send such a message, and a list of short texts takes many times its bytes in memory. A
    // message of a node may have escapes in its payload, and binary parts in base64.
    if json.len() > max_payload.saturating_mul(8).saturating_add(OTHER_FIELDS) {
        return None;
    }
    let words: Vec<String> = serde_json::from_slice(json).ok()?;
    let pairs = words.chunks_exact(2).map(|pair| (pair[0].as_bytes(), pair[1].as_bytes()));
    EntryFields::collect(pairs).draft(max_payload).ok().map(|draft| draft.into_message(None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Payload;

    fn channel(name: &str) -> Channel {
        Channel::of_server(name).expect("a channel")
    }

    fn draft(names: &[&str], data: &str, extras: Extras) -> Draft {
        let channels: Box<[Channel]> = names.iter().map(|name| channel(name)).collect();
        let draft = Draft::new(channels[0].clone(), Payload::from_any(data));
        draft.with_extras(Extras { channels: if names.len() > 1 { channels } else { Box::default() }, ..extras })
    }

    fn read(fields: &[&str]) -> Result<Draft, NotAMessage> {
        let pairs = fields.chunks_exact(2).map(|pair| (pair[0].as_bytes(), pair[1].as_bytes()));
        EntryFields::collect(pairs).draft(100)
    }

    /// The fuzzer begins with entries of format 2 that a node reads. Otherwise it would not find such entries.
    #[test]
    fn the_seeds_of_the_fuzzer_are_entries_of_format_2() {
        for (seed, kind) in [
            (include_str!("../../../fuzz/seeds/entries/format_2"), "message"),
            (include_str!("../../../fuzz/seeds/entries/format_2_binary"), "message"),
            (include_str!("../../../fuzz/seeds/entries/format_2_control"), "session"),
        ] {
            let words: Vec<&str> = seed.split('\0').skip(1).collect();
            let draft = read(&words).expect("an entry");
            assert_eq!((draft.kind().as_str(), draft_fields(&draft)[0].as_str()), (kind, "v"), "{seed}");
        }
    }

    /// Checks the fields that are written for a draft, and checks that a node reads the same draft from them.
    #[test]
    fn only_what_needs_format_2_has_it() {
        let none = Extras::default;
        let except: Box<[_]> = [ExceptItem::new(channel("me")), ExceptItem::new(channel("~s/1"))].into();
        let attachments: Box<[_]> = [b"\0\xff"[..].into(), b""[..].into()].into();
        for (draft, fields) in [
            (draft(&["todo"], "1", none()), &["channel", "todo", "data", "1"][..]),
            (draft(&["a", "b"], "1", none()), &["v", "2", "channels", "a,b", "data", "1"]),
            (
                draft(&["a"], "[1]", Extras { is_args: true, ..none() }),
                &["v", "2", "channel", "a", "data", "[1]", "args", "1"],
            ),
            (
                draft(&["a"], "1", Extras { except, ..none() }),
                &["v", "2", "channel", "a", "data", "1", "except", "me,~s/1"],
            ),
            (
                draft(&["a"], "\"x\"", Extras { is_text: true, attachments, ..none() }),
                &["v", "2", "channel", "a", "data", "\"x\"", "text", "1", "binary", "AP8=,"],
            ),
            (
                draft(&["room"], "{}", Extras { kind: Kind::MemberAdded, ..none() }),
                &["v", "2", "channel", "room", "data", "{}", "kind", "member_added"],
            ),
            (
                draft(&["~s/1"], "{}", Extras { kind: Kind::Session, ..none() }),
                &["v", "2", "channel", "~s/1", "data", "{}", "kind", "session"],
            ),
            (
                draft(&["room", "~s/1"], "1", none()),
                &["v", "2", "channels", "room,~s/1", "data", "1", "kind", "message"],
            ),
        ] {
            assert_eq!(draft_fields(&draft), fields);
            assert_eq!(read(fields).as_ref(), Ok(&draft), "{fields:?}");
            let json = volatile_to_json(&draft);
            let message = volatile_from_json(&json, 100).expect("a message");
            assert!(message.is_same_as(&draft.to_message(None)), "{fields:?}");
        }
        let long = draft(&[&"x".repeat(201)], "1", none());
        assert_eq!(draft_fields(&long)[..2], ["v", "2"], "older versions skip names that are so long");
        assert_eq!(read(&["v", "2", "channel", long.channel.as_str(), "data", "1"]), Ok(long));
    }

    #[test]
    fn an_entry_of_another_program_may_have_the_new_fields() {
        for fields in [
            &["channels", "a,b", "args", "[1]", "except", "me"][..],
            &["v", "2", "channels", "a,b", "args", "[1]", "except", "me"],
            &["channels", "a,b,a", "data", "[1]", "args", "1", "except", "me"],
        ] {
            let draft = read(fields).expect("a message");
            let extras = draft.extras.as_deref().expect("extras");
            assert_eq!((draft.channels().len(), extras.is_args, extras.except.len()), (2, true, 1), "{fields:?}");
        }
        let draft = read(&["channel", "a", "data", "1", "except", "a b,"]).expect("a message for everybody");
        assert_eq!((draft.ignored_exclude, draft.extras), (true, None));
        // In format 1 these fields have no meaning.
        let draft = read(&["v", "1", "channel", "a", "data", "1", "except", "me", "args", "1"]).expect("a message");
        assert_eq!((draft.ignored_exclude, draft.extras), (false, None));
    }

    #[test]
    fn what_is_not_a_message() {
        let many = ["a"; 101].join(",");
        for (fields, reason) in [
            (&["channel", "~s/1", "data", "1"][..], "reserved"),
            (&["v", "2", "channel", "~s/1", "data", "1"], "reserved"),
            (&["channel", "~s/1", "data", "1", "kind", "session"], "reserved"),
            (&["channels", "a,~s/1", "data", "1"], "reserved"),
            (&["channels", "a,", "data", "1"], "channel name is invalid"),
            (&["channels", &many, "data", "1"], "more than 100 channels"),
            (&["channel", "a", "channels", "b", "data", "1"], "`channel` and a field `channels`"),
            (&["channel", "a", "data", "1", "except", &many], "more than 100 items"),
            (&["channel", "a", "data", "1", "args", "[1]"], "`data` and a field `args`"),
            (&["channel", "a", "data", "1", "args", "1"], "not an array"),
            (&["channel", "a", "args", "1"], "not an array"),
            (&["channel", "a"], "no field `data`"),
            (&["data", "1"], "no field `channel`"),
            (&["v", "2", "channel", "a", "data", "1", "binary", "?"], "base64"),
            (&["v", "2", "channel", "a", "data", "1", "binary", &",".repeat(256)], "more than 256 binary parts"),
        ] {
            let refused = read(fields).expect_err("not a message");
            assert!(matches!(refused, NotAMessage::Skipped(text) if text.contains(reason)), "{fields:?}: {refused:?}");
        }
        assert_eq!(read(&["v", "3", "channel", "a", "data", "1"]), Err(NotAMessage::Unreadable(3)));
        assert_eq!(read(&["v", "2", "channel", "a", "data", "1", "kind", "later"]), Err(NotAMessage::UnknownKind));
        assert!(read(&["channel", "a", "data", "1", "kind", "later"]).is_ok(), "a field of another program");
        let most = read(&["v", "2", "channel", "a", "data", "1", "binary", &",".repeat(255)]).expect("a message");
        assert_eq!(most.extras.expect("extras").attachments.len(), 256);
    }
}
