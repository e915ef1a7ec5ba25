//! Publishing by the REST API.

use super::channels::{Info, attributes};
use super::refusal::Refusal;
use crate::message::{Channel, ClientId, Draft, Extras, Payload};
use crate::serve::metrics::delivery::PublishSource;
use crate::serve::protocols::pusher::apps::App;
use crate::serve::protocols::pusher::{event_data, event_name};
use crate::serve::publishing::service;
use crate::serve::session::entry_filter::TERMINATE;
use crate::serve::state::ServerState;
use crate::wire::pusher::names;
use crate::wire::pusher::rest::Request;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::HashSet;
use std::sync::Arc;

/// The most channels of an event.
const MAX_CHANNELS: usize = 100;

/// The most events of a batch.
pub const MAX_BATCH: usize = 10;

/// An event, as the application sends it.
#[derive(Deserialize)]
struct Event<'a> {
    name: String,
    /// A text, which usually is JSON. Any other JSON counts as its text.
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(default)]
    channel: Option<String>,
    #[serde(default)]
    channels: Option<Vec<String>>,
    #[serde(default)]
    socket_id: Option<String>,
    #[serde(default)]
    info: Option<String>,
}

#[derive(Deserialize)]
struct Batch<'a> {
    #[serde(borrow)]
    batch: Vec<Event<'a>>,
}

/// A checked event.
struct Checked {
    draft: Draft,
    /// The channels with their names in the app.
    channels: Vec<(String, Channel)>,
    info: Info,
}

/// Publishes one event. Returns the body of the answer.
pub async fn events(state: &Arc<ServerState>, app: &App, body: &[u8]) -> Result<String, Refusal> {
    let event: Event<'_> = parse(body)?;
    let Checked { draft, channels, info } = check(state, app, event)?;
    publish(state, vec![draft]).await?;
    if info.is_empty() {
        return Ok("{}".to_owned());
    }
    let mut map = serde_json::Map::new();
    for (name, channel) in &channels {
        map.insert(name.clone(), attributes(state, name, channel, info).await?.into());
    }
    Ok(serde_json::json!({ "channels": map }).to_string())
}

/// Publishes several events, all or none. Returns the body of the answer.
pub async fn batch(state: &Arc<ServerState>, app: &App, body: &[u8]) -> Result<String, Refusal> {
    let Batch { batch } = parse(body)?;
    if batch.len() > MAX_BATCH {
        return Err(Refusal::new(400, format!("a batch may have at most {MAX_BATCH} events")));
    }
    let checked = batch.into_iter().map(|event| check(state, app, event)).collect::<Result<Vec<_>, _>>()?;
    publish(state, checked.iter().map(|event| event.draft.clone()).collect()).await?;
    if checked.iter().all(|event| event.info.is_empty()) {
        return Ok("{}".to_owned());
    }
    let mut answers = Vec::with_capacity(checked.len());
    for Checked { channels, info, .. } in &checked {
        let map = match channels.first() {
            Some((name, channel)) => attributes(state, name, channel, *info).await?,
            None => serde_json::Map::new(),
        };
        answers.push(map);
    }
    Ok(serde_json::json!({ "batch": answers }).to_string())
}

/// Publishes an event whose body is the data, as old SDKs send it.
pub async fn channel_events(
    state: &Arc<ServerState>,
    app: &App,
    name: &str,
    request: &Request<'_>,
) -> Result<(), Refusal> {
    let data = std::str::from_utf8(request.body).map_err(|_| Refusal::new(400, "the body is not UTF-8"))?;
    let event = request.field("name").ok_or_else(|| Refusal::new(400, "the query must have the name of the event"))?;
    let socket = request.field("socket_id").map(str::to_owned);
    let checked = draft(state, app, event, data, &[name.to_owned()], socket)?;
    publish(state, vec![checked.0]).await
}

/// Ends the connections of a user, on all nodes.
pub async fn terminate(state: &Arc<ServerState>, app: &App, user: &str) -> Result<(), Refusal> {
    let channel = app.user_channel(user).map_err(|_| Refusal::new(400, "the id of the user is too long"))?;
    publish(state, vec![Draft::control(channel, TERMINATE, "{}")]).await
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::new(400, format!("the body is not as expected: {error}")))
}

fn check(state: &ServerState, app: &App, event: Event<'_>) -> Result<Checked, Refusal> {
    let Event { name, data, channel, channels, socket_id, info } = event;
    let names = match (channels, channel) {
        (Some(channels), _) => channels,
        (None, Some(channel)) => vec![channel],
        (None, None) => return Err(Refusal::new(400, "the event must have a channel or channels")),
    };
    let (draft, channels) = draft(state, app, &name, &event_data::sent(data.get()), &names, socket_id)?;
    let info = Info::parse(info.as_deref().unwrap_or_default());
    Ok(Checked { draft, channels, info })
}

/// Makes the draft of an event. Also returns its channels with their names.
fn draft(
    state: &ServerState,
    app: &App,
    event: &str,
    data: &str,
    names: &[String],
    socket: Option<String>,
) -> Result<(Draft, Vec<(String, Channel)>), Refusal> {
    names::event(event).map_err(|bad| Refusal::new(400, bad.to_string()))?;
    if names.is_empty() || names.len() > MAX_CHANNELS {
        return Err(Refusal::new(400, format!("an event must have 1 to {MAX_CHANNELS} channels")));
    }
    let most = state.settings.max_message;
    if !Payload::fits(data, most) {
        return Err(Refusal::new(413, format!("the data may have at most {most} bytes (--max-message-bytes)")));
    }
    let mut seen = HashSet::new();
    let mut channels = Vec::with_capacity(names.len());
    for name in names.iter().filter(|name| seen.insert(*name)) {
        names::channel(name).map_err(|bad| Refusal::new(400, bad.to_string()))?;
        channels.push((name.clone(), app.channel(name).map_err(|bad| Refusal::new(400, bad.to_string()))?));
    }
    let exclude = match socket.filter(|socket| !socket.is_empty()) {
        Some(socket) if names::is_socket_id(&socket) => Some(ClientId::Token(socket.into())),
        Some(_) => return Err(Refusal::new(400, "socket_id must be two numbers with a dot between them")),
        None => None,
    };
    let (payload, is_text) = event_data::payload(data);
    let event = event_name::in_log(event).map_err(|bad| Refusal::new(400, bad.to_string()))?;
    let several: Box<[Channel]> = match channels.len() {
        1 => Box::default(),
        _ => channels.iter().map(|(_, channel)| channel.clone()).collect(),
    };
    let first = channels[0].1.clone();
    let extras = Extras { channels: several, is_text, ..Extras::default() };
    let draft = Draft { event, exclude, ..Draft::new(first, payload) }.with_extras(extras);
    Ok((draft, channels))
}

async fn publish(state: &Arc<ServerState>, drafts: Vec<Draft>) -> Result<(), Refusal> {
    let mut reservation = state.budget.publication();
    reservation.resize(drafts.iter().map(Draft::size).sum())?;
    service::append(state, PublishSource::Http, drafts).await?;
    drop(reservation);
    Ok(())
}
