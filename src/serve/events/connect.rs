//! Begins sessions, and finds those that a client names.

use super::service::{self, NATIVE};
use super::{answers, caller};
use crate::cursor::{Cursor, Start};
use crate::message::Draft;
use crate::message::{Channel, ClientId, User};
use crate::serve::access::credentials::Credentials;
use crate::serve::client_sessions::catch_up::{CannotCatchUp, catch_up};
use crate::serve::client_sessions::change::{Change, ControlEntry};
use crate::serve::client_sessions::id::SessionId;
use crate::serve::client_sessions::state::SessionState;
use crate::serve::hook::Answered;
use crate::serve::hook::call::{CallContent, Connect, HookCall};
use crate::serve::hook::call_type::CallType;
use crate::serve::state::ServerState;
use crate::transport::{ApiError, Code, WantedSession};
use std::sync::Arc;
use std::time::Duration;

/// How long a request waits for a node that is behind the client's cursor.
const AHEAD_WAIT: Duration = Duration::from_secs(5);

/// A request of a client that has or wants a session.
pub struct SessionRequest<'a> {
    /// The session.
    pub wanted: &'a WantedSession,
    /// The client id that the request names, or that its credentials are bound to.
    pub client: Option<ClientId>,
    /// The channels that it names.
    pub channels: &'a [Channel],
    /// The position that it names.
    pub start: Option<Start>,
    /// Its credentials.
    pub credentials: &'a Arc<Credentials>,
    /// The user that the credentials or the application have named.
    pub user: Option<Arc<User>>,
    /// What the application is told.
    pub connect: Connect,
    /// How long the request may take.
    pub time: Duration,
}

/// Begins the session that a request wants, or finds the one that it names. The state is that of the node's present
/// position.
///
/// # Errors
///
/// The reason why the client cannot have the session.
pub async fn open(state: &Arc<ServerState>, request: SessionRequest<'_>) -> Result<SessionState, ApiError> {
    match request.wanted {
        WantedSession::New => begin(state, request).await,
        WantedSession::Known(id) => resume(state, id, request).await,
    }
}

/// Begins a session. What the application answers is a part of its first state.
async fn begin(state: &Arc<ServerState>, request: SessionRequest<'_>) -> Result<SessionState, ApiError> {
    let id = SessionId::random().ok_or_else(|| ApiError::new(Code::NotReady, "there are no random numbers"))?;
    let head = state.hub.head().ok_or_else(late)?;
    let client = request.client.clone().unwrap_or_else(ClientId::random);
    let mut session = SessionState::new(id, NATIVE, "/", client, head);
    session.user = request.user.clone();
    session.name_all(request.channels);
    let mut entries = Vec::new();
    if let Some(answered) = ask(state, &session, request.credentials.clone(), request.connect).await? {
        let Answered { session: answer, publish, .. } = answered;
        if answer.disconnect {
            state.sessions.metrics.opened("refused");
            return Err(ApiError::new(Code::Forbidden, "the application refuses the connection"));
        }
        let refused = session.change(&answers::change(&answer));
        state.sessions.metrics.refused_joins.inc_by(refused as u64);
        entries.extend(answers::sent_events(answer).filter_map(|entry| entry.draft(Some(&session.id))));
        entries.extend(publish);
    }
    // While the application was asked, there may have been changes for the user, the client or the channels.
    let session = present(state, session, None).await?;
    state.sessions.create(&session, request.time).await?;
    service::append(state, entries).await?;
    Ok(session)
}

