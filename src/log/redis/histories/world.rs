//! The servers, the nodes, and the events of a history. Each server is a database of one real Redis; the test gives
//! each node the server's reign together with the connection.

mod nodes;
mod readers;
mod servers;

use super::model::{Entry, Memory, Place, Stream, Token, Told, judge};
use crate::cursor::{Cursor, Epoch, Id};
use crate::log::redis::append::Appender;
use crate::log::redis::connection::{self, TRIM};
use crate::log::redis::range_connection::RangeConnection;
use crate::log::redis::tail::Tail;
use crate::log::redis::{Connection, Endpoint, RedisConfig, RedisLog, ScriptError, entry, text};
use crate::log::{Extent, Resolved, Retention, TailEvent};
use crate::message::{Draft, Message, Payload};
use redis::Value;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

pub(super) const SERVERS: usize = 3;
const NODES: usize = 3;
const KEY: &str = "h:log";
const AWAY: &str = "{h:log}:away";
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// A step of a history. The numbers select from the servers, nodes and entries that exist at that moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) kind: u8,
    pub(super) a: usize,
    pub(super) b: usize,
    pub(super) c: usize,
}

struct Server {
    stream: Stream,
    /// The log's stream, while it is moved away.
    away: Option<Stream>,
    process: u64,
    reign: u64,
    is_primary: bool,
}

struct Copy {
    key: String,
    of: usize,
    stream: Stream,
}

struct Node {
    log: Arc<RedisLog>,
    tail: Tail,
    appender: Appender,
    /// The server that the node's new connections reach.
    home: usize,
    /// The server that the node's existing connections reach.
    tail_at: usize,
    append_at: usize,
    read_at: usize,
    memory: Memory,
    /// The entries that a reader of this node has seen, and the entries that were reported to it as missed.
    seen: BTreeSet<Token>,
    is_opened: bool,
    is_misled: bool,
    epoch: Option<Epoch>,
    at: Id,
}

pub(super) struct World {
    endpoint: String,
    databases: Vec<Connection>,
    servers: Vec<Server>,
    nodes: Vec<Node>,
    copies: Vec<Copy>,
    epochs: HashMap<Epoch, Vec<Entry>>,
    places: Vec<Place>,
    tokens: Token,
    reigns: u64,
    kept: usize,
    pub(super) trace: Vec<String>,
    pub(super) judged: usize,
    pub(super) gaps: usize,
}

pub(super) type Outcome<T = ()> = Result<T, String>;

fn failed(error: ScriptError) -> String {
    format!("{error}: {error:?}")
}

/// Opens one connection for each server, to the databases from `first` on.
pub(super) async fn databases(endpoint: &str, first: usize) -> Vec<Connection> {
    let mut databases = Vec::new();
    for index in 0..SERVERS {
        let endpoint = Endpoint::parse(endpoint, None).expect("an endpoint");
        let mut connection = Connection::open(&endpoint, KEY, Duration::from_secs(60)).await.expect("a connection");
        connection.send(redis::cmd("SELECT").arg(first + index)).await.expect("a database");
        databases.push(connection);
    }
    databases
}

impl World {
    pub(super) async fn new(endpoint: &str, databases: Vec<Connection>, kept: usize) -> World {
        let mut world = World {
            endpoint: endpoint.to_owned(),
            databases,
            servers: Vec::new(),
            nodes: Vec::new(),
            copies: Vec::new(),
            epochs: HashMap::new(),
            places: Vec::new(),
            tokens: 0,
            reigns: 0,
            kept,
            trace: Vec::new(),
            judged: 0,
            gaps: 0,
        };
        for index in 0..SERVERS {
            world.ask(index, redis::cmd("FLUSHDB").arg("SYNC")).await;
            world.reigns += 1;
            let (process, reign) = (world.reigns, world.reigns);
            world.servers.push(Server {
                stream: Stream::default(),
                away: None,
                process,
                reign,
                is_primary: index == 0,
            });
        }
        for _ in 0..NODES {
            let node = world.node(0);
            world.nodes.push(node);
        }
        world
    }

    fn say(&mut self, line: String) {
        self.trace.push(line);
    }

    fn connection(&self, server: usize) -> Connection {
        let it = &self.servers[server];
        self.databases[server].in_reign(&format!("p{}s{server}", it.process), it.reign)
    }

