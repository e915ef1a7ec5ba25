//! Keeps the store informed: bookmarks and deadlines of sessions with streams, and sessions that have ended.

use super::bookmark;
use super::id::SessionId;
use super::registry::{ClientSessions, Connected, EndedSession};
use crate::cursor::Cursor;
use crate::log::sessions::{SWEEP, SessionWrite};
use crate::message::Channel;
use std::time::Duration;
use tokio::time::Instant;

/// How long a session lives after its last stream was closed. The client may come back within this time.
pub const CLOSED: Duration = Duration::from_secs(10);

/// How often the record of a session with an open stream is renewed.
const RENEW_EVERY: Duration = Duration::from_secs(5);

/// How many records one call to the store writes at most.
const WRITES: usize = 200;

/// The outcome of a renewal.
#[derive(Default)]
pub struct Renewal {
    /// The sessions that have ended, so that the application is told.
    pub ended: Vec<EndedSession>,
    /// Whether another renewal has to follow at once.
    pub has_more: bool,
}

impl ClientSessions {
    /// Writes what has changed, and ends what has missed its time. `unchanged_until` returns the position up to which
    /// there are no entries on these channels after a position.
    pub async fn renew(&self, unchanged_until: impl Fn(&[Channel], Cursor) -> Cursor) -> Renewal {
        let mut renewal = Renewal::default();
        self.end_sessions(&mut renewal).await;
        let writes = self.connected.lock().take_writes(Instant::now(), self.settings().away, unchanged_until);
        match self.store.renew(&writes, SWEEP).await {
            Ok(renewed) => {
                renewal.has_more = renewed.has_more || writes.len() == WRITES;
                for (_, stored) in renewed.ended {
                    if let Some(state) = bookmark::read(&stored.bookmark, stored.cursor) {
                        renewal.ended.push(EndedSession { state, reason: "gone" });
                    }
                }
            }
            Err(_) => {
                self.metrics.failures.inc();
                self.connected.lock().put_back(writes);
            }
        }
        renewal
    }

    /// Ends the sessions that were disconnected here.
    async fn end_sessions(&self, renewal: &mut Renewal) {
        let ending = std::mem::take(&mut self.connected.lock().ending);
        for (index, (id, reason)) in ending.iter().enumerate() {
            match self.store.end(id.secret()).await {
                Ok(Some(stored)) => {
                    if let Some(state) = bookmark::read(&stored.bookmark, stored.cursor) {
                        renewal.ended.push(EndedSession { state, reason });
                    }
                }
                Ok(None) => {}
                Err(_) => {
                    self.metrics.failures.inc();
                    self.connected.lock().ending.extend(ending[index..].iter().cloned());
                    return;
                }
            }
        }
    }

    /// The sessions with a stream here whose application has to be asked again. Each of them is returned once.
    pub fn to_ask_again(&self, now_ms: u64, most: usize) -> Vec<SessionId> {
        let mut connected = self.connected.lock();
        let due = connected.sessions.iter_mut().filter(|(_, connection)| {
            connection.streams > 0 && connection.asks_again_ms.is_some_and(|at| at <= now_ms)
        });
        let due = due.take(most).map(|(id, connection)| {
            connection.asks_again_ms = None;
            id.clone()
        });
        due.collect()
    }
}

impl Connected {
    /// Takes what has to be written now: first what has changed, then what was not renewed for some time.
    fn take_writes(
        &mut self,
        now: Instant,
        away: Duration,
        unchanged_until: impl Fn(&[Channel], Cursor) -> Cursor,
    ) -> Vec<SessionWrite> {
        let mut ids: Vec<SessionId> = self.changed.iter().take(WRITES).cloned().collect();
        let is_due =
            |id: &SessionId, renewed: Instant| now.duration_since(renewed) >= RENEW_EVERY && !self.changed.contains(id);
        let due = self.sessions.iter().filter(|(id, connection)| is_due(id, connection.renewed));
        ids.extend(due.take(WRITES - ids.len()).map(|(id, _)| id.clone()));
        let mut writes = Vec::with_capacity(ids.len());
        for id in ids {
            self.changed.remove(&id);
            let Some(connection) = self.sessions.get_mut(&id) else { continue };
            connection.renewed = now;
            connection.cursor = unchanged_until(&connection.control, connection.cursor);
            writes.push(SessionWrite {
                id: id.secret().clone(),
                bookmark: connection.unsaved.take(),
                cursor: connection.cursor,
                ends_in: if connection.streams > 0 { away.max(CLOSED) } else { CLOSED },
            });
            if connection.streams == 0 {
                self.sessions.remove(&id);
                self.closed -= 1;
            }
        }
        writes
    }

    /// Takes back what could not be written. The deadlines stand still while the store is away.
    fn put_back(&mut self, writes: Vec<SessionWrite>) {
        for write in writes {
            let Some(id) = SessionId::parse(&write.id) else { continue };
            if let Some(connection) = self.sessions.get_mut(&id) {
                connection.unsaved = connection.unsaved.take().or(write.bookmark);
                self.changed.insert(id);
            }
        }
    }
}
