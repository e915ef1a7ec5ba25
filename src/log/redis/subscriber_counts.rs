//! Counts of subscribers in Redis: a sorted set for each node, and a sorted set of polling clients for each channel. A
//! node's set expires with the node.

use super::connection::{ANSWER_TIMEOUT, COUNTS_READ, COUNTS_REPORT, Connection, Script};
use super::{RedisLog, ScriptError};
use crate::log::subscriber_counts::{CountChange, Counts, OccupiedChannels, RemoteCounts, SubscriberCounts};
use crate::log::{BoxFuture, Unreachable};
use crate::message::Channel;
use redis::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// The time for which a node counts as alive after its last report.
const LIFE: Duration = Duration::from_secs(10);

/// The maximum number of changes that one call of a script reports, and of channels that it counts. A script keeps
/// Redis busy until it ends.
const CHUNK: usize = 1000;

/// How many names of each node one call reads. For a channel that only polling clients read, a script also looks at
/// these clients.
const NAMES: usize = 500;

/// [`SubscriberCounts`] in the log's Redis.
pub struct RedisSubscriberCounts {
    log: Arc<RedisLog>,
    node: String,
    /// The longest time for which a polling client counts as a reader.
    away: Duration,
    /// The names of the transports that poll, with spaces between them.
    polling: String,
    // The connection is not the log's own: a long list must not delay readers that catch up from the log.
    connection: Mutex<Option<Connection>>,
    /// The server that got the last full report. A replica that has become the primary may lack later changes.
    reported_to: parking_lot::Mutex<String>,
}

impl RedisSubscriberCounts {
    /// The counts of a log's nodes. `away` is the longest time for which a polling client counts as a reader. `polling`: the
    /// names of the transports that poll.
    pub fn new(log: Arc<RedisLog>, away: Duration, polling: &[&str]) -> RedisSubscriberCounts {
        RedisSubscriberCounts {
            log,
            node: uuid::Uuid::new_v4().to_string(),
            away,
            polling: polling.join(" "),
            connection: Mutex::new(None),
            reported_to: parking_lot::Mutex::default(),
        }
    }

    /// Runs a script. Returns the answer and the server that sent it.
    async fn run(&self, script: &Script, keys: &[&str], args: &[String]) -> Result<(Value, String), Unreachable> {
        let mut slot = self.connection.lock().await;
        if slot.as_ref().is_some_and(|connection| self.log.has_moved(connection.server().1)) {
            *slot = None;
        }
        let answer = async {
            let connection = match &mut *slot {
                Some(connection) => connection,
                empty => empty.insert(self.log.connect(ANSWER_TIMEOUT).await?),
            };
            let answer = connection.run(script, keys, args).await?;
            Ok((answer, connection.server().1.to_owned()))
        };
        let answer: Result<_, ScriptError> = answer.await;
        answer.map_err(|error| {
            *slot = None;
            tracing::debug!(%error, "the counts of the other nodes are not available");
            Unreachable
        })
    }

    async fn report_some(&self, changes: &[CountChange], begins_everything: bool) -> Result<bool, Unreachable> {
        let (mut channels, mut pollers) = (Vec::new(), Vec::new());
        for change in changes {
            match change {
                CountChange::Channel(channel, counts, is_polled) => {
                    let is_empty = counts.is_empty() && !is_polled;
                    let member = if is_empty { String::new() } else { format!("{channel} {}", to_text(counts)) };
                    channels.extend([channel.to_string(), member]);
                }
                CountChange::Polled(channel, client, transport, time) => {
                    let time = time.as_millis().to_string();
                    pollers.extend([channel.to_string(), (*transport).to_owned(), client.to_string(), time]);
                }
                CountChange::Left(channel, client) => {
                    pollers.extend([channel.to_string(), String::new(), client.to_string(), "0".to_owned()]);
                }
            }
        }
        let (life, away) = (LIFE.as_millis().to_string(), (self.away + LIFE).as_millis().to_string());
        let begins = u8::from(begins_everything).to_string();
        let mut args =
            vec![self.node.clone(), life, away, begins, (channels.len() / 2).to_string(), self.polling.clone()];
        args.append(&mut channels);
        args.append(&mut pollers);
        let keys = self.log.keys();
        let keys = [&keys.log, &keys.beside("nodes"), &keys.beside(&format!("census:{}", self.node))];
        let (answer, server) = self.run(&COUNTS_REPORT, &keys.map(String::as_str), &args).await?;
        let mut reported_to = self.reported_to.lock();
        if begins_everything {
            reported_to.clone_from(&server);
        }
        Ok(answer == Value::Int(1) && *reported_to == server)
    }

    async fn read(&self, args: &[String]) -> Result<Vec<Value>, Unreachable> {
        let keys = self.log.keys();
        let args: Vec<String> = std::iter::once(&self.polling).chain(args).cloned().collect();
        match self.run(&COUNTS_READ, &[&keys.log, &keys.beside("nodes")], &args).await?.0 {
            Value::Array(answer) => Ok(answer),
            _ => Err(Unreachable),
        }
    }

