//! Subscriber counts of channels, on this node and on all nodes: `/channels`, `/channels/{channel}` and `counts=1`.

use super::context::Context;
use super::endpoint::{Answer, Audience, Call, Endpoint, Route};
use super::response::{self, Response};
use crate::hub::ChannelCounts;
use crate::log::subscriber_counts::{Counts, RemoteCounts};
use crate::message::Channel;
use crate::serve::state::ServerState;
use crate::transport::params::fields;
use crate::transport::{ApiError, Code};
use hyper::StatusCode;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::Duration;

/// The endpoint.
pub struct Channels;

impl Endpoint for Channels {
    fn route(&self, _: &Context, path: &str) -> Option<Route> {
        let is_known = path == LIST || path.starts_with(ONE);
        is_known.then_some(Route { audience: Audience::Operators, ..Route::PAGE })
    }

    fn call<'a>(&'a self, call: Call<'a>) -> Answer<'a> {
        Box::pin(async move {
            match call.path().strip_prefix(ONE) {
                Some(name) => channel(&call.context.state, name).await,
                None => list(&call.context.state, call.query()).await,
            }
        })
    }
}

/// The path of [`list`].
const LIST: &str = "/channels";

/// The beginning of the path of [`channel`].
const ONE: &str = "/channels/";

/// The time limit for the counts of other nodes. If the counts do not arrive in time, the response is marked as
/// incomplete.
const OTHER_NODES_WAIT: Duration = Duration::from_secs(1);

/// The default and the maximum number of channels in a page.
const PAGE: usize = 100;
/// See `PAGE`.
pub const LARGEST_PAGE: usize = 1000;

/// The numbers of readers of some channels.
pub struct ReaderCounts {
    /// The number of nodes, including this one.
    nodes: usize,
    /// Whether the counts of the other nodes are included.
    pub is_complete: bool,
    /// The counts on this node and on the others.
    channels: HashMap<Channel, (ChannelCounts, RemoteCounts)>,
}

impl ReaderCounts {
    /// Counts the readers of channels on all nodes. Waits for the log for at most a second.
    pub async fn of(state: &ServerState, channels: &[Channel]) -> ReaderCounts {
        let mut channels = channels.to_vec();
        channels.sort_unstable();
        channels.dedup();
        let remote = match &state.remote_counts {
            None => Some((0, vec![RemoteCounts::default(); channels.len()])),
            Some(remote) => {
                let asked = tokio::time::timeout(OTHER_NODES_WAIT, remote.remote(&channels)).await;
                asked.ok().and_then(Result::ok)
            }
        };
        let is_complete = remote.is_some();
        let (others, remote) = remote.unwrap_or_else(|| (0, vec![RemoteCounts::default(); channels.len()]));
        let counted = channels.into_iter().zip(remote).map(|(channel, remote)| {
            let here = state.hub.counts(&channel);
            (channel, (here, remote))
        });
        let channels = counted.collect();
        ReaderCounts { nodes: others + 1, is_complete, channels }
    }

    /// The number of readers of a channel on all nodes, and the number on this node.
    pub fn readers(&self, channel: &Channel) -> Value {
        let Some((here, remote)) = self.channels.get(channel) else { return Value::Null };
        let mut all = sum(&here.readers, &remote.readers);
        for (transport, count) in here.pollers.iter().chain(&remote.pollers) {
            // A client that polls on several nodes counts once. Only this node knows the clients that connected to it
            // after its last report to Redis.
            let known = [&here.pollers, &remote.pollers].into_iter().filter_map(|pollers| pollers.get(transport));
            let pollers = known.max().copied().unwrap_or(*count);
            let connected = sum(&here.readers, &remote.readers).get(transport).copied().unwrap_or(0);
            all.insert(transport.clone(), connected + pollers);
        }
        let mut readers = to_json(&all);
        readers["here"] = to_json(&sum(&here.readers, &here.pollers));
        readers
    }

    /// The number of readers of a channel on all nodes.
    pub fn total(&self, channel: &Channel) -> u64 {
        self.readers(channel)["total"].as_u64().unwrap_or_default()
    }

    fn entry(&self, channel: &Channel) -> Value {
        let Some((here, _)) = self.channels.get(channel) else { return Value::Null };
        json!({
            "channel": channel.as_str(),
            "readers": self.readers(channel),
            "retained": here.retained,
            "last": here.last.map(|cursor| cursor.to_string()),
        })
    }
}

