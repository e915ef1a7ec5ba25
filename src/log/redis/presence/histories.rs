//! The histories of presence with the real scripts in a real Redis, whose clock the test sets.

use super::{RedisPresence, Scripts};
use crate::cursor::{Cursor, Id};
use crate::log::presence::histories::{Bench, Change, come_back_within_a_sweep, most, run, seeds};
use crate::log::presence::{Call, Deadline, Join, Joined, Members, PresenceStore, Renewed};
use crate::log::redis::connection::{ANSWER_TIMEOUT, Connection};
use crate::log::redis::histories::Server;
use crate::log::redis::{Endpoint, RedisConfig, RedisLog, text};
use crate::log::{BoxFuture, Retention, Unreachable};
use crate::message::Channel;
use parking_lot::Mutex;
use redis::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Mutex as AsyncMutex;

/// How many histories run at the same time, each in a database of its own.
const WORKERS: usize = 4;

struct RedisBench {
    presence: RedisPresence,
    connection: AsyncMutex<Connection>,
    saved: Mutex<Vec<(Vec<u8>, Vec<u8>)>>,
}

impl RedisBench {
    async fn new(url: &str, database: usize, most: usize) -> RedisBench {
        let endpoint = || Endpoint::parse(url, None).expect("an endpoint");
        let connect = async || {
            let connection = Connection::open(&endpoint(), "h:log", ANSWER_TIMEOUT * 10).await;
            let mut connection = connection.expect("a connection");
            connection.send(redis::cmd("SELECT").arg(database)).await.expect("a database");
            connection
        };
        let config = RedisConfig {
            prefix: "h".into(),
            retention: Retention { age: Duration::from_secs(3600), messages: 100_000, bytes: 1 << 26, control: 10 },
            timeout: Duration::from_secs(5),
            wait_replicas: 0,
            max_payload: 1000,
            key_bytes: 64 << 20,
            subscribe: Vec::new(),
        };
        let (log, _jobs) = RedisLog::without_appender(endpoint(), config);
        let connection = connect().await;
        *log.stand_in.lock() = Some(connection.clone());
        connection.server().1.clone_into(&mut log.server.lock());
        let presence = RedisPresence { scripts: Scripts::with_clock(), ..RedisPresence::new(log, most, 1000) };
        RedisBench { presence, connection: AsyncMutex::new(connect().await), saved: Mutex::default() }
    }

    async fn command(&self, command: &redis::Cmd) -> Value {
        self.connection.lock().await.send(command).await.expect("an answer")
    }
}

impl PresenceStore for RedisBench {
    fn join<'a>(&'a self, joins: &'a Call<Join>) -> BoxFuture<'a, Result<Vec<Joined>, Unreachable>> {
        self.presence.join(joins)
    }

    fn renew<'a>(&'a self, renewal: &'a Call<Deadline>) -> BoxFuture<'a, Result<Renewed, Unreachable>> {
        self.presence.renew(renewal)
    }

    fn members<'a>(&'a self, channel: &'a Channel) -> BoxFuture<'a, Result<Members, Unreachable>> {
        self.presence.members(channel)
    }

    fn channels<'a>(&'a self, after: &'a str, limit: usize) -> BoxFuture<'a, Result<Vec<Channel>, Unreachable>> {
        self.presence.channels(after, limit)
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    match value {
        Value::BulkString(bytes) => bytes.clone(),
        other => panic!("{other:?}"),
    }
}

/// The change that an entry tells.
fn change(entry: &Value) -> (Id, Change) {
    let Value::Array(entry) = entry else { panic!("{entry:?}") };
    let Value::Array(fields) = &entry[1] else { panic!("{entry:?}") };
    let field = |name: &str| {
        let pair = fields.chunks(2).find(|pair| text(&pair[0]) == Some(name));
        text(&pair.expect("the field")[1]).expect("a text").to_owned()
    };
    assert_eq!((field("v"), field("event")), ("2".to_owned(), field("kind")));
    let id: Cursor = format!("{}.a", text(&entry[0]).expect("an id")).parse().expect("an id");
    (id.id, (field("kind") == "member_added", field("channel").parse().expect("a channel"), field("data")))
}

impl Bench for RedisBench {
    fn set_time(&self, ms: u64) -> BoxFuture<'_, ()> {
        Box::pin(async move { drop(self.command(redis::cmd("SET").arg("test:now").arg(ms)).await) })
    }

    fn changes(&self, n: usize) -> BoxFuture<'_, (Vec<Change>, Id)> {
        Box::pin(async move {
            let Value::Array(entries) = self.command(redis::cmd("XRANGE").arg("h:log").arg("-").arg("+")).await else {
                panic!("no list of entries");
            };
            let last = entries.last().map_or(Id::ZERO, |entry| change(entry).0);
            (entries[n..].iter().map(|entry| change(entry).1).collect(), last)
        })
    }

    fn save(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let Value::Array(keys) = self.command(redis::cmd("KEYS").arg("*")).await else { panic!("no keys") };
            let mut saved = Vec::new();
            for key in keys.iter().map(bytes) {
                let dump = bytes(&self.command(redis::cmd("DUMP").arg(&key)).await);
                saved.push((key, dump));
            }
            *self.saved.lock() = saved;
        })
    }

    fn restore(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.flush().await;
            let saved = self.saved.lock().clone();
            for (key, dump) in saved {
                self.command(redis::cmd("RESTORE").arg(key).arg(0).arg(dump)).await;
            }
        })
    }

    fn flush(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move { drop(self.command(&redis::cmd("FLUSHDB")).await) })
    }
}

#[tokio::test]
async fn a_node_comes_back_while_its_connections_are_removed() {
    let server = Server::start().await;
    come_back_within_a_sweep(&RedisBench::new(&server.url(), 0, 1000).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scripts_keep_the_same_promises() {
    let server = Server::start().await;
    let seeds = seeds(60, 2000);
    let next = Arc::new(AtomicU64::new(seeds.start));
    let mut workers = Vec::new();
    for worker in 0..WORKERS {
        let (url, next, end) = (server.url(), next.clone(), seeds.end);
        workers.push(tokio::spawn(async move {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= end {
                    return Ok(());
                }
                let most = most(seed);
                let bench = RedisBench::new(&url, worker, most).await;
                run(&bench, seed, most).await?;
            }
        }));
    }
    for worker in workers {
        let outcome: Result<(), String> = worker.await.expect("a worker");
        if let Err(fault) = outcome {
            panic!("{fault}");
        }
    }
}