    /// Reads the number of the other nodes, and their counts of some channels.
    async fn read_counts(&self, channels: &[Channel]) -> Result<(usize, Vec<RemoteCounts>), Unreachable> {
        let mut args = vec![self.node.clone(), "counts".to_owned()];
        args.extend(channels.iter().map(ToString::to_string));
        let answer = self.read(&args).await?;
        let [Value::Int(nodes), counts @ ..] = answer.as_slice() else { return Err(Unreachable) };
        let text = |value: &Value| super::text(value).unwrap_or_default().to_owned();
        let remote =
            |pair: &[Value]| RemoteCounts { readers: to_counts(&text(&pair[0])), pollers: to_counts(&text(&pair[1])) };
        let counts: Vec<RemoteCounts> = counts.chunks_exact(2).map(remote).collect();
        if counts.len() != channels.len() {
            return Err(Unreachable);
        }
        Ok((usize::try_from(*nodes).unwrap_or(0), counts))
    }
}

impl SubscriberCounts for RedisSubscriberCounts {
    fn report(&self, changes: Vec<CountChange>, everything: bool) -> BoxFuture<'_, Result<bool, Unreachable>> {
        Box::pin(async move {
            let mut chunks = changes.chunks(CHUNK);
            // A full report takes the place of earlier ones with its first chunk. Until the last chunk arrives, the
            // other nodes see only a part of this node's channels, as with a node that has just started.
            let known = self.report_some(chunks.next().unwrap_or_default(), everything).await?;
            for chunk in chunks {
                self.report_some(chunk, false).await?;
            }
            Ok(known)
        })
    }

    fn leave(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let keys = self.log.keys();
            if let Some(connection) = &mut *self.connection.lock().await {
                let mut pipeline = redis::pipe();
                pipeline.cmd("ZREM").arg(keys.beside("nodes")).arg(&self.node);
                pipeline.cmd("DEL").arg(keys.beside(&format!("census:{}", self.node)));
                // The node's record is deleted here, since this is the only call at the end of a node.
                let (peers, node) = self.log.peers.leave();
                pipeline.cmd("HDEL").arg(peers).arg(node);
                if let Err(error) = connection.send_all(&pipeline, 3).await {
                    tracing::debug!(%error, "this node could not remove its counts; the other nodes will drop them later");
                }
            }
        })
    }

    fn remote<'a>(&'a self, channels: &'a [Channel]) -> BoxFuture<'a, Result<(usize, Vec<RemoteCounts>), Unreachable>> {
        Box::pin(async move {
            let mut chunks = channels.chunks(CHUNK);
            // Without channels, the answer is the number of nodes.
            let (nodes, mut counts) = self.read_counts(chunks.next().unwrap_or_default()).await?;
            for chunk in chunks {
                counts.append(&mut self.read_counts(chunk).await?.1);
            }
            Ok((nodes, counts))
        })
    }

    fn remote_channels<'a>(
        &'a self,
        prefix: &'a str,
        after: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Channel>, Unreachable>> {
        Box::pin(async move {
            let args = [&*self.node, "names", prefix, after, &limit.to_string()].map(str::to_owned);
            let names = self.read(&args).await?;
            Ok(names.iter().filter_map(|name| super::text(name)?.parse().ok()).collect())
        })
    }

    fn occupied<'a>(
        &'a self,
        after: &'a str,
        silence: Duration,
    ) -> BoxFuture<'a, Result<OccupiedChannels, Unreachable>> {
        Box::pin(async move {
            let alive = LIFE.saturating_sub(silence).as_millis().to_string();
            let args = ["", "occupied", after, &NAMES.to_string(), &alive].map(str::to_owned);
            let answer = self.read(&args).await?;
            let [upto, names @ ..] = answer.as_slice() else { return Err(Unreachable) };
            let upto = super::text(upto).filter(|upto| !upto.is_empty()).map(str::to_owned);
            let channels = names.iter().filter_map(|name| super::text(name)?.parse().ok()).collect();
            Ok(OccupiedChannels { channels, upto })
        })
    }
}

fn to_text(counts: &Counts) -> String {
    let counts: Vec<String> = counts.iter().map(|(transport, count)| format!("{transport}={count}")).collect();
    counts.join(",")
}

/// Returns the sum of the counts that several nodes have written.
fn to_counts(text: &str) -> Counts {
    let mut counts = Counts::new();
    for (transport, count) in text.split([' ', ',']).filter_map(|part| part.split_once('=')) {
        *counts.entry(transport.to_owned()).or_default() += count.parse().unwrap_or(0);
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_several_nodes_are_summed() {
        let counts = to_counts("sse=3,ws=1  ws=2");
        assert_eq!(to_text(&counts), "sse=3,ws=3");
        assert!(to_counts("").is_empty());
    }
}
