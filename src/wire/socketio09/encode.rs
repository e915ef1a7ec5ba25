//! Writes packets. An endpoint is empty for the main one.

use super::packet::{Id, PacketType, Reply};
use crate::wire::json;

/// The packet that is a sign of life.
pub const HEARTBEAT: &str = "2::";

/// The packet that ends a waiting poll.
pub const NOOP: &str = "8::";

/// The answer to a session id that no session has: the client shakes hands again and connects its endpoints.
pub const UNKNOWN_SESSION: &str = "7:::1+0";

/// Appends an event: `arguments` is a JSON array.
pub fn event(id: Option<Id>, endpoint: &str, name: &str, arguments: &str, out: &mut Vec<u8>) {
    out.reserve(endpoint.len() + name.len() + arguments.len() + 32);
    head(PacketType::Event, id, endpoint, out);
    out.extend_from_slice(b":{\"name\":");
    json::quote(name, out);
    out.extend_from_slice(b",\"args\":");
    out.extend_from_slice(arguments.as_bytes());
    out.push(b'}');
}

/// Appends a message that is text.
pub fn message(id: Option<Id>, endpoint: &str, text: &str, out: &mut Vec<u8>) {
    head(PacketType::Message, id, endpoint, out);
    data(text, out);
}

/// Appends a message that is JSON.
pub fn json(id: Option<Id>, endpoint: &str, json: &str, out: &mut Vec<u8>) {
    head(PacketType::Json, id, endpoint, out);
    data(json, out);
}

/// Appends the packet that says that an endpoint is connected.
pub fn connect(endpoint: &str, out: &mut Vec<u8>) {
    head(PacketType::Connect, None, endpoint, out);
}

/// Appends the end of an endpoint or, for the main one, of the session. The client does not come back.
pub fn disconnect(endpoint: &str, out: &mut Vec<u8>) {
    head(PacketType::Disconnect, None, endpoint, out);
}

/// Appends the answer to a packet with an id: `arguments` is a JSON array. The ids of each endpoint are its own.
pub fn ack(endpoint: &str, number: u64, arguments: Option<&str>, out: &mut Vec<u8>) {
    head(PacketType::Ack, None, endpoint, out);
    data(&number.to_string(), out);
    if let Some(arguments) = arguments {
        out.push(b'+');
        out.extend_from_slice(arguments.as_bytes());
    }
}

/// Why the server sends an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The server does not have the transport.
    UnknownTransport,
    /// The session is not known.
    NotHandshaken,
    /// The client may not connect.
    Unauthorized,
}

/// Appends an error. With the advice to reconnect the client shakes hands again.
pub fn error(endpoint: &str, reason: Reason, reconnect: bool, out: &mut Vec<u8>) {
    head(PacketType::Error, None, endpoint, out);
    let advice = if reconnect { "+0" } else { "" };
    data(&format!("{}{advice}", reason as u8), out);
}

fn data(text: &str, out: &mut Vec<u8>) {
    out.push(b':');
    out.extend_from_slice(text.as_bytes());
}

fn head(kind: PacketType, id: Option<Id>, endpoint: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&[kind.digit(), b':']);
    if let Some(Id { number, reply }) = id {
        out.extend_from_slice(number.to_string().as_bytes());
        if reply == Reply::Data {
            out.push(b'+');
        }
    }
    out.push(b':');
    out.extend_from_slice(endpoint.as_bytes());
}
