//! A warning that could come many times a second: a counter, and a log line now and then.

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The time between two lines.
const PERIOD: Duration = Duration::from_secs(10);

/// Counts what is warned of. Clones share their count and their lines.
#[derive(Clone, Debug, Default)]
pub struct CountedWarning(Arc<State>);

#[derive(Debug, Default)]
struct State {
    counter: Counter,
    last_line: Mutex<Option<Instant>>,
}

impl CountedWarning {
    /// The counter.
    pub fn counter(&self) -> &Counter {
        &self.0.counter
    }

    /// Counts more of it. If a line may be written now, returns how many there were since the start.
    pub fn count(&self, more: u64) -> Option<u64> {
        let all = self.0.counter.inc_by(more) + more;
        let mut last = self.0.last_line.lock();
        if last.is_some_and(|last| last.elapsed() < PERIOD) {
            return None;
        }
        *last = Some(Instant::now());
        Some(all)
    }
}

/// Warns of messages that everybody gets, because the client that they exclude is not a client id.
pub fn ignored_exclude(warning: &CountedWarning, from: &str) {
    if let Some(ignored) = warning.count(1) {
        tracing::warn!(
            from,
            ignored,
            "a message names a client to leave out that is not a client id: everybody gets it; leave the field out, or \
             send the id that the client has (1 to 100 of A-Z a-z 0-9 _ - . : @)"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn there_is_a_line_now_and_then_with_the_whole_count() {
        let warning = CountedWarning::default();
        let mut lines = Vec::new();
        for _ in 0..500 {
            lines.extend(warning.count(2));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(lines, [2, 402, 802], "three lines in 25 seconds");
        assert_eq!(warning.counter().get(), 1000);
    }
}
