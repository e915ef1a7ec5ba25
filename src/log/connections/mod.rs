//! The records of connections that go on over several requests, such as the polls of Socket.IO: where a request on any
//! node finds what the connection was after the last one.
//!
//! A record has three parts, which change independently: each has a version, and a writer names the version that it has
//! read. So of two requests that change the same part, the second one notices the first. A record has a deadline, which
//! each request moves on. Times are measured as those of [`sessions`](super::sessions).

mod memory;

pub use memory::MemoryConnections;

use super::{BoxFuture, Unreachable};
use std::time::Duration;

/// A part of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What requests that read from the connection change.
    Reader,
    /// What requests that write to the connection change.
    Writer,
    /// What the change to another transport changes.
    Mode,
}

/// A text with its version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versioned {
    /// The text.
    pub text: String,
    /// The version.
    pub version: u64,
}

/// A record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionRecord {
    /// What never changes.
    pub info: String,
    /// The part of readers.
    pub reader: Versioned,
    /// The part of writers.
    pub writer: Versioned,
    /// The part of the change to another transport.
    pub mode: Versioned,
}

impl ConnectionRecord {
    /// A part.
    pub fn part(&self, part: Part) -> &Versioned {
        match part {
            Part::Reader => &self.reader,
            Part::Writer => &self.writer,
            Part::Mode => &self.mode,
        }
    }

    pub(in crate::log) fn part_mut(&mut self, part: Part) -> &mut Versioned {
        match part {
            Part::Reader => &mut self.reader,
            Part::Writer => &mut self.writer,
            Part::Mode => &mut self.mode,
        }
    }
}

/// The outcome of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swapped {
    /// The part is changed.
    Done,
    /// Another request has changed the part since it was read.
    Stale,
    /// There is no such record, or its deadline has passed.
    Gone,
}

/// The records of all connections. Each method is one step.
pub trait ConnectionStore: Send + Sync {
    /// Adds a record, unless there are `most` of them already, or there is one with this id. Returns whether it was added.
    fn create<'a>(
        &'a self,
        id: &'a str,
        record: &'a ConnectionRecord,
        ends_in: Duration,
        most: usize,
    ) -> BoxFuture<'a, Result<bool, Unreachable>>;

    /// Finds a record whose deadline has not passed.
    fn load<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<ConnectionRecord>, Unreachable>>;

    /// Changes a part that still has the version of `next`, which becomes one higher, and gives the record a new deadline, unless the known one is later.
    fn swap<'a>(
        &'a self,
        id: &'a str,
        part: Part,
        next: &'a Versioned,
        ends_in: Duration,
    ) -> BoxFuture<'a, Result<Swapped, Unreachable>>;

    /// Removes a record. Returns it if this call has removed it.
    fn end<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<ConnectionRecord>, Unreachable>>;
}
