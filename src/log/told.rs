//! What the consumers of transitions were told, and the lease of the node that tells them.
//!
//! One node of a log tells all transitions: the sender. It holds a lease, and a number that grows with each new sender.
//! A write with an older number has no effect. The record of what was told is beside the lease, so a new sender goes on
//! where the last one has stopped. The sender has a copy of the record, and writes it again if the store has lost it.

use super::{BoxFuture, Unreachable};
use std::time::Duration;

/// How long a lease lasts after its last renewal.
pub const LIFE: Duration = Duration::from_secs(3);

/// How many texts one call reads or writes at most.
pub const CHUNK: usize = 500;

/// What a node knows when it asks for the lease.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeaseRequest {
    /// The number of the last lease that this node had; 0 if it had none.
    pub number: u64,
    /// Whether the node takes the lease if there is no record of one.
    pub may_begin: bool,
}

/// The state of the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lease {
    /// This node is the sender.
    Held(HeldLease),
    /// Another node is the sender.
    Other,
    /// There is no record.
    Missing,
}

/// The lease of this node, and the state of the record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeldLease {
    /// The number of the lease.
    pub number: u64,
    /// The position up to which the log was read, as the last write has set it.
    pub position: String,
    /// The version of the record, as the last write has set it.
    pub version: u64,
    /// How many texts the record has.
    pub count: usize,
}

/// A change of the record. It is one step.
#[derive(Clone, Debug, Default)]
pub struct ToldWrite {
    /// The number of the lease.
    pub number: u64,
    /// The new version.
    pub version: u64,
    /// The new position.
    pub position: String,
    /// Whether all earlier texts are removed first.
    pub replaces: bool,
    /// Texts that are added.
    pub add: Vec<String>,
    /// Texts that are removed.
    pub remove: Vec<String>,
}

/// The record. Calls may be repeated.
pub trait ToldStore: Send + Sync {
    /// Renews the lease of this node, or takes a lease that has run out.
    fn lease(&self, request: LeaseRequest) -> BoxFuture<'_, Result<Lease, Unreachable>>;

    /// Reads at most [`CHUNK`] texts in their order, after a text. `None` if this is not the lease any more.
    fn read<'a>(&'a self, number: u64, after: &'a str) -> BoxFuture<'a, Result<Option<Vec<String>>, Unreachable>>;

    /// Changes the record. Returns false if this is not the lease any more.
    fn write<'a>(&'a self, write: &'a ToldWrite) -> BoxFuture<'a, Result<bool, Unreachable>>;
}

/// The record for a log in memory: this process is always the sender, and the sender's copy is the record.
#[derive(Default)]
pub struct MemoryTold {
    last: parking_lot::Mutex<HeldLease>,
}

impl ToldStore for MemoryTold {
    fn lease(&self, _: LeaseRequest) -> BoxFuture<'_, Result<Lease, Unreachable>> {
        Box::pin(async move {
            let mut last = self.last.lock();
            last.number = 1;
            Ok(Lease::Held(last.clone()))
        })
    }

    fn read<'a>(&'a self, _: u64, _: &'a str) -> BoxFuture<'a, Result<Option<Vec<String>>, Unreachable>> {
        Box::pin(async { Ok(Some(Vec::new())) })
    }

    fn write<'a>(&'a self, write: &'a ToldWrite) -> BoxFuture<'a, Result<bool, Unreachable>> {
        Box::pin(async move {
            let mut last = self.last.lock();
            (last.version, last.position) = (write.version, write.position.clone());
            let before = if write.replaces { 0 } else { last.count };
            last.count = (before + write.add.len()).saturating_sub(write.remove.len());
            Ok(true)
        })
    }
}
