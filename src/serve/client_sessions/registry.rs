//! The sessions of this node: it finds and stores their records, and knows which of them have an open connection here.

use super::bookmark;
use super::id::SessionId;
use super::loss::Loss;
use super::metrics::SessionMetrics;
use super::networks::Networks;
use super::state::{SessionState, Stored};
use crate::cursor::Cursor;
use crate::hub::Hub;
use crate::log::sessions::{ListedSession, SessionStore, digest};
use crate::message::Channel;
use crate::transport::{ApiError, Code};
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How long a session lives after its last stream was closed. The client may come back within this time.
pub const CLOSED: Duration = Duration::from_secs(10);

/// How often the record of a session with an open stream or poll is renewed.
pub(super) const RENEW_EVERY: Duration = Duration::from_secs(5);

/// How many closed sessions wait for the store at most. Beyond it, a session keeps the deadline that it has.
const MAX_CLOSED: usize = 10_000;

/// When a client should come back while the record of sessions is not available.
const RETRY: Duration = Duration::from_secs(2);

/// The settings of sessions.
#[derive(Clone, Debug)]
pub struct SessionSettings {
    /// The most sessions of all nodes.
    pub most: usize,
    /// How long a session lives after the last request of its client.
    pub away: Duration,
    /// The most sessions that clients of one network begin at this node; 0: any number.
    pub per_network: usize,
}

/// A session that has ended on this node.
pub struct EndedSession {
    /// Its last state, as far as it was stored.
    pub state: SessionState,
    /// Why it has ended.
    pub reason: &'static str,
}

/// The sessions of this node.
pub struct ClientSessions {
    settings: SessionSettings,
    pub(super) store: Arc<dyn SessionStore>,
    pub(super) connected: Mutex<Connected>,
    changed: Notify,
    networks: Networks,
    /// The metrics.
    pub metrics: SessionMetrics,
}

/// The sessions with a stream or poll on this node, and those that have just lost their last one.
#[derive(Default)]
pub(super) struct Connected {
    pub(super) sessions: HashMap<SessionId, Connection>,
    /// The sessions whose records are to be written soon.
    pub(super) changed: BTreeSet<SessionId>,
    /// When each session is renewed.
    pub(super) due: BTreeSet<(Instant, SessionId)>,
    /// When the application is asked again about a session, in milliseconds of the log's clock.
    pub(super) asks: BTreeSet<(u64, SessionId)>,
    pub(super) closed: usize,
    pub(super) ending: Vec<(SessionId, &'static str)>,
}

/// A session with a stream or poll on this node, or whose last one has just ended.
pub(super) struct Connection {
    pub(super) streams: Vec<Arc<Loss>>,
    /// How long the session lives after its last stream or poll: at least up to here.
    pub(super) until: Instant,
    /// The channels of its control entries.
    pub(super) control: Arc<[Channel]>,
    /// The position up to which they are applied.
    pub(super) cursor: Cursor,
    /// The digest of the session's last bookmark, which is in the store or unsaved.
    pub(super) digest: Option<u64>,
    /// Whether the unsaved bookmark also has what another stream has noted, which reads other channels.
    is_merged: bool,
    /// A bookmark that the store does not have yet.
    pub(super) unsaved: Option<Unsaved>,
    /// Whether a write is under way.
    pub(super) is_writing: bool,
    /// The digests of the last bookmarks whose writes have failed: the store may have one of them.
    pub(super) uncertain: VecDeque<u64>,
    /// The time at which the application is asked again, and whether that is under way.
    pub(super) asks_again_ms: Option<u64>,
    pub(super) is_asking: bool,
    pub(super) renewal_due: Instant,
}

/// A bookmark that the store does not have yet.
pub(super) struct Unsaved {
    pub(super) bookmark: Arc<str>,
    /// The channels that the session reads.
    pub(super) channels: Vec<Channel>,
    /// The digest of the bookmark in the store that it replaces.
    pub(super) base: Option<u64>,
}

impl Connection {
    /// Moves the position forward. It may be there already: the node has found that there is nothing up to it.
    pub(super) fn move_to(&mut self, cursor: Cursor) {
        if cursor.epoch != self.cursor.epoch || cursor.id > self.cursor.id {
            self.cursor = cursor;
        }
    }
}

impl Connection {
    /// Replaces the last bookmark with that of a state at a position. `before`: the digest of the bookmark that the state
    /// has followed from. If that is not the last one, another stream has noted something that this one does not have.
    fn replace(&mut self, hub: &Hub, state: &SessionState, bookmark: Arc<str>, before: Option<u64>, at: Cursor) {
        let is_others = before != self.digest || self.is_merged;
        let pending = self.unsaved.take();
        let base = pending.as_ref().map_or(before, |pending| pending.base);
        let others = pending.filter(|_| is_others).and_then(|pending| bookmark::read(&pending.bookmark, self.cursor));
        let mut state = state.clone();
        others.iter().for_each(|others| state.merge(others));
        let merged = bookmark::write(&state);
        self.is_merged = merged != bookmark;
        let bookmark = merged;
        self.control = state.control_channels().into_iter().collect();
        // The other stream may not have read the entries since its note. They are applied again after this position.
        self.cursor = if self.is_merged { hub.unchanged_until(&self.control, self.cursor) } else { at };
        self.unsaved = Some(Unsaved { bookmark, channels: state.channels.into_keys().collect(), base });
    }
}

impl Connected {
    /// Sets the time at which the application is asked again.
    fn set_asks_again(&mut self, id: &SessionId, at_ms: Option<u64>) {
        let Some(connection) = self.sessions.get_mut(id) else { return };
        if connection.asks_again_ms == at_ms {
            return;
        }
        if let Some(before) = connection.asks_again_ms {
            self.asks.remove(&(before, id.clone()));
        }
        (connection.asks_again_ms, connection.is_asking) = (at_ms, false);
        self.asks.extend(at_ms.map(|at_ms| (at_ms, id.clone())));
    }

