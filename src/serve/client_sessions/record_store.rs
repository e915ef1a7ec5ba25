//! Bookmarks in the record of sessions. The client brings the session's id.

use super::bookmark;
use super::bookmark_store::BookmarkStore;
use super::id::SessionId;
use super::registry::ClientSessions;
use super::state::{SessionState, Stored};
use crate::log::BoxFuture;
use crate::log::sessions::{SessionWrite, StoredSession, digest};
use crate::transport::ApiError;
use std::sync::Arc;
use std::time::Duration;

/// How many sessions wait to be ended at most.
const MAX_ENDING: usize = 10_000;

impl BookmarkStore for ClientSessions {
    fn create<'a>(
        &'a self,
        state: &'a mut SessionState,
        time: Duration,
        is_listed: bool,
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(async move {
            let mut write = self.write_of(state, time);
            if let Some((_, channels)) = write.bookmark.as_mut().filter(|_| !is_listed) {
                channels.clear();
            }
            match self.store.create(&write, self.settings().most).await {
                Ok(true) => {
                    state.stored = is_listed.then(|| stored(&write)).flatten();
                    Ok(())
                }
                Ok(false) => Err(self.full()),
                Err(_) => Err(self.unavailable()),
            }
        })
    }

    fn complete<'a>(&'a self, state: &'a mut SessionState, time: Duration) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(async move {
            let write = self.write_of(state, time);
            let renewed = self.store.renew(std::slice::from_ref(&write), 0).await.map_err(|_| self.unavailable())?;
            if !renewed.unknown.is_empty() {
                return Err(self.unknown());
            }
            state.stored = stored(&write);
            Ok(())
        })
    }

    fn find<'a>(&'a self, brought: &'a str, time: Duration) -> BoxFuture<'a, Result<SessionState, ApiError>> {
        Box::pin(async move {
            let id = SessionId::parse(brought).ok_or_else(|| self.unknown())?;
            match self.store.begin(id.secret(), time + self.settings().away).await {
                Ok(Some(StoredSession { bookmark, cursor })) => {
                    bookmark::read(&bookmark, cursor).filter(|state| !state.has_ended).ok_or_else(|| self.unknown())
                }
                Ok(None) => Err(self.unknown()),
                Err(_) => Err(self.unavailable()),
            }
        })
    }

    /// The streams and polls of the session have noted its state.
    fn keep<'a>(&'a self, state: &'a SessionState) -> BoxFuture<'a, Result<Arc<str>, ApiError>> {
        Box::pin(std::future::ready(Ok(state.id.secret().clone())))
    }

    /// If that fails, the session ends at its deadline.
    fn forget<'a>(&'a self, id: &'a SessionId) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if self.store.end(id.secret()).await.is_err() {
                self.metrics.failures.inc();
            }
        })
    }

    fn end_soon(&self, id: &SessionId, reason: &'static str) {
        ClientSessions::end_soon(self, id, reason);
    }
}

impl ClientSessions {
    /// Ends a session of the record soon.
    pub fn end_soon(&self, id: &SessionId, reason: &'static str) {
        let mut connected = self.connected.lock();
        if connected.ending.len() < MAX_ENDING {
            connected.ending.push((id.clone(), reason));
            drop(connected);
            self.notify();
        }
    }

    fn write_of(&self, state: &SessionState, time: Duration) -> SessionWrite {
        let channels = state.channels.keys().cloned().collect();
        SessionWrite {
            id: state.id.secret().clone(),
            bookmark: Some((bookmark::write(state), channels)),
            cursor: state.cursor,
            base: None,
            ends_in: time + self.settings().away,
        }
    }
}

/// What the store has after a write.
fn stored(write: &SessionWrite) -> Option<Stored> {
    let (bookmark, _) = write.bookmark.as_ref()?;
    Some(Stored { digest: digest(bookmark), cursor: write.cursor })
}
