//! Begins sessions, and finds those that a client names.

use super::append::append;
use super::present::{Missing, late, present, present_or_missing};
use super::{answers, caller};
use crate::cursor::{Cursor, Start};
use crate::log::{Page, Resolved};
use crate::message::{Channel, ClientId, Draft, User};
use crate::serve::access::credentials::Credentials;
use crate::serve::client_sessions::change::{Change, ControlEntry};
use crate::serve::client_sessions::id::SessionId;
use crate::serve::client_sessions::protocol::{Bookmarks, SessionProtocol};
use crate::serve::client_sessions::state::{MAX_CHANNELS, SessionState, TooManyChannels};
use crate::serve::hook::Answered;
use crate::serve::hook::call::{CallContent, Connect, HookCall};
use crate::serve::hook::call_type::CallType;
use crate::serve::limits::connections::network;
use crate::serve::state::ServerState;
use crate::transport::params::too_many_channels;
use crate::transport::{ApiError, Code, WantedSession};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long a request waits for a node that is behind the client's cursor.
const AHEAD_WAIT: Duration = Duration::from_secs(5);

/// How long a node waits for its own reader of the log before it asks the log.
const TAIL_WAIT: Duration = Duration::from_millis(30);

/// How often a node that is behind looks at the end of the log.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// A request of a client that has or wants a session.
pub struct SessionRequest<'a> {
    /// The session.
    pub wanted: &'a WantedSession,
    /// The protocol that the client speaks.
    pub protocol: SessionProtocol,
    /// The path or the name space that the client has connected to, as the application sees it.
    pub endpoint: &'a str,
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

/// Begins a session.
async fn begin(state: &Arc<ServerState>, request: SessionRequest<'_>) -> Result<SessionState, ApiError> {
    let id = SessionId::random().ok_or_else(|| ApiError::new(Code::NotReady, "there are no random numbers"))?;
    let head = state.hub.head().ok_or_else(late)?;
    let client = request.client.clone().unwrap_or_else(ClientId::random);
    let mut session = SessionState::new(id, request.protocol.name, request.endpoint, client, head);
    session.bookmarks = request.protocol.bookmarks;
    session.user = request.user.clone();
    session.name_all(request.channels).map_err(too_many)?;
    admit(state, session, request.credentials, request.connect, request.time).await
}

/// Stores a session that begins, if its client's network may have one more, and asks the application about it if the
/// application wants that. What the application answers is a part of the session's first state.
///
/// # Errors
///
/// The reason why the client cannot have the session.
pub async fn admit(
    state: &Arc<ServerState>,
    session: SessionState,
    credentials: &Arc<Credentials>,
    connect: Connect,
    time: Duration,
) -> Result<SessionState, ApiError> {
    let Some(network) = state.proxies.counted(credentials.ip).map(network) else {
        return store(state, session, credentials, connect, time).await;
    };
    state.sessions.admit(network, &session.id, time)?;
    let mut place = NetworkPlace { state, id: session.id.clone(), is_kept: false };
    let stored = store(state, session, credentials, connect, time).await;
    place.is_kept = stored.is_ok();
    stored
}

/// The place of a session that begins among those of its network. It is given back if the session does not begin, also if
/// the client goes away while the application is asked.
struct NetworkPlace<'a> {
    state: &'a ServerState,
    id: SessionId,
    is_kept: bool,
}

impl Drop for NetworkPlace<'_> {
    fn drop(&mut self) {
        if !self.is_kept {
            self.state.sessions.give_back(&self.id);
        }
    }
}

