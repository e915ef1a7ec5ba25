//! The census in Redis: a sorted set a node, which dies with the node, and one of polling clients a channel.

use super::connection::{ANSWER_TIMEOUT, CENSUS_ASK, CENSUS_TELL, Connection, Script};
use super::{RedisLog, ScriptError};
use crate::log::census::{Census, Change, Counts, Elsewhere};
use crate::log::{BoxFuture, Unreachable};
use crate::message::Channel;
use redis::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// How long a node is counted that has not been heard of.
const LIFE: Duration = Duration::from_secs(10);

/// Changes that are told at a time.
const CHUNK: usize = 1000;

/// [`Census`] in the log's Redis.
pub struct RedisCensus {
    log: Arc<RedisLog>,
    node: String,
    /// How long a polling client may be away at most.
    away: Duration,
    // Not the log's own: a long list must not hold up who catches up from the log.
    connection: Mutex<Option<Connection>>,
    /// Who was told everything last: a replica that has become the primary may not have heard all of what came since.
    told: parking_lot::Mutex<String>,
}

impl RedisCensus {
    /// The census of a log. `away` is for how long at most a polling client counts.
    pub fn new(log: Arc<RedisLog>, away: Duration) -> RedisCensus {
        RedisCensus {
            log,
            node: uuid::Uuid::new_v4().to_string(),
            away,
            connection: Mutex::new(None),
            told: parking_lot::Mutex::default(),
        }
    }

    /// The answer, and which server has given it.
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
            tracing::debug!(%error, "no census of the other nodes");
            Unreachable
        })
    }

    async fn tell_some(&self, changes: &[Change], begins_everything: bool) -> Result<bool, Unreachable> {
        let (mut channels, mut pollers) = (Vec::new(), Vec::new());
        for change in changes {
            match change {
                Change::Channel(channel, counts, is_polled) => {
                    let is_empty = counts.is_empty() && !is_polled;
                    let member = if is_empty { String::new() } else { format!("{channel} {}", to_text(counts)) };
                    channels.extend([channel.to_string(), member]);
                }
                Change::Polled(channel, client, transport, time) => {
                    let time = time.as_millis().to_string();
                    pollers.extend([channel.to_string(), (*transport).to_owned(), client.to_string(), time]);
                }
                Change::Left(channel, client) => {
                    pollers.extend([channel.to_string(), String::new(), client.to_string(), "0".to_owned()]);
                }
            }
        }
        let (life, away) = (LIFE.as_millis().to_string(), (self.away + LIFE).as_millis().to_string());
        let begins = u8::from(begins_everything).to_string();
        let mut args = vec![self.node.clone(), life, away, begins, (channels.len() / 2).to_string()];
        args.append(&mut channels);
        args.append(&mut pollers);
        let keys = self.log.keys();
        let keys = [&keys.log, &keys.beside("nodes"), &keys.beside(&format!("census:{}", self.node))];
        let (answer, server) = self.run(&CENSUS_TELL, &keys.map(String::as_str), &args).await?;
        let mut told = self.told.lock();
        if begins_everything {
            told.clone_from(&server);
        }
        Ok(answer == Value::Int(1) && *told == server)
    }

    async fn ask(&self, args: &[String]) -> Result<Vec<Value>, Unreachable> {
        let keys = self.log.keys();
        match self.run(&CENSUS_ASK, &[&keys.log, &keys.beside("nodes")], args).await?.0 {
            Value::Array(answer) => Ok(answer),
            _ => Err(Unreachable),
        }
    }
}

impl Census for RedisCensus {
    fn tell(&self, changes: Vec<Change>, everything: bool) -> BoxFuture<'_, Result<bool, Unreachable>> {
        Box::pin(async move {
            let mut chunks = changes.chunks(CHUNK);
            // Everything takes the place of what was told before from its first chunk on. Until the last one other
            // nodes see a part of this node's channels, as they do of a node that has just started.
            let known = self.tell_some(chunks.next().unwrap_or_default(), everything).await?;
            for chunk in chunks {
                self.tell_some(chunk, false).await?;
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
                // Here, since it is the only word at the end of a node.
                let (peers, node) = self.log.peers.leave(&self.log);
                pipeline.cmd("HDEL").arg(peers).arg(node);
                if let Err(error) = connection.send_all(&pipeline, 3).await {
                    tracing::debug!(%error, "the other nodes forget this one later");
                }
            }
        })
    }

    fn elsewhere<'a>(&'a self, channels: &'a [Channel]) -> BoxFuture<'a, Result<(usize, Vec<Elsewhere>), Unreachable>> {
        Box::pin(async move {
            let mut args = vec![self.node.clone(), "counts".to_owned()];
            args.extend(channels.iter().map(ToString::to_string));
            let answer = self.ask(&args).await?;
            let [Value::Int(nodes), counts @ ..] = answer.as_slice() else { return Err(Unreachable) };
            let text = |value: &Value| super::text(value).unwrap_or_default().to_owned();
            let elsewhere =
                |pair: &[Value]| Elsewhere { readers: to_counts(&text(&pair[0])), pollers: to_counts(&text(&pair[1])) };
            let counts: Vec<Elsewhere> = counts.chunks_exact(2).map(elsewhere).collect();
            if counts.len() != channels.len() {
                return Err(Unreachable);
            }
            Ok((usize::try_from(*nodes).unwrap_or(0), counts))
        })
    }

    fn names<'a>(
        &'a self,
        prefix: &'a str,
        after: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Channel>, Unreachable>> {
        Box::pin(async move {
            let args = [&*self.node, "names", prefix, after, &limit.to_string()].map(str::to_owned);
            let names = self.ask(&args).await?;
            Ok(names.iter().filter_map(|name| super::text(name)?.parse().ok()).collect())
        })
    }
}

fn to_text(counts: &Counts) -> String {
    let counts: Vec<String> = counts.iter().map(|(transport, count)| format!("{transport}={count}")).collect();
    counts.join(",")
}

/// The sum of what several nodes have written.
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
