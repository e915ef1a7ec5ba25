//! Keeps the store informed: bookmarks and deadlines of sessions with streams, and sessions that have ended.

use super::bookmark;
use super::id::SessionId;
use super::registry::{CLOSED, ClientSessions, Connected, EndedSession, RENEW_EVERY};
use crate::cursor::Cursor;
use crate::log::sessions::{SWEEP, SessionWrite};
use crate::message::Channel;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How many records one call to the store writes at most, and how many channels of changed bookmarks.
const WRITES: usize = 200;
const CHANNELS: usize = 2000;

/// The pause before the application is asked again after an attempt that has failed.
const ASK_PAUSE_MS: u64 = 2000;

/// The outcome of a renewal.
#[derive(Default)]
pub struct Renewal {
    /// The sessions that have ended, so that the application is told.
    pub ended: Vec<EndedSession>,
    /// Whether another renewal has to follow at once.
    pub has_more: bool,
}

impl ClientSessions {
    /// Writes what has changed, and ends at most `room` sessions: those that were disconnected, and those that have
    /// missed their time. `unchanged_until` returns the position up to which there are no entries on these channels
    /// after a position.
    pub async fn renew(&self, room: usize, unchanged_until: impl Fn(&[Channel], Cursor) -> Cursor) -> Renewal {
        let mut renewal = Renewal::default();
        self.end_sessions(room, &mut renewal).await;
        let (writes, is_full) =
            self.connected.lock().take_writes(Instant::now(), self.settings().away, unchanged_until);
        let sweep = SWEEP.min(room.saturating_sub(renewal.ended.len()));
        match self.store.renew(&writes, sweep).await {
            Ok(renewed) => {
                renewal.has_more |= renewed.has_more || is_full;
                for (_, stored) in renewed.ended {
                    if let Some(state) = bookmark::read(&stored.bookmark, stored.cursor) {
                        renewal.ended.push(EndedSession { state, reason: "gone" });
                    }
                }
                self.end_lost(&renewed.unknown);
            }
            Err(_) => {
                self.metrics.failures.inc();
                self.connected.lock().put_back(writes);
            }
        }
        renewal
    }

    /// Ends the streams and polls of sessions that the store does not have any more. Another node has ended them, after
    /// this node was paused, for example, and the application was told so.
    fn end_lost(&self, unknown: &[Arc<str>]) {
        let connected = self.connected.lock();
        let ids = unknown.iter().filter_map(|id| SessionId::parse(id));
        ids.filter_map(|id| connected.sessions.get(&id)).flat_map(|it| &it.streams).for_each(|loss| loss.note());
    }

    /// Ends sessions that were disconnected here.
    async fn end_sessions(&self, room: usize, renewal: &mut Renewal) {
        let mut ending = std::mem::take(&mut self.connected.lock().ending);
        let later = ending.split_off(room.min(ending.len()));
        self.connected.lock().ending.extend(later);
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

    /// The sessions with a stream or poll here whose application has to be asked again. Each of them is returned once,
    /// unless [`ask_again_later`](ClientSessions::ask_again_later) puts it back.
    pub fn to_ask_again(&self, now_ms: u64, most: usize) -> Vec<SessionId> {
        let mut connected = self.connected.lock();
        let mut ids = Vec::new();
        while ids.len() < most
            && let Some((at_ms, id)) = connected.asks.first().cloned()
            && at_ms <= now_ms
        {
            connected.asks.pop_first();
            if let Some(connection) = connected.sessions.get_mut(&id) {
                connection.is_asking = true;
                if !connection.streams.is_empty() {
                    ids.push(id);
                }
            }
        }
        ids
    }

    /// Asks the application about a session later: an attempt has failed before the application was asked.
    pub fn ask_again_later(&self, id: &SessionId, now_ms: u64) {
        let mut connected = self.connected.lock();
        if let Some(connection) = connected.sessions.get_mut(id).filter(|connection| connection.is_asking) {
            let at_ms = now_ms + ASK_PAUSE_MS;
            (connection.asks_again_ms, connection.is_asking) = (Some(at_ms), false);
            connected.asks.insert((at_ms, id.clone()));
        }
    }
}

impl Connected {
    /// Takes what has to be written now: first what has changed, then what was not renewed for some time. Returns
    /// whether there is more.
    fn take_writes(
        &mut self,
        now: Instant,
        away: Duration,
        unchanged_until: impl Fn(&[Channel], Cursor) -> Cursor,
    ) -> (Vec<SessionWrite>, bool) {
        let (mut writes, mut channels) = (Vec::new(), 0);
        while writes.len() < WRITES && channels < CHANNELS {
            let due = || self.due.first().filter(|(due, _)| *due <= now).map(|(_, id)| id.clone());
            let Some(id) = self.changed.first().cloned().or_else(due) else { return (writes, false) };
            self.changed.remove(&id);
            let Some(connection) = self.sessions.get_mut(&id) else { continue };
            self.due.remove(&(connection.renewal_due, id.clone()));
            connection.renewal_due = now + RENEW_EVERY;
            self.due.insert((connection.renewal_due, id.clone()));
            connection.cursor = unchanged_until(&connection.control, connection.cursor);
            let (is_open, stays) = (!connection.streams.is_empty(), connection.until.duration_since(now));
            let bookmark = connection.unsaved.take();
            channels += bookmark.as_ref().map_or(0, |(_, channels)| channels.len());
            writes.push(SessionWrite {
                id: id.secret().clone(),
                bookmark,
                cursor: connection.cursor,
                ends_in: if is_open { away.max(CLOSED) } else { stays },
            });
            if !is_open {
                self.remove(&id);
                self.closed -= 1;
            }
        }
        (writes, true)
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
