//! A decoded publication, of whichever form.

use bytes::Bytes;
use serde_json::Value;

use crate::wire::msgpack;
use crate::wire::socketio::error::MAX_ATTACHMENTS;

/// An event or a command for the sockets of a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// The namespace, with its first slash.
    pub namespace: String,
    /// The rooms whose sockets are meant. Empty: all sockets of the namespace.
    pub rooms: Vec<String>,
    /// The rooms whose sockets are not meant.
    pub except: Vec<String>,
    /// What to do.
    pub action: Action,
}

/// What a publication asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The sockets get an event.
    Emit {
        /// The name of the event.
        event: String,
        /// The arguments as a JSON array, with a placeholder for each binary part.
        arguments: String,
        /// The binary parts.
        attachments: Vec<Bytes>,
        /// Whether the event is only for sockets that can take it now.
        volatile: bool,
    },
    /// The sockets join rooms.
    Join(Vec<String>),
    /// The sockets leave rooms.
    Leave(Vec<String>),
    /// The sockets leave the namespace.
    Disconnect {
        /// Whether their connections end, too.
        transport: bool,
    },
}

/// The rooms of a JSON value: a list, one room, or nothing. Rooms that are numbers become text.
pub(super) fn rooms(value: Option<&Value>) -> Result<Vec<String>, Error> {
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(rooms)) => rooms.iter().map(room).collect(),
        Some(value) => room(value).map(|room| vec![room]),
    }
}

fn room(value: &Value) -> Result<String, Error> {
    match value {
        Value::String(room) => Ok(room.clone()),
        Value::Number(number) => Ok(number.to_string()),
        _ => Err(Error::Room),
    }
}

/// Why a payload is not a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The payload is not MessagePack.
    #[error(transparent)]
    Msgpack(#[from] msgpack::Error),
    /// The payload is not the JSON that this channel carries.
    #[error("the payload is not the JSON of an emitter")]
    Json,
    /// The payload is a pickle of Python. Reading it could run code, so it is refused.
    #[error("the payload is a Python pickle, which is never read; use python-socketio 5.14 or newer with JSON")]
    Pickle,
    /// The values do not have the form of a packet and its options.
    #[error("the payload does not have the form of an emitter's packet")]
    Form,
    /// A room is neither text nor a number.
    #[error("a room is neither text nor a number")]
    Room,
    /// There are too many binary parts.
    #[error("an event may have at most {MAX_ATTACHMENTS} binary parts")]
    TooManyAttachments,
    /// A binary part is not base64.
    #[error("a binary part is not base64")]
    Base64,
    /// The arguments refer to a binary part that does not exist.
    #[error("the arguments refer to a binary part that does not exist")]
    Placeholder,
}
