//! What the application says to sessions on its own: the body of `POST /sessions`, as entries of the log.

use crate::cursor::Cursor;
use crate::message::{Channel, ClientId, Draft};
use crate::serve::client_sessions::address::Addressee;
use crate::serve::client_sessions::change::{Change, ControlEntry, Json, Send};
use crate::serve::client_sessions::id::SessionId;
use crate::serve::hook::answer::{SentEvent, sent_events};
use crate::serve::metrics::delivery::PublishSource;
use crate::serve::publishing::service;
use crate::serve::state::ServerState;
use crate::transport::publication::{bad_json, object};
use crate::transport::{ApiError, Code};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::sync::Arc;

/// The most items in a body.
const MAX_ITEMS: usize = 100;

/// The longest name of a room, in bytes.
const MAX_ROOM: usize = 200;

/// The fields of the body. A field that is misspelled is refused: it would silently have no effect.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    #[serde(default)]
    client: Option<String>,
    #[serde(default)]
    session: Option<String>,
    #[serde(default)]
    channel: Option<String>,
    #[serde(default)]
    user: Option<UserId>,
    #[serde(default)]
    join: Vec<String>,
    #[serde(default)]
    leave: Vec<String>,
    #[serde(default)]
    rooms: Vec<String>,
    #[serde(default)]
    leave_rooms: Vec<String>,
    #[serde(borrow, default)]
    send: Option<&'a RawValue>,
    #[serde(default)]
    disconnect: Disconnect,
}

/// The id of a user. Many applications have numbers.
#[derive(Deserialize)]
#[serde(untagged)]
enum UserId {
    Text(String),
    Number(i64),
}

/// Whether the sessions end: `true`, or what ends.
#[derive(Default, Deserialize)]
#[serde(untagged)]
enum Disconnect {
    #[default]
    No,
    Flag(bool),
    Name(String),
}

/// The sessions that a body selects.
enum Selected {
    Session(SessionId),
    All(Addressee),
    /// A session id of another form: nobody has it.
    Nobody,
}

/// Carries out a body. Returns the position from which on the change is done, on every node.
///
/// # Errors
///
/// The body is not valid, or the log cannot be reached.
pub async fn carry_out(state: &Arc<ServerState>, json: &str) -> Result<Cursor, ApiError> {
    let entries = read(json, state.settings.max_message)?;
    if entries.is_empty() {
        let late = || ApiError::new(Code::NotReady, "this node has not read its log yet");
        return state.hub.head().ok_or_else(late);
    }
    let cursors = service::append(state, PublishSource::Hook, entries).await?;
    let none = || ApiError::new(Code::OutcomeUnknown, "the log has not told the position");
    cursors.into_iter().flatten().last().ok_or_else(none)
}

/// Reads a body as entries of the log.
fn read(json: &str, max_payload: usize) -> Result<Vec<Draft>, ApiError> {
    object(json)?;
    let body: Body<'_> = serde_json::from_str(json).map_err(|error| match error.is_data() {
        true => ApiError::new(
            Code::BadRequest,
            "the fields are client, session, channel or user, and join, leave, rooms, leave_rooms, send and disconnect",
        ),
        false => bad_json(&error),
    })?;
    let bad = |text: &str| ApiError::new(Code::BadRequest, text);
    let selected = body.selected()?;
    let is_one = matches!(selected, Selected::Session(_) | Selected::Nobody | Selected::All(Addressee::Client(_)));
    let (disconnect, closes) = match &body.disconnect {
        Disconnect::No => (false, false),
        Disconnect::Flag(flag) => (*flag, *flag),
        Disconnect::Name(name) if name == "namespace" => (true, false),
        Disconnect::Name(name) if name == "transport" => (true, true),
        Disconnect::Name(_) => return Err(bad("disconnect is true, \"namespace\" or \"transport\"")),
    };
    for channel in body.join.iter().chain(&body.leave) {
        channel.parse::<Channel>()?;
    }
    let is_usable = |room: &String| (1..=MAX_ROOM).contains(&room.len());
    if !body.rooms.iter().chain(&body.leave_rooms).all(is_usable) {
        return Err(bad("the name of a room has 1 to 200 bytes"));
    }
    let send = sent_events(body.send, max_payload).map_err(|came| bad(&format!("not accepted: {came}")))?;
    if body.join.len() + body.leave.len() + body.rooms.len() + body.leave_rooms.len() + send.len() > MAX_ITEMS {
        return Err(ApiError::new(Code::TooLarge, format!("at most {MAX_ITEMS} items")));
    }
    if !is_one && send.iter().any(|event| event.ack.is_some()) {
        return Err(bad("only one client can answer: ack needs the selector session or client"));
    }
    let (to, id) = match selected {
        Selected::Session(id) => (None, Some(id)),
        Selected::All(addressee) => (Some(addressee), None),
        Selected::Nobody => return Ok(Vec::new()),
    };
    let Body { join, leave, rooms, leave_rooms, .. } = body;
    let change = Change { to: to.clone(), join, leave, rooms, leave_rooms, ..Change::default() };
    let mut entries = Vec::new();
    // A session that leaves the channel by which it is selected gets its events before that.
    let sent = send.into_iter().filter_map(|event| sent(event, to.clone()));
    let changes = (!change.is_empty()).then_some(ControlEntry::Change(change));
    match &to {
        Some(Addressee::Channel(_)) => entries.extend(sent.chain(changes)),
        _ => entries.extend(changes.into_iter().chain(sent)),
    }
    if disconnect {
        entries.push(ControlEntry::Change(Change { to, disconnect, closes, ..Change::default() }));
    }
    if entries.is_empty() {
        return Err(bad("nothing to do: name join, leave, rooms, leave_rooms, send or disconnect"));
    }
    Ok(entries.iter().filter_map(|entry| entry.draft(id.as_ref())).collect())
}

