//! What is published: [`Channel`], [`Event`], [`ClientId`], [`Payload`] and the [`Message`] with its
//! encoded-frame slots.

use crate::cursor::Cursor;
use crate::wire::json;
use bytes::Bytes;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

/// A channel's name: 1 to 200 bytes of `A-Z a-z 0-9 _ - . : / = @ ~`.
///
/// The alphabet needs no escaping in JSON, SSE or a log line; no comma, so that lists can use one.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Channel(Arc<str>);

impl Channel {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Channel {
    type Err = BadChannel;

    fn from_str(name: &str) -> Result<Channel, BadChannel> {
        let sound = |b: u8| b.is_ascii_alphanumeric() || b"_-.:/=@~".contains(&b);
        if (1..=200).contains(&name.len()) && name.bytes().all(sound) {
            Ok(Channel(name.into()))
        } else {
            Err(BadChannel)
        }
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is not a channel name. It is not repeated in the error, which may be read as HTML.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a channel is 1 to 200 bytes of A-Z a-z 0-9 _ - . : / = @ ~")]
pub struct BadChannel;

/// An event's name; [`Event::default`] is `message`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event(Arc<str>);

impl Event {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Event {
    fn default() -> Event {
        // One allocation for all messages without an event name of their own.
        static MESSAGE: OnceLock<Arc<str>> = OnceLock::new();
        Event(MESSAGE.get_or_init(|| "message".into()).clone())
    }
}

impl FromStr for Event {
    type Err = BadEvent;

    fn from_str(name: &str) -> Result<Event, BadEvent> {
        // The streams' own control events and the events that EventSource itself fires.
        const RESERVED: [&str; 6] = ["hello", "heartbeat", "gap", "bye", "error", "open"];
        // `char::is_control` is C0, DEL and C1: a line break here would forge a line of SSE.
        if name.is_empty() || name.len() > 100 || name.chars().any(char::is_control) {
            return Err(BadEvent::Malformed);
        }
        if RESERVED.contains(&name) {
            return Err(BadEvent::Reserved);
        }
        Ok(if name == "message" { Event::default() } else { Event(name.into()) })
    }
}

/// The text is not an event name that may be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadEvent {
    /// Empty, too long or with a control character.
    #[error("an event is 1 to 100 bytes without control characters")]
    Malformed,
    /// One of the names that streams use themselves.
    #[error("the events hello, heartbeat, gap, bye, error and open are reserved")]
    Reserved,
}

/// A client's id: by custom a UUID, which is kept in 16 bytes; any other short token is kept as it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ClientId {
    /// A UUID in its usual spelling.
    Uuid(uuid::Uuid),
    /// 1 to 100 bytes of `A-Z a-z 0-9 _ - . : @`.
    Token(Box<str>),
}

impl ClientId {
    /// A new random id (UUID v4).
    pub fn random() -> ClientId {
        ClientId::Uuid(uuid::Uuid::new_v4())
    }
}

impl FromStr for ClientId {
    type Err = BadClient;

    fn from_str(text: &str) -> Result<ClientId, BadClient> {
        if let (36, Ok(uuid)) = (text.len(), uuid::Uuid::try_parse(text)) {
            return Ok(ClientId::Uuid(uuid));
        }
        let sound = |b: u8| b.is_ascii_alphanumeric() || b"_-.:@".contains(&b);
        if (1..=100).contains(&text.len()) && text.bytes().all(sound) {
            Ok(ClientId::Token(text.into()))
        } else {
            Err(BadClient)
        }
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientId::Uuid(uuid) => uuid.fmt(f),
            ClientId::Token(token) => f.write_str(token),
        }
    }
}

/// The text is not a client id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a client id is a UUID, or 1 to 100 bytes of A-Z a-z 0-9 _ - . : @")]
pub struct BadClient;

/// What was published, as JSON text on one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload(String);

impl Payload {
    /// Valid JSON stands as it is; any other text becomes a JSON string.
    pub fn from_any(text: &str) -> Payload {
        Payload(json::payload(text))
    }

    /// The text becomes a JSON string, also where it would be valid JSON by itself.
    pub fn from_text(text: &str) -> Payload {
        let mut out = Vec::with_capacity(text.len() + 2);
        json::quote(text, &mut out);
        Payload(String::from_utf8(out).unwrap_or_default())
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether data is at most `max` bytes long. A JSON string is measured as the text that it is:
    /// its quotes and escapes may be our doing.
    pub fn fits(data: &str, max: usize) -> bool {
        data.len() <= max || (data.starts_with('"') && json::text_of(data).is_some_and(|text| text.len() <= max))
    }
}

/// A message on its way into the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// Where to.
    pub channel: Channel,
    /// Its event name.
    pub event: Event,
    /// What it says.
    pub payload: Payload,
    /// Who shall not get it.
    pub exclude: Option<ClientId>,
    /// Idempotency key, with the publisher it belongs to.
    pub key: Option<Key>,
    /// Deliver to those connected now and keep nothing.
    pub volatile: bool,
}

/// An idempotency key: the same key of the same publisher and channel within five minutes names the
/// same message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Who published; empty where everybody is nobody in particular.
    pub publisher: String,
    /// The key, 1 to 200 bytes.
    pub key: String,
}

impl Key {
    /// One text for (publisher, channel, key). The lengths in front keep tuples apart that would join
    /// to the same string.
    pub fn scoped(&self, channel: &Channel) -> String {
        let (publisher, channel) = (&self.publisher, channel.as_str());
        format!("{}:{}:{publisher}:{channel}:{}", publisher.len(), channel.len(), self.key)
    }
}

