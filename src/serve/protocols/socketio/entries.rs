//! The entries on the own channel of a connection that polls: what one request leaves for another one, at any node.

use super::json_bytes::JsonBytes;
use super::packets::Packet;
use crate::message::{CONTROL_BYTES, Draft, Message};
use crate::serve::client_sessions::address::own_channel;
use crate::serve::client_sessions::id::SessionId;
use bytes::Bytes;
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
        /// The token that the page has given for the namespace.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<String>,
        /// The sealed bookmark of the session, if it has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sealed: Option<String>,
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
        parts: Vec<JsonBytes>,
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
    /// The client has ended the connection.
    Gone,
}

impl ConnectionEntry {
    /// The entry of a packet.
    pub fn of_packet(packet: Packet) -> ConnectionEntry {
        ConnectionEntry::Packet {
            text: String::from_utf8(packet.text).unwrap_or_default(),
            parts: packet.parts.iter().map(|part| JsonBytes(part.to_vec())).collect(),
        }
    }

    /// Whether every node reads the entry.
    pub fn fits(&self) -> bool {
        serde_json::to_string(self).is_ok_and(|text| text.len() <= CONTROL_BYTES)
    }

    /// The binary parts of a packet.
    pub fn parts(parts: Vec<JsonBytes>) -> Vec<Bytes> {
        parts.into_iter().map(|part| part.0.into()).collect()
    }

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
