//! The faults that the proxy can inject.

use serde::{Deserialize, Serialize};

/// The most bytes that the proxy holds back.
const MAX_HELD: usize = 256 << 10;

/// The faults to inject, any number of them together; by default none. The field names are those of `/demo/weather`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// A firewall that lets only HTTP through.
    pub http_only: bool,
    /// A response is held back until it has this many bytes, or ends; 0 holds nothing back. Virus scanners and
    /// buffering proxies do this. It does not concern a WebSocket.
    pub hold_bytes: usize,
    /// Seconds after which a request, or a connection that has switched to another protocol, is cut; 0 is never.
    pub cut_seconds: u64,
    /// Requests are forwarded as HTTP/1.0, without hop-by-hop headers (RFC 9110 §7.6.1).
    pub http10: bool,
    /// `Upgrade` is removed from requests, as by proxies from before RFC 6455.
    pub strip_upgrade: bool,
    /// A WebSocket is cut a moment after its 101.
    pub kill_websockets: bool,
    /// Milliseconds by which all bytes are delayed, in both directions.
    pub latency_ms: u64,
}

impl Faults {
    /// Checks the numbers.
    ///
    /// # Errors
    ///
    /// A number that is out of bounds, with its bound.
    pub fn check(&self) -> Result<(), String> {
        if self.hold_bytes > MAX_HELD {
            return Err(format!("hold_bytes must be at most {MAX_HELD}"));
        }
        if self.cut_seconds > 3600 {
            return Err("cut_seconds must be at most 3600".into());
        }
        if self.latency_ms > 10_000 {
            return Err("latency_ms must be at most 10000".into());
        }
        Ok(())
    }

    /// Whether a connection that began under `before` must be closed, because its request would now be rewritten. A
    /// change of heads does not reach a WebSocket that is open, so this fault acts as if the client moved to another
    /// network: all its connections end.
    pub(super) fn closes(&self, before: &Faults) -> bool {
        (self.http10 && !before.http10) || (self.strip_upgrade && !before.strip_upgrade)
    }
}