    fn node(&self, home: usize) -> Node {
        let endpoint = Endpoint::parse(&self.endpoint, None).expect("an endpoint");
        let retention = Retention { age: YEAR, messages: self.kept, bytes: 1 << 30, control: 10 };
        let timeout = Duration::from_secs(60);
        let config = RedisConfig {
            prefix: "h".into(),
            retention,
            timeout,
            wait_replicas: 0,
            max_payload: 1000,
            key_bytes: 64 << 20,
            subscribe: Vec::new(),
        };
        let (log, _jobs) = RedisLog::without_appender(endpoint, config);
        *log.stand_in.lock() = Some(self.connection(home));
        Node {
            tail: Tail::new(log.clone()),
            appender: Appender::new(),
            log,
            home,
            tail_at: home,
            append_at: home,
            read_at: home,
            memory: Memory::default(),
            seen: BTreeSet::new(),
            is_opened: false,
            is_misled: false,
            epoch: None,
            at: Id::ZERO,
        }
    }

    async fn ask(&mut self, server: usize, command: &redis::Cmd) -> Value {
        let answer = self.databases[server].send(command).await;
        answer.unwrap_or_else(|error| panic!("{error}: {error:?}"))
    }

    /// Chooses an existing primary.
    fn primary(&self, choice: usize) -> usize {
        let primaries: Vec<usize> = (0..SERVERS).filter(|index| self.servers[*index].is_primary).collect();
        primaries[choice % primaries.len()]
    }

    pub(super) async fn step(&mut self, step: Step) -> Outcome {
        let Step { kind, a, b, c } = step;
        if self.tokens > 400 {
            return Ok(());
        }
        let node = a % NODES;
        self.say(format!("{step:?}"));
        match kind {
            0..=17 => self.append(node, 1 + b % 3).await?,
            18..=27 => {
                let server = self.primary(a);
                self.say(format!("server {server}: others append"));
                self.add_foreign(server, 1 + b % 3, c, true).await;
            }
            28 => {
                let server = self.primary(a);
                self.add_foreign(server, 1, c, false).await;
            }
            29..=57 => drop(self.tail(node).await?),
            58..=63 => self.mark(node).await?,
            64..=68 => {
                let (from, to) = (self.primary(a), b % SERVERS);
                if from != to && self.nodes.iter().all(|node| node.home != to) {
                    self.say(format!("server {to} is a replica of {from}"));
                    self.resync(to, from).await;
                }
            }
            69..=70 => {
                let (of, server) = (self.primary(a), b % SERVERS);
                if of != server && self.servers[server].is_primary {
                    self.say(format!("server {server} gives way to {of}"));
                    self.resync(server, of).await;
                }
            }
            71..=74 => {
                let server = b % SERVERS;
                if !self.servers[server].is_primary {
                    self.say(format!("server {server} is promoted"));
                    self.new_reign(server, false);
                    self.tell_reign(server);
                }
            }
            75..=78 => {
                let server = self.primary(b);
                self.say(format!("node {node} moves to server {server}"));
                self.move_node(node, server, c).await;
            }
            79..=80 => {
                let server = self.primary(a);
                self.say(format!("server {server} restarts"));
                self.restart(server).await;
            }
            81..=83 if !self.copies.is_empty() => self.old_copy(a, b, kind == 83).await,
            84..=87 => {
                let of = self.primary(a);
                let key = format!("{{h:log}}:copy{}", self.copies.len());
                self.say(format!("server {of} is copied to {key}"));
                self.copy((of, KEY), (of, &key)).await;
                let stream = self.servers[of].stream.clone();
                self.copies.push(Copy { key, of, stream });
            }
            88 => {
                self.say(format!("node {node} restarts"));
                self.nodes[node] = self.node(self.nodes[node].home);
            }
            89 => {
                self.say("all nodes restart".into());
                for node in 0..NODES {
                    self.nodes[node] = self.node(self.nodes[node].home);
                }
            }
            90..=92 => self.trim(node, 1 + b % 8).await?,
            93..=94 => self.foreign_trim(self.primary(a), b % 8).await,
            95..=96 => self.foreign_delete(self.primary(a), b, c).await,
            97 => self.rename(self.primary(a)).await,
            _ => self.read(node, b).await?,
        }
        Ok(())
    }
}

fn token(message: &Message) -> Token {
    message.payload().parse().expect("a token")
}
