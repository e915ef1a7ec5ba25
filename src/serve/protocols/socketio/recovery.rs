//! Connection state recovery: a client that has lost its connection goes on with its socket, and gets what it has missed.
//!
//! With `--socketio-recovery`, the answer to a CONNECT has a secret (`pid`), and each event has its position as one more
//! argument. A client from 4.6 on sends both with its next CONNECT.

use super::opening::{self, DIALECT, Wanted, channel_of};
use super::shared::Shared;
use crate::cursor::{Cursor, Start};
use crate::hub::{LIMIT, Step};
use crate::message::Channel;
use crate::serve::client_sessions::registry::CLOSED;
use crate::serve::client_sessions::state::SessionState;
use crate::serve::events::connect;
use crate::serve::state::ServerState;
use crate::transport::ApiError;
use serde_json::value::RawValue;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// How long the log may take to say whether it has what the client has missed.
const LOG_WAIT: Duration = Duration::from_secs(5);

/// What a client remembers of its socket.
#[derive(Debug, PartialEq, Eq)]
pub struct Remembered {
    pid: String,
    /// The position of its last event; `None` if it has not got one.
    offset: Option<String>,
}

/// Takes what a client remembers out of its `auth` object. Returns that, and the rest of the object.
pub fn take(auth: &str) -> Option<(Remembered, Box<RawValue>)> {
    let mut fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(auth).ok()?;
    let pid = fields.remove("pid")?.as_str()?.to_owned();
    let offset = fields.remove("offset").and_then(|offset| offset.as_str().map(str::to_owned));
    Some((Remembered { pid, offset }, serde_json::value::to_raw_value(&fields).ok()?))
}

/// Finds the socket that a client remembers, and the position from which it goes on; `None` if the client has to begin
/// anew: the socket is over, or the log does not have all that the client has missed.
async fn recover(state: &Arc<ServerState>, remembered: &Remembered, wanted: &Wanted) -> Option<(SessionState, Cursor)> {
    if !state.is_ready().await {
        return None;
    }
    let offset: Option<Cursor> = remembered.offset.as_ref().map(|offset| offset.parse()).transpose().ok()?;
    let found = match offset {
        Some(at) => connect::find_at(state, &remembered.pid, at, CLOSED).await,
        None => connect::find(state, &remembered.pid, None, CLOSED).await,
    };
    let session = found.ok()?;
    if session.dialect != DIALECT || session.endpoint != *wanted.namespace {
        return None;
    }
    let at = match offset {
        Some(offset) => offset,
        // It has read nothing since it has connected.
        None => session.channels.get(&channel_of(&wanted.namespace)?)?.joined?,
    };
    let channels: Vec<Channel> = session.channels_from(at.id).into_iter().collect();
    let mut subscription = state.hub.subscribe(None, &channels, Start::After(at), None, None);
    let mut batch = Vec::new();
    let step = poll_fn(|cx| subscription.poll_step(cx, LIMIT, &mut batch));
    if matches!(timeout(LOG_WAIT, step).await, Err(_) | Ok(Step::Gap(_))) {
        return None;
    }
    connect::ask_again(state, &session, wanted.credentials.clone(), wanted.connect.clone()).await.ok()?;
    Some((session, at))
}

/// Goes on with the socket that a client remembers, or begins a new one. Returns the position from which it goes on, if
/// that is not the present one of its session.
pub async fn recover_or_open(
    state: Arc<ServerState>,
    shared: Arc<Shared>,
    remembered: Option<Remembered>,
    wanted: Wanted,
) -> (Option<Cursor>, Result<SessionState, ApiError>) {
    if let Some(remembered) = &remembered
        && let Some((session, at)) = recover(&state, remembered, &wanted).await
    {
        return (Some(at), Ok(session));
    }
    (None, opening::open(state, shared, wanted).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_remembers_is_not_for_the_application() {
        let (remembered, rest) = take(r#"{"pid":"p","a":1,"offset":"5-0.a"}"#).expect("remembered");
        assert_eq!(remembered, Remembered { pid: "p".into(), offset: Some("5-0.a".into()) });
        assert_eq!(rest.get(), r#"{"a":1}"#);
        let (remembered, rest) = take(r#"{"pid":"p","offset":7}"#).expect("remembered");
        assert_eq!((remembered.offset, rest.get()), (None, "{}"));
        for auth in ["{}", r#"{"offset":"5-0.a"}"#, r#"{"pid":1}"#, "[]"] {
            assert!(take(auth).is_none(), "{auth}");
        }
    }
}
