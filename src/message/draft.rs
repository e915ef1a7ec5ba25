//! A message on its way into the log, before it has a position.

use super::extras::{ExceptItem, Extras, MAX_EXCEPT};
use super::{BadEvent, Channel, Channels, ClientId, Event, Kind, Message, Payload, exclude};
use crate::cursor::Cursor;
use std::sync::Arc;

/// The longest content of a control entry, in bytes, beside that of a message. An answer of the application has at most
/// 1 MiB, and its packet may be three and a half times as long in JSON.
pub const CONTROL_BYTES: usize = 4 << 20;

/// A message on its way into the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// The channel that it is published to; the first one of several.
    pub channel: Channel,
    /// Its event name.
    pub event: Event,
    /// Its content.
    pub payload: Payload,
    /// The client that does not receive it.
    pub exclude: Option<ClientId>,
    /// Whether `exclude` was not a client id. The code that accepts the draft logs a warning.
    pub ignored_exclude: bool,
    /// The idempotency key, with the publisher that the key belongs to.
    pub key: Option<IdempotencyKey>,
    /// Whether the message is delivered only to readers that are connected now, and not kept.
    pub volatile: bool,
    /// The properties that most messages lack; `None` for an ordinary message.
    pub extras: Option<Arc<Extras>>,
}

impl Draft {
    /// A draft with the default event and no other options.
    pub fn new(channel: Channel, payload: Payload) -> Draft {
        let (event, exclude, key) = (Event::default(), None, None);
        Draft { channel, event, payload, exclude, ignored_exclude: false, key, volatile: false, extras: None }
    }

    /// An entry about a member that has joined or left a channel. `data` is the user's JSON.
    pub fn member(kind: Kind, channel: Channel, data: &str) -> Draft {
        let event = kind.as_str().parse().unwrap_or_default();
        let draft = Draft { event, ..Draft::new(channel, Payload::from_any(data)) };
        draft.with_extras(Extras { kind, ..Extras::default() })
    }

    /// A control entry: a change of sessions. `channel` is reserved, and `data` is JSON.
    pub fn control(channel: Channel, event: &str, data: &str) -> Draft {
        let event = event.parse().unwrap_or_default();
        let draft = Draft { event, ..Draft::new(channel, Payload::from_any(data)) };
        draft.with_extras(Extras { kind: Kind::Session, ..Extras::default() })
    }

    /// The same draft with these properties. If they name several channels, the first of them becomes its channel.
    #[must_use]
    pub fn with_extras(mut self, extras: Extras) -> Draft {
        if let Some(first) = extras.channels.first() {
            self.channel = first.clone();
        }
        self.extras = Some(extras).filter(|extras| !extras.are_empty()).map(Arc::new);
        self
    }

    /// All channels in which the message is published, each once.
    pub fn channels(&self) -> &[Channel] {
        match &self.extras {
            Some(extras) if !extras.channels.is_empty() => &extras.channels,
            _ => std::slice::from_ref(&self.channel),
        }
    }

    /// The kind of the entry.
    pub fn kind(&self) -> Kind {
        self.extras.as_deref().map_or(Kind::Message, |extras| extras.kind)
    }

    /// The unique name of its idempotency key, if it has a key.
    pub fn scoped_key(&self) -> Option<String> {
        self.key.as_ref().map(|key| key.scoped(self.channels()))
    }

    /// Returns about how much memory the draft takes.
    pub fn size(&self) -> usize {
        let extras = self.extras.as_deref().map_or(0, Extras::size);
        size_of::<Draft>()
            + self.channel.as_str().len()
            + self.event.as_str().len()
            + self.payload.as_str().len()
            + extras
    }

    /// Makes the message with this content. `cursor` is the position right after the message. A volatile message does
    /// not have one.
    pub fn into_message(self, cursor: Option<Cursor>) -> Message {
        Message::with_extras(cursor, self.channel, self.event, self.payload.as_str(), self.exclude, self.extras)
    }

    /// Makes the message with this content, as [`into_message`](Draft::into_message) does, and keeps the draft.
    pub fn to_message(&self, cursor: Option<Cursor>) -> Message {
        let (channel, event, exclude) = (self.channel.clone(), self.event.clone(), self.exclude.clone());
        Message::with_extras(cursor, channel, event, self.payload.as_str(), exclude, self.extras.clone())
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
    /// Whether the payload is an array with the arguments of an event.
    pub is_args: bool,
    /// The excluded clients and channels: these clients, and the readers of these channels, do not receive the message.
    pub except: &'a [&'a str],
}

