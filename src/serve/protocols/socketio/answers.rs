//! The packet that answers an event of a client.

use crate::transport::{ApiError, Code};
use crate::wire::socketio::binary::{self, Split};
use crate::wire::socketio::encode::{self, Arguments, Charset};
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

/// The packet that answers the event with this number; `None` if nothing is said. A client whose event is refused gets
/// an argument with the error. If the application has failed, nothing is said: the client has its own time limit.
pub fn packet(charset: Charset, namespace: &str, id: Option<u64>, answer: &Answer) -> Option<Packet> {
    let id = id?;
    let json = match answer {
        Ok(json) => json.clone()?,
        Err(error) if error.code == Code::ApplicationFailed => return None,
        Err(error) => String::from_utf8(error.to_json()).ok()?,
    };
    let Split { json, parts } = binary::split(&json).unwrap_or(Split { json, parts: Vec::new() });
    let arguments = if json.starts_with('[') { Arguments::Array(&json) } else { Arguments::One(&json) };
    let mut text = Vec::new();
    encode::ack(namespace, id, arguments, parts.len(), charset, &mut text);
    Some(Packet { text, parts })
}
