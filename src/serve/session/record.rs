//! The record of a session: its metrics, and its line of the access log.

use crate::serve::http::access_log::Entry;
use crate::serve::metrics::delivery::ReaderMetrics;
use std::ops::Deref;
use tokio::time::Instant;

/// The metrics of a session, and its entry of the access log. The entry is written when the record is dropped.
pub struct SessionRecord {
    metrics: ReaderMetrics,
    entry: Option<Box<Entry>>,
}

impl SessionRecord {
    /// A record without an entry of the access log.
    pub fn new(metrics: ReaderMetrics) -> SessionRecord {
        SessionRecord { metrics, entry: None }
    }

    /// Sets the entry of the access log. It is written when the session ends.
    pub fn log(&mut self, mut entry: Entry) {
        entry.transport = self.metrics.transport();
        self.entry = Some(Box::new(entry));
    }

    /// Writes the entry of the access log, because the response is complete and another request may follow it.
    pub fn end_entry(&mut self) {
        self.entry = None;
    }

    /// If the hub has written the whole response, records the time of this write.
    pub fn answered_at(&mut self, at: Instant) {
        if let Some(entry) = &mut self.entry {
            entry.ended_at(at.into_std());
        }
    }

    /// Counts bytes that the hub has written. The hub has already counted them in the metrics.
    pub fn wrote_directly(&mut self, bytes: usize) {
        if let Some(entry) = &mut self.entry {
            entry.bytes += bytes as u64;
        }
    }

    /// Counts bytes that the session writes.
    pub fn wrote(&mut self, bytes: usize) {
        self.wrote_directly(bytes);
        self.metrics.bytes(bytes);
    }
}

impl Deref for SessionRecord {
    type Target = ReaderMetrics;

    fn deref(&self) -> &ReaderMetrics {
        &self.metrics
    }
}
