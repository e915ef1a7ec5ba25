//! Connections: accepting them, detecting their protocol, and serving it.

pub mod connection;
pub mod detect;
pub mod http1;
pub mod http2;
pub mod listener;
pub mod log_throttle;
