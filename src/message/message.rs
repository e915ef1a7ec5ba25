//! A message in the log.

use super::extras::{ExceptItem, Extras, Kind};
use super::frames::{FrameKey, Frames};
use super::{Channel, ClientId, Event, Payload};
use crate::cursor::Cursor;
use crate::wire::json;
use bytes::Bytes;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// The key of the object of a variant.
const OBJECT: FrameKey = FrameKey { address: 0, function: 0 };

/// One message of the log, shared by all its receivers.
///
/// A message to several channels has a [variant](Message::variant) for each of them: the object names its channel. The
/// variants share the payload's bytes until the object of a variant is needed.
pub struct Message {
    cursor: Option<Cursor>,
    channel: Channel,
    event: Event,
    exclude: Option<ClientId>,
    extras: Option<Arc<Extras>>,
    /// The message object; in a variant, the object of the message's first channel. The payload is a part of these
    /// bytes, so that it is in memory only once.
    written: Bytes,
    /// The payload's place in `written`.
    payload: Range<u32>,
    pub(super) frames: Frames,
}

// Every retained message has this size, and the two counts of its `Arc`.
const _: () = assert!(size_of::<Message>() <= 152);

impl Message {
    /// A message. `cursor` is the position right after the message. A volatile message does not have one.
    pub fn new(
        cursor: Option<Cursor>,
        channel: Channel,
        event: Event,
        payload: &Payload,
        exclude: Option<ClientId>,
    ) -> Message {
        Message::with_extras(cursor, channel, event, payload.as_str(), exclude, None)
    }

    /// A message with the properties that most messages lack. `data` is its payload.
    pub(super) fn with_extras(
        cursor: Option<Cursor>,
        channel: Channel,
        event: Event,
        data: &str,
        exclude: Option<ClientId>,
        extras: Option<Arc<Extras>>,
    ) -> Message {
        let mut object = Vec::with_capacity(data.len() + channel.as_str().len() + event.as_str().len() + 96);
        let kind = extras.as_deref().map_or(Kind::Message, |extras| extras.kind);
        let mut write = |text: &str| object.extend_from_slice(text.as_bytes());
        write("{");
        if kind.is_of_members() {
            write("\"type\":\"");
            write(kind.as_str());
            write("\",");
        }
        if let Some(cursor) = cursor {
            write("\"id\":\"");
            write(cursor.text().as_str());
            write("\",");
        }
        // A channel's name does not need escapes.
        write("\"channel\":\"");
        write(channel.as_str());
        write("\"");
        if !kind.is_of_members() {
            write(",\"event\":");
            json::quote(event.as_str(), &mut object);
        }
        object.extend_from_slice(b",\"data\":");
        let start = object.len();
        object.extend_from_slice(data.as_bytes());
        let payload = start..object.len();
        if extras.as_deref().is_some_and(|extras| extras.is_args) {
            object.extend_from_slice(b",\"args\":true");
        }
        object.push(b'}');
        let payload = at(payload.start)..at(payload.end);
        Message { cursor, channel, event, exclude, extras, written: object.into(), payload, frames: Frames::default() }
    }

    /// An event that an application sends to one session: the object `{"type":"event",…}`. `reserved` is the channel of
    /// its entry, `args` a JSON array on one line. With one argument, the argument itself is the object's data. `ack` is
    /// the name of the answer that the application waits for.
    pub fn session_event(cursor: Cursor, reserved: Channel, event: Event, args: &str, ack: Option<&str>) -> Message {
        let only = json::only_item(args);
        let data = only.unwrap_or(args);
        let mut object = Vec::with_capacity(data.len() + event.as_str().len() + 96);
        object.extend_from_slice(
            format!("{{\"type\":\"event\",\"id\":\"{}\",\"event\":", cursor.text().as_str()).as_bytes(),
        );
        json::quote(event.as_str(), &mut object);
        if let Some(ack) = ack {
            object.extend_from_slice(b",\"ack\":");
            json::quote(ack, &mut object);
        }
        object.extend_from_slice(b",\"data\":");
        let start = object.len();
        object.extend_from_slice(data.as_bytes());
        let payload = at(start)..at(object.len());
        object.extend_from_slice(if only.is_some() { b"}" } else { b",\"args\":true}" });
        let extras = Extras { kind: Kind::Session, is_args: only.is_none(), ..Extras::default() };
        Message {
            cursor: Some(cursor),
            channel: reserved,
            event,
            exclude: None,
            extras: Some(Arc::new(extras)),
            written: object.into(),
            payload,
            frames: Frames::default(),
        }
    }

    /// The same message for the readers of another of its channels. The object names this channel. The object is made
    /// when it is first needed: most channels of a message may have no readers here, and a payload may be long.
    pub fn variant(&self, channel: &Channel) -> Message {
        Message {
            cursor: self.cursor,
            channel: channel.clone(),
            event: self.event.clone(),
            exclude: self.exclude.clone(),
            extras: self.extras.clone(),
            written: self.written.clone(),
            payload: self.payload.clone(),
            frames: Frames::default(),
        }
    }

