//! The signals that the process handles.

use std::io;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

/// Two equal signals within this time count as one, because a supervisor that signals both the process and its group
/// sends the signal twice.
const SAME: Duration = Duration::from_millis(100);

/// SIGTERM and SIGINT, which end the server.
pub struct EndSignals {
    terminate: Signal,
    interrupt: Signal,
    last: Last,
}

impl EndSignals {
    /// Waits for one of these signals. Cancel safe.
    pub async fn recv(&mut self) {
        loop {
            let kind = tokio::select! {
                _ = self.terminate.recv() => SignalKind::terminate(),
                _ = self.interrupt.recv() => SignalKind::interrupt(),
            };
            if self.last.is_another(kind, Instant::now()) {
                return;
            }
        }
    }
}

/// The last signal that was not a repeat.
#[derive(Default)]
struct Last(Option<(SignalKind, Instant)>);

impl Last {
    /// Whether a signal is a new one, and not a repeat of the last one.
    fn is_another(&mut self, kind: SignalKind, now: Instant) -> bool {
        if self.0.is_some_and(|(last, at)| last == kind && now - at < SAME) {
            return false;
        }
        self.0 = Some((kind, now));
        true
    }
}

/// Handles the signals that end the server, and SIGHUP, which reloads files. Without a handler, SIGHUP would end the
/// process.
///
/// # Errors
///
/// The system cannot install a handler.
pub fn listen() -> io::Result<(EndSignals, Signal)> {
    let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok((EndSignals { terminate, interrupt, last: Last::default() }, signal(SignalKind::hangup())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_equal_signals_within_a_tenth_of_a_second_are_one() {
        let (term, int) = (SignalKind::terminate(), SignalKind::interrupt());
        for (signals, counted) in [
            (&[(term, 0)][..], 1),
            (&[(term, 0), (term, 99)], 1),
            (&[(term, 0), (term, 100)], 2),
            (&[(term, 0), (int, 0)], 2),
            (&[(int, 0), (int, 5), (term, 10)], 2),
            (&[(term, 0), (term, 50), (term, 100)], 2),
        ] {
            let (mut last, began) = (Last::default(), Instant::now());
            let at = |ms| began + Duration::from_millis(ms);
            let count = signals.iter().filter(|(kind, ms)| last.is_another(*kind, at(*ms))).count();
            assert_eq!(count, counted, "{signals:?}");
        }
    }
}
