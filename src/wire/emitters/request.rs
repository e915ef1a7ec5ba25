//! Commands of the emitters for Node: JSON on `socket.io-request#/ns#`.

use serde::Deserialize;
use serde_json::Value;

use super::channel;
use super::publication::{Action, Error, Publication, rooms};

const JOIN: u64 = 2;
const LEAVE: u64 = 3;
const DISCONNECT: u64 = 4;

#[derive(Deserialize)]
struct Request {
    #[serde(rename = "type")]
    kind: u64,
    opts: Option<Options>,
    rooms: Option<Value>,
    close: Option<bool>,
    // Adapters of the versions before 6 name one socket and one room.
    sid: Option<Value>,
    room: Option<Value>,
}

#[derive(Deserialize)]
struct Options {
    rooms: Option<Value>,
    except: Option<Value>,
}

/// Reads a command. `channel` is the name that was published to, without the key in front (`socket.io-request`).
///
/// `None` for the questions that the nodes of Socket.IO ask each other, and for events between servers.
///
/// # Errors
///
/// The payload is not a command.
pub fn decode(channel: &str, payload: &[u8]) -> Result<Option<Publication>, Error> {
    let (namespace, _) = channel::parse(channel).ok_or(Error::Form)?;
    let request: Request = serde_json::from_slice(payload).map_err(|_| Error::Json)?;
    let joined = || match &request.rooms {
        Some(list) => rooms(Some(list)),
        None => rooms(request.room.as_ref()),
    };
    let action = match request.kind {
        JOIN => Action::Join(joined()?),
        LEAVE => Action::Leave(joined()?),
        DISCONNECT => Action::Disconnect { transport: request.close.unwrap_or(false) },
        _ => return Ok(None),
    };
    let (rooms, except) = match &request.opts {
        Some(options) => (rooms(options.rooms.as_ref())?, rooms(options.except.as_ref())?),
        // A command without a target would concern every socket.
        None => (rooms(Some(request.sid.as_ref().ok_or(Error::Form)?))?, Vec::new()),
    };
    Ok(Some(Publication { namespace: namespace.to_owned(), rooms, except, action }))
}