    /// The first of several channels, if this message is the variant of another channel. `written` names the first one.
    fn written_channel(&self) -> Option<&Channel> {
        self.extras.as_deref()?.channels.first().filter(|first| **first != self.channel)
    }

    /// The object of a variant: `written` with its own channel.
    fn rewrite(&self, first: &Channel) -> Bytes {
        let id = self.cursor.map_or(0, |cursor| "\"id\":\"\",".len() + cursor.text().as_str().len());
        let start = "{\"channel\":\"".len() + id;
        let parts =
            [&self.written[..start], self.channel.as_str().as_bytes(), &self.written[start + first.as_str().len()..]];
        parts.concat().into()
    }

    /// The position right after the message; `None` for a volatile one.
    pub fn cursor(&self) -> Option<Cursor> {
        self.cursor
    }

    /// The channel that the object names.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// All channels that it was published to, each once.
    pub fn channels(&self) -> &[Channel] {
        match &self.extras {
            Some(extras) if !extras.channels.is_empty() => &extras.channels,
            _ => std::slice::from_ref(&self.channel),
        }
    }

    /// The place of the object's channel among all channels of the message.
    pub fn place(&self) -> usize {
        self.channels().iter().position(|channel| *channel == self.channel).unwrap_or_default()
    }

    /// The properties that most messages lack; `None` for an ordinary message.
    pub fn extras(&self) -> Option<&Extras> {
        self.extras.as_deref()
    }

    /// The kind of the entry.
    pub fn kind(&self) -> Kind {
        self.extras.as_deref().map_or(Kind::Message, |extras| extras.kind)
    }

    /// Whether every reader of the channel receives the entry. An entry about a member that joins or leaves is only for
    /// readers that ask for it.
    pub fn is_for_readers(&self) -> bool {
        self.kind() == Kind::Message
    }

    /// Whether it is a control entry, which only sessions read.
    pub fn is_control(&self) -> bool {
        self.kind() == Kind::Session
    }

    /// The event's name.
    pub fn event(&self) -> &Event {
        &self.event
    }

    /// Whether the message is not delivered to this client.
    pub fn excludes(&self, client: &ClientId) -> bool {
        self.exclude.as_ref() == Some(client) || self.except().iter().any(|item| item.client() == Some(client))
    }

    /// Whether the message is not delivered to the readers of this channel.
    pub fn excludes_readers_of(&self, channel: &Channel) -> bool {
        self.except().iter().any(|item| item.channel() == channel)
    }

    /// Whether the message is delivered to all clients and all readers.
    #[inline]
    pub fn is_for_all(&self) -> bool {
        let is_plain = |extras: &Extras| extras.except.is_empty() && extras.kind == Kind::Message;
        self.exclude.is_none() && self.extras.as_deref().is_none_or(is_plain)
    }

    /// Whether a reader's other channels decide whether the reader receives the message.
    pub fn excludes_channels(&self) -> bool {
        !self.except().is_empty()
    }

    fn except(&self) -> &[ExceptItem] {
        self.extras.as_deref().map_or(&[], |extras| &extras.except)
    }

    /// Whether the other message has the same content and receivers, at any position.
    pub fn is_same_as(&self, other: &Message) -> bool {
        let head = |message: &Message| (message.channel.clone(), message.event.clone(), message.exclude.clone());
        head(self) == head(other) && self.extras == other.extras && self.payload() == other.payload()
    }

    /// The message object as JSON on one line.
    pub fn object(&self) -> &Bytes {
        match self.written_channel() {
            None => &self.written,
            Some(first) => self.frames.get(OBJECT, || self.rewrite(first)),
        }
    }

    /// The length of the object.
    fn object_len(&self) -> usize {
        let first = self.written_channel().unwrap_or(&self.channel);
        self.written.len() + self.channel.as_str().len() - first.as_str().len()
    }

    /// The payload as JSON on one line.
    pub fn payload(&self) -> &str {
        // The range is always valid UTF-8 at character boundaries, because it was written from a &str.
        std::str::from_utf8(&self.written[self.payload_range()]).unwrap_or_default()
    }

    fn payload_range(&self) -> Range<usize> {
        self.payload.start as usize..self.payload.end as usize
    }

    /// Returns the parts of the message object before and after the payload.
    pub fn around_payload(&self) -> (&[u8], &[u8]) {
        let (object, after) = (self.object(), self.written.len() - self.payload.end as usize);
        let end = object.len() - after;
        (&object[..end - self.payload_range().len()], &object[end..])
    }

