//! A bookmark: the state of a session as a text, for the store.

use super::change::Json;
use super::id::SessionId;
use super::state::{Awaited, Departure, Membership, SessionState, Stored};
use crate::cursor::Cursor;
use crate::log::sessions::digest;
use crate::message::{Channel, User};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The fields of a bookmark. A bookmark of a later version may have more.
#[derive(Serialize, Deserialize)]
struct Fields {
    id: String,
    dialect: String,
    endpoint: String,
    client: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<Json>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<Json>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    channels: Vec<(String, Option<String>, bool)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    left: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    departures: Vec<(String, Option<String>, String)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    awaited: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    asks_again_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    has_ended: bool,
}

/// Writes the bookmark of a session. It does not have the position, so that it is the same as long as nothing changes.
pub fn write(state: &SessionState) -> Arc<str> {
    let text = |cursor: Option<Cursor>| cursor.map(|cursor| cursor.to_string());
    let channels = state.channels.iter();
    let departures = state.departures.iter();
    let awaited = state.awaited.iter();
    let fields = Fields {
        id: state.id.secret().to_string(),
        dialect: state.dialect.clone(),
        endpoint: state.endpoint.clone(),
        client: state.client.to_string(),
        user: state.user.as_ref().and_then(|user| Json::parse(user.data())),
        data: state.data.clone(),
        channels: channels.map(|(name, it)| (name.to_string(), text(it.joined), it.is_named)).collect(),
        left: state.left.iter().map(Channel::to_string).collect(),
        departures: departures.map(|it| (it.channel.to_string(), text(it.since), it.until.to_string())).collect(),
        awaited: awaited.map(|it| (it.name.clone(), it.at.to_string())).collect(),
        asks_again_ms: state.asks_again_ms,
        has_ended: state.has_ended,
    };
    serde_json::to_string(&fields).unwrap_or_default().into()
}

/// Reads a bookmark; `None` if it is not one. `cursor` is the position up to which it is valid.
pub fn read(text: &str, cursor: Cursor) -> Option<SessionState> {
    let fields: Fields = serde_json::from_str(text).ok()?;
    let position = |text: Option<String>| -> Option<Option<Cursor>> { text.map(|it| it.parse()).transpose().ok() };
    let membership = |(name, joined, is_named): (String, Option<String>, bool)| {
        Some((Channel::of_server(&name).ok()?, Membership { joined: position(joined)?, is_named }))
    };
    let departure = |(name, since, until): (String, Option<String>, String)| {
        let channel = Channel::of_server(&name).ok()?;
        Some(Departure { channel, since: position(since)?, until: until.parse().ok()? })
    };
    let user = fields.user.map(|user| User::parse(user.as_str()).map(Arc::new));
    let mut state = SessionState::new(
        SessionId::parse(&fields.id)?,
        &fields.dialect,
        &fields.endpoint,
        fields.client.parse().ok()?,
        cursor,
    );
    state.user = user.transpose().ok()?;
    state.data = fields.data;
    state.channels = fields.channels.into_iter().map(membership).collect::<Option<_>>()?;
    state.left = fields.left.iter().map(|name| Channel::of_server(name).ok()).collect::<Option<_>>()?;
    state.departures = fields.departures.into_iter().map(departure).collect::<Option<_>>()?;
    let awaited = |(name, at): (String, String)| Some(Awaited { name, at: at.parse().ok()? });
    state.awaited = fields.awaited.into_iter().map(awaited).collect::<Option<_>>()?;
    state.asks_again_ms = fields.asks_again_ms;
    state.has_ended = fields.has_ended;
    state.stored = Some(Stored { digest: digest(text), cursor });
    Some(state)
}
