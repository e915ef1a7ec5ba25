//! Brings sessions to the present of the node, and ends those that have ended or are lost.

use super::append::append;
use crate::cursor::Cursor;
use crate::serve::client_sessions::catch_up::{CannotCatchUp, catch_up};
use crate::serve::client_sessions::change::{Change, ControlEntry};
use crate::serve::client_sessions::id::SessionId;
use crate::serve::client_sessions::protocol::Bookmarks;
use crate::serve::client_sessions::state::SessionState;
use crate::serve::state::ServerState;
use crate::transport::{ApiError, Code};
use std::sync::Arc;
use std::time::Duration;

/// When a client should come back to a node that is behind.
const RETRY: Duration = Duration::from_secs(1);

/// A session that is not there.
pub struct Missing {
    /// The error for the client.
    pub error: ApiError,
    /// Whether its end also closes its connection.
    pub closes: bool,
    /// Whether it is lost, because the log does not have all its changes.
    pub is_lost: bool,
}

impl From<ApiError> for Missing {
    fn from(error: ApiError) -> Missing {
        Missing { error, closes: false, is_lost: false }
    }
}

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
    present_or_missing(state, session, upto).await.map_err(|missing| missing.error)
}

/// The same, with what the end of the session means for its connection.
///
/// # Errors
///
/// `no_session` or `not_ready`.
pub async fn present_or_missing(
    state: &Arc<ServerState>,
    session: SessionState,
    upto: Option<Cursor>,
) -> Result<SessionState, Missing> {
    let (id, kind) = (session.id.clone(), session.bookmarks);
    let (reason, closes) = match catch_up(&state.hub, session, upto).await {
        Ok(session) => return Ok(session),
        Err(CannotCatchUp::Late) => return Err(late().into()),
        Err(CannotCatchUp::Lost) => ("gap", false),
        Err(CannotCatchUp::Ended { closes }) => ("disconnected", closes),
    };
    if closes && kind == Bookmarks::Record {
        tell_connection(state, &id).await;
    }
    state.bookmarks(kind).end_soon(&id, reason);
    Err(Missing { error: state.sessions.unknown(), closes, is_lost: reason == "gap" })
}

/// Repeats the end of a session on its own channel. The entry that has ended it may be for a user or a channel, and when
/// the record does not have the session any more, nobody knows that this was the session's user or channel.
async fn tell_connection(state: &Arc<ServerState>, id: &SessionId) {
    let end = Change { disconnect: true, closes: true, ..Change::default() };
    let entry = ControlEntry::Change(end).draft(Some(id));
    // If that fails, only the namespace ends.
    let _ = append(state, entry.into_iter().collect()).await;
}

/// The error for a node that is behind.
pub fn late() -> ApiError {
    let text = "this node has not read the log up to the session's position; come back in a moment";
    ApiError::until(Code::NotReady, text, RETRY)
}
