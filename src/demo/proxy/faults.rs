//! The faults that the proxy can inject.

use serde::{Deserialize, Serialize};

/// The maximum number of bytes that the proxy holds back.
const MAX_HELD: usize = 256 << 10;

/// The faults to inject. Several may be active together. By default all are off. The field names are those of
/// `/demo/weather`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// A firewall that allows only HTTP.
    pub http_only: bool,
    /// A response is held back until it has this number of bytes or ends. With 0, responses are not held back. Virus
    /// scanners and buffering proxies do this. The fault does not affect a WebSocket.
    pub hold_bytes: usize,
    /// Seconds after which a request, or a connection that has switched to another protocol, is cut. With 0, it is not
    /// cut.
    pub cut_seconds: u64,
    /// Requests are forwarded as HTTP/1.0, without hop-by-hop headers (RFC 9110 §7.6.1).
    pub http10: bool,
    /// `Upgrade` is removed from requests. Proxies that are older than RFC 6455 do this.
    pub strip_upgrade: bool,
    /// A WebSocket is cut shortly after its 101 response.
    pub kill_websockets: bool,
    /// Milliseconds by which all bytes are delayed, in both directions.
    pub latency_ms: u64,
}

impl Faults {
    /// Checks the numbers.
    ///
    /// # Errors
    ///
    /// The first number that is out of bounds, with its bound.
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

    /// Whether a connection that began under `before` must be closed because these faults would rewrite its request. A
    /// rewritten head would not affect a WebSocket that is already open. So such a fault acts as if the client moved to
    /// another network: all its connections end.
    pub(super) fn closes(&self, before: &Faults) -> bool {
        (self.http10 && !before.http10) || (self.strip_upgrade && !before.strip_upgrade)
    }
}
