//! The records of connections beside a log in memory, for one node.

use super::{ConnectionRecord, ConnectionStore, Part, Swapped, Versioned};
use crate::log::memory::MemoryLog;
use crate::log::{BoxFuture, MessageLog, Unreachable};
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// A [`ConnectionStore`] in memory.
pub struct MemoryConnections {
    /// Its clock is the clock of the deadlines.
    log: Arc<MemoryLog>,
    records: Mutex<Records>,
}

#[derive(Default)]
struct Records {
    known: HashMap<Arc<str>, (ConnectionRecord, u64)>,
    /// The records by their deadlines.
    due: BTreeSet<(u64, Arc<str>)>,
}

impl MemoryConnections {
    /// Without records.
    pub fn new(log: Arc<MemoryLog>) -> MemoryConnections {
        MemoryConnections { log, records: Mutex::default() }
    }

    fn step<'a, T: Send + 'a>(
        &'a self,
        step: impl FnOnce(&mut Records, u64) -> T + Send + 'a,
    ) -> BoxFuture<'a, Result<T, Unreachable>> {
        Box::pin(async move {
            let (now_ms, mut records) = (self.log.now_ms(), self.records.lock());
            records.drop_late(now_ms);
            Ok(step(&mut records, now_ms))
        })
    }
}

fn due(now_ms: u64, ends_in: Duration) -> u64 {
    now_ms + ends_in.as_millis() as u64
}

impl Records {
    fn drop_late(&mut self, now_ms: u64) {
        while let Some((due, id)) = self.due.first().cloned()
            && due <= now_ms
        {
            self.due.remove(&(due, id.clone()));
            self.known.remove(&id);
        }
    }

    fn remove(&mut self, id: &str) -> Option<ConnectionRecord> {
        let (id, (record, due)) = self.known.remove_entry(id)?;
        self.due.remove(&(due, id));
        Some(record)
    }
}

impl ConnectionStore for MemoryConnections {
    fn create<'a>(
        &'a self,
        id: &'a str,
        record: &'a ConnectionRecord,
        ends_in: Duration,
        most: usize,
    ) -> BoxFuture<'a, Result<bool, Unreachable>> {
        self.step(move |records, now_ms| {
            if records.known.len() >= most || records.known.contains_key(id) {
                return false;
            }
            let (id, due): (Arc<str>, u64) = (id.into(), due(now_ms, ends_in));
            records.known.insert(id.clone(), (record.clone(), due));
            records.due.insert((due, id));
            true
        })
    }

    fn load<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<ConnectionRecord>, Unreachable>> {
        self.step(move |records, _| records.known.get(id).map(|(record, _)| record.clone()))
    }

    fn swap<'a>(
        &'a self,
        id: &'a str,
        part: Part,
        next: &'a Versioned,
        ends_in: Duration,
    ) -> BoxFuture<'a, Result<Swapped, Unreachable>> {
        self.step(move |records, now_ms| {
            let Some((key, _)) = records.known.get_key_value(id) else { return Swapped::Gone };
            let key = key.clone();
            let Some((record, known_due)) = records.known.get_mut(id) else { return Swapped::Gone };
            let known = record.part_mut(part);
            if known.version != next.version {
                return Swapped::Stale;
            }
            *known = Versioned { text: next.text.clone(), version: next.version + 1 };
            let before = std::mem::replace(known_due, (*known_due).max(due(now_ms, ends_in)));
            let now_due = *known_due;
            records.due.remove(&(before, key.clone()));
            records.due.insert((now_due, key));
            Swapped::Done
        })
    }

    fn end<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<ConnectionRecord>, Unreachable>> {
        self.step(move |records, _| records.remove(id))
    }
}
