//! The parts of a publication: [`Channel`], [`Event`], [`ClientId`], [`Payload`], [`Draft`], and the [`Message`] with
//! its encoded frames.

pub mod encoding;

mod draft;
mod exclude;
mod names;
mod pattern;
mod user;

pub use draft::{BadDraft, BadIdempotencyKey, Draft, DraftFields, IdempotencyKey, Payload};
pub use encoding::Encoding;
pub use exclude::{client_name, warn_ignored_exclude};
pub use names::{BadChannel, BadClient, BadEvent, Channel, ClientId, Event};
pub use pattern::{Pattern, unmatched};
pub use user::{BadUser, User};

use crate::cursor::Cursor;
use crate::wire::json;
use bytes::Bytes;
use encoding::Frames;
use std::fmt;
use std::ops::Range;

/// Temporary until the branch with the entry formats is merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A user has become a member.
    MemberAdded,
    /// A user is no longer a member.
    MemberRemoved,
}

/// One message of the log, shared by all its receivers.
pub struct Message {
    cursor: Option<Cursor>,
    channel: Channel,
    event: Event,
    exclude: Option<ClientId>,
    /// The message object. The payload is a part of these bytes, so that it is in memory only once.
    object: Bytes,
    payload: Range<usize>,
    frames: Frames,
}

impl Message {
    /// A message. `cursor` is the position right after the message. A volatile message does not have one.
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
        // A channel's name does not need escapes.
        write("\"channel\":\"");
        write(channel.as_str());
        write("\",\"event\":");
        json::quote(event.as_str(), &mut object);
        object.extend_from_slice(b",\"data\":");
        let start = object.len();
        object.extend_from_slice(data.as_bytes());
        let payload = start..object.len();
        object.push(b'}');
        Message { cursor, channel, event, exclude, object: object.into(), payload, frames: Frames::default() }
    }

    /// The position right after the message; `None` for a volatile one.
    pub fn cursor(&self) -> Option<Cursor> {
        self.cursor
    }

    /// The channel that it was published to.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// The event's name.
    pub fn event(&self) -> &Event {
        &self.event
    }

    /// Whether the message is not delivered to this client.
    pub fn excludes(&self, client: &ClientId) -> bool {
        self.exclude.as_ref() == Some(client)
    }

    /// Whether the message is delivered to all clients.
    pub fn is_for_all(&self) -> bool {
        self.exclude.is_none()
    }

    /// Whether the other message has the same content and receivers, at any position.
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
        // The range is always valid UTF-8 at character boundaries, because it was written from a &str.
        std::str::from_utf8(&self.object[self.payload.clone()]).unwrap_or_default()
    }

    /// Returns the parts of the message object before and after the payload.
    pub fn around_payload(&self) -> (&[u8], &[u8]) {
        (&self.object[..self.payload.start], &self.object[self.payload.end..])
    }

    /// The number of bytes that the message counts against `--retain-bytes`: its JSON, and 160 bytes for its other
    /// memory.
    pub fn weight(&self) -> usize {
        self.object.len() + 160
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
