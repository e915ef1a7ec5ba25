//! The records of sessions beside a log in memory, for one node.

use super::{ListedSession, SessionStore, SessionWrite, SessionsRenewed, StoredSession, digest, place};
use crate::log::memory::MemoryLog;
use crate::log::{BoxFuture, MessageLog, Unreachable};
use crate::message::Channel;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// A [`SessionStore`] in memory.
pub struct MemorySessions {
    /// Its clock is the clock of the deadlines.
    log: Arc<MemoryLog>,
    records: Mutex<Records>,
}

#[derive(Default)]
struct Records {
    sessions: HashMap<Arc<str>, Record>,
    /// The sessions by their deadlines.
    due: BTreeSet<(u64, Arc<str>)>,
    /// The sessions of each channel, by their places in a list.
    channels: HashMap<Channel, BTreeMap<Arc<str>, Arc<str>>>,
}

struct Record {
    stored: StoredSession,
    channels: Vec<Channel>,
    place: Arc<str>,
    due: u64,
}

/// The outcome of a write.
enum Written {
    Done,
    /// The session is not known.
    Unknown,
    /// The bookmark or the position was not taken.
    Differs(StoredSession),
}

impl MemorySessions {
    /// Without sessions.
    pub fn new(log: Arc<MemoryLog>) -> MemorySessions {
        MemorySessions { log, records: Mutex::default() }
    }

    fn step<'a, T: Send + 'a>(
        &'a self,
        step: impl FnOnce(&mut Records, u64) -> T + Send + 'a,
    ) -> BoxFuture<'a, Result<T, Unreachable>> {
        Box::pin(async move { Ok(step(&mut self.records.lock(), self.log.now_ms())) })
    }
}

/// The deadline for a session that ends after this time.
fn due(now_ms: u64, ends_in: Duration) -> u64 {
    now_ms + ends_in.as_millis() as u64
}

impl Records {
    fn set_due(&mut self, id: &Arc<str>, due: u64) {
        if let Some(record) = self.sessions.get_mut(id) {
            self.due.remove(&(record.due, id.clone()));
            record.due = due;
            self.due.insert((due, id.clone()));
        }
    }

    fn set_channels(&mut self, id: &Arc<str>, channels: Vec<Channel>) {
        let Some(record) = self.sessions.get_mut(id) else { return };
        for channel in &record.channels {
            if let Some(sessions) = self.channels.get_mut(channel) {
                sessions.remove(&record.place);
                if sessions.is_empty() {
                    self.channels.remove(channel);
                }
            }
        }
        for channel in &channels {
            self.channels.entry(channel.clone()).or_default().insert(record.place.clone(), id.clone());
        }
        record.channels = channels;
    }

    /// Writes what a node says.
    fn write(&mut self, write: &SessionWrite, due: u64) -> Written {
        let Some(record) = self.sessions.get_mut(&write.id) else { return Written::Unknown };
        let is_same = write.base.is_none_or(|base| base == digest(&record.stored.bookmark));
        let is_taken = is_same && record.stored.cursor.id <= write.cursor.id;
        let mut written = Written::Done;
        if !is_taken && (!is_same || write.bookmark.is_some()) {
            written = Written::Differs(record.stored.clone());
        }
        if is_taken {
            record.stored.cursor = write.cursor;
            if let Some((bookmark, channels)) = &write.bookmark {
                record.stored.bookmark = bookmark.clone();
                self.set_channels(&write.id, channels.clone());
            }
        }
        self.set_due(&write.id, due);
        written
    }

    fn remove(&mut self, id: &str) -> Option<StoredSession> {
        let (id, _) = self.sessions.get_key_value(id)?;
        let id = id.clone();
        self.set_channels(&id, Vec::new());
        let record = self.sessions.remove(&id)?;
        self.due.remove(&(record.due, id));
        Some(record.stored)
    }
}

impl SessionStore for MemorySessions {
    fn create<'a>(&'a self, session: &'a SessionWrite, most: usize) -> BoxFuture<'a, Result<bool, Unreachable>> {
        self.step(move |records, now_ms| {
            if records.sessions.len() >= most {
                return false;
            }
            // A client that repeats a request can make a session move here twice.
            records.sessions.entry(session.id.clone()).or_insert_with(|| Record {
                stored: StoredSession { bookmark: "".into(), cursor: session.cursor },
                channels: Vec::new(),
                place: place(&session.id).into(),
                due: 0,
            });
            records.write(session, due(now_ms, session.ends_in));
            true
        })
    }

    fn begin<'a>(
        &'a self,
        id: &'a str,
        ends_in: Duration,
    ) -> BoxFuture<'a, Result<Option<StoredSession>, Unreachable>> {
        self.step(move |records, now_ms| {
            let (id, record) = records.sessions.get_key_value(id).filter(|(_, record)| record.due > now_ms)?;
            let (id, stored, due) = (id.clone(), record.stored.clone(), record.due.max(due(now_ms, ends_in)));
            records.set_due(&id, due);
            Some(stored)
        })
    }

    fn renew<'a>(
        &'a self,
        sessions: &'a [SessionWrite],
        sweep: usize,
    ) -> BoxFuture<'a, Result<SessionsRenewed, Unreachable>> {
        self.step(move |records, now_ms| {
            let mut renewed = SessionsRenewed::default();
            for session in sessions {
                match records.write(session, due(now_ms, session.ends_in)) {
                    Written::Done => {}
                    Written::Unknown => renewed.unknown.push(session.id.clone()),
                    Written::Differs(stored) => renewed.differing.push((session.id.clone(), stored)),
                }
            }
            let is_due =
                |records: &Records| records.due.first().filter(|(due, _)| *due <= now_ms).map(|(_, id)| id.clone());
            while let Some(id) = is_due(records) {
                if renewed.ended.len() >= sweep {
                    renewed.has_more = sweep > 0;
                    break;
                }
                if let Some(stored) = records.remove(&id) {
                    renewed.ended.push((id, stored));
                }
            }
            renewed
        })
    }

    fn end<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<StoredSession>, Unreachable>> {
        self.step(move |records, _| records.remove(id))
    }

    fn list<'a>(
        &'a self,
        channel: &'a Channel,
        after: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<ListedSession>, Unreachable>> {
        self.step(move |records, _| {
            let sessions = records.channels.get(channel).into_iter().flatten();
            let later = sessions.skip_while(|(place, _)| !after.is_empty() && ***place <= *after).take(limit);
            let listed = later.filter_map(|(place, id)| {
                let session = records.sessions.get(id)?.stored.clone();
                Some(ListedSession { place: place.to_string(), session })
            });
            listed.collect()
        })
    }

    fn count(&self) -> BoxFuture<'_, Result<usize, Unreachable>> {
        self.step(|records, _| records.sessions.len())
    }
}
