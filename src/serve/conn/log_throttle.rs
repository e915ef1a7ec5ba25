//! Log lines that could come many times a second.

use std::time::Duration;
use tokio::time::Instant;

/// Between two lines of a kind.
const EVERY: Duration = Duration::from_secs(10);

/// Lets one line through in a time, and counts the others.
#[derive(Default)]
pub struct Seldom {
    last: Option<Instant>,
    left_out: u64,
}

impl Seldom {
    /// How many were left out before this one; `None`: this one is left out, too.
    pub fn say(&mut self) -> Option<u64> {
        if self.last.is_some_and(|last| last.elapsed() < EVERY) {
            self.left_out += 1;
            return None;
        }
        self.last = Some(Instant::now());
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_next_line_says_how_many_were_left_out() {
        let mut seldom = Seldom::default();
        let mut said = Vec::new();
        for _ in 0..500 {
            said.extend(seldom.say());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(said, [0, 199, 199], "three lines in 25 seconds, each with the count of those before it");
    }
}