fn sum(one: &Counts, other: &Counts) -> Counts {
    let mut sum = one.clone();
    for (transport, count) in other {
        *sum.entry(transport.clone()).or_default() += count;
    }
    sum
}

fn to_json(counts: &Counts) -> Value {
    json!({ "total": counts.values().sum::<usize>(), "by_transport": counts })
}

/// Answers `GET /channels/{channel}`.
///
/// # Errors
///
/// `bad_channel`.
async fn channel(state: &ServerState, name: &str) -> Result<Response, ApiError> {
    let channel: Channel = percent_decoded(name).parse()?;
    let counts = ReaderCounts::of(state, std::slice::from_ref(&channel)).await;
    let mut answer = counts.entry(&channel);
    answer["nodes"] = counts.nodes.into();
    answer["complete"] = counts.is_complete.into();
    answer["cursor"] = state.hub.head().map(|cursor| cursor.to_string()).into();
    Ok(response::json(StatusCode::OK, answer.to_string()))
}

/// Answers `GET /channels?prefix=…&after=…&limit=…`.
///
/// # Errors
///
/// A parameter is invalid.
async fn list(state: &ServerState, query: &str) -> Result<Response, ApiError> {
    let (mut prefix, mut after, mut limit) = (String::new(), String::new(), PAGE);
    for (name, value) in fields(query.as_bytes(), None) {
        match &*name {
            "prefix" => prefix = check_prefix(value.into_owned())?,
            "after" => after = check_prefix(value.into_owned())?,
            "limit" => {
                let digits =
                    value.parse::<u128>().map_err(|_| ApiError::new(Code::BadRequest, "limit must be a number"))?;
                limit = usize::try_from(digits).unwrap_or(LARGEST_PAGE).clamp(1, LARGEST_PAGE);
            }
            _ => {}
        }
    }
    let Page { names, has_more, is_complete } = page(state, &prefix, &after, limit).await;
    let counts = ReaderCounts::of(state, &names).await;
    let channels: Vec<Value> = names.iter().map(|name| counts.entry(name)).collect();
    let mut answer = json!({
        "channels": channels,
        "nodes": counts.nodes,
        "complete": is_complete && counts.is_complete,
    });
    if let (true, Some(last)) = (has_more, names.last()) {
        answer["next"] = last.as_str().into();
    }
    Ok(response::json(StatusCode::OK, answer.to_string()))
}

/// A page of the channels that have readers or messages on some node.
pub struct Page {
    /// The names, in order.
    pub names: Vec<Channel>,
    /// Whether more names follow.
    pub has_more: bool,
    /// Whether the channels of the other nodes are included.
    is_complete: bool,
}

/// The first `limit` channels whose names begin with `prefix` and come after `after`. Waits for the log for at most a
/// second.
pub async fn page(state: &ServerState, prefix: &str, after: &str, limit: usize) -> Page {
    // One more name than the page can contain shows whether there are more names.
    let mut names = state.hub.names(prefix, after, limit + 1);
    let mut is_complete = true;
    if let Some(remote) = &state.remote_counts {
        let asked = tokio::time::timeout(OTHER_NODES_WAIT, remote.remote_channels(prefix, after, limit + 1)).await;
        match asked.ok().and_then(Result::ok) {
            Some(others) => names.extend(others),
            None => is_complete = false,
        }
    }
    names.sort_unstable();
    names.dedup();
    let has_more = names.len() > limit;
    names.truncate(limit);
    Page { names, has_more, is_complete }
}

/// Checks that a text can be the prefix of a channel. Redis would interpret some other characters as a pattern.
fn check_prefix(text: String) -> Result<String, ApiError> {
    if text.is_empty() || text.parse::<Channel>().is_ok() {
        return Ok(text);
    }
    Err(ApiError::new(Code::BadChannel, "prefix and after must be the beginning of a channel name"))
}

/// Decodes a segment of a path. In a path, unlike in a query, `+` does not mean a space.
pub fn percent_decoded(segment: &str) -> String {
    let query = format!("c={}", segment.replace('+', "%2B").replace('&', "%26"));
    form_urlencoded::parse(query.as_bytes()).next().map(|(_, value)| value.into_owned()).unwrap_or_default()
}
