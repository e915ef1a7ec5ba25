//! The record of a connection that polls: what a request on any node has to know of the others.
//!
//! GETs change the part of readers: the positions up to which the client has read, and the last answer, so that a
//! repeated GET gets the same one. POSTs change the part of writers: the namespaces, and the last POSTs, so that a
//! repeated POST is carried out once.

use super::framing::Framing;
use super::json_bytes::JsonBytes;
use super::request::EngineVersion;
use crate::log::connections::{ConnectionRecord, ConnectionStore, Part, Swapped, Versioned};
use crate::wire::socketio::assembler::Incomplete;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How many POSTs are known to be done.
const DONE: usize = 8;

/// What the handshake has fixed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Info {
    /// The version of Engine.IO: 2, 3 or 4; 1 for Socket.IO 0.9.
    pub version: u8,
    /// Whether the client takes only `application/octet-stream`.
    pub octets: bool,
    /// Whether the client takes only text.
    pub text: bool,
    /// The id of all its sockets, in versions 2 and 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// When the connection has begun, in milliseconds of the log's clock.
    #[serde(default)]
    pub began_ms: u64,
}

impl Info {
    /// The version.
    pub fn engine(&self) -> EngineVersion {
        match self.version {
            4 => EngineVersion::V4,
            3 => EngineVersion::V3,
            1 => EngineVersion::V1,
            _ => EngineVersion::V2,
        }
    }

    /// The form of answers to polls.
    pub fn payload(&self) -> Framing {
        match self.engine() {
            EngineVersion::V4 => Framing::Payload4,
            EngineVersion::V1 => Framing::Payload1,
            _ if self.octets => Framing::Octets3,
            _ => Framing::Payload3,
        }
    }

    /// The form of WebSocket frames.
    pub fn frames(&self) -> Framing {
        match self.engine() {
            EngineVersion::V4 => Framing::Frames4,
            EngineVersion::V1 => Framing::Frames1,
            _ if self.text => Framing::Frames3Text,
            _ => Framing::Frames3,
        }
    }
}

/// A request, by the time stamp that its client has given it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// The stamp.
    pub t: Option<String>,
}

impl Stamp {
    /// Whether a request repeats the one with this stamp.
    pub fn is_of(&self, t: Option<&str>) -> bool {
        t.is_some() && self.t.as_deref() == t
    }
}

/// A POST that is carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doing {
    /// The POST.
    pub stamp: Stamp,
    /// Up to when its request holds it, in milliseconds of the log's clock.
    pub until_ms: u64,
}

/// A namespace of the connection.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Place {
    /// The namespace.
    pub namespace: String,
    /// Its session.
    pub session: String,
    /// The position up to which the client has read its messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Whether the client does not know yet that the namespace is connected.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_new: bool,
    /// The token that the page has given for the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The sealed bookmark of its session; `None` if that is in the record of sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<String>,
    /// The POST that has connected it, and the number of the packet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<(String, usize)>,
}

impl Place {
    /// What finds the bookmark of its session.
    pub fn brought(&self) -> &str {
        self.sealed.as_deref().unwrap_or(&self.session)
    }
}

/// A packet whose binary parts have not all come.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Half {
    /// Its text.
    text: String,
    /// The parts that have come.
    parts: Vec<JsonBytes>,
    /// Whether the parts are not kept, because they are too long for an event.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_cut: bool,
}

impl Half {
    /// A packet that is kept; `None` if its text is too long. The text and the parts may have `max` bytes each.
    pub fn new(incomplete: Incomplete, max: usize, is_cut: bool) -> Option<Half> {
        let Incomplete { text, attachments } = incomplete;
        let is_cut = is_cut || attachments.iter().map(Bytes::len).sum::<usize>() > max;
        let kept = |part: &Bytes| JsonBytes(if is_cut { Vec::new() } else { part.to_vec() });
        (text.len() <= max).then(|| Half { text, parts: attachments.iter().map(kept).collect(), is_cut })
    }

    /// The packet.
    pub fn incomplete(self) -> Incomplete {
        let attachments = self.parts.into_iter().map(|part| part.0.into()).collect();
        Incomplete { text: self.text, attachments }
    }
}

