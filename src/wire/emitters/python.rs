//! Events and commands of `python-socketio` from 5.14 on: JSON on `socketio`.
//!
//! Older versions write pickles, which are never read, because reading a pickle can run code.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::publication::{Action, Error, Publication, rooms};
use crate::wire::socketio::error::MAX_ATTACHMENTS;
use crate::wire::socketio::placeholders;

#[derive(Deserialize)]
struct Message<'a> {
    method: String,
    event: Option<String>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(default)]
    binary: bool,
    namespace: Option<String>,
    room: Option<Value>,
    skip_sid: Option<Value>,
    sid: Option<Value>,
}

/// Reads an event or a command. `None` for the answers to callbacks, which concern servers.
///
/// # Errors
///
/// The payload is neither.
pub fn decode(payload: &[u8]) -> Result<Option<Publication>, Error> {
    // A pickle of protocol 2 or newer begins with the byte 80 hex, and one of an older protocol with `(`.
    if matches!(payload, [0x80, ..] | [b'(', ..]) {
        return Err(Error::Pickle);
    }
    let message: Message<'_> = serde_json::from_slice(payload).map_err(|_| Error::Json)?;
    let room = || one(message.room.as_ref());
    // A socket is in a room that has its id as its name.
    let socket = || one(message.sid.as_ref());
    let (rooms, except, action) = match message.method.as_str() {
        "emit" => (rooms(message.room.as_ref())?, rooms(message.skip_sid.as_ref())?, emit(&message)?),
        "enter_room" => (vec![socket()?], Vec::new(), Action::Join(vec![room()?])),
        "leave_room" => (vec![socket()?], Vec::new(), Action::Leave(vec![room()?])),
        "close_room" => (vec![room()?], Vec::new(), Action::Leave(vec![room()?])),
        "disconnect" => (vec![socket()?], Vec::new(), Action::Disconnect { transport: false }),
        _ => return Ok(None),
    };
    let namespace = message.namespace.unwrap_or_else(|| "/".to_owned());
    Ok(Some(Publication { namespace, rooms, except, action }))
}

/// A value that has to be one room.
fn one(value: Option<&Value>) -> Result<String, Error> {
    match rooms(value)?.as_slice() {
        [room] => Ok(room.clone()),
        _ => Err(Error::Room),
    }
}

fn emit(message: &Message<'_>) -> Result<Action, Error> {
    let event = message.event.clone().ok_or(Error::Form)?;
    let data = message.data.map_or("[]", RawValue::get);
    let (arguments, attachments) = if message.binary { binary(data)? } else { (array(data), Vec::new()) };
    Ok(Action::Emit { event, arguments, attachments, volatile: false })
}

/// The arguments as an array. A bare value is one argument.
fn array(data: &str) -> String {
    match data {
        "null" => "[]".to_owned(),
        data if data.starts_with('[') => data.to_owned(),
        data => format!("[{data}]"),
    }
}

/// The arguments of an event with binary parts: an array of the arguments and of the parts in base64.
fn binary(data: &str) -> Result<(String, Vec<Bytes>), Error> {
    let items: Vec<&RawValue> = serde_json::from_str(data).map_err(|_| Error::Form)?;
    let (arguments, parts) = items.split_first().ok_or(Error::Form)?;
    if parts.len() > MAX_ATTACHMENTS {
        return Err(Error::TooManyAttachments);
    }
    let part = |part: &&RawValue| {
        let base64: String = serde_json::from_str(part.get()).map_err(|_| Error::Form)?;
        STANDARD.decode(base64).map(Bytes::from).map_err(|_| Error::Base64)
    };
    let parts = parts.iter().map(part).collect::<Result<Vec<_>, _>>()?;
    let arguments = array(arguments.get());
    if placeholders::find(&arguments).any(|place| place.index >= parts.len()) {
        return Err(Error::Placeholder);
    }
    Ok((arguments, parts))
}
