//! The close codes of WebSocket for clients that do not know codes of this server.

use crate::transport::CloseReason;

/// The close code that tells a client why its connection ends (RFC 6455 §7.4.1, and the registry of IANA).
pub fn close_code(reason: CloseReason) -> (u16, &'static str) {
    match reason {
        CloseReason::SessionEnded => (1000, "closed by the application"),
        CloseReason::Drain => (1001, "the server is going away"),
        CloseReason::Revoked => (1008, "not allowed any more"),
        CloseReason::Rollover => (1012, "connect again"),
        CloseReason::SlowReader | CloseReason::TooManyConnections => (1013, "the server is overloaded"),
    }
}
