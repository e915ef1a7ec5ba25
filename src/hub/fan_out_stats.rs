//! What direct fan-out has done, counted once for each fan-out and not once for each delivery.

use crate::message::Message;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many transports a fan-out distinguishes, by the numbers that outlets give.
pub const MAX_TRANSPORTS: usize = 16;

/// What one thread's share of a fan-out has written to the readers of one transport.
#[derive(Debug)]
pub struct FanOutReport<'a> {
    /// The transport's number: [`Outlet::transport`](super::Outlet::transport).
    pub transport: usize,
    /// Readers that were written to.
    pub writes: u64,
    /// Bytes of bodies and frames, including those that a socket has not accepted yet: its task writes them later.
    pub bytes: u64,
    /// What each of the readers got.
    pub messages: &'a [Arc<Message>],
}

/// Receives what direct fan-out has written: once for each share of a fan-out and transport, not once for each
/// delivery.
pub trait FanOutObserver: Send + Sync {
    /// A share of a fan-out has ended.
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

/// What fan-outs have done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FanOutCounts {
    /// Messages that were written to a reader, times readers.
    pub deliveries: u64,
    /// Writes that these deliveries took.
    pub writes: u64,
    /// Bytes that sockets have accepted.
    pub bytes: u64,
    /// Batches that were encoded; all other writes shared one of them.
    pub encoded: u64,
    /// Readers whose news was left to their tasks.
    pub left_to_tasks: u64,
}

/// What all fan-outs since the start have done.
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
