//! Presence beside a log in memory, for one node.

use super::record::Record;
use super::{Call, Deadline, Join, Joined, Members, PresenceStore, Renewed};
use crate::log::memory::MemoryLog;
use crate::log::{BoxFuture, MessageLog, Unreachable};
use crate::message::{Channel, Draft, Kind};
use parking_lot::Mutex;
use std::sync::Arc;

/// A [`PresenceStore`] whose entries go to a [`MemoryLog`].
pub struct MemoryPresence {
    log: Arc<MemoryLog>,
    most: usize,
    /// It is locked while entries are appended, so that a list of members fits the end of the log.
    record: Mutex<Record>,
}

impl MemoryPresence {
    /// Without members. A channel may have `most` of them.
    pub fn new(log: Arc<MemoryLog>, most: usize) -> MemoryPresence {
        MemoryPresence { log, most, record: Mutex::default() }
    }

    fn append(&self) -> impl FnMut(Kind, &Channel, &str) {
        let log = self.log.clone();
        move |kind, channel, data| {
            // Only idempotency keys can make an append to this log fail, and the entry does not have one.
            let _ = log.append_now(vec![Draft::member(kind, channel.clone(), data)]);
        }
    }
}

impl PresenceStore for MemoryPresence {
    fn join<'a>(&'a self, joins: &'a Call<Join>) -> BoxFuture<'a, Result<Vec<Joined>, Unreachable>> {
        Box::pin(async move {
            let mut record = self.record.lock();
            Ok(record.join(joins, self.most, self.log.now_ms(), &mut self.append()))
        })
    }

    fn renew<'a>(&'a self, renewal: &'a Call<Deadline>) -> BoxFuture<'a, Result<Renewed, Unreachable>> {
        Box::pin(async move {
            let mut record = self.record.lock();
            Ok(record.renew(renewal, self.log.now_ms(), &mut self.append()))
        })
    }

    fn members<'a>(&'a self, channel: &'a Channel) -> BoxFuture<'a, Result<Members, Unreachable>> {
        Box::pin(async move {
            let record = self.record.lock();
            Ok(Members { members: record.members(channel), cursor: self.log.end() })
        })
    }

    fn channels<'a>(&'a self, after: &'a str, limit: usize) -> BoxFuture<'a, Result<Vec<Channel>, Unreachable>> {
        Box::pin(async move { Ok(self.record.lock().channels(after, limit)) })
    }
}