    /// The number of bytes by which the message counts against `--retain-bytes`: its JSON, and 160 bytes for its other
    /// memory. A variant counts as if its object was made, because a reader may come at any time. The variants of a
    /// message share the properties that most messages lack, so the memory of these properties counts only for the
    /// first variant.
    pub fn weight(&self) -> usize {
        let extras = self.extras().filter(|_| self.written_channel().is_none());
        self.object_len() + 160 + extras.map_or(0, Extras::size)
    }
}

/// A place in an object. No payload has 4 GiB: neither a request body nor a value in Redis may be that long.
fn at(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.object()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Draft;
    use super::*;
    use crate::cursor::Id;

    #[test]
    fn the_object_holds_the_payload_as_it_was_written() {
        let payload = Payload::from_any("{\"n\": 1e400,\r\n \"a\":12345678901234567890}");
        let channel = "todo".parse().expect("valid");
        let message = Message::new(None, channel, Event::default(), &payload, None);
        assert_eq!(message.payload(), "{\"n\": 1e400,   \"a\":12345678901234567890}");
        let object =
            "{\"channel\":\"todo\",\"event\":\"message\",\"data\":{\"n\": 1e400,   \"a\":12345678901234567890}}";
        assert_eq!(message.object(), object);
    }

    #[test]
    fn arguments_are_told_beside_the_payload() {
        let draft = Draft::new("todo".parse().expect("valid"), Payload::from_any("[1,\"a\"]"));
        let ordinary = draft.to_message(None);
        let message = draft.with_extras(Extras { is_args: true, ..Extras::default() }).into_message(None);
        assert_eq!(message.object(), "{\"channel\":\"todo\",\"event\":\"message\",\"data\":[1,\"a\"],\"args\":true}");
        assert_eq!((message.payload(), message.around_payload().1), ("[1,\"a\"]", &b",\"args\":true}"[..]));
        assert!(!message.is_same_as(&ordinary) && ordinary.extras().is_none());
    }

    #[test]
    fn a_variant_names_its_own_channel() {
        let channels: Box<[Channel]> = ["a", "b"].map(|name| name.parse().expect("valid")).into();
        let draft = Draft::new(channels[1].clone(), Payload::from_any("1"));
        let message = draft.with_extras(Extras { channels: channels.clone(), ..Extras::default() }).into_message(None);
        let variant = message.variant(&channels[1]);
        assert_eq!(variant.payload().as_ptr(), message.payload().as_ptr(), "the payload is shared");
        assert_eq!(
            message.object(),
            "{\"channel\":\"a\",\"event\":\"message\",\"data\":1}",
            "the first is its channel"
        );
        assert_eq!(variant.object(), "{\"channel\":\"b\",\"event\":\"message\",\"data\":1}");
        assert_eq!((message.channels(), variant.channels()), (&*channels, &*channels));
        assert_eq!(variant.object().as_ptr(), variant.object().as_ptr(), "the object is made once");
    }

    #[test]
    fn a_variant_is_written_as_a_message_of_its_channel() {
        let cursor = Cursor { id: Id { ms: 1_234_567, seq: 89 }, epoch: "abc".parse().expect("valid") };
        let channels: Box<[Channel]> = ["first", "b", "the/third:long"].map(|name| name.parse().expect("valid")).into();
        for (cursor, is_args) in [(None, false), (None, true), (Some(cursor), false), (Some(cursor), true)] {
            let of = |channels: Box<[Channel]>| {
                let draft = Draft::new(channels[0].clone(), Payload::from_any("[\"{\\\"channel\\\":\"]"));
                let channels = if channels.len() > 1 { channels } else { Box::default() };
                let draft = draft.with_extras(Extras { channels, is_args, ..Extras::default() });
                Draft { event: "a \"b\"".parse().expect("valid"), ..draft }.into_message(cursor)
            };
            let message = of(channels.clone());
            for channel in &channels {
                let (variant, alone) = (message.variant(channel), of([channel.clone()].into()));
                assert_eq!(variant.object_len(), alone.object().len(), "known before the object is made");
                assert_eq!(variant.object(), alone.object());
                assert_eq!(variant.around_payload(), alone.around_payload());
                assert_eq!(variant.payload(), alone.payload());
            }
        }
    }

    #[test]
    fn except_names_clients_and_channels() {
        let item = |name: &str| ExceptItem::new(name.parse().expect("valid"));
        let except = [item("me"), item("room/1")].into();
        let draft = Draft::new("todo".parse().expect("valid"), Payload::from_any("1"));
        let message = draft.with_extras(Extras { except, ..Extras::default() }).into_message(None);
        let client = |name: &str| name.parse().expect("a client id");
        let channel = |name: &str| name.parse().expect("a channel");
        assert!(message.excludes(&client("me")) && !message.excludes(&client("you")));
        assert!(message.excludes_readers_of(&channel("room/1")) && message.excludes_readers_of(&channel("me")));
        assert!(!message.excludes_readers_of(&channel("todo")) && !message.is_for_all() && message.excludes_channels());
    }
}
