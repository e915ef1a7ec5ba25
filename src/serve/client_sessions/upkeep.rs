//! Keeps the store informed: bookmarks and deadlines of sessions with streams, and sessions that have ended.

use super::bookmark;
use super::catch_up::{CannotCatchUp, catch_up};
use super::id::SessionId;
use super::registry::{CLOSED, ClientSessions, Connected, EndedSession, RENEW_EVERY, Unsaved};
use crate::hub::Hub;
use crate::log::sessions::{SWEEP, SessionWrite, StoredSession, digest};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How many records one call to the store writes at most, and how many channels of changed bookmarks.
const WRITES: usize = 200;
const CHANNELS: usize = 2000;

/// The pause before the application is asked again after an attempt that has failed.
const ASK_PAUSE_MS: u64 = 2000;

/// How many bookmarks of a session whose writes have failed are remembered.
const UNCERTAIN: usize = 4;

/// How long joining bookmarks may take, in one renewal.
const JOIN_WAIT: Duration = Duration::from_secs(2);

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
    /// missed their time.
    pub async fn renew(&self, hub: &Arc<Hub>, room: usize) -> Renewal {
        let mut renewal = Renewal::default();
        self.end_sessions(room, &mut renewal).await;
        let (mut writes, is_full) = self.connected.lock().take_writes(hub, Instant::now(), self.settings().away);
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
                let differing = take_differing(&mut writes, renewed.differing);
                self.connected.lock().written(&writes);
                self.join_with(hub, differing).await;
            }
            Err(_) => {
                self.metrics.failures.inc();
                self.connected.lock().put_back(writes);
            }
        }
        renewal
    }

    /// Joins what could not be written with what the store has: another node has written a bookmark for a stream that
    /// reads other channels, or it is further.
    async fn join_with(&self, hub: &Arc<Hub>, differing: Vec<(SessionWrite, StoredSession)>) {
        let until = Instant::now() + JOIN_WAIT;
        let (mut joined, mut originals, mut late) = (Vec::new(), Vec::new(), Vec::new());
        for (write, theirs) in differing {
            let kind = self.connected.lock().difference(&write, &theirs);
            match timeout_at(until, join(hub, &write, theirs, kind)).await {
                Ok(Ok(Some(both))) => {
                    joined.push(both);
                    originals.push(write);
                }
                Ok(Ok(None)) => self.connected.lock().written(std::slice::from_ref(&write)),
                Ok(Err(CannotCatchUp::Late)) | Err(_) => late.push(write),
                // Its streams and the next request find that out, too.
                Ok(Err(CannotCatchUp::Ended { .. } | CannotCatchUp::Lost)) => {
                    self.connected.lock().written(std::slice::from_ref(&write));
                }
            }
        }
        if !joined.is_empty() {
            match self.store.renew(&joined, 0).await {
                Ok(renewed) => {
                    // Another node was faster once more.
                    late.extend(take_differing(&mut originals, renewed.differing).into_iter().map(|(write, _)| write));
                    self.connected.lock().written(&originals);
                }
                Err(_) => {
                    self.metrics.failures.inc();
                    late.append(&mut originals);
                }
            }
        }
        self.connected.lock().put_back(late);
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
                    self.give_back(id);
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
    fn take_writes(&mut self, hub: &Hub, now: Instant, away: Duration) -> (Vec<SessionWrite>, bool) {
        let (mut writes, mut channels) = (Vec::new(), 0);
        while writes.len() < WRITES && channels < CHANNELS {
            let due = || self.due.first().filter(|(due, _)| *due <= now).map(|(_, id)| id.clone());
            let Some(id) = self.changed.first().cloned().or_else(due) else { return (writes, false) };
            self.changed.remove(&id);
            let Some(connection) = self.sessions.get_mut(&id) else { continue };
            self.due.remove(&(connection.renewal_due, id.clone()));
            connection.renewal_due = now + RENEW_EVERY;
            self.due.insert((connection.renewal_due, id.clone()));
            connection.cursor = hub.unchanged_until(&connection.control, connection.cursor);
            connection.is_writing = true;
            let (is_open, stays) = (!connection.streams.is_empty(), connection.until.duration_since(now));
            let unsaved = connection.unsaved.take();
            channels += unsaved.as_ref().map_or(0, |unsaved| unsaved.channels.len());
            let base = unsaved.as_ref().map_or(connection.digest, |unsaved| unsaved.base);
            writes.push(SessionWrite {
                id: id.secret().clone(),
                bookmark: unsaved.map(|unsaved| (unsaved.bookmark, unsaved.channels)),
                cursor: connection.cursor,
                base,
                ends_in: if is_open { away.max(CLOSED) } else { stays },
            });
        }
        (writes, true)
    }

    /// How a bookmark of the store that was not expected relates to what this node knows.
    fn difference(&self, write: &SessionWrite, theirs: &StoredSession) -> Difference {
        let connection = SessionId::parse(&write.id).and_then(|id| self.sessions.get(&id));
        match connection {
            Some(connection) if connection.uncertain.contains(&digest(&theirs.bookmark)) => Difference::Older,
            Some(connection) if connection.streams.is_empty() && write.bookmark.is_none() => Difference::Left,
            _ => Difference::Others,
        }
    }

    /// Notes that the store has answered. A session whose last stream has ended is not known here any more.
    fn written(&mut self, writes: &[SessionWrite]) {
        for id in writes.iter().filter_map(|write| SessionId::parse(&write.id)) {
            let Some(connection) = self.sessions.get_mut(&id).filter(|connection| connection.is_writing) else {
                continue;
            };
            connection.is_writing = false;
            connection.uncertain.clear();
            if connection.streams.is_empty() && connection.unsaved.is_none() && !self.changed.contains(&id) {
                self.remove(&id);
                self.closed -= 1;
            }
        }
    }

    /// Takes back what could not be written, and what may have been written in part. What was noted since then is newer.
    /// The deadlines stand still while the store is away.
    fn put_back(&mut self, writes: Vec<SessionWrite>) {
        for write in writes {
            let Some(id) = SessionId::parse(&write.id) else { continue };
            // A session that has come back since it was removed here has the state that it was found with.
            let Some(connection) = self.sessions.get_mut(&id).filter(|connection| connection.is_writing) else {
                continue;
            };
            connection.is_writing = false;
            connection.until = connection.until.max(Instant::now() + write.ends_in);
            if let Some((bookmark, channels)) = write.bookmark {
                connection.uncertain.truncate(UNCERTAIN - 1);
                connection.uncertain.push_front(digest(&bookmark));
                match &mut connection.unsaved {
                    Some(newer) => newer.base = write.base,
                    none => *none = Some(Unsaved { bookmark, channels, base: write.base }),
                }
            }
            self.changed.insert(id);
        }
    }
}

