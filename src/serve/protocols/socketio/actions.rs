//! What an event of a client does: a rule of the flags, or a call to the application.

use super::opening::channel_of;
use super::packets::Answer;
use super::settings::Action;
use super::shared::Shared;
use crate::message::{Channel, DraftFields, IdempotencyKey};
use crate::serve::access::credentials::Credentials;
use crate::serve::access::query::{self, AccessRequest};
use crate::serve::client_sessions::change::{Change, ControlEntry, room_channel};
use crate::serve::client_sessions::state::{MAX_CHANNELS, SessionState};
use crate::serve::events::append::append;
use crate::serve::events::caller;
use crate::serve::events::present::present;
use crate::serve::events::service::{self as events, EventAnswer, Sender};
use crate::serve::hook::call_type::CallType;
use crate::serve::metrics::delivery::PublishSource;
use crate::serve::publishing::service;
use crate::serve::state::ServerState;
use crate::transport::params::too_many_channels;
use crate::transport::{ApiError, ClientAck, ClientEvent, Code};
use crate::wire::json;
use crate::wire::socketio::assembler::Complete;
use crate::wire::socketio::binary;
use futures_util::future::BoxFuture;
use serde_json::value::RawValue;
use std::sync::Arc;

/// The longest name of a room, in bytes.
const MAX_ROOM: usize = 200;

/// The work that an event has begun.
pub enum Work {
    /// The answer of the application. Calls keep their order by themselves.
    Call(BoxFuture<'static, Result<EventAnswer, ApiError>>),
    /// An action of a rule. The client's next event waits for it.
    Rule(BoxFuture<'static, Answer>),
}

/// An event of a client, as it is passed on.
struct Event {
    name: String,
    /// The arguments, as a JSON array.
    args: String,
    count: usize,
}

/// The socket that an event comes from.
pub struct Source<'a> {
    /// Its session.
    pub session: &'a SessionState,
    /// The credentials of its connection.
    pub credentials: &'a Arc<Credentials>,
    /// The credentials with the token that the page has given for the namespace.
    pub publisher: &'a Arc<Credentials>,
}

/// Begins what an event does; `None` if nobody takes it. `key` distinguishes the event from other events of the socket,
/// so that a repeated call to the application has the same id.
///
/// # Errors
///
/// The event is refused.
pub fn begin(
    state: &Arc<ServerState>,
    shared: &Shared,
    source: &Source<'_>,
    packet: &Complete<'_>,
    key: Option<String>,
) -> Result<Option<Work>, ApiError> {
    let event = read(packet, state.settings.max_message)?;
    if let Some(action) = shared.settings.action(&source.session.endpoint, &event.name) {
        return rule(state, source, action, event, key).map(|work| Some(Work::Rule(work)));
    }
    if !state.hook.as_ref().is_some_and(|hook| hook.takes(CallType::Event)) {
        return Ok(None);
    }
    let event = ClientEvent {
        name: crate::message::Event::of_session(&event.name)?,
        args: raw(event.args)?,
        channel: None,
        key,
        wants_ack: packet.packet.ack.is_some(),
    };
    let answer = events::send(state, sender(source), event)?;
    Ok(Some(Work::Call(Box::pin(answer))))
}

/// Passes a client's answer to an event of the application on to it.
///
/// # Errors
///
/// The application does not wait for the answer.
pub fn acknowledge(
    state: &Arc<ServerState>,
    source: &Source<'_>,
    packet: &Complete<'_>,
    name: String,
) -> Result<BoxFuture<'static, Answer>, ApiError> {
    let args = with_parts(packet.packet.json.as_deref().unwrap_or("[]"), packet, state.settings.max_message)?;
    let answer = events::acknowledge(state, sender(source), ClientAck { name, args: raw(args)? })?;
    Ok(Box::pin(async move { answer.await.map(|_| None) }))
}

fn sender(source: &Source<'_>) -> Sender {
    Sender {
        named: None,
        made: Some(source.session.client.clone()),
        credentials: source.credentials.clone(),
        channels: Vec::new(),
        session: Some(Box::new(source.session.clone())),
    }
}

/// The arguments with their binary parts, which may have `max` bytes.
fn with_parts(json: &str, packet: &Complete<'_>, max: usize) -> Result<String, ApiError> {
    let joined = match &*packet.attachments {
        [] if json.len() <= max => Some(json.to_owned()),
        [] => None,
        parts => binary::join(json, parts, max),
    };
    joined
        .ok_or_else(|| ApiError::new(Code::TooLarge, format!("the arguments of an event may have at most {max} bytes")))
}

