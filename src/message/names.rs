//! Names that publishers and clients choose: channels, events and client ids, each with its rule.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

/// A channel's name: 1 to 200 bytes of `A-Z a-z 0-9 _ - . : / = @ ~`.
///
/// The allowed characters do not need escapes in JSON, SSE or a log line. The comma is not allowed, so that lists can
/// use it.
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

/// The text is not a channel name. The error does not repeat the text, because a browser may read the error as HTML.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a channel name must be 1 to 200 bytes of A-Z a-z 0-9 _ - . : / = @ ~")]
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
        // All messages without an event name of their own share this allocation.
        static MESSAGE: OnceLock<Arc<str>> = OnceLock::new();
        Event(MESSAGE.get_or_init(|| "message".into()).clone())
    }
}

impl FromStr for Event {
    type Err = BadEvent;

    fn from_str(name: &str) -> Result<Event, BadEvent> {
        // The reserved names: the control events of the streams, and the events that EventSource itself fires.
        const RESERVED: [&str; 6] = ["hello", "heartbeat", "gap", "bye", "error", "open"];
        // `char::is_control` covers C0, DEL and C1. The check is needed because a line break here would forge a line of
        // SSE.
        if name.is_empty() || name.len() > 200 || name.chars().any(char::is_control) {
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
    /// The name is empty, too long or has a control character.
    #[error("an event name must be 1 to 200 bytes without control characters")]
    Malformed,
    /// The name is reserved, because streams use it for their own events.
    #[error("the event names hello, heartbeat, gap, bye, error and open are reserved")]
    Reserved,
}

/// A client's id. A client id. It is usually a UUID, which takes 16 bytes. Any other short token is kept as it is.
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
#[error("a client id must be a UUID, or 1 to 100 bytes of A-Z a-z 0-9 _ - . : @")]
pub struct BadClient;

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
        for bad in ["", "a\n", "a\rb", "a\u{7f}", "a\u{85}", &"x".repeat(201), &"é".repeat(101)] {
            assert_eq!(bad.parse::<Event>(), Err(BadEvent::Malformed), "{bad:?}");
        }
        for reserved in ["hello", "heartbeat", "gap", "bye", "error", "open"] {
            assert_eq!(reserved.parse::<Event>(), Err(BadEvent::Reserved));
        }
        for good in ["a", "item added", &"x".repeat(200), &"é".repeat(100)] {
            assert_eq!(good.parse::<Event>().map(|e| e.as_str().to_owned()), Ok(good.to_owned()));
        }
        assert_eq!("Hello".parse::<Event>().map(|e| e.as_str().to_owned()), Ok("Hello".to_owned()));
    }
}
