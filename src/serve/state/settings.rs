//! The settings of a server, from its flags.

use crate::transport::params::Limits;
use std::time::Duration;

/// The settings of a server.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The silence on a stream after which a heartbeat is sent.
    pub heartbeat: Duration,
    /// The maximum number of bytes in a payload.
    pub max_message: usize,
    /// The limits on a subscription.
    pub limits: Limits,
    /// The time for a request's head, and for its body, to arrive.
    pub request_timeout: Duration,
    /// The maximum idle time of a connection between two requests.
    pub keep_alive_timeout: Duration,
    /// The size of a socket's send buffer (`SO_SNDBUF`). With 0, the system chooses the size.
    pub send_buffer: usize,
    /// The maximum time that a write may last without progress.
    pub write_timeout: Duration,
    /// The time that readers have to disconnect after the drain has begun.
    pub drain: Duration,
    /// Whether the hub writes directly to sockets when it can.
    pub direct_writes: bool,
    /// Whether clients may use the WebSocket of 2010.
    pub websocket_hixie: bool,
    /// Whether the HTTP/1.1 fast path is used.
    pub plain_requests: bool,
}

impl Settings {
    /// The maximum number of bytes in a command. A command that publishes the longest payload, with the fields around
    /// it, fits. JSON may double the length of a text.
    pub fn max_command(&self) -> usize {
        self.max_message * 2 + 4096
    }
}
