//! The settings of a server, from its flags.

use crate::transport::params::Limits;
use std::time::Duration;

/// The settings of a server.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The silence on a stream after which a heartbeat is sent.
    pub heartbeat: Duration,
    /// The most bytes of a payload.
    pub max_message: usize,
    /// The limits of a subscription.
    pub limits: Limits,
    /// The time for a request's head, and for its body, to arrive.
    pub request_timeout: Duration,
    /// How long a connection may be idle between two requests.
    pub keep_alive_timeout: Duration,
    /// The size of a socket's send buffer (`SO_SNDBUF`); 0 leaves it to the system.
    pub send_buffer: usize,
    /// How long a write may make no progress.
    pub write_timeout: Duration,
    /// Whether the hub writes directly to sockets when it can.
    pub direct_writes: bool,
    /// Whether the HTTP/1.1 fast path is used.
    pub plain_requests: bool,
}

impl Settings {
    /// The most bytes of a command: one that publishes the longest payload, with the fields around it. JSON may double the
    /// length of a text.
    pub fn max_command(&self) -> usize {
        self.max_message * 2 + 4096
    }
}
