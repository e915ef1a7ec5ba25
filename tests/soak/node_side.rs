//! The nodes, and their faults.

use super::faults::Fault;
use super::history::{Effects, Entry, Place, Value};
use super::readers::Address;
use super::redis_side::pause;
use crate::support::clock::Clock;
use crate::support::{Node, Request, quote};
use std::time::{Duration, Instant};

/// The time within which a node that is started is ready, on a busy machine.
pub const READY: Duration = Duration::from_secs(20);

pub struct NodeSide {
    pub nodes: Vec<Node>,
    args: Vec<Vec<String>>,
    clocks: Vec<Clock>,
    /// The log lines of the earlier processes.
    said: Vec<String>,
}

impl NodeSide {
    pub async fn start(urls: &[String], flags: &[&str]) -> NodeSide {
        let mut side = NodeSide { nodes: Vec::new(), args: Vec::new(), clocks: Vec::new(), said: Vec::new() };
        for url in urls {
            let clock = Clock::new();
            let mut args: Vec<String> = clock.variables().iter().map(ToString::to_string).collect();
            args.extend(["--redis", url, "--wait-for-log"].map(str::to_owned));
            args.extend(flags.iter().map(ToString::to_string));
            // Addresses that are still free when the node is started again.
            for flag in ["--listen", "--tcp-listen"] {
                args.extend([flag.to_owned(), format!("127.0.0.1:{}", crate::support::redis::free_port())]);
            }
            side.nodes.push(start(&args).await);
            side.args.push(args);
            side.clocks.push(clock);
            side.said.push(String::new());
        }
        for node in &side.nodes {
            ready(node, READY).await.expect("a node to be ready at the start");
        }
        side
    }

    pub fn addresses(&self) -> Vec<Address> {
        self.nodes.iter().map(|node| Address { http: node.http, tcp: node.tcp }).collect()
    }

    /// All lines that the processes at this address have logged.
    pub fn log(&self, node: usize) -> String {
        format!("{}{}", self.said[node], self.nodes[node].log())
    }

    /// Starts a node again whose process was killed or has ended.
    pub async fn start_again(&mut self, node: usize) {
        // Its addresses are in use until the process is gone.
        self.nodes[node].ended(READY).await.expect("a killed node to be gone");
        let said = format!("{}\n--- started again\n", self.nodes[node].log());
        self.said[node].push_str(&said);
        self.nodes[node] = start(&self.args[node]).await;
    }

    pub async fn strike_all(&mut self, faults: &[(u64, Fault)]) -> Effects {
        let mut effects = Effects::default();
        for (wait, fault) in faults {
            pause(*wait).await;
            effects.join(self.strike(fault).await);
        }
        effects
    }

    async fn strike(&mut self, fault: &Fault) -> Effects {
        let mut effects = Effects::default();
        match fault {
            Fault::NodeKilled { node, away_ms } => {
                let node = self.one_of(*node).await;
                self.nodes[node].signal("KILL");
                pause(*away_ms).await;
                self.start_again(node).await;
                effects.node_died = true;
            }
            Fault::NodesKilledInTurn => {
                for node in 0..3 {
                    let began = Instant::now();
                    self.nodes[node].signal("KILL");
                    self.start_again(node).await;
                    // Two other nodes run at each moment.
                    ready(&self.nodes[node], READY).await.ok();
                    let next = Duration::from_millis(1700).saturating_sub(began.elapsed());
                    tokio::time::sleep(next).await;
                }
                effects.node_died = true;
            }
            Fault::NodeStopped { node, ms } => {
                let node = self.one_of(*node).await;
                self.stop(node, *ms).await;
            }
            Fault::HoldersStopped { ms } => {
                for _ in 0..2 {
                    let node = self.one_of(None).await;
                    self.stop(node, *ms).await;
                }
            }
            Fault::NodesReplaced => {
                for node in 0..3 {
                    self.nodes[node].signal("TERM");
                    if self.nodes[node].ended(Duration::from_secs(60)).await.is_none() {
                        effects.broken.push(format!("node {node} has not ended 60 s after SIGTERM"));
                        self.nodes[node].signal("KILL");
                    }
                    self.start_again(node).await;
                    ready(&self.nodes[node], READY).await.ok();
                }
                effects.node_died = true;
            }
            Fault::NodeClock { node, seconds } => self.clocks[*node].set(*seconds),
            other => panic!("{other:?} is no fault of a node"),
        }
        effects
    }

