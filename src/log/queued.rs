//! Tells a connection when its present publish has a place in the log's order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether an append that is under way has its place in the order of the log. From then on, a connection with several
/// publishes can begin the next one. The future of the append sets this flag, so a task that polls the future does not
/// miss the change. Each append has a flag of its own: an append that is queued may complete at any time, also while a
/// later one still waits for its place.
#[derive(Clone, Debug, Default)]
pub struct Queued(Arc<AtomicBool>);

impl Queued {
    /// Whether the append has its place in the order of the log.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Records that the append has its place in the order of the log.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