/// How many encodings a message can be kept in; see `transport::encoding`.
pub const SLOTS: usize = 6;

/// One entry of the log, shared by all its receivers.
pub struct Message {
    cursor: Option<Cursor>,
    channel: Channel,
    event: Event,
    exclude: Option<ClientId>,
    /// The message object; the payload is a part of it, so it is held once.
    object: Bytes,
    payload: Range<usize>,
    /// Encoded once per encoding, by whoever needs it first. Boxed: most retained messages are
    /// never read again and shall not pay for empty slots.
    slots: OnceLock<Box<[OnceLock<Bytes>; SLOTS]>>,
}

impl Message {
    /// A message of the log. `cursor` is the position right after it; a volatile one has none.
    pub fn new(
        cursor: Option<Cursor>,
        channel: Channel,
        event: Event,
        payload: &Payload,
        exclude: Option<ClientId>,
    ) -> Message {
        let data = payload.as_str();
        let mut object = Vec::with_capacity(data.len() + channel.as_str().len() + event.as_str().len() + 96);
        let mut write = |text: &str| object.extend_from_slice(text.as_bytes());
        write("{");
        if let Some(cursor) = cursor {
            write("\"id\":\"");
            write(cursor.text().as_str());
            write("\",");
        }
        // No name of a channel needs to be escaped.
        write("\"channel\":\"");
        write(channel.as_str());
        write("\",\"event\":");
        json::quote(event.as_str(), &mut object);
        object.extend_from_slice(b",\"data\":");
        let start = object.len();
        object.extend_from_slice(data.as_bytes());
        let payload = start..object.len();
        object.push(b'}');
        Message { cursor, channel, event, exclude, object: object.into(), payload, slots: OnceLock::new() }
    }

    /// The position right after it; `None` for a volatile message.
    pub fn cursor(&self) -> Option<Cursor> {
        self.cursor
    }

    /// Its channel.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Its event name.
    pub fn event(&self) -> &Event {
        &self.event
    }

    /// Whether this client is left out.
    pub fn excludes(&self, client: &ClientId) -> bool {
        self.exclude.as_ref() == Some(client)
    }

    /// Whether nobody is left out.
    pub fn is_for_all(&self) -> bool {
        self.exclude.is_none()
    }

    /// Whether the other says the same to the same receivers, whatever its position.
    pub fn is_same_as(&self, other: &Message) -> bool {
        let head = |message: &Message| (message.channel.clone(), message.event.clone(), message.exclude.clone());
        head(self) == head(other) && self.payload() == other.payload()
    }

    /// The message object as JSON on one line.
    pub fn object(&self) -> &Bytes {
        &self.object
    }

    /// The payload as JSON on one line.
    pub fn payload(&self) -> &str {
        // Always a char boundary and UTF-8: it was written from a &str.
        std::str::from_utf8(&self.object[self.payload.clone()]).unwrap_or_default()
    }

    /// The message object in front of the payload, and behind it.
    pub fn around_payload(&self) -> (&[u8], &[u8]) {
        (&self.object[..self.payload.start], &self.object[self.payload.end..])
    }

    /// What the message counts against `--retain-bytes`: its JSON and a flat 160 bytes for the rest.
    pub fn weight(&self) -> usize {
        self.object.len() + 160
    }

    /// The frame in a slot, where somebody has encoded it.
    pub fn known_frame(&self, slot: usize) -> Option<&Bytes> {
        self.slots.get().and_then(|slots| slots[slot].get())
    }

    /// The frame in a slot, encoded at the first call. `slot` is below [`SLOTS`].
    pub fn frame(&self, slot: usize, encode: impl FnOnce(&Message) -> Bytes) -> Bytes {
        let slots = self.slots.get_or_init(Default::default);
        slots[slot].get_or_init(|| encode(self)).clone()
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channel_names() {
        let long = "x".repeat(200);
        for good in ["a", "Board:12/x=~@.-_", &long] {
            assert_eq!(good.parse::<Channel>().map(|c| c.to_string()), Ok(good.to_string()));
        }
        let longer = "x".repeat(201);
        for bad in ["", " ", "a b", "a,b", "ä", "a\n", "a\0", "<", "*", "a?", &longer] {
            assert_eq!(bad.parse::<Channel>(), Err(BadChannel), "{bad:?}");
        }
    }

    #[test]
    fn event_names() {
        for bad in ["", "a\n", "a\rb", "a\u{7f}", "a\u{85}", &"x".repeat(101)] {
            assert_eq!(bad.parse::<Event>(), Err(BadEvent::Malformed), "{bad:?}");
        }
        for reserved in ["hello", "heartbeat", "gap", "bye", "error", "open"] {
            assert_eq!(reserved.parse::<Event>(), Err(BadEvent::Reserved));
        }
        assert_eq!("Hello".parse::<Event>().map(|e| e.as_str().to_owned()), Ok("Hello".to_owned()));
    }

    #[test]
    fn keys_cannot_be_confused() {
        let key = |publisher: &str, key: &str| Key { publisher: publisher.into(), key: key.into() };
        let (a, b): (Channel, Channel) = ("a:b".parse().expect("valid"), "a".parse().expect("valid"));
        assert_ne!(key("", "c").scoped(&a), key("", "b:c").scoped(&b));
        assert_ne!(key("x", "c").scoped(&b), key("", "x:c").scoped(&b));
    }

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
}
