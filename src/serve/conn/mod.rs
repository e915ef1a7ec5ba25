//! Connections: accepting them, detecting their protocol, and serving it.

pub mod connection;
pub mod detect;
pub mod http1;
pub mod http2;
pub mod listener;
pub mod raw_tcp;
pub mod tls_input;

use std::time::Duration;

/// The time limit for a connection beyond the limits, from its handshake to its end. The time is short, because there
/// are few permits for connections that get an error response, and operators may need one of them to see the state of a
/// full server.
const REJECTED_TIME: Duration = Duration::from_secs(5);
