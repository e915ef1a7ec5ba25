//! The log's clock.

use parking_lot::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// A clock that is set and then runs on by itself.
///
/// After it is set, it follows the monotonic clock of this process, so a step of the wall clock (NTP after boot, an
/// operator's `date -s`) does not change it. While a machine is suspended the clock may stand still: entries that age
/// by this clock are then kept longer, until the clock is set again.
pub struct LogClock(Mutex<(u64, Instant)>);

impl LogClock {
    /// A clock that starts at this machine's time.
    pub fn here() -> LogClock {
        LogClock(Mutex::new((wall_ms(), Instant::now())))
    }

    /// Sets the clock to the present time of the log's own clock, in milliseconds since 1970.
    pub fn set(&self, now_ms: u64) {
        *self.0.lock() = (now_ms, Instant::now());
    }

    /// Milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        let (read, at) = *self.0.lock();
        read.saturating_add(at.elapsed().as_millis() as u64)
    }
}

/// This machine's wall clock in milliseconds since 1970.
fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn it_runs_by_the_monotonic_clock_between_readings() {
        let clock = LogClock::here();
        clock.set(1_000);
        assert_eq!(clock.now_ms(), 1_000);
        tokio::time::advance(Duration::from_millis(250)).await;
        assert_eq!(clock.now_ms(), 1_250);
        clock.set(500);
        assert_eq!(clock.now_ms(), 500, "the log's clock may step back");
    }
}
