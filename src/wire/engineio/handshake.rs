//! The object of an `open` packet, and the errors of a handshake.

use std::fmt::Write;

use crate::wire::json;

/// What the server tells a client at the start of its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handshake<'a> {
    /// The id of the session, for the next requests.
    pub sid: &'a str,
    /// Whether the client may try a WebSocket.
    pub websocket: bool,
    /// The time between two pings, in milliseconds.
    pub ping_interval: u64,
    /// The time that a ping waits for its pong, in milliseconds.
    pub ping_timeout: u64,
    /// The most bytes of a post. Version 4 has it.
    pub max_payload: Option<usize>,
}

impl Handshake<'_> {
    /// The object as JSON: the data of an `open` packet.
    #[must_use]
    pub fn json(&self) -> String {
        let upgrades = if self.websocket { "\"websocket\"" } else { "" };
        let mut out = format!(
            "{{\"sid\":{},\"upgrades\":[{upgrades}],\"pingInterval\":{},\"pingTimeout\":{}",
            json::quoted(self.sid),
            self.ping_interval,
            self.ping_timeout
        );
        if let Some(max) = self.max_payload {
            // Writing to a string does not fail.
            let _ = write!(out, ",\"maxPayload\":{max}");
        }
        out.push('}');
        out
    }
}

/// Why the server refuses a request, in Engine.IO's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The parameter `transport` names a transport that the server does not have.
    UnknownTransport,
    /// The parameter `sid` does not name a session.
    UnknownSession,
    /// A request without `sid` is not a `GET`.
    HandshakeMethod,
    /// The request is wrong in another way.
    BadRequest,
    /// The client may not connect.
    Forbidden,
    /// The parameter `EIO` names a version that the server does not speak.
    UnsupportedVersion,
}

impl Refusal {
    /// The status of the answer.
    #[must_use]
    pub fn status(self) -> u16 {
        if self == Refusal::Forbidden { 403 } else { 400 }
    }

    /// The words of the answer. A refused upgrade has only these as its body.
    #[must_use]
    pub fn message(self) -> &'static str {
        match self {
            Refusal::UnknownTransport => "Transport unknown",
            Refusal::UnknownSession => "Session ID unknown",
            Refusal::HandshakeMethod => "Bad handshake method",
            Refusal::BadRequest => "Bad request",
            Refusal::Forbidden => "Forbidden",
            Refusal::UnsupportedVersion => "Unsupported protocol version",
        }
    }

    /// The body of the answer, as JSON.
    #[must_use]
    pub fn json(self) -> String {
        format!("{{\"code\":{},\"message\":\"{}\"}}", self as u8, self.message())
    }
}
