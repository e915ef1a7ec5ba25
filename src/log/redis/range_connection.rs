//! The state of the connection that reads ranges of the log and publishes volatile messages.

use super::Connection;
use tokio::time::Instant;

/// The connection for ranges and volatile messages.
#[derive(Default)]
pub(super) struct RangeConnection {
    pub(super) connection: Option<Connection>,
    /// The value of `RedisLog::tail_breaks` when the connection was opened.
    pub(super) tail_breaks: u64,
    /// The time since which the connection has waited for an answer. If a caller is dropped before its answer has
    /// arrived, the next caller sees here that the answer is missing.
    pub(super) asked: Option<Instant>,
}

impl RangeConnection {
    /// Keeps the connection if an answer came.
    pub(super) fn has_answered(&mut self, is_well: bool) {
        self.asked = None;
        if !is_well {
            self.connection = None;
        }
    }
}