    async fn stop(&self, node: usize, ms: u64) {
        self.nodes[node].signal("STOP");
        pause(ms).await;
        self.nodes[node].signal("CONT");
    }

    /// This node, or the one that appends `PUBLISH`ed messages.
    async fn one_of(&self, node: Option<usize>) -> usize {
        if let Some(node) = node {
            return node;
        }
        for _ in 0..20 {
            for (index, node) in self.nodes.iter().enumerate() {
                let asked = Request::get("/metrics").try_send(node.http);
                let answer = tokio::time::timeout(Duration::from_secs(1), asked).await;
                if let Ok(Some(answer)) = answer
                    && answer.text().contains("longtail_bridge_holds_lease 1")
                {
                    return index;
                }
            }
            pause(100).await;
        }
        0
    }

    /// The entries that a node returns from `earliest` to this probe, or the fault in its answer. `earliest` never has
    /// a gap. The cursor of a page has a gap if entries were `deleted` from the middle: no process knows which ones
    /// they were. Without entries if the probe, which was at `place` in the log, has been dropped in the meantime.
    pub async fn own_history(
        &self,
        node: usize,
        (place, probe): (Option<Place>, Value),
        deleted: bool,
    ) -> Result<Vec<Entry>, String> {
        let (mut cursor, mut all) = ("earliest".to_owned(), Vec::new());
        loop {
            let path = format!("/poll?channel=flow&limit=1000&cursor={}", quote(&cursor));
            let answer = Request::get(&path).try_send(self.nodes[node].http).await;
            let answer = answer.filter(|answer| answer.status == 200).ok_or("it does not answer a poll")?;
            let batch = answer.json();
            if let Some(gap) = batch.get("gap").filter(|_| cursor == "earliest" || !deleted) {
                return Err(format!("a gap behind {cursor}: {gap}"));
            }
            let messages = batch["messages"].as_array().ok_or("a batch without messages")?;
            for message in messages {
                let (id, data) = (message["id"].as_str(), message["data"].as_str());
                let entry = (id.and_then(Place::of), data.and_then(Value::of));
                let (Some(place), Some(value)) = entry else { return Err(format!("a strange message: {message}")) };
                all.push((place, value));
                if value == probe {
                    return Ok(all);
                }
            }
            cursor = batch["cursor"].as_str().ok_or("a batch without a cursor")?.to_owned();
            // After a gap that is allowed, the messages come with the next answer.
            if messages.is_empty() && batch.get("gap").is_none() {
                if place.is_some_and(|probed| all.first().is_some_and(|(first, _)| *first > probed)) {
                    return Ok(Vec::new());
                }
                return Err(format!("it ends at {cursor} with {:?}, without the probe", all.last()));
            }
        }
    }
}

async fn start(args: &[String]) -> Node {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    Node::start_unready(&args).await
}

/// Waits until a node says that it is ready.
pub async fn ready(node: &Node, within: Duration) -> Result<(), String> {
    let began = Instant::now();
    while began.elapsed() < within {
        let asked = Request::get("/readyz").try_send(node.http);
        if let Ok(Some(answer)) = tokio::time::timeout(Duration::from_secs(2), asked).await
            && answer.status == 200
        {
            return Ok(());
        }
        pause(50).await;
    }
    Err(format!("not ready within {within:?}"))
}
