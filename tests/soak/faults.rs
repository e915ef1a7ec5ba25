//! The faults, each with its random parts, so that a seed determines all of them.

use fastrand::Rng;

/// How far a clock is from the true time, in seconds: longer than any entry is kept.
pub const REDIS_STEP: i64 = 3600;
pub const NODE_STEP: i64 = 900;

#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    // Faults of Redis, and of the connections to it.
    RedisKilled { away_ms: u64 },
    RedisEnded { away_ms: u64 },
    RedisKilledTwice,
    RedisStopped { ms: u64 },
    ConnectionsKilled { times: u64 },
    AllPaused { ms: u64 },
    WritesPaused { ms: u64 },
    MemoryFull { ms: u64 },
    ReadOnly { ms: u64 },
    RedisClock { seconds: i64 },
    NetworkSilent { ms: u64, of: Option<usize> },
    NetworkResets { ms: u64, of: Option<usize> },
    NetworkLate { ms: u64, by_ms: u64, of: Option<usize> },
    ScriptsFlushed,
    FunctionsFlushed,
    // Edits of the log by other programs.
    Flushed,
    Trimmed { keep: usize },
    AddedWithMaxlen { count: usize, keep: usize },
    AddedAndTrimmed { count: usize, keep: usize },
    DeletedWithin { count: usize },
    NewestDeleted,
    IdSet { ahead_ms: u64 },
    OlderCopyRestored { after_ms: u64 },
    LogDeleted,
    LogRenamed { and_back: bool },
    GroupsDestroyed,
    Burst { count: usize },
    // Failovers to another Redis.
    Promoted { behind_ms: u64, parted_ms: u64, stay: Vec<usize>, killed: bool },
    FailedOver,
    PrimaryKilled,
    PrimaryStopped { ms: u64 },
    // Faults of nodes.
    NodeKilled { node: Option<usize>, away_ms: u64 },
    NodesKilledInTurn,
    NodeStopped { node: Option<usize>, ms: u64 },
    HoldersStopped { ms: u64 },
    NodesReplaced,
    NodeClock { node: usize, seconds: i64 },
    // Faults of all processes at once.
    PowerCut { lost_ms: u64 },
    NodeStartsInSilence { node: usize, id_set: bool },
}

/// Where the log lives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Topology {
    /// One Redis that writes everything to disk at once.
    Single,
    /// The same as `Single`, with a log that keeps few messages.
    Short,
    /// A primary and a replica, and a network in which the test chooses the server of each node.
    Pair,
    /// A primary, two replicas and three sentinels.
    Sentinels,
}

/// The faults until the next probe.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The faults of Redis, each after a pause in milliseconds.
    pub redis: Vec<(u64, Fault)>,
    /// The faults of nodes, at the same time.
    pub nodes: Vec<(u64, Fault)>,
}

type Draw = fn(&mut Rng) -> Fault;

/// One node or all of them.
fn of(rng: &mut Rng) -> Option<usize> {
    rng.bool().then(|| rng.usize(..3))
}

const EDITS: [Draw; 13] = [
    |_| Fault::Flushed,
    |rng| Fault::Trimmed { keep: rng.usize(0..100) },
    |rng| Fault::AddedWithMaxlen { count: rng.usize(2..60), keep: rng.usize(1..30) },
    |rng| Fault::AddedAndTrimmed { count: rng.usize(1..10), keep: rng.usize(0..3) },
    |rng| Fault::DeletedWithin { count: rng.usize(1..6) },
    |_| Fault::NewestDeleted,
    |rng| Fault::IdSet { ahead_ms: rng.u64(1..3000) },
    |rng| Fault::OlderCopyRestored { after_ms: rng.u64(200..2500) },
    |_| Fault::LogDeleted,
    |rng| Fault::LogRenamed { and_back: rng.bool() },
    |_| Fault::GroupsDestroyed,
    |_| Fault::ScriptsFlushed,
    |_| Fault::FunctionsFlushed,
];

const SMALL: [Draw; 4] = [
    |rng| Fault::ConnectionsKilled { times: rng.u64(1..6) },
    |_| Fault::WritesPaused { ms: 1000 },
    |_| Fault::MemoryFull { ms: 1000 },
    |rng| Fault::Burst { count: rng.usize(100..400) },
];

const SERVER: [Draw; 14] = [
    |rng| Fault::RedisKilled { away_ms: rng.u64(0..1000) },
    |rng| Fault::RedisEnded { away_ms: rng.u64(0..1000) },
    |_| Fault::RedisKilledTwice,
    |_| Fault::RedisStopped { ms: 1000 },
    |_| Fault::RedisStopped { ms: 12_000 },
    |_| Fault::AllPaused { ms: 3000 },
    |_| Fault::WritesPaused { ms: 3000 },
    |_| Fault::MemoryFull { ms: 3000 },
    |_| Fault::ReadOnly { ms: 3000 },
    |rng| Fault::RedisClock { seconds: [-REDIS_STEP, 0, REDIS_STEP, -5, 5][rng.usize(..5)] },
    |rng| Fault::RedisClock { seconds: [-REDIS_STEP, 0, REDIS_STEP][rng.usize(..3)] },
    |rng| Fault::NetworkSilent { ms: rng.u64(500..6000), of: of(rng) },
    |rng| Fault::NetworkResets { ms: rng.u64(100..3000), of: of(rng) },
    |rng| Fault::NetworkLate { ms: rng.u64(2000..6000), by_ms: rng.u64(20..300), of: of(rng) },
];

