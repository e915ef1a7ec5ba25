//! The sessions of this node: it finds and stores their records, and knows which of them have an open connection here.

use super::bookmark;
use super::id::SessionId;
use super::metrics::SessionMetrics;
use super::state::SessionState;
use crate::cursor::Cursor;
use crate::log::sessions::{ListedSession, SessionStore, SessionWrite, StoredSession};
use crate::message::Channel;
use crate::transport::{ApiError, Code};
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How many closed sessions wait for the store at most. Beyond it, a session keeps the deadline that it has.
const MAX_CLOSED: usize = 10_000;

/// How many sessions wait to be ended at most.
const MAX_ENDING: usize = 10_000;

/// When a client should come back while the record of sessions is not available.
const RETRY: Duration = Duration::from_secs(2);

/// The settings of sessions.
#[derive(Clone, Debug)]
pub struct SessionSettings {
    /// The most sessions of all nodes.
    pub most: usize,
    /// How long a session lives after the last request of its client.
    pub away: Duration,
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
    /// The metrics.
    pub metrics: SessionMetrics,
}

/// The sessions with a stream on this node, and those that have just lost their last one.
#[derive(Default)]
pub(super) struct Connected {
    pub(super) sessions: HashMap<SessionId, Connection>,
    /// The sessions whose records are to be written soon.
    pub(super) changed: BTreeSet<SessionId>,
    pub(super) closed: usize,
    pub(super) ending: Vec<(SessionId, &'static str)>,
}

/// A session with a stream on this node, or whose last stream has just been closed.
pub(super) struct Connection {
    pub(super) streams: usize,
    /// The channels of its control entries.
    pub(super) control: Arc<[Channel]>,
    /// The position up to which they are applied.
    pub(super) cursor: Cursor,
    /// A bookmark that the store does not have yet, with the channels that the session reads.
    pub(super) unsaved: Option<(Arc<str>, Vec<Channel>)>,
    /// The time at which the application is asked again.
    pub(super) asks_again_ms: Option<u64>,
    pub(super) renewed: Instant,
}

impl ClientSessions {
    /// Sessions with this store.
    pub fn new(
        settings: SessionSettings,
        store: Arc<dyn SessionStore>,
        metrics: SessionMetrics,
    ) -> Arc<ClientSessions> {
        let (connected, changed) = (Mutex::default(), Notify::new());
        Arc::new(ClientSessions { settings, store, connected, changed, metrics })
    }

    /// The settings.
    pub fn settings(&self) -> &SessionSettings {
        &self.settings
    }

    /// Stores a new session, which ends if nothing is heard of it for `time` and the usual time after it.
    ///
    /// # Errors
    ///
    /// `too_many_connections` or `log_unavailable`.
    pub async fn create(&self, state: &SessionState, time: Duration) -> Result<(), ApiError> {
        let write = self.write_of(state, time);
        match self.store.create(&write, self.settings.most).await {
            Ok(true) => {
                self.metrics.opened("opened");
                Ok(())
            }
            Ok(false) => {
                self.metrics.opened("full");
                let text = format!("the server has as many sessions as --max-sessions allows: {}", self.settings.most);
                Err(ApiError::until(Code::TooManyConnections, text, RETRY))
            }
            Err(_) => Err(self.unavailable()),
        }
    }

    /// Finds the stored state of a session, which from now on lives for `time` and the usual time after it.
    ///
    /// # Errors
    ///
    /// `no_session` or `log_unavailable`.
    pub async fn find(&self, id: &SessionId, time: Duration) -> Result<SessionState, ApiError> {
        match self.store.begin(id.secret(), time + self.settings.away).await {
            Ok(Some(StoredSession { bookmark, cursor })) => {
                bookmark::read(&bookmark, cursor).filter(|state| !state.has_ended).ok_or_else(|| self.unknown())
            }
            Ok(None) => Err(self.unknown()),
            Err(_) => Err(self.unavailable()),
        }
    }

    /// The error for a session that is not there.
    pub fn unknown(&self) -> ApiError {
        self.metrics.opened("unknown");
        ApiError::new(Code::NoSession, "this session does not exist, or it has ended: begin a new one with session=1")
    }

    fn unavailable(&self) -> ApiError {
        self.metrics.opened("unavailable");
        self.metrics.failures.inc();
        ApiError::until(Code::LogUnavailable, "the record of sessions is not available at the moment", RETRY)
    }

    fn write_of(&self, state: &SessionState, time: Duration) -> SessionWrite {
        let channels = state.channels.keys().cloned().collect();
        SessionWrite {
            id: state.id.secret().clone(),
            bookmark: Some((bookmark::write(state), channels)),
            cursor: state.cursor,
            ends_in: time + self.settings.away,
        }
    }

    /// Stores the state of a session between two requests.
    pub async fn save(&self, state: &SessionState, time: Duration) {
        if self.store.renew(&[self.write_of(state, time)], 0).await.is_err() {
            self.metrics.failures.inc();
        }
    }

    /// Gives a session the usual time from now on.
    pub(super) async fn stay(&self, id: &SessionId, cursor: Cursor) {
        let write = SessionWrite { id: id.secret().clone(), bookmark: None, cursor, ends_in: self.settings.away };
        if self.store.renew(&[write], 0).await.is_err() {
            self.metrics.failures.inc();
        }
    }

    /// Notes a stream of a session.
    pub(super) fn connect(&self, state: &SessionState) {
        let mut connected = self.connected.lock();
        let is_known = connected.sessions.contains_key(&state.id);
        let connection = connected.sessions.entry(state.id.clone()).or_insert_with(|| Connection {
            streams: 0,
            control: Arc::default(),
            cursor: state.cursor,
            unsaved: None,
            asks_again_ms: None,
            renewed: Instant::now(),
        });
        connection.streams += 1;
        if connection.streams == 1 {
            self.metrics.connected.inc();
            // A known session has come back before the store was told that it was closed.
            connected.closed -= usize::from(is_known);
        }
        drop(connected);
        self.note(state);
    }

    /// Notes a changed state of a session with a stream. It is stored soon.
    pub(super) fn note(&self, state: &SessionState) {
        let mut connected = self.connected.lock();
        let Some(connection) = connected.sessions.get_mut(&state.id) else { return };
        connection.control = state.control_channels().into_iter().collect();
        connection.cursor = state.cursor;
        connection.asks_again_ms = state.asks_again_ms;
        connection.unsaved = Some((bookmark::write(state), state.channels.keys().cloned().collect()));
        connected.changed.insert(state.id.clone());
        drop(connected);
        self.changed.notify_one();
    }

    /// Notes that a stream of a session was closed.
    pub(super) fn disconnect(&self, id: &SessionId) {
        let mut connected = self.connected.lock();
        let Some(connection) = connected.sessions.get_mut(id) else { return };
        connection.streams -= 1;
        if connection.streams > 0 {
            return;
        }
        self.metrics.connected.dec();
        if connected.closed >= MAX_CLOSED {
            connected.sessions.remove(id);
            connected.changed.remove(id);
            return;
        }
        connected.closed += 1;
        connected.changed.insert(id.clone());
        drop(connected);
        self.changed.notify_one();
    }

    /// Ends a session soon.
    pub fn end_soon(&self, id: &SessionId, reason: &'static str) {
        let mut connected = self.connected.lock();
        if connected.ending.len() < MAX_ENDING {
            connected.ending.push((id.clone(), reason));
            drop(connected);
            self.changed.notify_one();
        }
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
