//! Holds drafts until every node of the log is known to read the format of their entries.
//!
//! The drafts wait outside the queue, so that they do not delay other publishers. The gate queues the drafts in the
//! order in which they came.

use super::peers::Peers;
use crate::log::AppendError;
use std::sync::{Arc, Weak};
use tokio::sync::{Mutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// The maximum number of appends that wait.
const WAITING: usize = 1024;

/// The gate.
pub(super) struct FormatGate {
    /// The first append in the line holds this lock until its drafts are queued. The others get the lock in the order
    /// in which they asked for it.
    line: Arc<Mutex<()>>,
    places: Arc<Semaphore>,
}

/// The place of an append at the gate. The append keeps it until its drafts are queued.
pub(super) struct Place {
    _line: OwnedMutexGuard<()>,
    _place: OwnedSemaphorePermit,
}

impl Default for FormatGate {
    fn default() -> FormatGate {
        FormatGate { line: Arc::default(), places: Arc::new(Semaphore::new(WAITING)) }
    }
}

impl FormatGate {
    /// Whether a format may be written now and no append waits, so that an append does not have to pass the gate.
    pub(super) fn is_open(&self, peers: &Peers, format: u32) -> bool {
        peers.write_format() >= format && self.line.try_lock().is_ok()
    }

    /// Waits until a format may be written. The future takes its place in the line at the first poll. The task that
    /// polls the future must not pause, because other appends wait behind it.
    ///
    /// # Errors
    ///
    /// The format may not be written before the time is over, or too many appends wait.
    pub(super) fn pass(
        &self,
        peers: Weak<Peers>,
        format: u32,
        until: Instant,
    ) -> impl Future<Output = Result<Place, AppendError>> + Send + 'static {
        let (line, place) = (self.line.clone(), self.places.clone().try_acquire_owned());
        async move {
            let unavailable = AppendError::Unavailable;
            let place = place.map_err(|_| unavailable("too many messages wait for other nodes"))?;
            let waiting = async {
                let line = line.lock_owned().await;
                peers.upgrade()?.may_write(format).await;
                Some(Place { _line: line, _place: place })
            };
            let passed = tokio::time::timeout_at(until, waiting).await.ok().flatten();
            passed.ok_or_else(|| {
                unavailable(
                    "not every node is known to read messages with several channels, except or args: a node of an \
                     older version runs, or this node has just started",
                )
            })
        }
    }
}
