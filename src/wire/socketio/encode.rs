//! Writes packets.
//!
//! The JSON of a message is copied as it stands: it is not parsed into values and printed again.

use super::event::WHITE_SPACE;
use super::packet::PacketType;
use crate::wire::json;

/// The characters of the JSON that goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charset {
    /// JSON as it stands.
    Utf8,
    /// JSON in ASCII. Engine.IO 3 needs it.
    Ascii,
}

impl Charset {
    fn write(self, json: &str, out: &mut Vec<u8>) {
        match self {
            Charset::Utf8 => out.extend_from_slice(json.as_bytes()),
            Charset::Ascii => json::ascii(json, out),
        }
    }
}

/// The arguments of an event, as JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arguments<'a> {
    /// One argument.
    One(&'a str),
    /// An array of arguments.
    Array(&'a str),
}

impl<'a> Arguments<'a> {
    /// The values with commas between them.
    fn list(self) -> &'a str {
        match self {
            Arguments::One(json) => json,
            Arguments::Array(json) => {
                let json = json.trim_matches(WHITE_SPACE);
                let inner = json.strip_prefix('[').and_then(|json| json.strip_suffix(']'));
                inner.unwrap_or_default().trim_matches(WHITE_SPACE)
            }
        }
    }
}

/// An event that goes out.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// The namespace, with its first slash.
    pub namespace: &'a str,
    /// The ack id, if the client has to answer.
    pub ack: Option<u64>,
    /// The name. It must not be [reserved](super::event::is_reserved): the client would close the connection.
    pub name: &'a str,
    /// The arguments.
    pub arguments: Arguments<'a>,
    /// How many binary parts follow. The arguments have their placeholders.
    pub attachments: usize,
    /// One more argument at the end: the position for connection state recovery.
    pub offset: Option<&'a str>,
}

impl Event<'_> {
    /// Appends the packet.
    pub fn encode(&self, charset: Charset, out: &mut Vec<u8>) {
        let Event { namespace, ack, name, arguments, attachments, offset } = *self;
        let list = arguments.list();
        out.reserve(list.len() + name.len() + namespace.len() + 32);
        let kind = if attachments == 0 { PacketType::Event } else { PacketType::BinaryEvent };
        head(kind, attachments, namespace, ack, out);
        out.push(b'[');
        charset.write(&json::quoted(name), out);
        if !list.is_empty() {
            out.push(b',');
            charset.write(list, out);
        }
        if let Some(offset) = offset {
            out.push(b',');
            charset.write(&json::quoted(offset), out);
        }
        out.push(b']');
    }
}

/// Appends the answer to an event: `arguments` as an array.
pub fn ack(
    namespace: &str,
    id: u64,
    arguments: Arguments<'_>,
    attachments: usize,
    charset: Charset,
    out: &mut Vec<u8>,
) {
    let kind = if attachments == 0 { PacketType::Ack } else { PacketType::BinaryAck };
    head(kind, attachments, namespace, Some(id), out);
    out.push(b'[');
    charset.write(arguments.list(), out);
    out.push(b']');
}

/// Appends the packet that says that a namespace is connected, for a client of version 4.
pub fn connect_v4(namespace: &str, out: &mut Vec<u8>) {
    head(PacketType::Connect, 0, namespace, None, out);
}

/// Appends the packet that says that a namespace is connected, for a client of version 5. `pid` is for connection state
/// recovery.
pub fn connect_v5(namespace: &str, sid: &str, pid: Option<&str>, out: &mut Vec<u8>) {
    head(PacketType::Connect, 0, namespace, None, out);
    out.extend_from_slice(b"{\"sid\":");
    json::quote(sid, out);
    if let Some(pid) = pid {
        out.extend_from_slice(b",\"pid\":");
        json::quote(pid, out);
    }
    out.push(b'}');
}

/// Appends the refusal of a namespace for a client of version 4: any JSON, a string as a rule.
pub fn error_v4(namespace: &str, json: &str, out: &mut Vec<u8>) {
    head(PacketType::ConnectError, 0, namespace, None, out);
    Charset::Ascii.write(json, out);
}

/// Appends the refusal of a namespace for a client of version 5.
pub fn error_v5(namespace: &str, message: &str, data: Option<&str>, out: &mut Vec<u8>) {
    head(PacketType::ConnectError, 0, namespace, None, out);
    out.extend_from_slice(b"{\"message\":");
    json::quote(message, out);
    if let Some(data) = data {
        out.extend_from_slice(b",\"data\":");
        out.extend_from_slice(data.as_bytes());
    }
    out.push(b'}');
}

/// Appends the end of a namespace. The client does not connect again.
pub fn disconnect(namespace: &str, out: &mut Vec<u8>) {
    head(PacketType::Disconnect, 0, namespace, None, out);
}

fn head(kind: PacketType, attachments: usize, namespace: &str, ack: Option<u64>, out: &mut Vec<u8>) {
    out.push(kind.digit());
    if kind.is_binary() {
        out.extend_from_slice(attachments.to_string().as_bytes());
        out.push(b'-');
    }
    if namespace != "/" {
        out.extend_from_slice(namespace.as_bytes());
        out.push(b',');
    }
    if let Some(id) = ack {
        out.extend_from_slice(id.to_string().as_bytes());
    }
}