/// What the store has instead of the expected bookmark.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Difference {
    /// An older bookmark of this node, whose write seemed to have failed.
    Older,
    /// The bookmark of another stream. This node has no stream any more, and nothing to write.
    Left,
    /// The bookmark of another stream.
    Others,
}

/// Takes the writes out that the store has not taken, each with what the store has.
fn take_differing(
    writes: &mut Vec<SessionWrite>,
    differing: Vec<(Arc<str>, StoredSession)>,
) -> Vec<(SessionWrite, StoredSession)> {
    let mut theirs: HashMap<Arc<str>, StoredSession> = differing.into_iter().collect();
    let taken = writes.extract_if(.., |write| theirs.contains_key(&write.id)).collect::<Vec<_>>();
    taken.into_iter().filter_map(|write| theirs.remove(&write.id).map(|theirs| (write, theirs))).collect()
}

/// The write that has both what a node wanted to write and what the store has; `None` if the store has it all.
///
/// # Errors
///
/// One of the two cannot be brought to the present.
async fn join(
    hub: &Arc<Hub>,
    write: &SessionWrite,
    theirs: StoredSession,
    difference: Difference,
) -> Result<Option<SessionWrite>, CannotCatchUp> {
    let base = digest(&theirs.bookmark);
    match difference {
        Difference::Older => return Ok(Some(SessionWrite { base: Some(base), ..write.clone() })),
        Difference::Left => return Ok(None),
        Difference::Others => {}
    }
    let Some(state) = bookmark::read(&theirs.bookmark, theirs.cursor) else { return Ok(None) };
    let mut state = catch_up(hub, state, None).await?;
    if let Some(own) = write.bookmark.as_ref().and_then(|(own, _)| bookmark::read(own, write.cursor)) {
        let own = catch_up(hub, own, None).await?;
        state.merge(&own);
    }
    let bookmark = bookmark::write(&state);
    let is_new = bookmark != theirs.bookmark;
    if !is_new && state.cursor == theirs.cursor {
        return Ok(None);
    }
    let bookmark = is_new.then(|| (bookmark, state.channels.into_keys().collect()));
    Ok(Some(SessionWrite { bookmark, cursor: state.cursor, base: Some(base), ..write.clone() }))
}
