//! Brings sessions to the present of the node, and ends those that have ended or are lost.

use crate::cursor::Cursor;
use crate::serve::client_sessions::catch_up::{CannotCatchUp, catch_up};
use crate::serve::client_sessions::state::SessionState;
use crate::serve::state::ServerState;
use crate::transport::{ApiError, Code};
use std::sync::Arc;
use std::time::Duration;

/// When a client should come back to a node that is behind.
const RETRY: Duration = Duration::from_secs(1);

/// Brings the state of a session to the position `upto`, or to the present.
///
/// # Errors
///
/// `no_session` or `not_ready`.
pub async fn present(
    state: &Arc<ServerState>,
    session: SessionState,
    upto: Option<Cursor>,
) -> Result<SessionState, ApiError> {
    let (id, bookmarks) = (session.id.clone(), state.bookmarks(session.bookmarks));
    let ended = |reason| {
        bookmarks.end_soon(&id, reason);
        state.sessions.unknown()
    };
    catch_up(&state.hub, session, upto).await.map_err(|error| match error {
        CannotCatchUp::Late => late(),
        CannotCatchUp::Ended => ended("disconnected"),
        CannotCatchUp::Lost => ended("gap"),
    })
}

/// The error for a node that is behind.
pub fn late() -> ApiError {
    let text = "this node has not read the log up to the session's position; come back in a moment";
    ApiError::until(Code::NotReady, text, RETRY)
}
