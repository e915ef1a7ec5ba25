//! Control objects: what a stream says about itself.

use super::Refusal;
use crate::cursor::Cursor;
use crate::hub::Gap;
use crate::message::ClientId;
use crate::wire::json;
use std::time::Duration;

/// An object of a stream that is not a message.
#[derive(Clone, Copy, Debug)]
pub enum Control<'a> {
    /// The first, at once.
    Hello {
        /// Where reading starts.
        cursor: Cursor,
        /// The client's id, given or made.
        client: &'a ClientId,
        /// The transport's name.
        transport: &'static str,
        /// A heartbeat comes after this much silence.
        heartbeat: Duration,
    },
    /// A sign of life that moves the cursor on.
    Heartbeat {
        /// Where the reader stands.
        cursor: Cursor,
    },
    /// Something may have been missed.
    Gap(Gap),
    /// The last.
    Bye {
        /// Why.
        bye: Bye,
        /// When to come back; absent: not at all.
        retry: Option<Duration>,
        /// Where to go on; absent where the reader was never let in.
        cursor: Option<Cursor>,
    },
    /// A command was carried out.
    Ack {
        /// The command's `ref`, as JSON.
        reference: Option<&'a str>,
        /// Of a subscription: where it joined.
        cursor: Option<Cursor>,
        /// Of a publication: the message's id.
        id: Option<Cursor>,
    },
    /// The answer to a ping.
    Pong {
        /// The command's `ref`, as JSON.
        reference: Option<&'a str>,
    },
    /// A command was refused.
    Error {
        /// The command's `ref`, as JSON.
        reference: Option<&'a str>,
        /// Why.
        refusal: &'a Refusal,
    },
}

/// Why the server ends a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bye {
    /// The browser would keep too much in memory.
    Rollover,
    /// The server is going.
    Drain,
    /// The reader does not keep up.
    SlowReader,
    /// The subscription was revoked or has expired.
    Revoked,
    /// The server has as many connections as it takes.
    TooManyConnections,
}

impl Bye {
    /// Every reason.
    pub const ALL: &[Bye] = &[Bye::Rollover, Bye::Drain, Bye::SlowReader, Bye::Revoked, Bye::TooManyConnections];

    /// Its number, which is also the WebSocket close code.
    pub fn code(self) -> u16 {
        match self {
            Bye::Rollover => 4000,
            Bye::Drain => 4001,
            Bye::SlowReader => 4002,
            Bye::Revoked => 4003,
            Bye::TooManyConnections => 4004,
        }
    }

    /// Its name.
    pub fn reason(self) -> &'static str {
        match self {
            Bye::Rollover => "rollover",
            Bye::Drain => "drain",
            Bye::SlowReader => "slow reader",
            Bye::Revoked => "subscription revoked or expired",
            Bye::TooManyConnections => "too many connections",
        }
    }
}

impl Control<'_> {
    /// Its name, which is its `type` and the name of its SSE event.
    pub fn name(&self) -> &'static str {
        match self {
            Control::Hello { .. } => "hello",
            Control::Heartbeat { .. } => "heartbeat",
            Control::Gap(_) => "gap",
            Control::Bye { .. } => "bye",
            Control::Ack { .. } => "ack",
            Control::Pong { .. } => "pong",
            Control::Error { .. } => "error",
        }
    }

    /// The cursor it carries.
    pub fn cursor(&self) -> Option<Cursor> {
        match *self {
            Control::Hello { cursor, .. } | Control::Heartbeat { cursor } => Some(cursor),
            Control::Gap(gap) => Some(gap.cursor),
            Control::Bye { cursor, .. } | Control::Ack { cursor, .. } => cursor,
            Control::Pong { .. } | Control::Error { .. } => None,
        }
    }

    /// Appends it as JSON on one line.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        let mut object = Object::open(self.name(), out);
        if let Control::Gap(gap) = self {
            object.text("from", &gap.from.to_string());
        }
        if let Control::Bye { bye, retry, .. } = self {
            object.raw("code", &bye.code().to_string());
            object.text("reason", bye.reason());
            if let Some(retry) = retry {
                object.raw("retry", &retry.as_millis().to_string());
            }
        }
        if let Control::Ack { reference: Some(reference), .. }
        | Control::Pong { reference: Some(reference) }
        | Control::Error { reference: Some(reference), .. } = self
        {
            object.raw("ref", reference);
        }
        if let Some(cursor) = self.cursor() {
            object.text("cursor", &cursor.to_string());
        }
        match self {
            Control::Hello { client, transport, heartbeat, .. } => {
                object.text("client", &client.to_string());
                object.text("transport", transport);
                object.raw("heartbeat", &heartbeat.as_secs().to_string());
            }
            Control::Ack { id: Some(id), .. } => object.text("id", &id.to_string()),
            Control::Error { refusal, .. } => {
                object.text("code", refusal.code.as_str());
                object.text("message", &refusal.message);
            }
            _ => {}
        }
        object.close();
    }

    /// It as JSON on one line.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(192);
        self.write_json(&mut out);
        out
    }
}

/// Writes a JSON object field by field.
struct Object<'a>(&'a mut Vec<u8>);

impl<'a> Object<'a> {
    fn open(kind: &str, out: &'a mut Vec<u8>) -> Object<'a> {
        out.extend_from_slice(b"{\"type\":");
        json::quote(kind, out);
        Object(out)
    }

    fn key(&mut self, key: &str) {
        self.0.push(b',');
        json::quote(key, self.0);
        self.0.push(b':');
    }

    fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        json::quote(value, self.0);
    }

    fn raw(&mut self, key: &str, json: &str) {
        self.key(key);
        self.0.extend_from_slice(json.as_bytes());
    }

    fn close(self) {
        self.0.push(b'}');
    }
}
