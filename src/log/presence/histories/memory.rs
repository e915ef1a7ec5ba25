//! The histories with the record in memory.

use super::super::record::Record;
use super::super::{Call, Deadline, Join, Joined, Members, PresenceStore, Renewed};
use super::{Bench, Change, come_back_within_a_sweep, most, run, seeds};
use crate::cursor::{Cursor, Epoch, Id};
use crate::log::{BoxFuture, Unreachable};
use crate::message::{Channel, Kind};
use parking_lot::Mutex;

#[derive(Clone, Default)]
struct Contents {
    record: Record,
    changes: Vec<Change>,
}

/// The record in memory.
struct MemoryBench {
    contents: Mutex<Contents>,
    saved: Mutex<Contents>,
    now: Mutex<u64>,
    most: usize,
    epoch: Epoch,
}

impl PresenceStore for MemoryBench {
    fn join<'a>(&'a self, joins: &'a Call<Join>) -> BoxFuture<'a, Result<Vec<Joined>, Unreachable>> {
        let Contents { record, changes } = &mut *self.contents.lock();
        let mut append = |kind: Kind, channel: &Channel, data: &str| {
            changes.push((kind == Kind::MemberAdded, channel.clone(), data.to_owned()));
        };
        let joined = record.join(joins, self.most, *self.now.lock(), &mut append);
        Box::pin(std::future::ready(Ok(joined)))
    }

    fn renew<'a>(&'a self, renewal: &'a Call<Deadline>) -> BoxFuture<'a, Result<Renewed, Unreachable>> {
        let Contents { record, changes } = &mut *self.contents.lock();
        let mut append = |kind: Kind, channel: &Channel, data: &str| {
            changes.push((kind == Kind::MemberAdded, channel.clone(), data.to_owned()));
        };
        let renewed = record.renew(renewal, *self.now.lock(), &mut append);
        Box::pin(std::future::ready(Ok(renewed)))
    }

    fn members<'a>(&'a self, channel: &'a Channel) -> BoxFuture<'a, Result<Members, Unreachable>> {
        let contents = self.contents.lock();
        let id = Id { ms: contents.changes.len() as u64, seq: 0 };
        let members = contents.record.members(channel);
        Box::pin(std::future::ready(Ok(Members { members, cursor: Cursor { id, epoch: self.epoch } })))
    }

    fn channels<'a>(&'a self, after: &'a str, limit: usize) -> BoxFuture<'a, Result<Vec<Channel>, Unreachable>> {
        Box::pin(std::future::ready(Ok(self.contents.lock().record.channels(after, limit))))
    }
}

impl Bench for MemoryBench {
    fn set_time(&self, ms: u64) -> BoxFuture<'_, ()> {
        *self.now.lock() = ms;
        Box::pin(std::future::ready(()))
    }

    fn changes(&self, n: usize) -> BoxFuture<'_, (Vec<Change>, Id)> {
        let changes = &self.contents.lock().changes;
        let end = Id { ms: changes.len() as u64, seq: 0 };
        Box::pin(std::future::ready((changes[n..].to_vec(), end)))
    }

    fn save(&self) -> BoxFuture<'_, ()> {
        *self.saved.lock() = self.contents.lock().clone();
        Box::pin(std::future::ready(()))
    }

    fn restore(&self) -> BoxFuture<'_, ()> {
        *self.contents.lock() = self.saved.lock().clone();
        Box::pin(std::future::ready(()))
    }

    fn flush(&self) -> BoxFuture<'_, ()> {
        *self.contents.lock() = Contents::default();
        Box::pin(std::future::ready(()))
    }
}

impl MemoryBench {
    fn new(most: usize) -> MemoryBench {
        let (contents, saved) = (Mutex::default(), Mutex::default());
        MemoryBench { contents, saved, now: Mutex::new(0), most, epoch: Epoch::random() }
    }
}

#[tokio::test]
async fn a_node_comes_back_while_its_connections_are_removed() {
    come_back_within_a_sweep(&MemoryBench::new(1000)).await;
}

#[tokio::test]
async fn the_list_and_the_entries_agree() {
    for seed in seeds(1_000, 10_000) {
        let most = most(seed);
        let bench = MemoryBench::new(most);
        if let Err(fault) = run(&bench, seed, most).await {
            panic!("{fault}");
        }
    }
}
