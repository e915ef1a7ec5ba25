//! The limit of a wait for anything but heartbeats, which come for ever.

use super::SOON;
use std::time::{Duration, Instant};

/// How long a reader has waited since the last object that was not a heartbeat. Time in which the test does not read does
/// not count.
#[derive(Default)]
pub struct Quiet {
    waited: Duration,
}

impl Quiet {
    /// How long the next wait may take.
    pub fn left(&self) -> Duration {
        SOON.saturating_sub(self.waited)
    }

    /// Notes an object for which the reader has waited since `began`.
    pub fn came(&mut self, began: Instant, is_heartbeat: bool) {
        self.waited = if is_heartbeat { self.waited + began.elapsed() } else { Duration::ZERO };
    }
}
