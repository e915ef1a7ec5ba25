//! The log's side of the world, and its faults.

use super::edits;
use super::faults::{Fault, Topology};
use super::history::{Effects, Entry, Loss, Place, Value};
use super::publishers::Flow;
use crate::support::clock::Clock;
use crate::support::proxy::{Path, Proxy};
use crate::support::{RedisServer, Sentinels};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub const LOG: &str = "longtail:log";

pub async fn pause(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

pub struct RedisSide {
    servers: Vec<RedisServer>,
    clock: Clock,
    /// The present offset of the clock.
    beside: i64,
    sentinels: Option<Sentinels>,
    /// The paths from each node to Redis.
    paths: Vec<Proxy>,
    /// The path from the replica to the primary.
    link: Option<Proxy>,
    primary: usize,
    pub flow: Option<Arc<Flow>>,
    pub rng: fastrand::Rng,
    /// How many entries other programs have added.
    pub foreign: u32,
}

impl RedisSide {
    pub async fn start(topology: Topology, rng: fastrand::Rng) -> RedisSide {
        let clock = Clock::new();
        let durable = ["--appendonly", "yes", "--appendfsync", "always"];
        let mut side = RedisSide {
            servers: Vec::new(),
            clock,
            beside: 0,
            sentinels: None,
            paths: Vec::new(),
            link: None,
            primary: 0,
            flow: None,
            rng,
            foreign: 0,
        };
        if topology == Topology::Sentinels {
            side.sentinels = Some(Sentinels::start(2).await);
            return side;
        }
        let args = [side.clock.variables(), durable.to_vec()].concat();
        side.servers.push(RedisServer::start_with(&args).await);
        if topology == Topology::Pair {
            let replica = [&durable[..], &["--repl-diskless-sync-delay", "0", "--repl-timeout", "10"]].concat();
            side.servers.push(RedisServer::start_with(&replica).await);
            side.link = Some(Proxy::start(side.servers[0].port()).await);
            side.follow(1).await;
        }
        for _ in 0..3 {
            side.paths.push(Proxy::start(side.servers[0].port()).await);
        }
        side
    }

    fn servers(&self) -> &[RedisServer] {
        self.sentinels.as_ref().map_or(&self.servers, |sentinels| &sentinels.servers)
    }

    fn servers_mut(&mut self) -> &mut [RedisServer] {
        self.sentinels.as_mut().map_or(&mut self.servers, |sentinels| &mut sentinels.servers)
    }

    pub fn primary(&self) -> &RedisServer {
        &self.servers()[self.primary]
    }

    pub fn primary_mut(&mut self) -> &mut RedisServer {
        let primary = self.primary;
        &mut self.servers_mut()[primary]
    }

    /// The value in the form that a node accepts.
    pub fn url(&self, node: usize) -> String {
        match &self.sentinels {
            Some(sentinels) => sentinels.url(),
            None => format!("redis://{}/", self.paths[node].address),
        }
    }

    /// The addresses at which publishers connect to Redis themselves.
    pub fn urls(&self) -> Vec<String> {
        match &self.sentinels {
            Some(sentinels) => sentinels.servers.iter().map(RedisServer::url).collect(),
            None => vec![self.primary().url()],
        }
    }

    /// All entries of the log, unchanged.
    pub async fn log(&self) -> Vec<Entry> {
        entries(&self.primary().command(&["XRANGE", LOG, "-", "+"]).await)
    }

    fn paths_of(&self, of: Option<usize>) -> impl Iterator<Item = &Proxy> {
        self.paths.iter().enumerate().filter(move |(node, _)| of.is_none_or(|one| one == *node)).map(|(_, path)| path)
    }

    pub async fn strike_all(&mut self, faults: &[(u64, Fault)]) -> Effects {
        let mut effects = Effects::default();
        for (wait, fault) in faults {
            pause(*wait).await;
            effects.join(self.strike(fault).await);
        }
        effects
    }

    pub async fn strike(&mut self, fault: &Fault) -> Effects {
        let began = Instant::now();
        let mut effects = match fault {
            Fault::Promoted { behind_ms, parted_ms, stay, killed } => {
                self.promote(*behind_ms, *parted_ms, stay, *killed).await
            }
            Fault::FailedOver | Fault::PrimaryKilled | Fault::PrimaryStopped { .. } => self.fail_over(fault).await,
            Fault::NetworkSilent { .. } | Fault::NetworkResets { .. } | Fault::NetworkLate { .. } => {
                self.network(fault).await
            }
            _ => match edits::edit(self, fault).await {
                Some(effects) => return effects,
                None => self.server(fault).await,
            },
        };
        effects.redis_failed.push((began, Instant::now()));
        effects
    }

    /// Causes a fault of the server itself.
    async fn server(&mut self, fault: &Fault) -> Effects {
        let mut effects = Effects::default();
        let began = Instant::now();
        match fault {
            Fault::RedisKilled { away_ms } | Fault::RedisEnded { away_ms } => {
                effects.cuts.push(began);
                match fault {
                    Fault::RedisKilled { .. } => self.primary_mut().kill(),
                    _ => self.primary_mut().end().await,
                }
                pause(*away_ms).await;
                self.primary_mut().restart().await;
            }
            Fault::RedisKilledTwice => {
                for _ in 0..2 {
                    effects.cuts.push(Instant::now());
                    self.primary_mut().kill();
                    self.primary_mut().restart().await;
                    pause(3000).await;
                }
            }
            Fault::RedisStopped { ms } => {
                self.primary().freeze();
                pause(*ms).await;
                self.primary().thaw();
                if *ms > 2000 {
                    // Nodes have closed their connections, and Redis learns of that late.
                    effects.deaf.push((began, Instant::now() + Duration::from_secs(1)));
                }
            }
            Fault::ConnectionsKilled { times } => {
                for _ in 0..*times {
                    effects.cuts.push(Instant::now());
                    self.primary().command(&["CLIENT", "KILL", "TYPE", "normal"]).await;
                    self.primary().command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
                    pause(100).await;
                }
            }
            Fault::AllPaused { ms } => self.paused("ALL", *ms).await,
            Fault::WritesPaused { ms } => self.paused("WRITE", *ms).await,
            Fault::MemoryFull { ms } => {
                self.primary().command(&["CONFIG", "SET", "maxmemory", "1"]).await;
                pause(*ms).await;
                self.primary().command(&["CONFIG", "SET", "maxmemory", "0"]).await;
            }
            Fault::ReadOnly { ms } => {
                self.primary().command(&["REPLICAOF", "127.0.0.1", "1"]).await;
                pause(*ms).await;
                self.primary().command(&["REPLICAOF", "NO", "ONE"]).await;
                effects.deaf.push((began, Instant::now() + Duration::from_secs(1)));
            }
            Fault::RedisClock { seconds } => {
                // The keys expire at some moment between these two.
                let before = Instant::now();
                self.clock.set(*seconds);
                let step = *seconds - std::mem::replace(&mut self.beside, *seconds);
                if step > 60 {
                    // All entries are older than the log keeps; keys and records expire.
                    effects.losses.push((Instant::now() + Duration::from_secs(1), Loss::Trimmed, false));
                    effects.forgot_keys.extend([before, Instant::now()]);
                }
            }
            other => panic!("{other:?} is no fault of a server"),
        }
        effects
    }

    async fn paused(&self, what: &str, ms: u64) {
        self.primary().command(&["CLIENT", "PAUSE", &ms.to_string(), what]).await;
        pause(ms).await;
    }

    /// Causes a fault between nodes and Redis. Publishers that connect to Redis are not affected.
    async fn network(&mut self, fault: &Fault) -> Effects {
        let began = Instant::now();
        let (path, ms, of) = match fault {
            Fault::NetworkSilent { ms, of } => (Path::Silent, *ms, *of),
            Fault::NetworkResets { ms, of } => (Path::Reset, *ms, *of),
            Fault::NetworkLate { ms, by_ms, of } => (Path::Late(Duration::from_millis(*by_ms)), *ms, *of),
            other => panic!("{other:?} is no fault of the network"),
        };
        self.paths_of(of).for_each(|proxy| proxy.set(path));
        pause(ms).await;
        self.paths_of(of).for_each(|proxy| proxy.set(Path::Open));
        let mut effects = Effects::default();
        if of.is_none() && !matches!(path, Path::Late(_)) {
            effects.deaf.push((began, Instant::now() + Duration::from_secs(2)));
        }
        effects
    }

    /// Makes a server follow the primary, through the link.
    async fn follow(&mut self, server: usize) {
        let (Some(link), port) = (&self.link, self.servers[self.primary].port()) else { return };
        link.lead(port);
        link.set(Path::Open);
        let address = link.address.port().to_string();
        self.servers[server].command(&["REPLICAOF", "127.0.0.1", &address]).await;
        wait_for("the replica to be in step", async || {
            self.servers[server].text(&["INFO", "replication"]).await.contains("master_link_status:up")
        })
        .await;
    }

    /// Makes the replica the primary, and moves the nodes to it: some later than others.
    async fn promote(&mut self, behind_ms: u64, parted_ms: u64, stay: &[usize], killed: bool) -> Effects {
        let began = Instant::now();
        let (old, new) = (self.primary, 1 - self.primary);
        if behind_ms > 0 {
            self.link.iter().for_each(|link| link.set(Path::Silent));
            pause(behind_ms).await;
        }
        if killed {
            self.servers[old].kill();
        }
        self.servers[new].command(&["REPLICAOF", "NO", "ONE"]).await;
        self.primary = new;
        let port = self.servers[new].port();
        for node in (0..3).filter(|node| !stay.contains(node)) {
            self.paths[node].lead(port);
        }
        let lead = |urls: Vec<String>| self.flow.iter().for_each(|flow| flow.lead(urls.clone()));
        if parted_ms > 0 {
            lead(self.servers.iter().map(RedisServer::url).collect());
            pause(parted_ms).await;
        }
        lead(vec![self.servers[new].url()]);
        stay.iter().for_each(|node| self.paths[*node].lead(port));
        if killed {
            self.servers[old].restart().await;
        }
        self.follow(old).await;
        let mut effects = Effects::default();
        effects.losses.push((Instant::now(), Loss::Replaced, false));
        effects.deaf.push((began, Instant::now() + Duration::from_secs(1)));
        effects
    }

    /// Lets the sentinels make another server the primary.
    async fn fail_over(&mut self, fault: &Fault) -> Effects {
        let began = Instant::now();
        let (old, port) = (self.primary, self.primary().port());
        let is_killed = *fault == Fault::PrimaryKilled;
        let Some(sentinels) = &mut self.sentinels else { panic!("{fault:?} without sentinels") };
        match fault {
            Fault::PrimaryKilled => sentinels.servers[old].kill(),
            Fault::PrimaryStopped { ms } => {
                sentinels.servers[old].freeze();
                pause(*ms).await;
                sentinels.servers[old].thaw();
            }
            _ => sentinels.fail_over().await,
        }
        if !matches!(fault, Fault::PrimaryStopped { .. }) {
            let sentinels = &*sentinels;
            wait_for("another primary", async || sentinels.primary().await.port() != port).await;
        }
        if is_killed {
            sentinels.servers[old].restart().await;
            let now = sentinels.primary().await.port().to_string();
            sentinels.servers[old].command(&["REPLICAOF", "127.0.0.1", &now]).await;
        }
        let sentinels = &*sentinels;
        wait_for("all others to follow the primary", async || {
            let primary = sentinels.primary().await.port();
            let is_of = format!("master_port:{primary}");
            for server in &sentinels.servers {
                let Ok(info) = server.try_command(&["INFO", "replication"]).await else { return false };
                let info: String = redis::from_redis_value(info).unwrap_or_default();
                let is_settled = if server.port() == primary {
                    info.contains("role:master") && info.contains("connected_slaves:2")
                } else {
                    info.contains(&is_of) && info.contains("master_link_status:up")
                };
                if !is_settled {
                    return false;
                }
            }
            true
        })
        .await;
        let primary = sentinels.primary().await.port();
        self.primary = self.servers().iter().position(|server| server.port() == primary).expect("one of ours");
        let mut effects = Effects::default();
        effects.losses.push((Instant::now(), Loss::Replaced, is_killed));
        effects.deaf.push((began, Instant::now() + Duration::from_secs(1)));
        effects
    }
}

/// Longer than `eventually`: sentinels are slow on a busy machine.
pub async fn wait_for(what: &str, ask: impl AsyncFn() -> bool) {
    crate::support::within(Duration::from_secs(90), what, async {
        while !ask().await {
            pause(50).await;
        }
    })
    .await;
}

/// Entries as `XRANGE` returns them, without those that the test has not written.
pub fn entries(answer: &redis::Value) -> Vec<Entry> {
    let list: Vec<(String, Vec<String>)> = redis::from_redis_value(answer.clone()).expect("entries");
    let entry = |(id, fields): (String, Vec<String>)| {
        let data = fields.chunks(2).find(|pair| pair[0] == "data")?.get(1)?.clone();
        Some((Place::of(&id)?, Value::of(&data)?))
    };
    list.into_iter().filter_map(entry).collect()
}
