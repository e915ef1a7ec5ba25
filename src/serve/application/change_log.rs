//! Logs the problem with the application's answers, once for each change.

use super::problem::Problem;
use parking_lot::Mutex;
use std::time::Duration;
use tokio::time::Instant;
use tracing::{info, warn};

/// The minimum time between two lines. A user can cause such a change, because an application may answer some users
/// with 404.
const EVERY: Duration = Duration::from_secs(10);

/// The texts of the lines about one use of the application.
#[derive(Clone, Copy, Debug)]
pub struct LogText {
    /// The flag with the application's URL.
    pub flag: &'static str,
    /// The part of the log line for a problem that follows the flag.
    pub fails: &'static str,
    /// The part of the log line for the end of the problems that follows the flag.
    pub works: &'static str,
}

/// The state of the application that the log reports.
pub struct ChangeLog {
    text: LogText,
    last: Mutex<LastLine>,
}

/// The content of the last line.
#[derive(Default)]
struct LastLine {
    /// A description of the unexpected answer; `None` if the application works.
    answer: Option<String>,
    at: Option<Instant>,
    /// The number of answers that differed from the last line and were not logged.
    suppressed: u64,
}

impl ChangeLog {
    /// A log that has not reported anything yet.
    pub fn new(text: LogText) -> ChangeLog {
        ChangeLog { text, last: Mutex::default() }
    }

    /// Records an answer: a problem, or `None` for an expected answer. Logs the answer if the last line differs.
    /// Shortly after another line, it does not log the answer. Instead, it logs a later answer of the same kind.
    pub fn note(&self, problem: Option<&Problem>) {
        let answer = problem.map(|problem| problem.came.as_ref());
        let mut last = self.last.lock();
        if last.answer.as_deref() == answer {
            return;
        }
        if last.at.is_some_and(|at| at.elapsed() < EVERY) {
            last.suppressed += 1;
            return;
        }
        let suppressed = last.suppressed;
        *last = LastLine { answer: answer.map(ToOwned::to_owned), at: Some(Instant::now()), suppressed: 0 };
        drop(last);
        let LogText { flag, fails, works } = self.text;
        match problem {
            Some(Problem { came, fix, .. }) => {
                warn!(%came, suppressed, "the application at {flag} {fails}; {fix}");
            }
            None => info!(suppressed, "the application at {flag} {works}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    fn last(log: &ChangeLog) -> (Option<String>, u64) {
        let last = log.last.lock();
        (last.answer.clone(), last.suppressed)
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_for_each_change_and_not_more_than_one_in_ten_seconds() {
        let log = ChangeLog::new(LogText { flag: "--flag", fails: "fails", works: "works" });
        let (one, other) = (Problem::passing("status 500", ""), Problem::passing("status 302", ""));
        log.note(None);
        assert_eq!(last(&log), (None, 0));
        assert!(log.last.lock().at.is_none(), "an application that works is not logged");
        for _ in 0..3 {
            log.note(Some(&one));
            advance(EVERY).await;
        }
        assert_eq!(last(&log), (Some("status 500".into()), 0));
        log.note(Some(&other));
        log.note(None);
        log.note(Some(&one));
        assert_eq!(last(&log), (Some("status 302".into()), 2));
        advance(EVERY).await;
        log.note(None);
        assert_eq!(last(&log), (None, 0));
    }
}
