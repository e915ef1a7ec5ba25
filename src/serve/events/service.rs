//! Passes events and answers of clients on to the application, and carries out what it answers.

use super::append::append;
use super::late_end::LateEnd;
use super::present::present;
use super::{answers, caller};
use crate::message::{Channel, ClientId, Draft, User};
use crate::serve::access::credentials::Credentials;
use crate::serve::client_sessions::protocol::NATIVE;
use crate::serve::client_sessions::state::{Awaited, SessionState};
use crate::serve::hook::call::{CallContent, Caller, HookCall};
use crate::serve::hook::call_type::CallType;
use crate::serve::hook::{Answered, Hook, QueuedCall};
use crate::serve::limits::memory::Reservation;
use crate::serve::limits::rate_limiter::EventSender;
use crate::serve::state::ServerState;
use crate::transport::{ApiError, ClientAck, ClientEvent, Code};
use std::future::Future;
use std::sync::Arc;

/// The client that sends an event.
pub struct Sender {
    /// The client id that it names.
    pub named: Option<ClientId>,
    /// The id that the server has made for its connection. It counts where there is no other id.
    pub made: Option<ClientId>,
    /// The credentials of its request, or of its handshake.
    pub credentials: Arc<Credentials>,
    /// The channels that it reads on this connection.
    pub channels: Vec<Channel>,
    /// Its session, if it has one.
    pub session: Option<Box<SessionState>>,
}

/// The answer to an event.
pub struct EventAnswer {
    /// The arguments for the client's callback, as JSON on one line.
    pub ack: Option<String>,
    /// The end of the session, which comes after the arguments.
    pub end: Option<Box<LateEnd>>,
    /// The memory of the answer, until the client has it.
    _memory: Reservation,
}

/// A call that waits for its turn, and what its answer needs.
struct Waiting {
    queued: QueuedCall,
    client: Option<ClientId>,
    session: Option<Box<SessionState>>,
    /// The client's answer that the call passes on.
    acked: Option<Awaited>,
}

/// Passes an event on to the application. The event gets its position after the client's earlier events at once. The
/// future completes when what the application answers is in the log.
///
/// # Errors
///
/// The reason why the application is not called.
///
/// # Cancel safety
///
/// If the future is dropped, the call still runs to its end, and its answer is carried out.
pub fn send(
    state: &Arc<ServerState>,
    sender: Sender,
    event: ClientEvent,
) -> Result<impl Future<Output = Result<EventAnswer, ApiError>> + Send + 'static, ApiError> {
    let hook = hook(state)?.clone();
    call(state, hook, sender, CallContent::Event(event), None)
}

/// Passes a client's answer to an event of the application on to it.
///
/// # Errors
///
/// The reason why the application is not called. It does not wait for this answer, for example.
pub fn acknowledge(
    state: &Arc<ServerState>,
    sender: Sender,
    ack: ClientAck,
) -> Result<impl Future<Output = Result<EventAnswer, ApiError>> + Send + 'static, ApiError> {
    let hook = any_hook(state)?.clone();
    let Some(session) = &sender.session else {
        return Err(ApiError::new(Code::NoSession, "an answer to an event needs the session that got the event"));
    };
    let awaited = session.awaited(&ack.name).cloned().ok_or_else(|| not_awaited(state))?;
    let content = CallContent::Ack { name: ack.name, asked_at: awaited.at, args: ack.args };
    call(state, hook, sender, content, Some(awaited))
}

fn not_awaited(state: &ServerState) -> ApiError {
    state.sessions.metrics.unknown_acks.inc();
    ApiError::new(Code::BadRequest, "the application does not wait for this answer, or it has it already")
}

