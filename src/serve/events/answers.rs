//! Turns the application's answer to a call into entries of the log.

use crate::message::{Channel, ClientId, Draft};
use crate::serve::client_sessions::change::{Change, ControlEntry, Json, Send};
use crate::serve::client_sessions::id::SessionId;
use crate::serve::client_sessions::state::Awaited;
use crate::serve::hook::answer::SessionAnswer;
use crate::serve::limits::rate_limiter::Publisher;
use crate::serve::publishing::parse;
use crate::transport::ApiError;

/// The value of `exclude` in an answer that stands for the client of the call.
const SELF: &str = "self";

/// Reads a publish object of an answer. The application may publish to any channel, as with a server key.
///
/// # Errors
///
/// The object is not a message.
pub fn publication(json: &str, client: Option<&ClientId>, max: usize) -> Result<Draft, ApiError> {
    let mut draft = parse::one(json, max)?;
    if draft.exclude.as_ref().is_some_and(|excluded| excluded.to_string() == SELF) {
        draft.exclude = client.cloned();
    }
    if let Some(key) = &mut draft.key {
        (key.publisher, key.owner) = (Publisher::Server.scope(), Publisher::Server.owner());
    }
    Ok(draft)
}

/// What an answer changes in the state of a session, apart from its end.
pub fn change(answer: &SessionAnswer) -> Change {
    let names = |channels: &[Channel]| channels.iter().map(Channel::to_string).collect();
    Change {
        leave: names(&answer.leave),
        leave_rooms: answer.leave_rooms.clone(),
        join: names(&answer.join),
        rooms: answer.rooms.clone(),
        user: answer.user.as_deref().and_then(Json::parse),
        data: answer.data.as_deref().and_then(Json::parse),
        ttl: answer.ttl,
        ..Change::default()
    }
}

/// The events that an answer sends to the session.
pub fn sent_events(answer: SessionAnswer) -> impl Iterator<Item = ControlEntry> {
    answer.send.into_iter().filter_map(|sent| {
        let args = Json::parse(&sent.args)?;
        Some(ControlEntry::Send(Send { to: None, filter: None, event: sent.event, args, ack: sent.ack }))
    })
}

/// The entries of an answer, in their order: the session joins and leaves first, then it gets its events, then come the
/// messages, and then the end of the session.
pub fn entries(
    answer: SessionAnswer,
    session: Option<&SessionId>,
    acked: Option<Awaited>,
    publish: Vec<Draft>,
) -> Vec<Draft> {
    let mut answer = answer;
    let acked = acked.into_iter().map(|awaited| (awaited.name, awaited.at.to_string())).collect();
    let change = Change { acked, ..change(&answer) };
    let end = session.and_then(|session| take_end(&mut answer, session));
    let first = (!change.is_empty()).then_some(ControlEntry::Change(change));
    let control = first.into_iter().chain(sent_events(answer)).filter_map(|entry| entry.draft(session));
    control.chain(publish).chain(end).collect()
}

/// Takes the end of the session out of an answer, as an entry.
pub fn take_end(answer: &mut SessionAnswer, session: &SessionId) -> Option<Draft> {
    let (disconnect, closes) = (std::mem::take(&mut answer.disconnect), std::mem::take(&mut answer.closes));
    let end = ControlEntry::Change(Change { disconnect, closes, ..Change::default() });
    disconnect.then(|| end.draft(Some(session))).flatten()
}
