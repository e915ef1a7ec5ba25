//! Passes events on to the application, and publishes the messages in its answers.

use crate::cursor::Cursor;
use crate::message::{Channel, ClientId, Draft};
use crate::serve::access::credentials::Credentials;
use crate::serve::hook::call::EventCall;
use crate::serve::hook::{Answered, Hook, QueuedCall};
use crate::serve::limits::memory::Reservation;
use crate::serve::limits::rate_limiter::{EventSender, Publisher};
use crate::serve::metrics::delivery::PublishSource;
use crate::serve::publishing::{parse, service};
use crate::serve::state::ServerState;
use crate::transport::{ApiError, ClientEvent, Code};
use std::future::Future;
use std::sync::Arc;

/// The value of `exclude` in an answer that stands for the sender of the event.
const SELF: &str = "self";

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
}

/// The answer to an event.
pub struct EventAnswer {
    /// The arguments for the client's callback, as JSON on one line.
    pub ack: Option<String>,
    /// The memory of the answer, until the client has it.
    _memory: Reservation,
}

/// Passes an event on to the application. The event gets its position after the client's earlier events at once. The
/// future completes when the application's messages are in the log.
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
    let Sender { named, made, credentials, channels } = sender;
    let (client, user) = state.authorizer.identify(&credentials, named)?;
    let sender = EventSender::new(client.or(made), credentials.ip);
    state.rates.event(&sender)?;
    let queued = hook.queue(EventCall::new(sender.clone(), credentials, user, channels, event))?;
    // The call runs in a separate task. A client that does not read its answers polls nothing, and would otherwise
    // keep a connection to the application.
    let call = tokio::spawn(carry_out(state.clone(), hook, sender.client, queued));
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
    let none = || ApiError::new(Code::NoHook, "this server does not pass events on to an application: see --hook-url");
    state.hook.as_ref().filter(|hook| hook.takes_events()).ok_or_else(none)
}

async fn carry_out(
    state: Arc<ServerState>,
    hook: Arc<Hook>,
    client: Option<ClientId>,
    queued: QueuedCall,
) -> Result<EventAnswer, ApiError> {
    let read = |json: &str| publication(json, client.as_ref(), state.settings.max_message);
    let mut answered = hook.call(queued, read).await?;
    let mut memory = state.budget.publication();
    let drafts = std::mem::take(&mut answered.publish);
    let size = |answered: &Answered<Draft>| answered.ack.as_ref().map_or(0, String::len);
    memory.resize(size(&answered) + drafts.iter().map(Draft::size).sum::<usize>())?;
    if !drafts.is_empty() {
        append(&state, drafts).await?;
    }
    memory.resize(size(&answered))?;
    Ok(EventAnswer { ack: answered.ack, _memory: memory })
}

/// Reads a publish object of an answer. The application may publish to any channel, as with a server key.
fn publication(json: &str, client: Option<&ClientId>, max: usize) -> Result<Draft, ApiError> {
    let mut draft = parse::one(json, max)?;
    if draft.exclude.as_ref().is_some_and(|excluded| excluded.to_string() == SELF) {
        draft.exclude = client.cloned();
    }
    if let Some(key) = &mut draft.key {
        (key.publisher, key.owner) = (Publisher::Server.scope(), Publisher::Server.owner());
    }
    Ok(draft)
}

async fn append(state: &Arc<ServerState>, drafts: Vec<Draft>) -> Result<Vec<Option<Cursor>>, ApiError> {
    service::append(state, PublishSource::Hook, drafts).await
}
