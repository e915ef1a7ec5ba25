//! Control objects: the objects with which a stream reports about itself, besides messages.

use super::ApiError;
use crate::cursor::Cursor;
use crate::hub::Gap;
use crate::message::ClientId;
use crate::wire::json;
use std::time::Duration;

/// An object of a stream that is not a message.
#[derive(Clone, Copy, Debug)]
pub enum Control<'a> {
    /// The first object of a stream. It is sent at once.
    Hello {
        /// The position at which reading starts.
        cursor: Cursor,
        /// The client's id. The client has sent it, or the server has made it.
        client: &'a ClientId,
        /// The transport's name.
        transport: &'static str,
        /// The silence after which a heartbeat is sent.
        heartbeat: Duration,
        /// The client's session, if it has one.
        session: Option<&'a str>,
    },
    /// A sign of life that advances the cursor.
    Heartbeat {
        /// The position up to which all messages were written.
        cursor: Cursor,
    },
    /// The reader may have missed messages.
    Gap(Gap),
    /// The last object of a stream.
    Bye {
        /// The reason why the stream ends.
        bye: CloseReason,
        /// The time after which the client should reconnect; `None` if it should not reconnect.
        retry: Option<Duration>,
        /// The position from which reading continues; `None` if the reader was never accepted.
        cursor: Option<Cursor>,
    },
    /// A command was carried out.
    Ack {
        /// The command's reference, as the dialect has parsed it. In the native dialect it is the `ref`, as JSON.
        reference: Option<&'a str>,
        /// The position at which a subscription begins.
        cursor: Option<Cursor>,
        /// The cursor of a published message.
        id: Option<Cursor>,
    },
    /// The application has answered an event.
    Answer {
        /// The command's reference, as the dialect has parsed it. In the native dialect it is the `ref`, as JSON.
        reference: Option<&'a str>,
        /// The arguments for the client's callback, as JSON on one line.
        ack: Option<&'a str>,
    },
    /// The answer to a ping.
    Pong {
        /// The command's reference, as the dialect has parsed it. In the native dialect it is the `ref`, as JSON.
        reference: Option<&'a str>,
    },
    /// A command was refused.
    Error {
        /// The command's reference, as the dialect has parsed it. In the native dialect it is the `ref`, as JSON.
        reference: Option<&'a str>,
        /// The error that says why the command was refused.
        error: &'a ApiError,
    },
}

/// The reason why the server ends a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The browser would keep too much in memory.
    Rollover,
    /// The server is shutting down.
    Drain,
    /// The reader does not keep up while memory is short.
    SlowReader,
    /// The subscription was revoked or has expired.
    Revoked,
    /// A limit on connections has been reached.
    TooManyConnections,
    /// The application has ended the client's session.
    SessionEnded,
}

impl CloseReason {
    /// All reasons.
    pub const ALL: &[CloseReason] = &[
        CloseReason::Rollover,
        CloseReason::Drain,
        CloseReason::SlowReader,
        CloseReason::Revoked,
        CloseReason::TooManyConnections,
        CloseReason::SessionEnded,
    ];

    /// The reason's number, which is also the WebSocket close code.
    pub fn code(self) -> u16 {
        match self {
            CloseReason::Rollover => 4000,
            CloseReason::Drain => 4001,
            CloseReason::SlowReader => 4002,
            CloseReason::Revoked | CloseReason::SessionEnded => 4003,
            CloseReason::TooManyConnections => 4004,
        }
    }

    /// The reason in words.
    pub fn reason(self) -> &'static str {
        match self {
            CloseReason::Rollover => "rollover",
            CloseReason::Drain => "drain",
            CloseReason::SlowReader => "slow reader",
            CloseReason::Revoked => "subscription revoked or expired",
            CloseReason::TooManyConnections => "too many connections",
            CloseReason::SessionEnded => "the application has ended the session",
        }
    }
}

impl Control<'_> {
    /// The object's name: its `type`, and the name of its SSE event.
    pub fn name(&self) -> &'static str {
        match self {
            Control::Hello { .. } => "hello",
            Control::Heartbeat { .. } => "heartbeat",
            Control::Gap(_) => "gap",
            Control::Bye { .. } => "bye",
            Control::Ack { .. } | Control::Answer { .. } => "ack",
            Control::Pong { .. } => "pong",
            Control::Error { .. } => "error",
        }
    }

    /// The cursor that the object carries.
    pub fn cursor(&self) -> Option<Cursor> {
        match *self {
            Control::Hello { cursor, .. } | Control::Heartbeat { cursor } => Some(cursor),
            Control::Gap(gap) => Some(gap.cursor),
            Control::Bye { cursor, .. } | Control::Ack { cursor, .. } => cursor,
            Control::Answer { .. } | Control::Pong { .. } | Control::Error { .. } => None,
        }
    }

    /// Appends the object as JSON on one line.
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
            if *bye == CloseReason::SessionEnded {
                object.raw("session", "null");
            }
        }
        if let Control::Ack { reference: Some(reference), .. }
        | Control::Answer { reference: Some(reference), .. }
        | Control::Pong { reference: Some(reference) }
        | Control::Error { reference: Some(reference), .. } = self
        {
            object.raw("ref", reference);
        }
        if let Some(cursor) = self.cursor() {
            object.text("cursor", &cursor.to_string());
        }
        match self {
            Control::Hello { client, transport, heartbeat, session, .. } => {
                object.text("client", &client.to_string());
                object.text("transport", transport);
                object.raw("heartbeat", &heartbeat.as_secs().to_string());
                if let Some(session) = session {
                    object.text("session", session);
                }
            }
            Control::Ack { id: Some(id), .. } => object.text("id", &id.to_string()),
            Control::Answer { ack: Some(ack), .. } => {
                object.raw("data", ack);
                // As in a message: the data is a list of arguments.
                if ack.starts_with('[') {
                    object.raw("args", "true");
                }
            }
            Control::Error { error, .. } => {
                object.text("code", error.code.as_str());
                object.text("message", &error.message);
                if let Some(data) = &error.data {
                    object.raw("data", data);
                }
            }
            _ => {}
        }
        object.close();
    }

    /// The object as JSON on one line.
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