fn sent(event: SentEvent, to: Option<Addressee>) -> Option<ControlEntry> {
    let args = Json::parse(&event.args)?;
    Some(ControlEntry::Send(Send { to, filter: None, event: event.event, args, ack: event.ack }))
}

impl Body<'_> {
    fn selected(&self) -> Result<Selected, ApiError> {
        let bad = || ApiError::new(Code::BadRequest, "name exactly one of client, session, channel and user");
        match (&self.client, &self.session, &self.channel, &self.user) {
            (Some(client), None, None, None) => {
                client.parse::<ClientId>().map_err(|error| ApiError::new(Code::BadRequest, error.to_string()))?;
                Ok(Selected::All(Addressee::Client(client.clone())))
            }
            (None, Some(id), None, None) => Ok(SessionId::parse(id).map_or(Selected::Nobody, Selected::Session)),
            (None, None, Some(channel), None) => {
                channel.parse::<Channel>()?;
                Ok(Selected::All(Addressee::Channel(channel.clone())))
            }
            (None, None, None, Some(user)) => Ok(Selected::All(Addressee::User(match user {
                UserId::Text(id) => id.clone(),
                UserId::Number(id) => id.to_string(),
            }))),
            _ => Err(bad()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_becomes_entries_in_their_order() {
        let id = SessionId::random().expect("an id");
        let own = format!("\"session\":\"{}\"", id.secret());
        for (body, events) in [
            (
                format!("{{{own},\"join\":[\"a\"],\"send\":[{{\"event\":\"hi\",\"ack\":\"x\"}}]}}"),
                &["change", "send"][..],
            ),
            ("{\"channel\":\"a\",\"leave\":[\"a\"],\"send\":[{\"event\":\"hi\"}]}".to_owned(), &["send", "change"]),
            ("{\"user\":7,\"join\":[\"a\"],\"disconnect\":true}".to_owned(), &["change", "change"]),
            ("{\"client\":\"me\",\"send\":[{\"event\":\"hi\",\"ack\":\"x\"}]}".to_owned(), &["send"]),
            ("{\"session\":\"nobody\",\"disconnect\":\"transport\"}".to_owned(), &[]),
        ] {
            let drafts = read(&body, 100).unwrap_or_else(|error| panic!("{body}: {error}"));
            assert_eq!(drafts.iter().map(|draft| draft.event.as_str()).collect::<Vec<_>>(), events, "{body}");
            assert!(drafts.iter().all(|draft| draft.channel.is_reserved()));
        }
    }

    #[test]
    fn bad_bodies_are_refused_by_what_is_wrong() {
        for (body, code) in [
            ("", Code::BadJson),
            ("[]", Code::BadRequest),
            ("{}", Code::BadRequest),
            (r#"{"disconnect":true}"#, Code::BadRequest),
            (r#"{"client":"a"}"#, Code::BadRequest),
            (r#"{"client":"a","user":"b","disconnect":true}"#, Code::BadRequest),
            (r#"{"client":"a b","disconnect":true}"#, Code::BadRequest),
            (r#"{"channel":"~s/1","disconnect":true}"#, Code::BadChannel),
            (r#"{"user":"7","join":["~s/1"]}"#, Code::BadChannel),
            (r#"{"user":"7","join":"a"}"#, Code::BadRequest),
            (r#"{"user":"7","jion":["a"]}"#, Code::BadRequest),
            (r#"{"user":"7","rooms":[""]}"#, Code::BadRequest),
            (r#"{"user":"7","send":[{"event":"hi","ack":"x"}]}"#, Code::BadRequest),
            (r#"{"channel":"a","send":[{"event":"hi","ack":"x"}]}"#, Code::BadRequest),
            (r#"{"user":"7","send":[{"event":""}]}"#, Code::BadRequest),
            (r#"{"user":"7","send":[{"event":"e","args":["0123456789"]}]}"#, Code::BadRequest),
            (r#"{"user":"7","disconnect":"all"}"#, Code::BadRequest),
        ] {
            assert_eq!(read(body, 10).map_err(|error| error.code), Err(code), "{body}");
        }
        let many = format!("{{\"user\":\"7\",\"join\":[{}]}}", ["\"a\""; 101].join(","));
        assert_eq!(read(&many, 10).map_err(|error| error.code), Err(Code::TooLarge));
    }
}