fn call(
    state: &Arc<ServerState>,
    hook: Arc<Hook>,
    sender: Sender,
    content: CallContent,
    acked: Option<Awaited>,
) -> Result<impl Future<Output = Result<EventAnswer, ApiError>> + Send + 'static, ApiError> {
    let Sender { named, made, credentials, channels, session } = sender;
    let (client, subject) = state.authorizer.identify(&credentials, named)?;
    let (line, caller) = match &session {
        Some(session) => (caller::line_of(session, credentials.ip), caller::of_session(session)),
        None => {
            let line = EventSender::new(client.or(made), subject.as_deref(), credentials.ip);
            let user = subject.map(|subject| serde_json::json!({ "id": subject }).to_string());
            let caller = Caller {
                protocol: NATIVE.name.to_owned(),
                session: None,
                client: line.client.clone(),
                endpoint: "/".to_owned(),
                user,
                data: None,
                channels,
            };
            (line, caller)
        }
    };
    state.rates.event(&line)?;
    let client = caller.client.clone();
    let is_called = hook.takes(content.kind());
    let queued = hook.queue(HookCall::new(line, credentials, caller, content))?;
    let waiting = Waiting { queued, client, session, acked };
    // The call runs in a separate task. A client that does not read its answers polls nothing, and would otherwise
    // keep a connection to the application.
    let call = tokio::spawn(carry_out(state.clone(), is_called.then_some(hook), waiting));
    Ok(async move {
        let failed = || ApiError::passing(Code::ApplicationFailed, "the call to the application has failed");
        call.await.unwrap_or_else(|_| Err(failed()))
    })
}

/// The hook, if the server passes events on.
///
/// # Errors
///
/// `no_hook`.
pub fn hook(state: &ServerState) -> Result<&Arc<Hook>, ApiError> {
    any_hook(state).and_then(|hook| if hook.takes(CallType::Event) { Ok(hook) } else { Err(no_hook()) })
}

/// The hook, if there is an application.
///
/// # Errors
///
/// `no_hook`.
pub fn any_hook(state: &ServerState) -> Result<&Arc<Hook>, ApiError> {
    state.hook.as_ref().ok_or_else(no_hook)
}

fn no_hook() -> ApiError {
    ApiError::new(Code::NoHook, "this server does not pass events on to an application: see --hook-url")
}

/// Calls the application, and carries out its answer. `hook` is `None` if the application does not get calls of this
/// type.
async fn carry_out(
    state: Arc<ServerState>,
    hook: Option<Arc<Hook>>,
    waiting: Waiting,
) -> Result<EventAnswer, ApiError> {
    let Waiting { mut queued, client, session, acked } = waiting;
    if let (Some(hook), Some(session)) = (&state.hook, session.clone()) {
        // The answers to earlier calls may have changed the session since the call was queued.
        hook.turn(&mut queued).await;
        let session = present(&state, *session, None).await?;
        if acked.as_ref().is_some_and(|acked| !session.awaited.contains(acked)) {
            return Err(not_awaited(&state));
        }
        queued.set_caller(caller::of_session(&session));
    }
    let max = state.settings.max_message;
    let read = |json: &str| answers::publication(json, client.as_ref(), max);
    let mut memory = state.budget.publication();
    let id = session.as_ref().map(|session| &session.id);
    let Some(hook) = hook else {
        append(&state, answers::entries(Default::default(), id, acked, Vec::new())).await?;
        return Ok(EventAnswer { ack: None, end: None, _memory: memory });
    };
    let mut answered = hook.call(queued, max, read).await?;
    let (mut answer, publish) = (std::mem::take(&mut answered.session), std::mem::take(&mut answered.publish));
    let end = answered.ack.as_ref().and_then(|_| answers::take_end(&mut answer, id?));
    let drafts = answers::entries(answer, id, acked, publish);
    let size = |answered: &Answered<Draft>| answered.ack.as_ref().map_or(0, String::len);
    memory.resize(size(&answered) + drafts.iter().map(Draft::size).sum::<usize>())?;
    append(&state, drafts).await?;
    memory.resize(size(&answered))?;
    Ok(EventAnswer { ack: answered.ack, end: LateEnd::new(&state, end), _memory: memory })
}

/// The user that a token names.
pub fn user_of(subject: Option<String>) -> Option<Arc<User>> {
    User::new(&subject?, None).ok().map(Arc::new)
}
