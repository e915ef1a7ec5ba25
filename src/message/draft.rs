//! A message on its way into the log, before it has a position.

use super::{BadEvent, Channel, ClientId, Event, Message, exclude};
use crate::cursor::Cursor;
use crate::wire::json;

/// The content of a message, as a JSON text on one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload(String);

impl Payload {
    /// Makes a payload of any text. Valid JSON is kept as it is, and other text becomes a JSON string.
    pub fn from_any(text: &str) -> Payload {
        Payload(json::payload(text))
    }

    /// Makes a payload of a text. The text becomes a JSON string even if it would be valid JSON by itself.
    pub fn from_text(text: &str) -> Payload {
        let mut out = Vec::with_capacity(text.len() + 2);
        json::quote(text, &mut out);
        Payload(String::from_utf8(out).unwrap_or_default())
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the payload is at most `max` bytes long. For a JSON string only its text counts, because its quotes and
    /// escapes may have been added here.
    pub fn fits(data: &str, max: usize) -> bool {
        data.len() <= max || (data.starts_with('"') && json::text_of(data).is_some_and(|text| text.len() <= max))
    }
}

/// A message on its way into the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// The channel that it is published to.
    pub channel: Channel,
    /// Its event name.
    pub event: Event,
    /// Its content.
    pub payload: Payload,
    /// The client that does not receive it.
    pub exclude: Option<ClientId>,
    /// Whether `exclude` was not a client id. The code that accepts the draft logs a warning.
    pub ignored_exclude: bool,
    /// Its idempotency key, with the publisher that the key belongs to.
    pub key: Option<IdempotencyKey>,
    /// Whether the message is delivered only to readers that are connected now, and not kept.
    pub volatile: bool,
}

impl Draft {
    /// A draft with the default event and no other options.
    pub fn new(channel: Channel, payload: Payload) -> Draft {
        let (event, exclude, key) = (Event::default(), None, None);
        Draft { channel, event, payload, exclude, ignored_exclude: false, key, volatile: false }
    }

    /// Returns about how much memory the draft takes.
    pub fn size(&self) -> usize {
        size_of::<Draft>() + self.channel.as_str().len() + self.event.as_str().len() + self.payload.0.len()
    }

    /// Makes the message with this content. `cursor` is the position right after the message. A volatile message does
    /// not have one.
    pub fn into_message(self, cursor: Option<Cursor>) -> Message {
        Message::new(cursor, self.channel, self.event, &self.payload, self.exclude)
    }
}

/// The fields of a draft as text, as a publisher has written them. [`check`](DraftFields::check) applies the rules for
/// all of them, wherever the text comes from.
#[derive(Clone, Copy, Debug, Default)]
pub struct DraftFields<'a> {
    /// The payload.
    pub data: &'a str,
    /// Whether the payload counts as text even if it is valid JSON.
    pub is_text: bool,
    /// The event's name, if there is one.
    pub event: Option<&'a str>,
    /// The client that does not receive the message, if there is one.
    pub exclude: Option<&'a str>,
    /// The client that does not receive the message, under the name that Laravel uses.
    pub socket: Option<&'a str>,
    /// The idempotency key, if there is one.
    pub key: Option<&'a str>,
    /// The publisher that the key belongs to; see [`IdempotencyKey::publisher`].
    pub publisher: &'a str,
    /// Whether the message is not kept.
    pub volatile: bool,
}

impl DraftFields<'_> {
    /// Checks the fields of a message to a channel. `max_payload` is the longest payload, in bytes.
    ///
    /// # Errors
    ///
    /// The first field that breaks its rule.
    pub fn check(self, channel: Channel, max_payload: usize) -> Result<Draft, BadDraft> {
        if !Payload::fits(self.data, max_payload) {
            return Err(BadDraft::Payload { max: max_payload });
        }
        let event = self.event.map(str::parse).transpose()?.unwrap_or_default();
        let (exclude, ignored_exclude) = exclude::choose([self.exclude, self.socket]);
        let key = self.key.map(|key| IdempotencyKey::new(self.publisher, key)).transpose()?;
        let payload = if self.is_text { Payload::from_text(self.data) } else { Payload::from_any(self.data) };
        Ok(Draft { channel, event, payload, exclude, ignored_exclude, key, volatile: self.volatile })
    }
}

