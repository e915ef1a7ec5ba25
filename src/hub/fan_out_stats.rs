//! Statistics of direct fan-out, counted once for each fan-out and not once for each delivery.

use crate::message::Message;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The number of transports that a fan-out distinguishes. Each outlet has the number of its transport.
pub const MAX_TRANSPORTS: usize = 32;

/// The writes of one thread's share of a fan-out to the readers of one transport.
#[derive(Debug)]
pub struct FanOutReport<'a> {
    /// The transport's number: [`Outlet::transport`](super::Outlet::transport).
    pub transport: usize,
    /// The number of readers that the fan-out has written to.
    pub writes: u64,
    /// Bytes of bodies and frames, including bytes that a socket has not accepted yet: the reader's task writes those
    /// later.
    pub bytes: u64,
    /// The messages that each of the readers got.
    pub messages: &'a [Arc<Message>],
}

/// Receives the counts of direct fan-out: once for each transport in each share of a fan-out, and not once for each
/// delivery.
pub trait FanOutObserver: Send + Sync {
    /// Called when a share of a fan-out has ended.
    fn fanned_out(&self, report: &FanOutReport<'_>);
}

/// Writes and bytes of each transport.
#[derive(Default)]
pub(super) struct TransportTotals([(u64, u64); MAX_TRANSPORTS]);

impl TransportTotals {
    pub(super) fn add(&mut self, transport: usize, bytes: usize) {
        if let Some((writes, sum)) = self.0.get_mut(transport) {
            *writes += 1;
            *sum += bytes as u64;
        }
    }

    pub(super) fn report(&self, observer: &dyn FanOutObserver, messages: &[Arc<Message>]) {
        let totals = self.0.iter().copied().enumerate().filter(|(_, (writes, _))| *writes > 0);
        for (transport, (writes, bytes)) in totals {
            observer.fanned_out(&FanOutReport { transport, writes, bytes, messages });
        }
    }
}

/// The statistics of fan-outs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FanOutCounts {
    /// Deliveries: the number of messages that each reader got, summed over all readers.
    pub deliveries: u64,
    /// The number of writes that these deliveries took.
    pub writes: u64,
    /// Bytes that sockets have accepted.
    pub bytes: u64,
    /// Batches that were encoded. All other writes reused the bytes of one of them.
    pub encoded: u64,
    /// Readers whose tasks had to read the new messages themselves.
    pub left_to_tasks: u64,
}

/// The statistics of all fan-outs since the start.
#[derive(Debug, Default)]
pub(super) struct FanOutStats {
    deliveries: AtomicU64,
    writes: AtomicU64,
    bytes: AtomicU64,
    encoded: AtomicU64,
    left_to_tasks: AtomicU64,
}

impl FanOutStats {
    pub(super) fn add(&self, counts: &FanOutCounts) {
        self.deliveries.fetch_add(counts.deliveries, Ordering::Relaxed);
        self.writes.fetch_add(counts.writes, Ordering::Relaxed);
        self.bytes.fetch_add(counts.bytes, Ordering::Relaxed);
        self.encoded.fetch_add(counts.encoded, Ordering::Relaxed);
        self.left_to_tasks.fetch_add(counts.left_to_tasks, Ordering::Relaxed);
    }

    pub(super) fn total(&self) -> FanOutCounts {
        FanOutCounts {
            deliveries: self.deliveries.load(Ordering::Relaxed),
            writes: self.writes.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            encoded: self.encoded.load(Ordering::Relaxed),
            left_to_tasks: self.left_to_tasks.load(Ordering::Relaxed),
        }
    }
}