    pub(super) fn remove(&mut self, id: &SessionId) {
        self.set_asks_again(id, None);
        self.changed.remove(id);
        if let Some(connection) = self.sessions.remove(id) {
            self.due.remove(&(connection.renewal_due, id.clone()));
        }
    }
}

impl ClientSessions {
    /// Sessions with this store.
    pub fn new(
        settings: SessionSettings,
        store: Arc<dyn SessionStore>,
        metrics: SessionMetrics,
    ) -> Arc<ClientSessions> {
        let (connected, changed) = (Mutex::default(), Notify::new());
        let networks = Networks::new(settings.per_network);
        Arc::new(ClientSessions { settings, store, connected, changed, networks, metrics })
    }

    /// The settings.
    pub fn settings(&self) -> &SessionSettings {
        &self.settings
    }

    /// Takes a place among the sessions of a client's network, for a session that a request of this time begins.
    ///
    /// # Errors
    ///
    /// `too_many_connections`.
    pub fn admit(&self, network: IpAddr, id: &SessionId, time: Duration) -> Result<(), ApiError> {
        let is_connected = |id: &SessionId| self.connected.lock().sessions.contains_key(id);
        if self.networks.admit(network, id, Instant::now() + time + self.settings.away, is_connected) {
            return Ok(());
        }
        self.metrics.opened("full_for_address");
        let most = self.settings.per_network;
        let text = format!("your address has as many sessions at this node as --max-sessions-per-ip allows: {most}");
        Err(ApiError::until(Code::TooManyConnections, text, RETRY))
    }

    /// Gives back the place of a session that has ended, or could not begin.
    pub fn give_back(&self, id: &SessionId) {
        self.networks.leave(id);
    }

    /// The error for a session that is not there.
    pub fn unknown(&self) -> ApiError {
        self.metrics.opened("unknown");
        ApiError::new(Code::NoSession, "this session does not exist, or it has ended: begin a new one with session=1")
    }

    /// The error for a client that wants a new session while there are as many as there may be.
    pub(super) fn full(&self) -> ApiError {
        self.metrics.opened("full");
        let text = format!("the server has as many sessions as --max-sessions allows: {}", self.settings.most);
        ApiError::until(Code::TooManyConnections, text, RETRY)
    }

    /// The error while the store does not answer.
    pub(super) fn unavailable(&self) -> ApiError {
        self.metrics.opened("unavailable");
        self.metrics.failures.inc();
        ApiError::until(Code::LogUnavailable, "the record of sessions is not available at the moment", RETRY)
    }