/// The error for a field of a draft that breaks its rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadDraft {
    /// The event's name.
    #[error(transparent)]
    Event(#[from] BadEvent),
    /// The idempotency key.
    #[error(transparent)]
    Key(#[from] BadIdempotencyKey),
    /// The payload is too long.
    #[error("a payload is at most {max} bytes")]
    Payload {
        /// The longest payload, in bytes.
        max: usize,
    },
}

/// The text is not an idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("key is 1 to {} bytes", IdempotencyKey::MAX_LENGTH)]
pub struct BadIdempotencyKey;

/// An idempotency key. If a publisher uses a key twice in a channel within five minutes, both uses stand for the same
/// message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The publisher; empty if publishers are not distinguished.
    pub publisher: String,
    /// The publisher in whose share of `--key-bytes` the key counts. Publishers are always distinguished here, so that
    /// one of them cannot use up the room of all.
    pub owner: String,
    /// The key, 1 to 200 bytes.
    pub key: String,
}

impl IdempotencyKey {
    /// The longest key, in bytes.
    const MAX_LENGTH: usize = 200;

    /// A publisher's key, which counts in its own share.
    ///
    /// # Errors
    ///
    /// The key is empty or too long.
    pub fn new(publisher: &str, key: &str) -> Result<IdempotencyKey, BadIdempotencyKey> {
        let is_valid = (1..=IdempotencyKey::MAX_LENGTH).contains(&key.len());
        let (publisher, owner) = (publisher.to_owned(), publisher.to_owned());
        is_valid.then(|| IdempotencyKey { publisher, owner, key: key.into() }).ok_or(BadIdempotencyKey)
    }

    /// Returns one text for (publisher, channel, key). The lengths in front distinguish tuples whose parts would join
    /// to the same string.
    pub fn scoped(&self, channel: &Channel) -> String {
        let (publisher, channel) = (&self.publisher, channel.as_str());
        format!("{}:{}:{publisher}:{channel}:{}", publisher.len(), channel.len(), self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_cannot_be_confused() {
        let key = |publisher: &str, key: &str| IdempotencyKey::new(publisher, key).expect("a key");
        let (a, b): (Channel, Channel) = ("a:b".parse().expect("valid"), "a".parse().expect("valid"));
        assert_ne!(key("", "c").scoped(&a), key("", "b:c").scoped(&b));
        assert_ne!(key("x", "c").scoped(&b), key("", "x:c").scoped(&b));
    }

    #[test]
    fn every_field_has_its_rule() {
        let check = |fields: DraftFields<'_>| fields.check("a".parse().expect("valid"), 3).map(|draft| draft.payload);
        let good = DraftFields { data: "123", ..DraftFields::default() };
        assert_eq!(check(good).map(|payload| payload.as_str().to_owned()), Ok("123".to_owned()));
        let text = DraftFields { is_text: true, ..good };
        assert_eq!(check(text).map(|payload| payload.as_str().to_owned()), Ok("\"123\"".to_owned()));
        assert_eq!(check(DraftFields { data: "1234", ..good }), Err(BadDraft::Payload { max: 3 }));
        assert_eq!(check(DraftFields { event: Some("hello"), ..good }), Err(BadEvent::Reserved.into()));
        assert!(check(DraftFields { exclude: Some("a b"), ..good }).is_ok(), "a message for everybody");
        for key in ["", &"x".repeat(201)] {
            assert_eq!(check(DraftFields { key: Some(key), ..good }), Err(BadIdempotencyKey.into()));
        }
        assert!(check(DraftFields { key: Some(&"x".repeat(200)), ..good }).is_ok());
    }
}
