//! Bookmarks in sealed tokens, which the clients bring. A request with a token needs no call to Redis.
//!
//! A session needs the record if the application is told of its end, if it reads a channel with presence, if it has a
//! stream, or if its state is too large for a token. Then it goes on there, under its id.

use super::bookmark_store::BookmarkStore;
use super::census::Census;
use super::id::SessionId;
use super::metrics::SealedMetrics;
use super::protocol::Bookmarks;
use super::registry::ClientSessions;
use super::seal_ring::SealRing;
use super::state::SessionState;
use super::token::{self, BadToken, TokenKind};
use crate::hub::Hub;
use crate::log::BoxFuture;
use crate::log::seal_keys::SealKeyStore;
use crate::message::Channel;
use crate::serve::presence::service::Presence;
use crate::transport::ApiError;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The largest `data` of the application in a token, in bytes.
const MAX_DATA: usize = 256;

/// The sessions with sealed bookmarks.
pub struct SealedSessions {
    /// The record, for the sessions that need it.
    record: Arc<ClientSessions>,
    hub: Arc<Hub>,
    presence: Option<Arc<Presence>>,
    /// Whether the application is told of the ends of sessions.
    tells_ends: bool,
    ring: SealRing,
    census: Mutex<Census>,
    metrics: Arc<SealedMetrics>,
}

impl SealedSessions {
    /// Sessions whose tokens are sealed with these keys.
    pub fn new(
        record: Arc<ClientSessions>,
        hub: Arc<Hub>,
        presence: Option<Arc<Presence>>,
        tells_ends: bool,
        keys: Arc<dyn SealKeyStore>,
        metrics: Arc<SealedMetrics>,
    ) -> Arc<SealedSessions> {
        let ring = SealRing::new(keys, metrics.clone());
        let census = Mutex::default();
        Arc::new(SealedSessions { record, hub, presence, tells_ends, ring, census, metrics })
    }

    /// The keys of the tokens.
    pub fn ring(&self) -> &SealRing {
        &self.ring
    }

    /// Why a session needs the record, if it does.
    fn needs_record(&self, state: &SessionState) -> Option<&'static str> {
        let has_presence = |presence: &Arc<Presence>| state.channels.keys().any(|channel| presence.covers(channel));
        if self.tells_ends {
            Some("disconnect")
        } else if self.presence.as_ref().is_some_and(has_presence) {
            Some("presence")
        } else if state.data.as_ref().is_some_and(|data| data.as_str().len() > MAX_DATA) {
            Some("size")
        } else {
            None
        }
    }

    /// Whether the client of a session may bring its bookmark.
    pub fn takes(&self, state: &SessionState) -> bool {
        self.needs_record(state).is_none()
    }

    /// Whether all sessions need the record.
    pub fn takes_none(&self) -> bool {
        self.tells_ends
    }

    /// Seals bytes as a token. `None` if it would be too long, or if there are no keys.
    pub async fn seal(&self, kind: TokenKind, plain: Vec<u8>) -> Option<String> {
        token::seal_bytes(&self.ring.keys(None).await?.present, kind, plain)
    }

    /// Opens a token of a kind.
    ///
    /// # Errors
    ///
    /// The reason why it is not honoured; `None` if the keys cannot be reached.
    pub async fn open(&self, kind: TokenKind, brought: &str) -> Result<Vec<u8>, Option<BadToken>> {
        let refused = |bad| {
            self.count_refused(bad);
            Some(bad)
        };
        let id = token::key_id(kind, brought).map_err(refused)?;
        let keys = self.ring.keys(Some(id)).await.ok_or(None)?;
        let key = keys.find(id).ok_or_else(|| refused(BadToken::UnknownKey))?;
        token::open_bytes(key, kind, brought).map_err(refused)
    }

    /// Counts a token that is not honoured.
    pub fn count_refused(&self, bad: BadToken) {
        self.metrics.refused(bad.reason());
    }

    /// Seals the state of a session as a token. `None` if it would be too long, or if there are no keys.
    pub async fn token(&self, state: &SessionState, life: Duration) -> Option<String> {
        let keys = self.ring.keys(None).await?;
        token::seal(&keys.present, &self.at_latest(state), self.hub.log().now_ms(), life)
    }

    /// The state at the latest position up to which nothing changes it: the next node reads on from there, and an older
    /// position may not be in its memory any more.
    fn at_latest(&self, state: &SessionState) -> SessionState {
        let control: Vec<Channel> = state.control_channels().into_iter().collect();
        SessionState { cursor: self.hub.unchanged_until(&control, state.cursor), ..state.clone() }
    }

    /// Moves a session to the record. `reason`: why it needs it, as metrics count it.
    ///
    /// # Errors
    ///
    /// `too_many_connections` or `log_unavailable`.
    pub async fn move_to_record(
        &self,
        mut state: SessionState,
        reason: &'static str,
    ) -> Result<SessionState, ApiError> {
        (state.bookmarks, state.stored) = (Bookmarks::Record, None);
        self.record.create(&mut state, Duration::ZERO, true).await?;
        self.metrics.moved(reason);
        Ok(state)
    }

    /// The session of a stream, which needs the record: the node of the stream keeps its bookmark.
    ///
    /// # Errors
    ///
    /// `too_many_connections` or `log_unavailable`.
    pub async fn with_stream(&self, state: SessionState) -> Result<SessionState, ApiError> {
        match state.bookmarks {
            Bookmarks::Record => Ok(state),
            Bookmarks::Sealed { .. } => self.move_to_record(state, "stream").await,
        }
    }

    /// The error for a token that is not honoured.
    fn refuse(&self, bad: BadToken) -> ApiError {
        self.metrics.refused(bad.reason());
        self.record.unknown()
    }
}