/// The part of GETs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reader {
    /// The position in the connection's own channel.
    pub at: String,
    /// The namespaces.
    #[serde(default)]
    pub sockets: Vec<Place>,
    /// The time of the last ping, in milliseconds of the log's clock. Clients of version 4 need pings on schedule.
    #[serde(default)]
    pub pinged_ms: u64,
    /// The GET that waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parked: Option<Stamp>,
    /// Whether the client was offered a sealed id.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub was_offered: bool,
    /// The last GET, and its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<(Stamp, JsonBytes)>,
}

impl Reader {
    /// A part without namespaces, at a position in the connection's own channel.
    pub fn at(at: String) -> Reader {
        Reader { at, sockets: Vec::new(), pinged_ms: 0, parked: None, was_offered: false, last: None }
    }
}

/// The part of POSTs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Writer {
    /// The namespaces.
    #[serde(default)]
    pub sockets: Vec<Place>,
    /// The POST that is carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doing: Option<Doing>,
    /// The stamps of the last POSTs that are done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub done: Vec<String>,
    /// A packet whose binary parts have not all come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub half: Option<Half>,
    /// Whether the client has asked for a namespace.
    #[serde(default)]
    pub was_used: bool,
}

impl Writer {
    /// Notes that the POST with this stamp is done.
    pub fn finish(&mut self, t: Option<&str>) {
        self.doing = None;
        self.done.extend(t.map(str::to_owned));
        if self.done.len() > DONE {
            self.done.remove(0);
        }
    }
}

/// Whether the client tries a WebSocket, and up to when, in milliseconds of the log's clock.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Mode {
    /// The end of the trial.
    #[serde(default)]
    pub probing_until_ms: u64,
}

fn text_of<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// The parts of a record, as values with their versions.
#[derive(Clone)]
pub struct Parts {
    /// What the handshake has fixed.
    pub info: Info,
    /// The part of GETs.
    pub reader: Reader,
    /// The part of POSTs.
    pub writer: Writer,
    /// The trial of a WebSocket.
    pub mode: Mode,
    versions: [u64; 3],
}

impl Parts {
    /// Whether the client has not asked for a namespace. Clients of versions before 4 are in the main one at once.
    pub fn is_unused(&self) -> bool {
        self.info.engine() == EngineVersion::V4 && !self.writer.was_used && self.writer.doing.is_none()
    }

    /// Reads a record; `None` if it is not one of this version's.
    pub fn read(record: &ConnectionRecord) -> Option<Parts> {
        fn part<T: DeserializeOwned>(text: &str) -> Option<T> {
            serde_json::from_str(text).ok()
        }
        Some(Parts {
            info: part(&record.info)?,
            reader: part(&record.reader.text)?,
            writer: part(&record.writer.text)?,
            mode: part(&record.mode.text)?,
            versions: [record.reader.version, record.writer.version, record.mode.version],
        })
    }

    /// A new record.
    pub fn record(info: &Info, reader: &Reader, writer: &Writer) -> ConnectionRecord {
        fn part<T: Serialize>(value: &T) -> Versioned {
            Versioned { text: text_of(value), version: 0 }
        }
        ConnectionRecord {
            info: text_of(info),
            reader: part(reader),
            writer: part(writer),
            mode: part(&Mode::default()),
        }
    }

    /// Takes over the version of a part that a write has left in the record; false if the record has another text.
    pub fn take_over(&mut self, known: &Parts, part: Part) -> bool {
        let (index, is_same) = match part {
            Part::Reader => (0, text_of(&self.reader) == text_of(&known.reader)),
            Part::Writer => (1, text_of(&self.writer) == text_of(&known.writer)),
            Part::Mode => (2, text_of(&self.mode) == text_of(&known.mode)),
        };
        let is_next = known.versions[index] == self.versions[index] + 1;
        self.versions[index] += u64::from(is_same && is_next);
        is_same && is_next
    }

    /// Writes one part, if no other request has changed it.
    pub async fn write(
        &mut self,
        store: &dyn ConnectionStore,
        id: &str,
        part: Part,
        ends_in: Duration,
    ) -> Result<Swapped, crate::log::Unreachable> {
        let (index, text) = match part {
            Part::Reader => (0, text_of(&self.reader)),
            Part::Writer => (1, text_of(&self.writer)),
            Part::Mode => (2, text_of(&self.mode)),
        };
        let next = Versioned { text, version: self.versions[index] };
        let swapped = store.swap(id, part, &next, ends_in).await?;
        if swapped == Swapped::Done {
            self.versions[index] += 1;
        }
        Ok(swapped)
    }
}
