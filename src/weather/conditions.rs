//! What a path does to what passes.

use serde::{Deserialize, Serialize};

/// The most that a path may hold back.
const MOST_HELD: usize = 256 << 10;

/// What a path does. All of it together, where several are set; the default is a clear sky.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Conditions {
    /// A firewall that knows HTTP and lets nothing else through.
    pub http_only: bool,
    /// Bytes that an answer must have before any of them goes on, unless it ends; 0: nothing is held
    /// back. Virus scanners and buffering proxies do this. A WebSocket is no answer.
    pub hold_bytes: usize,
    /// Seconds after which a request, or a connection that is no HTTP any more, is cut; 0: never.
    pub cut_seconds: u64,
    /// Requests go on as HTTP/1.0, without what concerns one connection only (RFC 9110 §7.6.1).
    pub http10: bool,
    /// `Upgrade` is taken out of requests, as by proxies from before RFC 6455.
    pub strip_upgrade: bool,
    /// WebSockets are let through, and cut a moment after their 101.
    pub kill_websockets: bool,
    /// Milliseconds by which everything is late, either way.
    pub latency_ms: u64,
}

impl Conditions {
    /// Checks the numbers.
    ///
    /// # Errors
    ///
    /// What is out of bounds, and the bounds.
    pub fn check(&self) -> Result<(), String> {
        if self.hold_bytes > MOST_HELD {
            return Err(format!("hold_bytes is at most {MOST_HELD}"));
        }
        if self.cut_seconds > 3600 {
            return Err("cut_seconds is at most 3600".into());
        }
        if self.latency_ms > 10_000 {
            return Err("latency_ms is at most 10000".into());
        }
        Ok(())
    }

    /// Whether a connection that began under `before` would now begin in another way. What a request's head
    /// is made into does not reach a WebSocket that is open, so the path is changed as it is for somebody
    /// who walks into another building: with all connections.
    pub(super) fn moves(&self, before: &Conditions) -> bool {
        (self.http10 && !before.http10) || (self.strip_upgrade && !before.strip_upgrade)
    }
}