/// Stores a session that begins, and asks the application about it.
async fn store(
    state: &Arc<ServerState>,
    mut session: SessionState,
    credentials: &Arc<Credentials>,
    connect: Connect,
    time: Duration,
) -> Result<SessionState, ApiError> {
    let sessions = &state.sessions;
    if !state.hook.as_ref().is_some_and(|hook| hook.takes(CallType::Connect)) {
        state.bookmarks(session.bookmarks).create(&mut session, time, true).await?;
        sessions.metrics.opened("opened");
        return Ok(session);
    }
    // The session has its place before the application is asked. So the application hears of the end of every session
    // that it has accepted, whatever fails after that.
    state.bookmarks(session.bookmarks).create(&mut session, time, false).await?;
    let (id, bookmarks) = (session.id.clone(), state.bookmarks(session.bookmarks));
    let accepted = match ask(state, &session, credentials.clone(), connect).await {
        Ok(Some(answered)) if answered.session.disconnect => {
            sessions.metrics.opened("refused");
            Err(ApiError::new(Code::Forbidden, "the application refuses the connection"))
        }
        other => other,
    };
    let answered = match accepted {
        Ok(answered) => answered,
        Err(refusal) => {
            bookmarks.forget(&id).await;
            return Err(refusal);
        }
    };
    match accept(state, session, answered, time).await {
        Ok(session) => {
            sessions.metrics.opened("opened");
            Ok(session)
        }
        Err(error) => {
            bookmarks.end_soon(&id, "gone");
            Err(error)
        }
    }
}

/// Carries out the application's answer for a session that begins.
async fn accept(
    state: &Arc<ServerState>,
    mut session: SessionState,
    answered: Option<Answered<Draft>>,
    time: Duration,
) -> Result<SessionState, ApiError> {
    let mut entries = Vec::new();
    if let Some(Answered { session: answer, publish, .. }) = answered {
        let ttl = answer.ttl;
        let refused = session.change(&answers::change(&answer)).refused_joins;
        state.sessions.metrics.refused_joins.inc_by(refused as u64);
        // The client has not read anything yet, and the last entry of the log may be old.
        session.departures.clear();
        if let Some(ttl) = ttl {
            session.ask_again_after(ttl, state.hub.log().now_ms());
        }
        entries.extend(answers::sent_events(answer).filter_map(|entry| entry.draft(Some(&session.id))));
        entries.extend(publish);
    }
    // While the application was asked, there may have been changes for the user, the client or the channels.
    let mut session = present(state, session, None).await?;
    state.bookmarks(session.bookmarks).complete(&mut session, time).await?;
    append(state, entries).await?;
    Ok(session)
}

/// Finds a session, and brings its state to the present.
async fn resume(state: &Arc<ServerState>, id: &str, request: SessionRequest<'_>) -> Result<SessionState, ApiError> {
    let upto = match request.start {
        Some(Start::After(cursor)) => Some(cursor),
        _ => None,
    };
    if let Some(cursor) = upto {
        // A poll waits only as long as its client does.
        let wait = Some(request.time).filter(|time| !time.is_zero()).map_or(AHEAD_WAIT, |time| time.min(AHEAD_WAIT));
        reach(state, cursor, wait).await?;
    }
    let mut session = find(state, id, upto, request.time).await?;
    if session.dialect != request.protocol.name {
        return Err(state.sessions.unknown());
    }
    if request.client.as_ref().is_some_and(|client| *client != session.client) {
        return Err(ApiError::new(Code::Forbidden, "the session belongs to another client id"));
    }
    if session.asks_again_ms.is_some_and(|at| at <= state.hub.log().now_ms()) {
        ask_again(state, &session, request.credentials.clone(), request.connect).await?;
        session = present(state, session, upto).await?;
    }
    session.name_all(request.channels).map_err(too_many)?;
    state.sessions.metrics.opened("resumed");
    Ok(session)
}

fn too_many(_: TooManyChannels) -> ApiError {
    too_many_channels(MAX_CHANNELS)
}

/// Finds a session by the id or the token that a client brings, and brings its state to the position `upto`, or to the present. It lives
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
    let session = state.bookmarks_of(id).find(id, time).await?;
    if upto.is_some() && session.bookmarks != Bookmarks::Record {
        // The record does not have a session that has ended. A token may be older than the end.
        present(state, session.clone(), None).await?;
    }
    present(state, session, upto).await
}

/// Finds a session as it is at a position that its client has from another node. Waits for a node that is behind it.
///
/// # Errors
///
/// `no_session`, `log_unavailable` or `not_ready`.
pub async fn find_at(state: &Arc<ServerState>, id: &str, at: Cursor, time: Duration) -> Result<SessionState, ApiError> {
    find_at_or_missing(state, id, at, time).await.map_err(|missing| missing.error)
}