    /// Notes a stream or poll of a session, and its state. Returns whether the state counts; see
    /// [`note`](ClientSessions::note).
    pub(super) fn connect(&self, hub: &Hub, state: &mut SessionState, loss: &Arc<Loss>) -> bool {
        let (mut connected, now) = (self.connected.lock(), Instant::now());
        let connected = &mut *connected;
        let is_known = connected.sessions.contains_key(&state.id);
        let connection = connected.sessions.entry(state.id.clone()).or_insert_with(|| {
            let renewal_due = now + RENEW_EVERY;
            connected.due.insert((renewal_due, state.id.clone()));
            Connection {
                streams: Vec::new(),
                until: now,
                control: Arc::default(),
                cursor: state.cursor,
                digest: state.stored.map(|stored| stored.digest),
                is_merged: false,
                unsaved: None,
                is_writing: false,
                uncertain: VecDeque::new(),
                asks_again_ms: None,
                is_asking: false,
                renewal_due,
            }
        });
        connection.streams.push(loss.clone());
        if connection.streams.len() == 1 {
            self.metrics.connected.inc();
            // A known session has come back before the store was told that it was closed.
            connected.closed -= usize::from(is_known);
        }
        self.note_in(hub, connected, state)
    }

    /// Notes a changed state of a session with a stream or poll. It is stored soon.
    ///
    /// Returns whether the state counts. It does not if another stream or poll of the session has applied entries that
    /// this one has not read yet: a bookmark without them, but with a position behind them, would lose these changes.
    pub(super) fn note(&self, hub: &Hub, state: &mut SessionState) -> bool {
        self.note_in(hub, &mut self.connected.lock(), state)
    }

    fn note_in(&self, hub: &Hub, connected: &mut Connected, state: &mut SessionState) -> bool {
        let Some(connection) = connected.sessions.get_mut(&state.id) else { return true };
        let control: Arc<[Channel]> = state.control_channels().into_iter().collect();
        let at = hub.unchanged_until(&control, state.cursor);
        if hub.precedes(at, connection.cursor) {
            return false;
        }
        let bookmark = bookmark::write(state);
        let digest = digest(&bookmark);
        let before = state.stored.map(|stored| stored.digest);
        if before != Some(digest) {
            state.stored = Some(Stored { digest, cursor: at });
        }
        if connection.digest != Some(digest) {
            connection.replace(hub, state, bookmark, before, at);
            connection.digest = Some(digest);
            connected.changed.insert(state.id.clone());
            self.changed.notify_one();
        } else if !connection.is_merged {
            (connection.control, connection.cursor) = (control, at);
        }
        connected.set_asks_again(&state.id, state.asks_again_ms);
        true
    }

    /// Notes that a state of a session is the same at a later position. It does not count if the last bookmark is that of
    /// another state: another stream of the session may read other channels.
    pub(super) fn moved(&self, state: &SessionState) {
        if let Some(connection) = self.connected.lock().sessions.get_mut(&state.id)
            && connection.digest.is_some()
            && connection.digest == state.stored.map(|stored| stored.digest)
            && !connection.is_merged
        {
            connection.move_to(state.cursor);
        }
    }

    /// Notes that a stream or poll of a session has ended. The session lives for this time from now on. `is_brief`: the
    /// store knows that, and has a young bookmark.
    pub(super) fn disconnect(&self, id: &SessionId, loss: &Arc<Loss>, stays: Duration, is_brief: bool) {
        let mut connected = self.connected.lock();
        let connected = &mut *connected;
        let Some(connection) = connected.sessions.get_mut(id) else { return };
        connection.streams.retain(|other| !Arc::ptr_eq(other, loss));
        connection.until = connection.until.max(Instant::now() + stays);
        if !connection.streams.is_empty() {
            return;
        }
        self.networks.lives_until(id, connection.until);
        self.metrics.connected.dec();
        let is_stored = is_brief && connection.unsaved.is_none() && !connection.is_writing;
        if is_stored || connected.closed >= MAX_CLOSED {
            connected.remove(id);
            return;
        }
        connected.closed += 1;
        connected.changed.insert(id.clone());
        self.changed.notify_one();
    }

    /// Wakes the task that stores what has changed.
    pub(super) fn notify(&self) {
        self.changed.notify_one();
    }

    /// Waits until there is something to store. Cancel safe.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Lists the sessions that read a channel, after a place in the order of the list.
    ///
    /// # Errors
    ///
    /// `log_unavailable`.
    pub async fn list(&self, channel: &Channel, after: &str, limit: usize) -> Result<Vec<ListedSession>, ApiError> {
        self.store.list(channel, after, limit).await.map_err(|_| self.unavailable())
    }
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