const NODES: [Draw; 8] = [
    |rng| Fault::NodeKilled { node: of(rng), away_ms: rng.u64(0..1000) },
    |rng| Fault::NodeKilled { node: None, away_ms: rng.u64(0..1000) },
    |_| Fault::NodesKilledInTurn,
    |rng| Fault::NodeStopped { node: of(rng), ms: rng.u64(1000..8000) },
    |_| Fault::HoldersStopped { ms: 5000 },
    |_| Fault::NodesReplaced,
    |rng| Fault::NodeClock { node: rng.usize(..3), seconds: [-NODE_STEP, 0, NODE_STEP][rng.usize(..3)] },
    |rng| Fault::NodeClock { node: rng.usize(..3), seconds: NODE_STEP },
];

const WHOLE: [Draw; 3] = [
    |rng| Fault::PowerCut { lost_ms: rng.u64(200..1500) },
    |rng| Fault::NodeStartsInSilence { node: rng.usize(..3), id_set: false },
    |rng| Fault::NodeStartsInSilence { node: rng.usize(..3), id_set: true },
];

const PROMOTIONS: [Draw; 4] = [
    |rng| Fault::Promoted { behind_ms: 0, parted_ms: rng.u64(0..1000), stay: stay(rng), killed: false },
    |rng| Fault::Promoted { behind_ms: rng.u64(200..1500), parted_ms: 0, stay: vec![], killed: false },
    |rng| Fault::Promoted {
        behind_ms: rng.u64(0..500),
        parted_ms: rng.u64(1500..5000),
        stay: stay(rng),
        killed: false,
    },
    |rng| Fault::Promoted { behind_ms: rng.u64(0..800), parted_ms: 0, stay: vec![], killed: true },
];

const FAILOVERS: [Draw; 3] =
    [|_| Fault::FailedOver, |_| Fault::PrimaryKilled, |rng| Fault::PrimaryStopped { ms: rng.u64(2500..6000) }];

/// The nodes that do not learn of a promotion: one or two of three.
fn stay(rng: &mut Rng) -> Vec<usize> {
    let odd = rng.usize(..3);
    if rng.bool() { vec![odd] } else { (0..3).filter(|node| *node != odd).collect() }
}

/// Faults in random order, each once before any of them is repeated.
pub struct Deck {
    rng: Rng,
    redis: Vec<Draw>,
    left: Vec<Draw>,
    nodes_left: Vec<Draw>,
}

impl Deck {
    pub fn of(topology: Topology, rng: Rng) -> Deck {
        let redis: Vec<Draw> = match topology {
            Topology::Single => [&SERVER[..], &EDITS, &SMALL[..1], &WHOLE].concat(),
            // These faults make readers fall behind a short log, or change ages by clocks.
            Topology::Short => {
                [&SERVER[..1], &SERVER[3..4], &SERVER[9..], &EDITS[4..8], &SMALL[..], &SMALL[3..]].concat()
            }
            // Replicas also get the edits.
            Topology::Pair => [&PROMOTIONS[..], &PROMOTIONS, &PROMOTIONS, &EDITS[..9], &SMALL].concat(),
            Topology::Sentinels => [&FAILOVERS[..], &FAILOVERS[..2], &EDITS[4..6], &SMALL[..2]].concat(),
        };
        Deck { rng, redis, left: Vec::new(), nodes_left: Vec::new() }
    }

    fn draw(&mut self, of_nodes: bool) -> Fault {
        let all = if of_nodes { &NODES[..] } else { &self.redis[..] };
        let left = if of_nodes { &mut self.nodes_left } else { &mut self.left };
        if left.is_empty() {
            left.extend(all);
            self.rng.shuffle(left);
        }
        let draw = left.pop().unwrap_or(NODES[0]);
        draw(&mut self.rng)
    }

    /// One to three faults at Redis, or some at the nodes, or both at once.
    pub fn plan(&mut self) -> Plan {
        let mut plan = Plan::default();
        let kind = self.rng.u8(..10);
        let redis = if kind < 7 { [1, 1, 1, 2, 2, 3][self.rng.usize(..6)] } else { 0 };
        let nodes = usize::from(kind >= 5);
        for _ in 0..redis {
            let fault = self.draw(false);
            let is_whole = matches!(fault, Fault::PowerCut { .. } | Fault::NodeStartsInSilence { .. });
            plan.redis.push((self.rng.u64(..2500), fault));
            if is_whole {
                // This fault needs the nodes for itself.
                return plan;
            }
        }
        for _ in 0..nodes {
            let fault = self.draw(true);
            plan.nodes.push((self.rng.u64(..2500), fault));
        }
        plan
    }
}