impl DraftFields<'_> {
    /// Checks the fields of a message to one or several channels. `max_payload` is the longest payload, in bytes.
    ///
    /// # Errors
    ///
    /// The first field that breaks its rule.
    pub fn check(self, channels: impl Into<Channels>, max_payload: usize) -> Result<Draft, BadDraft> {
        if !Payload::fits(self.data, max_payload) {
            return Err(BadDraft::Payload { max: max_payload });
        }
        let event = self.event.map(str::parse).transpose()?.unwrap_or_default();
        let (exclude, ignored_exclude) = exclude::choose([self.exclude, self.socket]);
        let key = self.key.map(|key| IdempotencyKey::new(self.publisher, key)).transpose()?;
        let payload = if self.is_text { Payload::from_text(self.data) } else { Payload::from_any(self.data) };
        if self.is_args && !payload.is_array() {
            return Err(BadDraft::Args);
        }
        let (channel, channels) = channels.into().split();
        let draft =
            Draft { event, exclude, ignored_exclude, key, volatile: self.volatile, ..Draft::new(channel, payload) };
        if channels.is_empty() && self.except.is_empty() && !self.is_args {
            return Ok(draft);
        }
        let (except, is_ignored) = self.except()?;
        let extras = Extras { channels, except, is_args: self.is_args, ..Extras::default() };
        Ok(Draft { ignored_exclude: ignored_exclude || is_ignored, ..draft.with_extras(extras) })
    }

    /// The usable items of `except`, and whether any item is not usable.
    fn except(&self) -> Result<(Box<[ExceptItem]>, bool), BadDraft> {
        if self.except.len() > MAX_EXCEPT {
            return Err(BadDraft::Except);
        }
        let items: Box<[_]> = self.except.iter().filter_map(|name| name.parse().ok().map(ExceptItem::new)).collect();
        let is_ignored = items.len() < self.except.len();
        Ok((items, is_ignored))
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
    /// There are too many items in `except`.
    #[error("except may have at most {MAX_EXCEPT} items")]
    Except,
    /// The arguments are not an array.
    #[error("args must be an array")]
    Args,
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

    /// Returns one text for (publisher, channels, key). The lengths in front distinguish tuples whose parts would join
    /// to the same string.
    fn scoped(&self, channels: &[Channel]) -> String {
        let publisher = &self.publisher;
        let channels = channels.iter().map(Channel::as_str).collect::<Vec<_>>().join(",");
        format!("{}:{}:{publisher}:{channels}:{}", publisher.len(), channels.len(), self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(name: &str) -> Channel {
        name.parse().expect("a channel")
    }

    #[test]
    fn keys_cannot_be_confused() {
        let key = |publisher: &str, key: &str| IdempotencyKey::new(publisher, key).expect("a key");
        let (a, b): (Channel, Channel) = ("a:b".parse().expect("valid"), "a".parse().expect("valid"));
        let (a, b) = (&[a][..], &[b][..]);
        assert_ne!(key("", "c").scoped(a), key("", "b:c").scoped(b));
        assert_ne!(key("x", "c").scoped(b), key("", "x:c").scoped(b));
        assert_ne!(key("", "c").scoped(b), key("", "c").scoped(&[b, a].concat()));
        assert_eq!(key("x", "c").scoped(b), "1:1:x:a:c");
    }

    #[test]
    fn every_field_has_its_rule() {
        let check = |fields: DraftFields<'_>| fields.check(channel("a"), 3).map(|draft| draft.payload);
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
        assert_eq!(check(DraftFields { is_args: true, ..good }), Err(BadDraft::Args));
        assert_eq!(check(DraftFields { is_args: true, is_text: true, data: "[1]", ..good }), Err(BadDraft::Args));
        assert!(check(DraftFields { is_args: true, data: " []", ..good }).is_ok());
        let many = ["a"; MAX_EXCEPT + 1];
        assert!(check(DraftFields { except: &many[1..], ..good }).is_ok());
        assert_eq!(check(DraftFields { except: &many, ..good }), Err(BadDraft::Except));
    }

    #[test]
    fn an_ordinary_message_has_no_extras() {
        let fields = DraftFields { data: "1", ..DraftFields::default() };
        let draft = fields.check(channel("a"), 9).expect("a message");
        assert_eq!((draft.channels(), draft.kind(), &draft.extras), (&[channel("a")][..], Kind::Message, &None));
        // An unusable item does not exclude any reader, and the message is an ordinary one.
        for except in [&["", "a b", "~s/1", "ä"][..], &["a,b"]] {
            let draft = DraftFields { except, ..fields }.check(channel("a"), 9).expect("a message");
            assert_eq!((draft.ignored_exclude, draft.extras), (true, None), "{except:?}");
        }
        let channels = Channels::parse(["b", "a"]).expect("channels");
        let draft = DraftFields { except: &["me", "a/b", ""], ..fields }.check(channels, 9).expect("a message");
        assert_eq!((draft.channel.as_str(), draft.channels().len(), draft.ignored_exclude), ("b", 2, true));
        let except = &draft.extras.as_deref().expect("extras").except;
        let clients: Vec<_> = except.iter().map(|item| item.client().map(ToString::to_string)).collect();
        assert_eq!(clients, [Some("me".to_owned()), None], "a client id, and a name that only a channel has");
    }
}
