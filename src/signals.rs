//! The signals that the process handles.

use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and SIGINT, which end the server.
pub struct EndSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl EndSignals {
    /// Waits for one of these signals. Cancel safe.
    pub async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Handles the signals that end the server, and SIGHUP, which reloads files. Without a handler, SIGHUP ends the process.
///
/// # Errors
///
/// The system cannot install a handler.
pub fn listen() -> io::Result<(EndSignals, Signal)> {
    let ends = EndSignals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? };
    Ok((ends, signal(SignalKind::hangup())?))
}
