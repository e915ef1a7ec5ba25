//! Events of the emitters for Node, PHP, Ruby and Go: MessagePack on `socket.io#/ns#`.
//!
//! The payload is `[uid, packet, options]`. Emitters 0.1 and 0.2 leave the uid out.

use bytes::Bytes;

use super::channel;
use super::publication::{Action, Error, Publication};
use crate::wire::msgpack::{self, Dialect, Value};
use crate::wire::socketio::error::MAX_ATTACHMENTS;
use crate::wire::socketio::placeholders;

const EVENT: Value = Value::Integer(2);
const BINARY_EVENT: Value = Value::Integer(5);

/// Reads an event. `channel` is the name that was published to, without the key in front (`socket.io`).
///
/// `None` for what does not concern clients, and for a repetition: emitters 0.3 to 2.x publish an event once for each of
/// its rooms, and each time the payload has all rooms.
///
/// # Errors
///
/// The payload is not an event.
pub fn decode(channel: &str, payload: &[u8]) -> Result<Option<Publication>, Error> {
    let value = value(payload)?;
    let (packet, options) = match value.array() {
        Some([packet, options] | [_, packet, options]) => (packet, options),
        _ => return Err(Error::Form),
    };
    let kind = packet.get("type").ok_or(Error::Form)?;
    if *kind != EVENT && *kind != BINARY_EVENT {
        return Ok(None);
    }
    let namespace = match packet.get("nsp") {
        None | Some(Value::Nil) => "/",
        Some(name) => name.text().ok_or(Error::Form)?,
    };
    let rooms = rooms(options.get("rooms"))?;
    if let Some((of_channel, room)) = channel::parse(channel) {
        let is_repetition = rooms.len() > 1 && room.is_some_and(|room| rooms[0] != room);
        if of_channel != namespace || is_repetition {
            return Ok(None);
        }
    }
    let (event, arguments) =
        packet.get("data").and_then(Value::array).and_then(<[_]>::split_first).ok_or(Error::Form)?;
    let event = match event {
        Value::Text(_) | Value::Integer(_) | Value::Unsigned(_) | Value::Float(_) => event.key().ok_or(Error::Form)?,
        _ => return Err(Error::Form),
    };
    let (arguments, attachments) = json(arguments)?;
    let volatile = options.get("flags").and_then(|flags| flags.get("volatile")) == Some(&Value::Bool(true));
    let except = self::rooms(options.get("except"))?;
    let action = Action::Emit { event, arguments, attachments, volatile };
    Ok(Some(Publication { namespace: namespace.to_owned(), rooms, except, action }))
}

/// Reads the payload in the dialect in which it was written.
///
/// A message of `msgpack-js` with buffers is hardly ever also a message of the standard. If it is, one of its
/// buffers looks like an extension of 16 bytes, which notepack does not write.
fn value(payload: &[u8]) -> Result<Value, Error> {
    let standard = msgpack::decode(payload, Dialect::Standard);
    match &standard {
        Ok(value) if !has_long_extension(value) => {}
        _ => {
            if let Ok(value) = msgpack::decode(payload, Dialect::MsgpackJs) {
                return Ok(value);
            }
        }
    }
    Ok(standard?)
}

fn has_long_extension(value: &Value) -> bool {
    match value {
        Value::Extension(_, data) => data.len() == 16,
        Value::Array(values) => values.iter().any(has_long_extension),
        Value::Map(entries) => entries.iter().any(|(_, value)| has_long_extension(value)),
        _ => false,
    }
}

fn rooms(value: Option<&Value>) -> Result<Vec<String>, Error> {
    let room = |value: &Value| match value {
        Value::Text(_) | Value::Integer(_) | Value::Unsigned(_) | Value::Float(_) => value.key().ok_or(Error::Room),
        _ => Err(Error::Room),
    };
    match value {
        // PHP writes an empty list where another language writes an empty map.
        None | Some(Value::Nil) => Ok(Vec::new()),
        Some(Value::Map(entries)) if entries.is_empty() => Ok(Vec::new()),
        // PHP writes a list with gaps in its numbers as a map.
        Some(Value::Map(entries)) => entries.iter().map(|(_, value)| room(value)).collect(),
        Some(Value::Array(values)) => values.iter().map(room).collect(),
        Some(value) => room(value).map(|room| vec![room]),
    }
}

/// The arguments as a JSON array, and their binary parts.
fn json(arguments: &[Value]) -> Result<(String, Vec<Bytes>), Error> {
    let mut attachments = Vec::new();
    let mut out = vec![b'['];
    for (index, argument) in arguments.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        msgpack::write_json(argument, &mut out, &mut |bytes, out| {
            placeholders::write(attachments.len(), out);
            attachments.push(bytes.clone());
        });
    }
    out.push(b']');
    if attachments.len() > MAX_ATTACHMENTS {
        return Err(Error::TooManyAttachments);
    }
    let json = String::from_utf8(out).map_err(|_| Error::Form)?;
    // Without binary parts, an object that looks like a placeholder is data. Beside them it would be one.
    let is_clean = attachments.is_empty() || placeholders::find(&json).count() == attachments.len();
    if is_clean { Ok((json, attachments)) } else { Err(Error::Placeholder) }
}
