//! Tells a connection when a publish under way is queued for the log.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the publish that is being handled has its place in the order of the log. From then on, a connection with
/// pipelined publishes can begin the next one.
#[derive(Clone, Default)]
pub struct Queued(Arc<AtomicBool>);

impl Queued {
    /// Whether the publish has its place in the order of the log.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Resets the flag for the next publish.
    pub fn reset(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Runs an append, and sets the flag after the first poll, because that poll queues the publish.
    pub async fn watch<F: Future>(&self, append: F) -> F::Output {
        let mut append = pin!(append);
        let mut is_first = true;
        poll_fn(|cx| {
            let appended = append.as_mut().poll(cx);
            if std::mem::take(&mut is_first) {
                self.0.store(true, Ordering::Relaxed);
            }
            appended
        })
        .await
    }
}
