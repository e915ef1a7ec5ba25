//! What direct fan-out has done, counted once a fan-out and not once a delivery.

use std::sync::atomic::{AtomicU64, Ordering};

/// One fan-out's figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages that were written to a reader, times readers.
    pub deliveries: u64,
    /// Writes that they took.
    pub writes: u64,
    /// Bytes that sockets have taken.
    pub bytes: u64,
    /// Batches that were encoded; all other writes shared one.
    pub encoded: u64,
    /// Readers that were left to their tasks.
    pub for_tasks: u64,
}

/// All of them since the start.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    deliveries: AtomicU64,
    writes: AtomicU64,
    bytes: AtomicU64,
    encoded: AtomicU64,
    for_tasks: AtomicU64,
}

impl Traffic {
    pub(super) fn add(&self, tally: &Tally) {
        self.deliveries.fetch_add(tally.deliveries, Ordering::Relaxed);
        self.writes.fetch_add(tally.writes, Ordering::Relaxed);
        self.bytes.fetch_add(tally.bytes, Ordering::Relaxed);
        self.encoded.fetch_add(tally.encoded, Ordering::Relaxed);
        self.for_tasks.fetch_add(tally.for_tasks, Ordering::Relaxed);
    }

    pub(super) fn total(&self) -> Tally {
        Tally {
            deliveries: self.deliveries.load(Ordering::Relaxed),
            writes: self.writes.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            encoded: self.encoded.load(Ordering::Relaxed),
            for_tasks: self.for_tasks.load(Ordering::Relaxed),
        }
    }
}