/// Finds a session, and brings its state to the present.
async fn resume(state: &Arc<ServerState>, id: &str, request: SessionRequest<'_>) -> Result<SessionState, ApiError> {
    let upto = match request.start {
        Some(Start::After(cursor)) => {
            reach(state, cursor).await;
            Some(cursor)
        }
        _ => None,
    };
    let mut session = find(state, id, upto, request.time).await?;
    if request.client.as_ref().is_some_and(|client| *client != session.client) {
        return Err(ApiError::new(Code::Forbidden, "the session belongs to another client id"));
    }
    if session.asks_again_ms.is_some_and(|at| at <= state.hub.log().now_ms()) {
        ask_again(state, &session, request.credentials.clone(), request.connect).await?;
        session = present(state, session, upto).await?;
    }
    session.name_all(request.channels);
    state.sessions.metrics.opened("resumed");
    Ok(session)
}

/// Finds a session by the id that a client names, and brings its state to the position `upto`, or to the present. It lives
/// for `time` and the usual time after it.
///
/// # Errors
///
/// `no_session`, `log_unavailable` or `not_ready`.
pub async fn find(
    state: &Arc<ServerState>,
    id: &str,
    upto: Option<Cursor>,
    time: Duration,
) -> Result<SessionState, ApiError> {
    let id = SessionId::parse(id).ok_or_else(|| state.sessions.unknown())?;
    let session = state.sessions.find(&id, time).await?;
    present(state, session, upto).await
}

async fn present(
    state: &Arc<ServerState>,
    session: SessionState,
    upto: Option<Cursor>,
) -> Result<SessionState, ApiError> {
    let id = session.id.clone();
    catch_up(&state.hub, session, upto).await.map_err(|error| match error {
        CannotCatchUp::Late => late(),
        CannotCatchUp::Lost => {
            state.sessions.end_soon(&id, "disconnected");
            state.sessions.unknown()
        }
    })
}

fn late() -> ApiError {
    ApiError::new(Code::NotReady, "this node has not read the log up to the session's position; come back in a moment")
}

/// Waits a while until the node has read up to a cursor that may have come from a faster node.
async fn reach(state: &ServerState, cursor: Cursor) {
    if !state.hub.has_reached(cursor) {
        let _ = tokio::time::timeout(AHEAD_WAIT, state.hub.reached(cursor)).await;
    }
}

/// Asks the application about a session that begins or goes on. `None` if the application is not called.
async fn ask(
    state: &Arc<ServerState>,
    session: &SessionState,
    credentials: Arc<Credentials>,
    connect: Connect,
) -> Result<Option<Answered<Draft>>, ApiError> {
    let Some(hook) = state.hook.as_ref().filter(|hook| hook.takes(CallType::Connect)) else { return Ok(None) };
    let content = CallContent::Connect(Box::new(connect));
    let line = caller::line_of(session, credentials.ip);
    let call = HookCall::new(line, credentials, caller::of_session(session), content);
    let max = state.settings.max_message;
    let read = |json: &str| answers::publication(json, Some(&session.client), max);
    let answered = hook.call(hook.queue(call)?, max, read).await;
    if answered.is_err() {
        state.sessions.metrics.opened("refused");
    }
    answered.map(Some)
}

/// Asks the application again about a session whose time is over. Without an answer that accepts it, the session ends.
///
/// # Errors
///
/// The application does not accept the session any more.
pub async fn ask_again(
    state: &Arc<ServerState>,
    session: &SessionState,
    credentials: Arc<Credentials>,
    connect: Connect,
) -> Result<(), ApiError> {
    let connect = Connect { number: session.asks_again_ms.unwrap_or_default(), ..connect };
    let end = || ControlEntry::Change(Change { disconnect: true, ..Change::default() }).draft(Some(&session.id));
    match ask(state, session, credentials, connect).await {
        Ok(Some(mut answered)) => {
            let mut answer = std::mem::take(&mut answered.session);
            // Without a new time, the application is not asked again for a day.
            answer.ttl = answer.ttl.or(Some(86_400));
            service::append(state, answers::entries(answer, Some(&session.id), None, answered.publish)).await
        }
        Ok(None) => Ok(()),
        Err(refusal) => {
            service::append(state, end().into_iter().collect()).await?;
            Err(refusal)
        }
    }
}
