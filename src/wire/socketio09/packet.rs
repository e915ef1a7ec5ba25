//! Reads packets.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::error::{Error, MAX_ENDPOINT};

/// Events that the library fires itself, so that a client cannot tell them from a message's event.
const RESERVED: [&str; 8] = ["message", "connect", "disconnect", "open", "close", "error", "retry", "reconnect"];

/// Whether an event must not have this name. `message` is reserved too: a packet of its own type carries it.
#[must_use]
pub fn is_reserved(event: &str) -> bool {
    RESERVED.contains(&event)
}

/// The type of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketType {
    /// The end of an endpoint, or of the session.
    Disconnect,
    /// Asks for an endpoint, or says that it is connected.
    Connect,
    /// A sign of life.
    Heartbeat,
    /// A message that is text.
    Message,
    /// A message that is JSON.
    Json,
    /// An event.
    Event,
    /// The answer to a packet with an id.
    Ack,
    /// An error.
    Error,
    /// Nothing. It ends a waiting poll.
    Noop,
}

impl PacketType {
    const ALL: [PacketType; 9] = [
        PacketType::Disconnect,
        PacketType::Connect,
        PacketType::Heartbeat,
        PacketType::Message,
        PacketType::Json,
        PacketType::Event,
        PacketType::Ack,
        PacketType::Error,
        PacketType::Noop,
    ];

    /// The character of the type.
    pub(super) fn digit(self) -> u8 {
        b'0' + self as u8
    }
}

/// The side that acknowledges a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// The receiver answers at once, without data.
    Receipt,
    /// The application answers with data (`+`).
    Data,
}

/// The id of a packet that has to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Id {
    /// The number.
    pub number: u64,
    /// Who answers.
    pub reply: Reply,
}

/// A packet that was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The type.
    pub kind: PacketType,
    /// The id, if the sender waits for an answer.
    pub id: Option<Id>,
    /// The endpoint without its query. It is empty for the main endpoint.
    pub endpoint: &'a str,
    /// The text behind the third colon, as it came.
    pub data: &'a str,
}

impl<'a> Packet<'a> {
    /// Reads a packet. Its data is read by [`event`](Self::event), [`ack`](Self::ack) and so on.
    ///
    /// # Errors
    ///
    /// The text is not a packet.
    pub fn parse(text: &'a str) -> Result<Packet<'a>, Error> {
        let mut parts = text.splitn(4, ':');
        let mut part = || parts.next();
        let kind = match part().unwrap_or_default().as_bytes() {
            [digit] => PacketType::ALL.get(usize::from(digit.wrapping_sub(b'0'))).copied(),
            _ => None,
        };
        let kind = kind.ok_or(Error::UnknownType)?;
        let id = id(part().ok_or(Error::Cut)?)?;
        let endpoint = part().ok_or(Error::Cut)?;
        let data = part().unwrap_or_default();
        if endpoint.len() > MAX_ENDPOINT {
            return Err(Error::Endpoint);
        }
        // The query of a `connect` is behind the endpoint or, from the library, in the data.
        let (endpoint, query) = endpoint.split_once('?').unwrap_or((endpoint, ""));
        let data = if kind == PacketType::Connect && data.is_empty() { query } else { data };
        Ok(Packet { kind, id, endpoint, data })
    }

    /// The query of a `connect`, without its question mark.
    #[must_use]
    pub fn query(&self) -> &'a str {
        self.data.strip_prefix('?').unwrap_or(self.data)
    }

    /// The name and the arguments of an event.
    ///
    /// # Errors
    ///
    /// The data is not an event.
    pub fn event(&self) -> Result<Event<'a>, Error> {
        let event: Event<'a> = serde_json::from_str(self.data).map_err(|_| Error::Event)?;
        if event.arguments.is_some_and(|arguments| !is_array(arguments.get())) {
            return Err(Error::Event);
        }
        Ok(event)
    }

    /// The JSON of a `json`.
    ///
    /// # Errors
    ///
    /// The data is not JSON.
    pub fn json(&self) -> Result<&'a RawValue, Error> {
        serde_json::from_str(self.data).map_err(|_| Error::Json)
    }

    /// The id that an `ack` answers, and its arguments as a JSON array.
    ///
    /// # Errors
    ///
    /// The data is not the answer to a packet.
    pub fn ack(&self) -> Result<(u64, Option<&'a RawValue>), Error> {
        let (number, arguments) = self.data.split_once('+').unwrap_or((self.data, ""));
        let number = digits(number).ok_or(Error::Ack)?;
        if arguments.is_empty() {
            return Ok((number, None));
        }
        let arguments: &RawValue = serde_json::from_str(arguments).map_err(|_| Error::Ack)?;
        if is_array(arguments.get()) { Ok((number, Some(arguments))) } else { Err(Error::Ack) }
    }
}

fn id(text: &str) -> Result<Option<Id>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    let (number, reply) = match text.strip_suffix('+') {
        Some(number) => (number, Reply::Data),
        None => (text, Reply::Receipt),
    };
    digits(number).map(|number| Some(Id { number, reply })).ok_or(Error::Id)
}

/// A number of 1 to 15 digits. Scripts count such numbers exactly.
fn digits(text: &str) -> Option<u64> {
    let is_number = (1..=15).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

fn is_array(json: &str) -> bool {
    json.starts_with('[')
}

/// The data of an event.
#[derive(Debug, Clone, Deserialize)]
pub struct Event<'a> {
    /// The name.
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    /// The arguments as a JSON array.
    #[serde(borrow, default, rename = "args")]
    pub arguments: Option<&'a RawValue>,
}
