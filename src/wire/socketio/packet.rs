//! The text of a packet: `<type>[<attachments>-][/namespace,][ack id][JSON]`.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::error::{Error, MAX_ACK, MAX_ATTACHMENTS, MAX_NAMESPACE};
use super::event::{Event, is_reserved};

/// The version of the packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Socket.IO 1 and 2, on Engine.IO 3.
    V4,
    /// Socket.IO 3 and 4, on Engine.IO 4.
    V5,
}

/// The type of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketType {
    /// Asks for a namespace, or says that it is connected.
    Connect,
    /// Leaves a namespace.
    Disconnect,
    /// An event.
    Event,
    /// The answer to an event.
    Ack,
    /// The refusal of a namespace (`ERROR` in version 4).
    ConnectError,
    /// An event with binary parts.
    BinaryEvent,
    /// An answer with binary parts.
    BinaryAck,
}

impl PacketType {
    /// The character of the type.
    pub(super) fn digit(self) -> u8 {
        b'0' + self as u8
    }

    fn with_digit(digit: u8) -> Option<PacketType> {
        Some(match digit {
            b'0' => PacketType::Connect,
            b'1' => PacketType::Disconnect,
            b'2' => PacketType::Event,
            b'3' => PacketType::Ack,
            b'4' => PacketType::ConnectError,
            b'5' => PacketType::BinaryEvent,
            b'6' => PacketType::BinaryAck,
            _ => return None,
        })
    }

    /// Whether binary parts may follow.
    #[must_use]
    pub fn is_binary(self) -> bool {
        matches!(self, PacketType::BinaryEvent | PacketType::BinaryAck)
    }
}

/// A packet that was received. Its JSON is valid and has the form that its type needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The type.
    pub kind: PacketType,
    /// How many binary parts follow.
    pub attachments: usize,
    /// The namespace, with its first slash and without its query.
    pub namespace: Cow<'a, str>,
    /// The query behind the namespace. Clients of version 4 can add one.
    pub query: Option<Cow<'a, str>>,
    /// The ack id.
    pub ack: Option<u64>,
    /// The JSON as the client wrote it.
    pub json: Option<Cow<'a, str>>,
}

impl<'a> Packet<'a> {
    /// Reads the text of a packet.
    ///
    /// The cost is linear in the text, and the nesting of the JSON does not use the stack.
    ///
    /// # Errors
    ///
    /// The text breaks a rule. The connection has to be closed.
    pub fn parse(text: &'a str, version: Version) -> Result<Packet<'a>, Error> {
        let kind = text.bytes().next().and_then(PacketType::with_digit).ok_or(Error::UnknownType)?;
        let (attachments, rest) = attachments(kind, &text[1..])?;
        let (namespace, query, rest) = namespace(rest, version)?;
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (id, json) = rest.split_at(digits);
        let ack = match id {
            "" => None,
            id => Some(id.parse().ok().filter(|id| *id <= MAX_ACK).ok_or(Error::Ack)?),
        };
        let json = Some(json).filter(|json| !json.is_empty());
        check(kind, json, version)?;
        Ok(Packet {
            kind,
            attachments,
            namespace: Cow::Borrowed(namespace),
            query: query.map(Cow::Borrowed),
            ack,
            json: json.map(Cow::Borrowed),
        })
    }

    /// The event of an `Event` or `BinaryEvent`; `None` for other types.
    #[must_use]
    pub fn event(&self) -> Option<Event<'_>> {
        let is_event = matches!(self.kind, PacketType::Event | PacketType::BinaryEvent);
        self.json.as_deref().filter(|_| is_event).and_then(|json| Event::parse(json).ok())
    }

    /// The packet with a copy of its text.
    #[must_use]
    pub fn into_owned(self) -> Packet<'static> {
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        Packet {
            kind: self.kind,
            attachments: self.attachments,
            namespace: owned(self.namespace),
            query: self.query.map(owned),
            ack: self.ack,
            json: self.json.map(owned),
        }
    }
}

fn attachments(kind: PacketType, text: &str) -> Result<(usize, &str), Error> {
    if !kind.is_binary() {
        return Ok((0, text));
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let rest = text[digits..].strip_prefix('-').filter(|_| digits > 0).ok_or(Error::Attachments)?;
    // A number that does not fit is too large, too.
    let count = text[..digits].parse().unwrap_or(usize::MAX);
    if count > MAX_ATTACHMENTS { Err(Error::TooManyAttachments) } else { Ok((count, rest)) }
}

/// The namespace, its query, and the text behind it. A namespace without a comma goes to the end.
fn namespace(text: &str, version: Version) -> Result<(&str, Option<&str>, &str), Error> {
    if !text.starts_with('/') {
        return Ok(("/", None, text));
    }
    let (name, rest) = text.split_once(',').unwrap_or((text, ""));
    if name.len() > MAX_NAMESPACE {
        return Err(Error::Namespace);
    }
    let (name, query) = match name.split_once('?') {
        Some((name, query)) if version == Version::V4 => (name, Some(query)),
        _ => (name, None),
    };
    Ok((name, query, rest))
}

/// Checks the JSON of a packet.
fn check(kind: PacketType, json: Option<&str>, version: Version) -> Result<(), Error> {
    let first = json.and_then(|json| json.bytes().next());
    let is_valid = |json: &str| serde_json::from_str::<&RawValue>(json).is_ok();
    if matches!(kind, PacketType::Event | PacketType::BinaryEvent) {
        let event = Event::parse(json.ok_or(Error::Event)?)?;
        return if version == Version::V5 && is_reserved(&event.name) { Err(Error::ReservedEvent) } else { Ok(()) };
    }
    let has_form = match (kind, first) {
        (PacketType::Ack | PacketType::BinaryAck, first) => first == Some(b'['),
        (_, None) => true,
        (PacketType::Disconnect, Some(_)) => false,
        (PacketType::Connect, first) => first == Some(b'{') || version == Version::V4,
        (_, first) => matches!(first, Some(b'{' | b'"')) || version == Version::V4,
    };
    if has_form && json.is_none_or(is_valid) { Ok(()) } else { Err(Error::Json) }
}
