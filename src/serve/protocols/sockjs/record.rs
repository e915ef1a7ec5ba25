//! The record of a session over HTTP: what a request on any node has to know of the others.

use super::settings::Close;
use crate::log::connections::{ConnectionRecord, Versioned};
use crate::serve::client_sessions::id::{BYTES, SessionId};
use serde::{Deserialize, Serialize};

/// The id of the session that a client names below a prefix. Clients choose their ids themselves.
pub fn id_of(prefix: &str, session: &str) -> SessionId {
    SessionId::from_bytes(&[0; BYTES]).derived(&format!("sockjs {prefix} {session}"))
}

/// What never changes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Info {
    /// The client id.
    pub client: String,
    /// The client session, if the application has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
}

/// The part of requests that read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reader {
    /// The position up to which the client has read.
    pub at: String,
    /// The request that reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<Holder>,
}

/// A request that reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Distinguishes it from others.
    pub number: u64,
    /// Up to when it holds the session if it is not heard of, in milliseconds of the log's clock.
    pub until_ms: u64,
}

/// The end of a session.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Mode {
    /// The code and the reason, if the session is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<(u16, String)>,
}

/// A record that was read.
pub struct Session {
    /// What never changes.
    pub info: Info,
    /// The part of requests that read.
    pub reader: Reader,
    /// The version of that part.
    pub version: u64,
    /// The end of the session.
    pub closed: Option<Close>,
    /// The version of the end.
    pub mode_version: u64,
}

impl Session {
    /// Reads a record; `None` if it is not one of this version's.
    pub fn read(record: &ConnectionRecord) -> Option<Session> {
        let mode: Mode = serde_json::from_str(&record.mode.text).ok()?;
        Some(Session {
            info: serde_json::from_str(&record.info).ok()?,
            reader: serde_json::from_str(&record.reader.text).ok()?,
            version: record.reader.version,
            closed: mode.closed.map(|(code, reason)| Close { code, reason }),
            mode_version: record.mode.version,
        })
    }
}

/// A part with its version.
pub fn part<T: Serialize>(value: &T, version: u64) -> Versioned {
    Versioned { text: serde_json::to_string(value).unwrap_or_default(), version }
}

/// A new record.
pub fn new(info: &Info, reader: &Reader, closed: Option<&Close>) -> ConnectionRecord {
    let closed = closed.map(|close| (close.code, close.reason.clone()));
    ConnectionRecord {
        info: part(info, 0).text,
        reader: part(reader, 0),
        writer: Versioned { text: "{}".to_owned(), version: 0 },
        mode: part(&Mode { closed }, 0),
    }
}
