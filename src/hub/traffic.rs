//! What direct fan-out has done, counted once a fan-out and not once a delivery.

use crate::message::Message;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::time::Instant;

/// How many lanes are told apart. A lane is whatever outlets say that it is: their transport, say.
pub const LANES: usize = 16;

/// What a share of a fan-out has written to the readers of one lane.
#[derive(Debug)]
pub struct Fanned<'a> {
    /// Which: [`Outlet::transport`](super::Outlet::transport).
    pub lane: usize,
    /// Readers that were written to.
    pub writes: u64,
    /// Bytes of bodies and frames. Those that a socket has not taken are written by its task and counted here.
    pub bytes: u64,
    /// What each of them got.
    pub messages: &'a [Arc<Message>],
    /// When the last of them were written to.
    pub at: Instant,
}

/// Hears what direct fan-out has written: once a share of a fan-out and lane, not once a delivery.
pub trait Meter: Send + Sync {
    /// This was written.
    fn fanned(&self, fanned: &Fanned<'_>);
}

/// Writes and bytes of each lane.
#[derive(Default)]
pub(super) struct Lanes([(u64, u64); LANES]);

impl Lanes {
    pub(super) fn add(&mut self, lane: usize, bytes: usize) {
        if let Some((writes, sum)) = self.0.get_mut(lane) {
            *writes += 1;
            *sum += bytes as u64;
        }
    }

    pub(super) fn tell(&self, meter: &dyn Meter, messages: &[Arc<Message>], at: Instant) {
        for (lane, (writes, bytes)) in self.0.iter().copied().enumerate().filter(|(_, (writes, _))| *writes > 0) {
            meter.fanned(&Fanned { lane, writes, bytes, messages, at });
        }
    }
}

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
