//! Questions of the REST API: channels, their users and their numbers.

use super::refusal::Refusal;
use crate::message::Channel;
use crate::serve::protocols::pusher::apps::App;
use crate::serve::protocols::pusher::event_data;
use crate::serve::protocols::pusher::last_event::{Unavailable, last_event};
use crate::serve::protocols::pusher::transport::Member;
use crate::serve::routes::channels::{LARGEST_PAGE, ReaderCounts, page};
use crate::serve::state::ServerState;
use crate::wire::pusher::names::{self, Access};
use crate::wire::pusher::rest::Request;
use serde_json::{Map, Value, json};

/// The most pages of channels of an answer.
const PAGES: usize = 100;

/// The attributes of a channel that the application asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Info {
    users: bool,
    subscriptions: bool,
    cache: bool,
}

impl Info {
    /// Reads a list of attributes with commas between them. Unknown ones are ignored.
    pub fn parse(text: &str) -> Info {
        let has = |name| text.split(',').any(|part| part.trim() == name);
        Info { users: has("user_count"), subscriptions: has("subscription_count"), cache: has("cache") }
    }

    /// Whether the application does not ask for attributes.
    pub fn is_empty(self) -> bool {
        self == Info::default()
    }
}

fn is_presence(name: &str) -> bool {
    names::channel(name).is_ok_and(|kind| kind.access == Access::Presence)
}

/// The attributes of a channel. Only presence channels have users.
pub async fn attributes(
    state: &ServerState,
    name: &str,
    channel: &Channel,
    info: Info,
) -> Result<Map<String, Value>, Refusal> {
    let mut map = Map::new();
    if info.users && is_presence(name) {
        map.insert("user_count".into(), members(state, channel).await?.len().into());
    }
    if info.subscriptions {
        let counts = ReaderCounts::of(state, std::slice::from_ref(channel)).await;
        map.insert("subscription_count".into(), counts.total(channel).into());
    }
    Ok(map)
}

async fn members(state: &ServerState, channel: &Channel) -> Result<Vec<String>, Refusal> {
    match &state.presence {
        Some(presence) => Ok(presence.members(channel).await?.members),
        None => Ok(Vec::new()),
    }
}

/// The channels that have readers.
pub async fn list(state: &ServerState, app: &App, request: &Request<'_>) -> Result<String, Refusal> {
    let filter = request.field("filter_by_prefix").unwrap_or_default();
    let info = Info::parse(request.field("info").unwrap_or_default());
    // The names of all presence channels begin so, and those of no other channel.
    if info.users && !filter.starts_with("presence-") {
        return Err(Refusal::new(400, "user_count needs filter_by_prefix=presence-: only these channels have users"));
    }
    let prefix = match filter {
        "" => app.prefix.clone(),
        filter => app.channel(filter).map_err(|bad| Refusal::new(400, bad.to_string()))?.to_string(),
    };
    let (mut map, mut after) = (Map::new(), String::new());
    for _ in 0..PAGES {
        let found = page(state, &prefix, &after, LARGEST_PAGE).await;
        let counts = ReaderCounts::of(state, &found.names).await;
        for channel in found.names.iter().filter(|channel| counts.total(channel) > 0) {
            if let Some(name) = app.name(channel) {
                let attributes = attributes(state, &name, channel, info).await?;
                map.insert(name, attributes.into());
            }
        }
        match found.names.last().filter(|_| found.has_more) {
            Some(last) => after = last.to_string(),
            None => break,
        }
    }
    Ok(json!({ "channels": map }).to_string())
}

/// One channel.
pub async fn one(state: &ServerState, app: &App, name: &str, request: &Request<'_>) -> Result<String, Refusal> {
    let channel = channel(app, name)?;
    let info = Info::parse(request.field("info").unwrap_or_default());
    if info.users && !is_presence(name) {
        return Err(Refusal::new(400, "user_count is only for presence channels"));
    }
    let counts = ReaderCounts::of(state, std::slice::from_ref(&channel)).await;
    let mut map = Map::new();
    map.insert("occupied".into(), (counts.total(&channel) > 0).into());
    map.append(&mut attributes(state, name, &channel, info).await?);
    if info.cache && names::channel(name).is_ok_and(|kind| kind.is_cache) {
        let away = |Unavailable| Refusal::new(503, "the log cannot be reached at the moment");
        let found = last_event(state, app, &channel).await.map_err(away)?;
        let cached = found.map(|event| json!({ "data": event_data::text(&event.message), "ttl": event.ttl }));
        map.extend(cached.map(|cached| ("cache".to_owned(), cached)));
    }
    Ok(Value::Object(map).to_string())
}

/// The users of a presence channel.
pub async fn users(state: &ServerState, app: &App, name: &str) -> Result<String, Refusal> {
    let channel = channel(app, name)?;
    if !is_presence(name) {
        return Err(Refusal::new(400, "only presence channels have users"));
    }
    let members = members(state, &channel).await?;
    let members = members.iter().filter_map(|json| serde_json::from_str::<Member<'_>>(json).ok());
    let users: Vec<Value> = members.map(|member| json!({ "id": member.id })).collect();
    Ok(json!({ "users": users }).to_string())
}

fn channel(app: &App, name: &str) -> Result<Channel, Refusal> {
    names::channel(name).map_err(|bad| Refusal::new(400, bad.to_string()))?;
    app.channel(name).map_err(|bad| Refusal::new(400, bad.to_string()))
}
