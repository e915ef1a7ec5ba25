//! The packets that go to clients, in the words of each version of Socket.IO.

use super::framing::{Framing, Words};
use crate::message::ClientId;
use crate::transport::{ApiError, Code};
use crate::wire::json;
use crate::wire::socketio::binary::{self, Split};
use crate::wire::socketio::encode::{self, Arguments};
use crate::wire::socketio09::encode as encode09;
use bytes::Bytes;

/// The arguments for a client's callback, as JSON; `None` if there are none to send.
pub type Answer = Result<Option<String>, ApiError>;

/// A packet: its text and its binary parts.
pub struct Packet {
    /// The text.
    pub text: Vec<u8>,
    /// The binary parts.
    pub parts: Vec<Bytes>,
}

/// The name of a namespace in 0.9, where the main one has none.
pub fn endpoint(namespace: &str) -> &str {
    if namespace == "/" { "" } else { namespace }
}

/// Appends the packet that says that a namespace is connected. `client` is the public id of the socket, and `pid`
/// the secret for recovery.
pub fn connected(framing: Framing, namespace: &str, client: &ClientId, pid: Option<&str>, out: &mut Vec<u8>) {
    let mut text = Vec::new();
    match framing.words() {
        Words::V5 => encode::connect_v5(namespace, &client.to_string(), pid, &mut text),
        Words::V4 => encode::connect_v4(namespace, &mut text),
        Words::V1 => encode09::connect(endpoint(namespace), &mut text),
    }
    framing.message(&text, &[], out);
}

/// Appends the packet that ends a namespace. The client does not connect it again.
pub fn disconnected(framing: Framing, namespace: &str, out: &mut Vec<u8>) {
    let mut text = Vec::new();
    match framing.words() {
        Words::V5 | Words::V4 => encode::disconnect(namespace, &mut text),
        Words::V1 => encode09::disconnect(endpoint(namespace), &mut text),
    }
    framing.message(&text, &[], out);
}

/// The packet that refuses a namespace.
pub fn refused(framing: Framing, namespace: &str, error: &ApiError) -> Packet {
    let mut text = Vec::new();
    match framing.words() {
        Words::V5 => encode::error_v5(namespace, &error.message, error.data.as_deref(), &mut text),
        Words::V4 => {
            let message = || json::quoted(&error.message);
            encode::error_v4(namespace, &error.data.as_deref().map_or_else(message, str::to_owned), &mut text);
        }
        // There are only fixed words.
        Words::V1 => encode09::error(endpoint(namespace), encode09::Reason::Unauthorized, false, &mut text),
    }
    Packet { text, parts: Vec::new() }
}

/// The packet that answers the event with this number; `None` if nothing is said. A client whose event is refused gets
/// an argument with the error. If the application has failed, nothing is said: the client has its own time limit.
pub fn answered(framing: Framing, namespace: &str, id: Option<u64>, answer: &Answer) -> Option<Packet> {
    let id = id?;
    let json = match answer {
        Ok(json) => json.clone()?,
        Err(error) if error.code == Code::ApplicationFailed => return None,
        Err(error) => String::from_utf8(error.to_json()).ok()?,
    };
    let mut text = Vec::new();
    if framing.words() == Words::V1 {
        let array = if json.starts_with('[') { json } else { format!("[{json}]") };
        encode09::ack(endpoint(namespace), id, Some(&array), &mut text);
        return Some(Packet { text, parts: Vec::new() });
    }
    let Split { json, parts } = binary::split(&json).unwrap_or(Split { json, parts: Vec::new() });
    let arguments = if json.starts_with('[') { Arguments::Array(&json) } else { Arguments::One(&json) };
    encode::ack(namespace, id, arguments, parts.len(), framing.charset(), &mut text);
    Some(Packet { text, parts })
}
