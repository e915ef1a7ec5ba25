//! The settings of a stream.

use std::time::Duration;

/// The time after which a stream with `probe` sends its first heartbeat. It is long enough that proxies see a separate
/// write, and short enough for a client that waits for the heartbeat.
const PROBE: Duration = Duration::from_millis(500);

/// The settings of a stream.
#[derive(Clone, Debug)]
pub struct StreamSettings {
    /// The silence in milliseconds after which a heartbeat is sent. It is not a `Duration`, because a `Duration` is
    /// larger, and every parked stream keeps this field.
    pub heartbeat_ms: u32,
    /// Whether the first heartbeat comes early ([`PROBE`]), because the client tests whether streams work on its
    /// network path.
    pub probe: bool,
    /// The limits after which the stream ends, for a browser that keeps the whole stream in memory.
    pub rollover: Option<Box<Rollover>>,
}

impl StreamSettings {
    /// The silence after which a heartbeat is sent.
    pub fn heartbeat(&self) -> Duration {
        Duration::from_millis(u64::from(self.heartbeat_ms))
    }

    /// The silence after which the next heartbeat is due.
    pub fn quiet(&self) -> Duration {
        if self.probe { self.heartbeat().min(PROBE) } else { self.heartbeat() }
    }
}

/// The limits of a stream that the browser keeps in memory.
#[derive(Clone, Copy, Debug)]
pub struct Rollover {
    /// The maximum number of bytes.
    pub bytes: usize,
    /// The maximum time.
    pub time: Duration,
}
