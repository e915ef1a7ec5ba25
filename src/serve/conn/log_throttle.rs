//! Throttles log lines that could come many times a second.

use std::time::Duration;
use tokio::time::Instant;

/// The time between two lines.
const PERIOD: Duration = Duration::from_secs(10);

/// Allows one line per period, and counts the others.
#[derive(Default)]
pub struct LogThrottle {
    last: Option<Instant>,
    suppressed: u64,
}

impl LogThrottle {
    /// If a line may be written now, returns the number of lines that were suppressed before it.
    pub fn allow(&mut self) -> Option<u64> {
        if self.last.is_some_and(|last| last.elapsed() < PERIOD) {
            self.suppressed += 1;
            return None;
        }
        self.last = Some(Instant::now());
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_line_has_the_number_of_suppressed_lines() {
        let mut throttle = LogThrottle::default();
        let mut allowed = Vec::new();
        for _ in 0..500 {
            allowed.extend(throttle.allow());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(allowed, [0, 199, 199], "three lines in 25 seconds");
    }
}