/// The same, with what the end of the session means for its connection. A session that has ended after the position is
/// found, so that its client gets what stands before the end.
///
/// # Errors
///
/// As those of [`find_at`].
pub async fn find_at_or_missing(
    state: &Arc<ServerState>,
    id: &str,
    at: Cursor,
    time: Duration,
) -> Result<SessionState, Missing> {
    reach(state, at, AHEAD_WAIT).await?;
    let session = state.bookmarks_of(id).find(id, time).await?;
    present_or_missing(state, session, Some(at)).await
}

/// Finds a session as it is at the end of the log. A request at another node may just have changed it.
///
/// # Errors
///
/// `no_session`, `log_unavailable` or `not_ready`.
pub async fn find_latest(state: &Arc<ServerState>, id: &str) -> Result<SessionState, ApiError> {
    reach_end(state).await?;
    find(state, id, None, Duration::ZERO).await
}

/// Waits until the node has read up to the end of the log, and returns that position.
///
/// # Errors
///
/// `log_unavailable` or `not_ready`.
pub async fn reach_end(state: &ServerState) -> Result<Cursor, ApiError> {
    let until = Instant::now() + AHEAD_WAIT;
    loop {
        let head = state.hub.head().ok_or_else(late)?;
        let Ok(page) = timeout_at(until, state.hub.log().read(head, 1)).await else { return Err(late()) };
        let away = |_| ApiError::new(Code::LogUnavailable, "the log is not available at the moment");
        let Page { extent, messages, upto } = page.map_err(away)?;
        let end = Cursor { id: extent.end, epoch: extent.lineage.epoch };
        // The last entries of the log may have been deleted, and the node never gets to them.
        if head.epoch == end.epoch && messages.is_empty() && upto >= end.id {
            return Ok(head);
        }
        let soon = until.min(Instant::now() + LOOK_AGAIN);
        if timeout_at(soon, state.hub.reached_in_lineage(end)).await.is_ok() {
            return Ok(end);
        }
    }
}

/// Waits until the node has read up to a position that a client has from another node.
///
/// # Errors
///
/// `not_ready`.
pub async fn reach_at(state: &ServerState, at: Cursor) -> Result<(), ApiError> {
    reach(state, at, AHEAD_WAIT).await
}

/// Waits until the node has read up to a cursor that may have come from a faster node.
///
/// # Errors
///
/// `not_ready`: the changes of the session up to the cursor are not known here yet.
async fn reach(state: &ServerState, cursor: Cursor, wait: Duration) -> Result<(), ApiError> {
    let (hub, until) = (&state.hub, Instant::now() + wait);
    if hub.place(cursor).is_some_and(|place| hub.has_reached(place)) {
        return Ok(());
    }
    // Usually this node is behind by a moment only.
    if timeout_at(until.min(Instant::now() + TAIL_WAIT), hub.reached_in_lineage(cursor)).await.is_ok() {
        return Ok(());
    }
    // The log knows whether it has got to the cursor, and whether it has the cursor's epoch.
    let Ok(Ok(page)) = timeout_at(until, hub.log().read(cursor, 1)).await else { return Err(late()) };
    if matches!(page.extent.resolve(cursor), Resolved::Gap(_)) {
        return Ok(());
    }
    timeout_at(until, hub.reached_in_lineage(cursor)).await.map_err(|_| late())
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
/// The application does not accept the session any more. `rate_limited` or `not_ready`: it was not asked, and the session
/// goes on.
pub async fn ask_again(
    state: &Arc<ServerState>,
    session: &SessionState,
    credentials: Arc<Credentials>,
    connect: Connect,
) -> Result<(), ApiError> {
    let connect = Connect { number: session.asks_again_ms.unwrap_or_default(), ..connect };
    let end = || ControlEntry::Change(Change { disconnect: true, ..Change::default() }).draft(Some(&session.id));
    match ask(state, session, credentials, connect).await {
        // The application was not asked.
        Err(error) if matches!(error.code, Code::RateLimited | Code::NotReady) => Err(error),
        Ok(Some(mut answered)) => {
            let mut answer = std::mem::take(&mut answered.session);
            // Without a new time, the application is not asked again for a day.
            answer.ttl = answer.ttl.or(Some(86_400));
            append(state, answers::entries(answer, Some(&session.id), None, answered.publish)).await
        }
        Ok(None) => Ok(()),
        Err(refusal) => {
            append(state, end().into_iter().collect()).await?;
            Err(refusal)
        }
    }
}