fn read(packet: &Complete<'_>, max: usize) -> Result<Event, ApiError> {
    let malformed = || ApiError::new(Code::BadRequest, "an event is an array of its name and its arguments");
    let event = packet.packet.event().ok_or_else(malformed)?;
    let (name, count) = (event.name.into_owned(), event.count);
    let args = with_parts(&format!("[{}]", event.arguments), packet, max.saturating_add(2))?;
    Ok(Event { name, args, count })
}

fn raw(json: String) -> Result<Box<RawValue>, ApiError> {
    RawValue::from_string(json).map_err(|_| ApiError::new(Code::BadJson, "the arguments are not JSON"))
}

/// Begins the action of a rule. `key` distinguishes the event from other events of the socket.
fn rule(
    state: &Arc<ServerState>,
    source: &Source<'_>,
    action: Action,
    event: Event,
    key: Option<String>,
) -> Result<BoxFuture<'static, Answer>, ApiError> {
    let state = state.clone();
    state.rates.event(&caller::line_of(source.session, source.credentials.ip))?;
    match action {
        Action::Join | Action::Leave => {
            let room = room(&event).ok_or_else(|| {
                ApiError::new(Code::BadRequest, "the first argument has to be the name of a room, with 1 to 200 bytes")
            })?;
            let channel = room_channel(&source.session.endpoint, &room);
            let channel = channel.ok_or_else(|| ApiError::new(Code::BadChannel, "the name of the room is too long"))?;
            let change = match action {
                Action::Join => Change { rooms: vec![room], ..Change::default() },
                _ => Change { leave_rooms: vec![room], ..Change::default() },
            };
            let entry = ControlEntry::Change(change).draft(Some(&source.session.id));
            let joins =
                (action == Action::Join).then(|| (Credentials::clone(source.publisher), source.session.clone()));
            Ok(Box::pin(async move {
                if let Some((credentials, session)) = joins {
                    check_room(&state, session, &channel).await?;
                    let (action, channels) = (query::Action::Subscribe, vec![channel]);
                    state.authorizer.ask(AccessRequest { action, channels, client: None, credentials }).await?;
                }
                append(&state, entry.into_iter().collect()).await?;
                Ok(Some("[]".to_owned()))
            }))
        }
        Action::Publish | Action::Broadcast => {
            let only = json::only_item(&event.args).filter(|_| event.count == 1);
            let fields = DraftFields {
                data: only.unwrap_or(&event.args),
                is_args: only.is_none(),
                event: Some(&event.name),
                ..DraftFields::default()
            };
            let channel = channel_of(&source.session.endpoint);
            let channel =
                channel.ok_or_else(|| ApiError::new(Code::BadChannel, "the name of the namespace is too long"))?;
            let mut draft = fields.check(channel, state.settings.max_message)?;
            // A repeated POST publishes once. The key is not the time stamp itself, which another connection may have, too.
            let key = key.map(|key| source.session.id.derived(&format!("publish:{key}")));
            draft.key = key.and_then(|key| IdempotencyKey::new("", key.secret()).ok());
            draft.exclude = (action == Action::Broadcast).then(|| source.session.client.clone());
            let credentials = source.publisher.clone();
            Ok(Box::pin(async move {
                let mut drafts = vec![draft];
                service::authorize(&state, &credentials, None, &mut drafts).await?;
                service::append(&state, PublishSource::Command, drafts).await?;
                Ok(Some("[]".to_owned()))
            }))
        }
    }
}

/// Checks that a session may read one more channel. Earlier joins may be in the log already.
async fn check_room(state: &Arc<ServerState>, session: SessionState, channel: &Channel) -> Result<(), ApiError> {
    let session = present(state, session, None).await?;
    let most = state.settings.limits.channels.min(MAX_CHANNELS);
    if session.channels.contains_key(channel) || session.channels.len() < most {
        return Ok(());
    }
    Err(too_many_channels(most))
}

/// The room that the first argument names. A number is a name, too.
fn room(event: &Event) -> Option<String> {
    let args: Vec<serde_json::Value> = serde_json::from_str(&event.args).ok()?;
    let room = match args.into_iter().next()? {
        serde_json::Value::String(room) => room,
        serde_json::Value::Number(room) => room.to_string(),
        _ => return None,
    };
    (1..=MAX_ROOM).contains(&room.len()).then_some(room)
}
