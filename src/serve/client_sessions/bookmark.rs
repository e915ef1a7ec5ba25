//! A bookmark: the state of a session as a text, for the store.

use super::change::Json;
use super::id::SessionId;
use super::state::{Membership, SessionState};
use crate::cursor::Cursor;
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
    channels: Vec<(String, String, bool)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    left: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    awaited: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    asks_again_ms: Option<u64>,
    cursor: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    has_ended: bool,
}

/// Writes the bookmark of a session.
pub fn write(state: &SessionState) -> Arc<str> {
    let channels = state.channels.iter();
    let fields = Fields {
        id: state.id.secret().to_string(),
        dialect: state.dialect.clone(),
        endpoint: state.endpoint.clone(),
        client: state.client.to_string(),
        user: state.user.as_ref().and_then(|user| Json::parse(user.data())),
        data: state.data.clone(),
        channels: channels.map(|(name, it)| (name.to_string(), it.at.to_string(), it.is_named)).collect(),
        left: state.left.iter().map(Channel::to_string).collect(),
        awaited: state.awaited.clone(),
        asks_again_ms: state.asks_again_ms,
        cursor: state.cursor.to_string(),
        has_ended: state.has_ended,
    };
    serde_json::to_string(&fields).unwrap_or_default().into()
}

/// Reads a bookmark; `None` if it is not one. `cursor` is the position up to which it is valid.
pub fn read(text: &str, cursor: Cursor) -> Option<SessionState> {
    let fields: Fields = serde_json::from_str(text).ok()?;
    let membership = |(name, at, is_named): (String, String, bool)| {
        Some((Channel::of_server(&name).ok()?, Membership { at: at.parse().ok()?, is_named }))
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
    state.awaited = fields.awaited;
    state.asks_again_ms = fields.asks_again_ms;
    state.has_ended = fields.has_ended;
    Some(state)
}
