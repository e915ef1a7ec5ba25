//! Names that publishers and clients choose: channels, events and client ids, each with its rule.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

/// A channel's name: 1 to 200 bytes of `A-Z a-z 0-9 _ - . : / = @ ~`, without `~` in front.
///
/// The allowed characters do not need escapes in JSON, SSE or a log line. The comma is not allowed, so that lists can
/// use it. Parsing ([`FromStr`]) applies the rule for all names that clients, publishers, tokens and flags choose. Only
/// the server itself makes [reserved](Channel::reserved) names, and longer ones of [escaped](Channel::escaped) names.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Channel(Arc<str>);

impl Channel {
    /// The longest name that clients and publishers may choose, in bytes.
    pub const MAX_LENGTH: usize = 200;

    /// The longest name that the server makes, in bytes.
    pub const MAX_ESCAPED_LENGTH: usize = 700;

    /// The first character of names that only the server uses.
    pub const RESERVED: char = '~';

    /// A channel that only the server uses, whose name begins with `~`.
    ///
    /// # Errors
    ///
    /// The name does not begin with `~`, or is not a channel name otherwise.
    pub fn reserved(name: &str) -> Result<Channel, BadChannel> {
        if !name.starts_with(Channel::RESERVED) {
            return Err(BadChannel::Malformed);
        }
        Channel::of_server(name)
    }

    /// The channel for a name of another protocol, which may have any bytes; see [`escape`].
    ///
    /// # Errors
    ///
    /// The name is empty, or has more than 700 bytes when it is escaped.
    pub fn escaped(name: &[u8]) -> Result<Channel, BadChannel> {
        Channel::of_server(&escape(name))
    }

    /// A name that the server has made: it may be reserved, and longer than other names.
    ///
    /// # Errors
    ///
    /// The text is not such a name.
    pub fn of_server(name: &str) -> Result<Channel, BadChannel> {
        is_sound(name, Channel::MAX_ESCAPED_LENGTH).then(|| Channel(name.into())).ok_or(BadChannel::Malformed)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether only the server uses the channel.
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with(Channel::RESERVED)
    }
}

impl FromStr for Channel {
    type Err = BadChannel;

    fn from_str(name: &str) -> Result<Channel, BadChannel> {
        if !is_sound(name, Channel::MAX_LENGTH) {
            return Err(BadChannel::Malformed);
        }
        if name.starts_with(Channel::RESERVED) {
            return Err(BadChannel::Reserved);
        }
        Ok(Channel(name.into()))
    }
}

fn is_sound(name: &str, max: usize) -> bool {
    let sound = |b: u8| b.is_ascii_alphanumeric() || b"_-.:/=@~".contains(&b);
    (1..=max).contains(&name.len()) && name.bytes().all(sound)
}

/// Escapes a name of another protocol: each byte outside `A-Z a-z 0-9 _ - . : / @` becomes `=` and two upper-case
/// hexadecimal digits. So two names never become the same text, and no escaped name is reserved.
pub fn escape(name: &[u8]) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name {
        if byte.is_ascii_alphanumeric() || b"_-.:/@".contains(byte) {
            out.push(char::from(*byte));
        } else {
            out.push_str(&format!("={byte:02X}"));
        }
    }
    out
}

/// The name that was [escaped](escape). `None` if an escape is cut off, or if the name is not UTF-8.
pub fn unescape(text: &str) -> Option<String> {
    let mut name = Vec::with_capacity(text.len());
    let mut parts = text.split('=');
    name.extend_from_slice(parts.next().unwrap_or_default().as_bytes());
    for part in parts {
        let digits = part.get(..2).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        name.push(u8::from_str_radix(digits, 16).ok()?);
        name.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(name).ok()
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
pub enum BadChannel {
    /// The name is empty, too long or has a character that is not allowed.
    #[error("a channel name must be 1 to {} bytes of A-Z a-z 0-9 _ - . : / = @ ~", Channel::MAX_LENGTH)]
    Malformed,
    /// The name is one that only the server uses.
    #[error("channel names that begin with ~ are reserved for the server")]
    Reserved,
}

/// An event's name; [`Event::default`] is `message`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event(Arc<str>);

impl Event {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Event {
    /// The name of an event between an application and one client. Streams carry such events in objects of their own, so
    /// the names that streams use for themselves are allowed.
    ///
    /// # Errors
    ///
    /// [`BadEvent::Malformed`].
    pub fn of_session(name: &str) -> Result<Event, BadEvent> {
        match name.parse() {
            Err(BadEvent::Reserved) => Ok(Event(name.into())),
            other => other,
        }
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

/// A client's id. It is usually a UUID, which takes 16 bytes. Any other short token is kept as it is.
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
            assert_eq!(bad.parse::<Channel>(), Err(BadChannel::Malformed), "{bad:?}");
        }
    }

    #[test]
    fn names_that_begin_with_a_tilde_are_the_servers() {
        for name in ["~", "~s/1", "~~", "~a~"] {
            assert_eq!(name.parse::<Channel>(), Err(BadChannel::Reserved), "{name}");
            assert!(Channel::reserved(name).is_ok_and(|channel| channel.is_reserved()), "{name}");
        }
        for name in ["a~", "/ns~room"] {
            assert!(name.parse::<Channel>().is_ok_and(|channel| !channel.is_reserved()), "{name}");
            assert_eq!(Channel::reserved(name), Err(BadChannel::Malformed), "{name}");
        }
        assert_eq!(Channel::reserved("~a b"), Err(BadChannel::Malformed));
        assert!(BadChannel::Reserved.to_string().contains("names that begin with ~ are reserved"));
    }

    #[test]
    fn names_of_other_protocols_are_escaped() {
        for (name, escaped) in [
            ("board:12", "board:12"),
            ("/ns", "/ns"),
            ("a=b", "a=3Db"),
            ("~s/1", "=7Es/1"),
            ("a b,c", "a=20b=2Cc"),
            ("ä", "=C3=A4"),
            ("\0\u{7f}", "=00=7F"),
        ] {
            assert_eq!(escape(name.as_bytes()), escaped, "{name:?}");
            assert_eq!(Channel::escaped(name.as_bytes()).map(|channel| channel.to_string()), Ok(escaped.to_owned()));
            assert_eq!(unescape(escaped).as_deref(), Some(name));
        }
        for cut in ["=", "a=4", "a=4g", "a=+1", "=é", "=FF"] {
            assert_eq!(unescape(cut), None, "{cut}");
        }
        assert_eq!(Channel::escaped(b"").err(), Some(BadChannel::Malformed));
        assert!(Channel::escaped(&[b'x'; 700]).is_ok() && Channel::escaped(&[b'x'; 701]).is_err());
        assert!(Channel::escaped(&[b' '; 233]).is_ok() && Channel::escaped(&[b' '; 234]).is_err());
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