impl BookmarkStore for SealedSessions {
    fn create<'a>(
        &'a self,
        state: &'a mut SessionState,
        time: Duration,
        is_listed: bool,
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(async move {
            let Bookmarks::Sealed { life } = state.bookmarks else {
                return self.record.create(state, time, is_listed).await;
            };
            if let Some(reason) = self.needs_record(state) {
                state.bookmarks = Bookmarks::Record;
                self.record.create(state, time, is_listed).await?;
                self.metrics.moved(reason);
                return Ok(());
            }
            // Such a session takes no memory between its requests. The limit still keeps its meaning.
            if self.census.lock().count(life, Instant::now()) >= self.record.settings().most {
                return Err(self.record.full());
            }
            self.ring.keys(None).await.ok_or_else(|| self.record.unavailable())?;
            self.census.lock().note(&state.id, life, Instant::now());
            Ok(())
        })
    }

    /// The token of the first answer has the state.
    fn complete<'a>(&'a self, _: &'a mut SessionState, _: Duration) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn find<'a>(&'a self, brought: &'a str, _: Duration) -> BoxFuture<'a, Result<SessionState, ApiError>> {
        Box::pin(async move {
            let id = token::key_id(TokenKind::Session, brought).map_err(|bad| self.refuse(bad))?;
            let keys = self.ring.keys(Some(id)).await.ok_or_else(|| self.record.unavailable())?;
            let key = keys.find(id).ok_or_else(|| self.refuse(BadToken::UnknownKey))?;
            let opened = token::open(key, brought, self.hub.log().now_ms());
            let (mut state, life) = opened.map_err(|bad| self.refuse(bad))?;
            state.bookmarks = Bookmarks::Sealed { life };
            self.census.lock().note(&state.id, life, Instant::now());
            Ok(state)
        })
    }

    fn keep<'a>(&'a self, state: &'a SessionState) -> BoxFuture<'a, Result<Arc<str>, ApiError>> {
        Box::pin(async move {
            let Bookmarks::Sealed { life } = state.bookmarks else { return self.record.keep(state).await };
            if let Some(reason) = self.needs_record(state) {
                let moved = self.move_to_record(state.clone(), reason).await?;
                return Ok(moved.id.secret().clone());
            }
            let keys = self.ring.keys(None).await.ok_or_else(|| self.record.unavailable())?;
            let state = self.at_latest(state);
            match token::seal(&keys.present, &state, self.hub.log().now_ms(), life) {
                Some(token) => Ok(token.into()),
                None => Ok(self.move_to_record(state, "size").await?.id.secret().clone()),
            }
        })
    }

    /// Nothing knows the session but its client, which gets no token.
    fn forget<'a>(&'a self, _: &'a SessionId) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }

    /// The entry that ends the session is in the log, and each token of it is older. So there is nothing to do but to count
    /// a token that comes after that.
    fn end_soon(&self, _: &SessionId, reason: &'static str) {
        match reason {
            "disconnected" => self.metrics.refused("ended"),
            "gap" => self.metrics.refused("lost"),
            _ => {}
        }
    }
}

#[cfg(test)]
#[path = "sealed_store_tests.rs"]
mod tests;
