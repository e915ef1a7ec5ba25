//! Going down gently: one word that every part of the server hears.

use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Tells that the server is going.
#[derive(Clone)]
pub struct Drain(Arc<watch::Sender<bool>>);

impl Default for Drain {
    fn default() -> Drain {
        Drain(Arc::new(watch::channel(false).0))
    }
}

impl Drain {
    /// Begins.
    pub fn begin(&self) {
        self.0.send_replace(true);
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it begins. Cancel safe.
    pub async fn begun(&self) {
        // The sender lives in self.
        let _ = self.0.subscribe().wait_for(|begun| *begun).await;
    }

    /// When a reader shall come back: spread, or all would come to the next node in one moment.
    pub fn retry(&self) -> Duration {
        Duration::from_millis(fastrand::u64(200..3000))
    }
}
