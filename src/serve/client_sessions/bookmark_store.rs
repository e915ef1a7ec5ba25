//! Where a request finds the bookmark of its session, and where it leaves the next one.

use super::id::SessionId;
use super::state::SessionState;
use crate::log::BoxFuture;
use crate::transport::ApiError;
use std::sync::Arc;
use std::time::Duration;

/// A store of bookmarks. `time` is how long the request may take: the session lives for that and the usual time after it.
pub trait BookmarkStore: Send + Sync {
    /// Takes a new session. `is_listed`: whether it is found by its channels from now on. The state says afterwards which
    /// store has the session.
    ///
    /// # Errors
    ///
    /// `too_many_connections` or `log_unavailable`.
    fn create<'a>(
        &'a self,
        state: &'a mut SessionState,
        time: Duration,
        is_listed: bool,
    ) -> BoxFuture<'a, Result<(), ApiError>>;

    /// Takes the state of a session that was created without being listed.
    ///
    /// # Errors
    ///
    /// `log_unavailable`, or `no_session` if it has ended in between.
    fn complete<'a>(&'a self, state: &'a mut SessionState, time: Duration) -> BoxFuture<'a, Result<(), ApiError>>;

    /// Finds a session by what its client brings.
    ///
    /// # Errors
    ///
    /// `no_session` or `log_unavailable`.
    fn find<'a>(&'a self, brought: &'a str, time: Duration) -> BoxFuture<'a, Result<SessionState, ApiError>>;

    /// Keeps a state for the next request. Returns what the client brings with it.
    ///
    /// # Errors
    ///
    /// `too_many_connections` or `log_unavailable`.
    fn keep<'a>(&'a self, state: &'a SessionState) -> BoxFuture<'a, Result<Arc<str>, ApiError>>;

    /// Removes a session that the application has refused.
    fn forget<'a>(&'a self, id: &'a SessionId) -> BoxFuture<'a, ()>;

    /// Ends a session soon.
    fn end_soon(&self, id: &SessionId, reason: &'static str);
}
