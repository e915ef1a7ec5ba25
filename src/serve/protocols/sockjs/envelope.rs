//! The envelopes: what a session tells its client besides messages.

use super::encodings::FRAME;
use super::framing::Framing;
use super::settings::Close;
use crate::message::Encoding;
use crate::transport::page::BARE_TEXT_FRAME;
use crate::transport::{CloseReason, Control, Envelope};
use crate::wire::sockjs::frame;
use crate::wire::websocket;
use std::sync::atomic::{AtomicBool, Ordering};

/// The code and the reason of a session that the server ends.
pub fn go_away() -> Close {
    Close { code: 3000, reason: "Go away!".to_owned() }
}

/// A WebSocket of a server that shuts down (RFC 6455 §7.4.1).
const GOING_AWAY: u16 = 1001;

/// A WebSocket that the server cannot serve at the moment. The client may come back.
const TRY_AGAIN: u16 = 1013;

/// Whether the end of a response is the end of its session.
fn ends_session(reason: CloseReason) -> bool {
    matches!(reason, CloseReason::Revoked | CloseReason::SessionEnded)
}

/// The frame that says how a session has ended.
pub fn close_frame(code: u16, reason: &str) -> Vec<u8> {
    let mut out = Vec::new();
    frame::close(code, reason, &mut out);
    out
}

/// The envelope of a response over HTTP.
pub struct HttpEnvelope {
    framing: Framing,
    has_closed: AtomicBool,
}

impl HttpEnvelope {
    /// An envelope in this framing.
    pub fn new(framing: Framing) -> HttpEnvelope {
        HttpEnvelope { framing, has_closed: AtomicBool::new(false) }
    }

    /// Whether the session is over.
    pub fn has_closed(&self) -> bool {
        self.has_closed.load(Ordering::Relaxed)
    }
}

impl Envelope for HttpEnvelope {
    fn encoding(&self) -> &'static Encoding {
        self.framing.encoding()
    }

    fn around(&self) -> (&[u8], &[u8]) {
        // The answer to a poll has all its messages in one frame, with commas between them.
        if self.framing.is_stream() { (b"", b"") } else { (b"", b",") }
    }

    fn prelude(&self, out: &mut Vec<u8>) {
        self.framing.prelude(out);
    }

    fn control(&self, control: &Control<'_>, out: &mut Vec<u8>) {
        let mut write = |frame: &[u8]| {
            if self.framing.is_stream() { self.framing.frame(frame, out) } else { out.extend_from_slice(frame) }
        };
        match control {
            Control::Heartbeat { .. } => write(frame::HEARTBEAT.as_bytes()),
            Control::Bye { bye, .. } if ends_session(*bye) => {
                self.has_closed.store(true, Ordering::Relaxed);
                let Close { code, reason } = go_away();
                write(&close_frame(code, &reason));
            }
            // The client sends its next request when a response ends.
            Control::Bye { .. } => {}
            Control::Hello { .. } | Control::Gap(_) | Control::Ack { .. } => {}
            Control::Answer { .. } | Control::Pong { .. } | Control::Error { .. } => {}
        }
    }
}

/// The envelope of a WebSocket.
pub struct SocketEnvelope {
    /// Whether the client gets bare payloads.
    pub is_raw: bool,
    /// How the session ends when its client may not read any more.
    pub end: Close,
}

impl SocketEnvelope {
    /// Appends what ends a session.
    fn end(&self, out: &mut Vec<u8>) {
        let Close { code, reason } = &self.end;
        if !self.is_raw {
            out.extend_from_slice(&websocket::text_frame(&close_frame(*code, reason)));
        }
        out.extend_from_slice(&websocket::close_frame(*code, reason));
    }
}

impl Envelope for SocketEnvelope {
    fn encoding(&self) -> &'static Encoding {
        if self.is_raw { &BARE_TEXT_FRAME } else { &FRAME }
    }

    fn control(&self, control: &Control<'_>, out: &mut Vec<u8>) {
        match control {
            Control::Hello { .. } if !self.is_raw => {
                out.extend_from_slice(&websocket::text_frame(frame::OPEN.as_bytes()));
            }
            Control::Heartbeat { .. } if self.is_raw => out.extend_from_slice(&websocket::ping_frame()),
            Control::Heartbeat { .. } => {
                out.extend_from_slice(&websocket::text_frame(frame::HEARTBEAT.as_bytes()));
            }
            Control::Bye { bye, .. } => match bye {
                CloseReason::Revoked | CloseReason::SessionEnded => self.end(out),
                CloseReason::Drain => out.extend_from_slice(&websocket::close_frame(GOING_AWAY, "")),
                _ => out.extend_from_slice(&websocket::close_frame(TRY_AGAIN, "")),
            },
            Control::Hello { .. } | Control::Gap(_) | Control::Ack { .. } => {}
            Control::Answer { .. } | Control::Pong { .. } | Control::Error { .. } => {}
        }
    }
}
