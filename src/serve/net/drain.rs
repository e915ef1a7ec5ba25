//! Graceful shutdown: informs every part of the server that the shutdown has begun.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// The maximum time for which an incomplete handshake, head or body may delay the shutdown. For all of them, the time
/// is measured from the beginning of the drain, so that the times of several in a row do not add up.
pub const GRACE: Duration = Duration::from_secs(2);

/// The time that a client has to close its side after its last response, if [`GRACE`] is over.
pub const LAST_WORDS: Duration = Duration::from_millis(500);

/// The minimum number of bytes of a body in each [`GRACE`] that counts as progress. Without this minimum, a client that
/// sends a byte from time to time would delay the shutdown until its time limit.
const PROGRESS: usize = 1024;

/// Tells whether the server is shutting down, and when the shutdown began.
#[derive(Clone)]
pub struct Drain(Arc<Shared>);

struct Shared {
    begun: watch::Sender<Option<Instant>>,
    is_announced: AtomicBool,
}

impl Default for Drain {
    fn default() -> Drain {
        Drain(Arc::new(Shared { begun: watch::channel(None).0, is_announced: AtomicBool::new(false) }))
    }
}

impl Drain {
    /// Announces the shutdown: the node reports that it is not ready, but still serves (`--drain-delay`).
    pub fn announce(&self) {
        self.0.is_announced.store(true, Ordering::Relaxed);
    }

    /// Whether the shutdown was announced or has begun.
    pub fn is_announced(&self) -> bool {
        self.0.is_announced.load(Ordering::Relaxed)
    }

    /// Begins the shutdown.
    pub fn begin(&self) {
        self.announce();
        self.0.begun.send_if_modified(|begun| {
            let is_first = begun.is_none();
            begun.get_or_insert_with(Instant::now);
            is_first
        });
    }

    /// Whether the shutdown has begun.
    pub fn has_begun(&self) -> bool {
        self.0.begun.borrow().is_some()
    }

    /// Waits until the shutdown begins. Cancel safe.
    pub async fn begun(&self) {
        // The sender is a part of `self`, so waiting cannot fail.
        let _ = self.0.begun.subscribe().wait_for(Option::is_some).await;
    }

    /// The time at which [`GRACE`] is over; `None` if the drain has not begun.
    pub fn late_at(&self) -> Option<Instant> {
        self.0.begun.borrow().map(|begun| begun + GRACE)
    }

    /// Whether [`GRACE`] is over.
    pub fn is_late(&self) -> bool {
        self.late_at().is_some_and(|late| late <= Instant::now())
    }

    /// Waits until [`GRACE`] is over. Cancel safe.
    pub async fn late(&self) {
        self.begun().await;
        if let Some(late) = self.late_at() {
            tokio::time::sleep_until(late).await;
        }
    }

    /// Waits for a future that depends on the client; `None` if [`GRACE`] is over first.
    pub async fn in_time<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = future => Some(done),
            () = self.late() => None,
        }
    }

    /// Returns the time after which a reader should reconnect. The times differ, so that the readers do not all connect
    /// to the next node at once.
    pub fn retry(&self) -> Duration {
        Duration::from_millis(fastrand::u64(200..3000))
    }
}

/// Watches a body that arrives during a shutdown. A body that makes progress may finish.
pub struct BodyProgress<'a> {
    drain: &'a Drain,
    began: Instant,
    /// The time of the next check of the progress, and the number of bytes at the previous check.
    next: Option<(Instant, usize)>,
}

impl BodyProgress<'_> {
    /// Begins to watch a body.
    pub fn new(drain: &Drain) -> BodyProgress<'_> {
        BodyProgress { drain, began: Instant::now(), next: None }
    }

    /// Waits until the body has made too little progress. `bytes` counts the bytes of the body that have arrived.
    /// Cancel safe.
    pub async fn is_too_slow(&mut self, bytes: usize) {
        loop {
            self.drain.begun().await;
            let late = self.drain.late_at().unwrap_or(self.began);
            let first = if self.began < late { late } else { self.began + GRACE };
            let (at, before) = *self.next.get_or_insert((first, bytes));
            tokio::time::sleep_until(at).await;
            if bytes < before.saturating_add(PROGRESS) {
                return;
            }
            self.next = Some((Instant::now() + GRACE, bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a body until it is too slow or a minute has passed. After each `every`, `bytes` more bytes of the body
    /// arrive.
    async fn seconds_until_too_slow(bytes: usize, every: Duration) -> Option<u64> {
        let drain = Drain::default();
        let (mut pace, mut have, began) = (BodyProgress::new(&drain), 0, Instant::now());
        drain.begin();
        while began.elapsed() < Duration::from_secs(60) {
            tokio::select! {
                () = pace.is_too_slow(have) => return Some(began.elapsed().as_secs()),
                () = tokio::time::sleep(every) => have += bytes,
            }
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_may_be_finished_while_it_makes_progress() {
        for (bytes, every_ms, ends_after) in [
            (0, 10, Some(2)),
            (1, 100, Some(2)),
            (100, 500, Some(2)),
            (2000, 1000, None),
            (5, 10, Some(2)),
            (20, 10, None),
        ] {
            let ended = seconds_until_too_slow(bytes, Duration::from_millis(every_ms)).await;
            assert_eq!(ended, ends_after, "{bytes} bytes every {every_ms} ms");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_half_said_has_one_time_from_the_beginning_of_the_drain() {
        let drain = Drain::default();
        assert_eq!(drain.in_time(async { 1 }).await, Some(1), "no drain, no bound");
        drain.begin();
        let began = Instant::now();
        tokio::time::sleep(GRACE / 2).await;
        drain.begin();
        assert!(!drain.is_late(), "half of the time is left");
        assert_eq!(drain.in_time(std::future::pending::<()>()).await, None);
        assert_eq!(began.elapsed(), GRACE, "a second signal does not restart the time");
        assert!(drain.is_late());
        assert_eq!(drain.in_time(async { 1 }).await, Some(1), "a finished future counts");
    }
}
