//! The entries on the own channel of a connection that polls: what one request leaves for another one, at any node.

use crate::message::{Draft, Message};
use crate::serve::client_sessions::address::own_channel;
use crate::serve::client_sessions::id::SessionId;
use serde::{Deserialize, Serialize};

/// The name of the event of these entries.
const EVENT: &str = "connection";

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConnectionEntry {
    /// A namespace is connected, with this session.
    Socket {
        /// The namespace.
        namespace: String,
        /// The session.
        session: String,
        /// The position from which it begins.
        at: String,
    },
    /// The client has left a namespace.
    Left {
        /// The namespace.
        namespace: String,
    },
    /// A packet of Socket.IO for the client.
    Packet {
        /// Its text.
        text: String,
        /// Its binary parts.
        parts: Vec<Vec<u8>>,
    },
    /// The answer to a ping of the client.
    Pong {
        /// The data of the ping.
        data: String,
    },
    /// The waiting GET has to end.
    Wake,
    /// The connection is over.
    Closed,
}

impl ConnectionEntry {
    /// The draft of the entry for a connection.
    pub fn draft(&self, id: &SessionId) -> Option<Draft> {
        Some(Draft::control(own_channel(id)?, EVENT, &serde_json::to_string(self).ok()?))
    }

    /// Reads an entry; `None` if it is another one.
    pub fn read(message: &Message) -> Option<ConnectionEntry> {
        let is_one = message.is_control() && message.event().as_str() == EVENT;
        is_one.then(|| serde_json::from_str(message.payload()).ok()).flatten()
    }
}
