//! Who reads what, here and on all nodes: `/channels`, `/channels/{channel}` and `counts=1`.

use crate::hub::ChannelCounts;
use crate::log::subscriber_counts::{Counts, RemoteCounts};
use crate::message::Channel;
use crate::serve::App;
use crate::transport::params::fields;
use crate::transport::{ApiError, Code};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::Duration;

/// How long the other nodes' counts are waited for. Without them the answer says that it is not complete.
const PATIENCE: Duration = Duration::from_secs(1);

/// Channels of a page.
const PAGE: usize = 100;
const LARGEST_PAGE: usize = 1000;

/// Counts of some channels.
pub struct Census {
    /// How many nodes there are, this one included.
    nodes: usize,
    /// Whether the other nodes' counts are in it.
    pub is_complete: bool,
    /// What is here, and elsewhere.
    channels: HashMap<Channel, (ChannelCounts, RemoteCounts)>,
}

impl Census {
    /// Counts channels on all nodes, each once however often it is named. Waits a second at most.
    pub async fn of(app: &App, channels: &[Channel]) -> Census {
        let mut channels = channels.to_vec();
        channels.sort_unstable();
        channels.dedup();
        let elsewhere = match &app.census {
            None => Some((0, vec![RemoteCounts::default(); channels.len()])),
            Some(census) => {
                let asked = tokio::time::timeout(PATIENCE, census.remote(&channels)).await;
                asked.ok().and_then(Result::ok)
            }
        };
        let is_complete = elsewhere.is_some();
        let (others, elsewhere) = elsewhere.unwrap_or_else(|| (0, vec![RemoteCounts::default(); channels.len()]));
        let counted = channels.into_iter().zip(elsewhere).map(|(channel, elsewhere)| {
            let here = app.hub.counts(&channel);
            (channel, (here, elsewhere))
        });
        let channels = counted.collect();
        Census { nodes: others + 1, is_complete, channels }
    }

    /// The readers of a channel: of all nodes, and here.
    pub fn readers(&self, channel: &Channel) -> Value {
        let Some((here, elsewhere)) = self.channels.get(channel) else { return Value::Null };
        let mut all = sum(&here.readers, &elsewhere.readers);
        for (transport, count) in here.pollers.iter().chain(&elsewhere.pollers) {
            // A client that polls on several nodes is one. Those that have come here since Redis was told
            // are known here only.
            let known = [&here.pollers, &elsewhere.pollers].into_iter().filter_map(|pollers| pollers.get(transport));
            let pollers = known.max().copied().unwrap_or(*count);
            let connected = sum(&here.readers, &elsewhere.readers).get(transport).copied().unwrap_or(0);
            all.insert(transport.clone(), connected + pollers);
        }
        let mut readers = told(&all);
        readers["here"] = told(&sum(&here.readers, &here.pollers));
        readers
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

fn told(counts: &Counts) -> Value {
    json!({ "total": counts.values().sum::<usize>(), "by_transport": counts })
}

/// Answers `GET /channels/{channel}`.
pub async fn channel(app: &App, channel: Channel) -> String {
    let census = Census::of(app, std::slice::from_ref(&channel)).await;
    let mut answer = census.entry(&channel);
    answer["nodes"] = census.nodes.into();
    answer["complete"] = census.is_complete.into();
    answer["cursor"] = app.hub.head().map(|cursor| cursor.to_string()).into();
    answer.to_string()
}

/// Answers `GET /channels?prefix=…&after=…&limit=…`.
///
/// # Errors
///
/// A `limit` that is no number.
pub async fn list(app: &App, query: &str) -> Result<String, ApiError> {
    let (mut prefix, mut after, mut limit) = (String::new(), String::new(), PAGE);
    for (name, value) in fields(query.as_bytes(), None) {
        match &*name {
            "prefix" => prefix = sound(value.into_owned())?,
            "after" => after = sound(value.into_owned())?,
            "limit" => {
                let digits = value.parse::<u128>().map_err(|_| ApiError::new(Code::BadRequest, "limit is a number"))?;
                limit = usize::try_from(digits).unwrap_or(LARGEST_PAGE).clamp(1, LARGEST_PAGE);
            }
            _ => {}
        }
    }
    // One more than is told, to know whether there is more.
    let mut names = app.hub.names(&prefix, &after, limit + 1);
    let mut is_complete = true;
    if let Some(census) = &app.census {
        let asked = tokio::time::timeout(PATIENCE, census.remote_channels(&prefix, &after, limit + 1)).await;
        match asked.ok().and_then(Result::ok) {
            Some(others) => names.extend(others),
            None => is_complete = false,
        }
    }
    names.sort_unstable();
    names.dedup();
    let has_more = names.len() > limit;
    names.truncate(limit);
    let census = Census::of(app, &names).await;
    let channels: Vec<Value> = names.iter().map(|name| census.entry(name)).collect();
    let mut answer = json!({
        "channels": channels,
        "nodes": census.nodes,
        "complete": is_complete && census.is_complete,
    });
    if let (true, Some(last)) = (has_more, names.last()) {
        answer["next"] = last.as_str().into();
    }
    Ok(answer.to_string())
}

/// A name's beginning. Anything else would be taken for something else in Redis.
fn sound(text: String) -> Result<String, ApiError> {
    if text.is_empty() || text.parse::<Channel>().is_ok() {
        return Ok(text);
    }
    Err(ApiError::new(Code::BadChannel, "prefix and after are of the letters that channels are made of"))
}
