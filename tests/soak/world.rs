//! The world of one phase: nodes on a log, publishers, readers; and its rounds of faults.

use super::faults::{Fault, Plan, Topology};
use super::history::{Effects, Entry, History, Loss, PROBE, Sent, Told, Value};
use super::judge::{Judge, Kind, Round, Violation};
use super::node_side::{NodeSide, ready};
use super::publishers::{Flow, REPEATED, WAYS, publish};
use super::readers::{Errand, Manner, read};
use super::redis_side::{RedisSide, pause};
use crate::support::publisher::{self, Outcome};
use fastrand::Rng;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The time after the last fault within which every reader has the probe, even on a busy machine.
pub const RECOVERS: Duration = Duration::from_secs(30);

/// The time within which a node that starts while nobody publishes is ready.
const STARTS: Duration = Duration::from_secs(15);

const HOPPERS: usize = 3;
const LAGGARDS: usize = 2;

/// The result of one round.
pub struct Outcomes {
    /// The time from the end of the last fault until the last reader has the probe.
    pub recovered: Duration,
    /// The time from the end of the last fault to the probe's acknowledgement.
    pub published: Duration,
    pub slowest: String,
    pub entries: usize,
    pub sent: usize,
    pub violations: Vec<Violation>,
}

pub struct World {
    topology: Topology,
    pub redis: RedisSide,
    pub nodes: NodeSide,
    flow: Arc<Flow>,
    histories: Vec<Arc<History>>,
    reading: Vec<JoinHandle<()>>,
    publishing: Vec<JoinHandle<()>>,
    call: watch::Sender<u32>,
    pub judge: Judge,
    rng: Rng,
}

impl World {
    pub async fn start(topology: Topology, mut rng: Rng) -> World {
        let mut redis = RedisSide::start(topology, rng.fork()).await;
        let urls: Vec<String> = (0..3).map(|node| redis.url(node)).collect();
        let mut flags = vec!["--heartbeat-seconds", "2", "--max-message-bytes", "1000", "--drain-seconds", "5"];
        match topology {
            Topology::Short => flags.extend(["--retain-messages", "300"]),
            Topology::Sentinels => flags.extend(["--redis-wait-replicas", "1"]),
            _ => {}
        }
        let nodes = NodeSide::start(&urls, &flags).await;
        let addresses = nodes.addresses();
        let flow = Flow::new(addresses.clone(), redis.urls());
        redis.flow = Some(flow.clone());
        let transports = nodes.nodes[0].transports().await;
        let start = nodes.nodes[0].latest("flow").await;
        let (call, called) = watch::channel(0);
        let stay = (0..transports.len()).map(|transport| (Manner::Stays, transport));
        let manners =
            stay.chain((0..HOPPERS).map(|n| (Manner::Hops, n))).chain((0..LAGGARDS).map(|n| (Manner::Lags, n)));
        let (mut histories, mut reading) = (Vec::new(), Vec::new());
        let turn = rng.usize(..3);
        for (manner, n) in manners {
            let at = (n % transports.len(), (n + turn) % 3);
            let name = match manner {
                Manner::Stays => format!("{} at node {}", transports[at.0].name, at.1),
                _ => format!("reader {n}, which {manner:?}").to_lowercase(),
            };
            let history = Arc::new(History::new(name));
            let (transports, nodes) = (transports.clone(), addresses.clone());
            let (start, called) = (start.clone(), called.clone());
            let errand = Errand { manner, at, transports, nodes, start, rng: rng.fork(), called };
            reading.push(tokio::spawn(read(history.clone(), errand)));
            histories.push(history);
        }
        let publishing = WAYS.map(|(way, pace)| tokio::spawn(publish(flow.clone(), way, pace, rng.fork()))).into();
        let judge = Judge::of(histories.iter().map(|history| history.name.clone()).collect());
        World { topology, redis, nodes, flow, histories, reading, publishing, call, judge, rng }
    }

    /// Causes the faults, and waits until every reader has seen a probe that was published after them. Where retention
    /// drops entries all the time, a slow reader may also have read beyond the probe; the verdict then decides whether
    /// it was told of a gap.
    pub async fn round(&mut self, plan: &Plan) -> Outcomes {
        let mut effects = self.strike(plan).await;
        self.flow.lead(self.redis.urls());
        let ended = Instant::now();
        let mut violations: Vec<Violation> =
            effects.broken.drain(..).map(|words| Violation { kind: Kind::Stuck, words }).collect();
        let (probe, outcome) = self.probe(ended).await;
        let published = ended.elapsed();
        let number = probe.value.number;
        // Positions of one log can be compared. In a log that has taken the place of another one, ids may be lower.
        let is_one_log = self.topology == Topology::Short && !effects.has(Loss::Replaced);
        let place = match probe.told {
            Told::Good(place) if is_one_log => place,
            _ => None,
        };
        let mut slowest = String::new();
        let (mut recovered, mut waiting) = (Duration::ZERO, vec![true; self.histories.len()]);
        while ended.elapsed() < RECOVERS + published && outcome {
            for (index, history) in self.histories.iter().enumerate() {
                let is_over = || history.probe() >= number || place.is_some_and(|place| history.is_beyond(place));
                if waiting[index] && is_over() {
                    waiting[index] = false;
                    (recovered, slowest) = (ended.elapsed(), history.name.clone());
                }
            }
            if !waiting.contains(&true) {
                break;
            }
            pause(20).await;
        }
        violations.extend(self.stuck(&waiting, &probe, outcome, ended).await);
        let mut outcomes = Outcomes { recovered, published, slowest, entries: 0, sent: 0, violations };
        if outcomes.violations.is_empty() {
            self.verdict(&effects, probe, ended, &mut outcomes).await;
        }
        outcomes
    }

    async fn strike(&mut self, plan: &Plan) -> Effects {
        let mut effects = Effects::default();
        if !plan.redis.iter().any(|(_, fault)| is_whole(fault)) {
            let (redis, nodes) = tokio::join!(self.redis.strike_all(&plan.redis), self.nodes.strike_all(&plan.nodes));
            effects.join(redis);
            effects.join(nodes);
            return effects;
        }
        for (wait, fault) in &plan.redis {
            pause(*wait).await;
            let one = match fault {
                Fault::PowerCut { lost_ms } => self.cut_power(*lost_ms).await,
                Fault::NodeStartsInSilence { node, id_set } => self.start_in_silence(*node, *id_set).await,
                other => self.redis.strike(other).await,
            };
            effects.join(one);
        }
        effects
    }

    /// Kills Redis and all nodes together. The last writes of Redis have never reached the disk.
    async fn cut_power(&mut self, lost_ms: u64) -> Effects {
        let began = Instant::now();
        let files = self.redis.primary().dir().join("appendonlydir");
        let newest = std::fs::read_dir(files).ok().into_iter().flatten().flatten().map(|entry| entry.path());
        let newest = newest.filter(|path| path.to_string_lossy().ends_with(".incr.aof")).max();
        let size = newest.as_ref().and_then(|path| path.metadata().ok()).map(|data| data.len());
        pause(lost_ms).await;
        self.nodes.nodes.iter().for_each(|node| node.signal("KILL"));
        self.redis.primary_mut().kill();
        if let (Some(path), Some(size)) = (newest, size)
            && let Ok(file) = std::fs::OpenOptions::new().write(true).open(path)
        {
            file.set_len(size).expect("the file ends earlier");
        }
        let until = Instant::now();
        self.redis.primary_mut().restart().await;
        for node in 0..3 {
            self.nodes.start_again(node).await;
        }
        for node in &self.nodes.nodes {
            ready(node, RECOVERS).await.ok();
        }
        let mut effects = Effects { node_died: true, ..Effects::default() };
        effects.losses.push((until, Loss::Replaced, false));
        effects.deaf.push((began, Instant::now() + Duration::from_secs(1)));
        effects.redis_failed.push((began, Instant::now()));
        effects
    }

    /// Starts a node again after an edit, while nobody publishes.
    async fn start_in_silence(&mut self, node: usize, id_set: bool) -> Effects {
        self.flow.paused.store(true, Ordering::Relaxed);
        // Messages that are under way arrive first.
        pause(2000).await;
        let edit = if id_set { Fault::IdSet { ahead_ms: 5000 } } else { Fault::NewestDeleted };
        let mut effects = self.redis.strike(&edit).await;
        self.nodes.nodes[node].signal("KILL");
        self.nodes.start_again(node).await;
        effects.node_died = true;
        if let Err(error) = ready(&self.nodes.nodes[node], STARTS).await {
            effects.broken.push(format!("node {node}, started while nobody publishes behind {edit:?}: {error}"));
        }
        self.flow.paused.store(false, Ordering::Relaxed);
        effects
    }

    /// Publishes the next probe, by any node that takes it.
    async fn probe(&mut self, ended: Instant) -> (Sent, bool) {
        let number = *self.call.borrow() + 1;
        let value = Value { way: PROBE, number };
        let query = format!("channel=flow&key={value:?}");
        loop {
            let tried = Instant::now();
            let node = self.flow.nodes[self.rng.usize(..3)];
            let outcome = publisher::post(node.http, &query, &format!("{value:?}")).await;
            let words = format!("{outcome:?}");
            let place = match &outcome {
                Outcome::Good(id) => id.as_deref().and_then(super::history::Place::of),
                _ => None,
            };
            let sent = Sent { value, began: ended, tried, ended: Instant::now(), told: Told::Good(place), words };
            if matches!(outcome, Outcome::Good(_)) {
                self.call.send_replace(number);
                return (sent, true);
            }
            if ended.elapsed() > RECOVERS {
                return (sent, false);
            }
            pause(50).await;
        }
    }

    /// Finds a stuck probe, stuck readers, and stuck publishers that repeat.
    async fn stuck(&mut self, waiting: &[bool], probe: &Sent, outcome: bool, ended: Instant) -> Vec<Violation> {
        let mut found = Vec::new();
        let mut add = |words: String| found.push(Violation { kind: Kind::Stuck, words });
        if !outcome {
            add(format!(
                "publishing by HTTP is not answered 200 within {RECOVERS:?} behind the faults: {}",
                probe.words
            ));
            return found;
        }
        for (index, history) in self.histories.iter().enumerate() {
            if self.reading[index].is_finished() {
                let end = (&mut self.reading[index]).await;
                let what = end.err().and_then(|error| error.try_into_panic().ok());
                let what = what.and_then(|panic| panic.downcast_ref::<String>().cloned());
                add(format!("{} has broken off: {}", history.name, what.unwrap_or_default()));
            } else if waiting[index] {
                let (name, newest) = (&history.name, history.newest(8));
                add(format!(
                    "{name} has not seen the probe {:?} ({}) within {RECOVERS:?}\n{newest}",
                    probe.value, probe.words
                ));
            }
        }
        for way in REPEATED {
            let is_on = || self.flow.progress.lock().expect("progress").get(&way).is_some_and(|at| *at > ended);
            while !is_on() && ended.elapsed() < RECOVERS {
                pause(50).await;
            }
            if !is_on() {
                add(format!("nothing published by {way} was answered within {RECOVERS:?} behind the faults"));
            }
        }
        found
    }

    async fn verdict(&mut self, effects: &Effects, probe: Sent, ended: Instant, outcomes: &mut Outcomes) {
        let value = probe.value;
        let mut sent = self.flow.take();
        outcomes.sent = sent.len();
        sent.push(probe);
        for (track, history) in self.judge.tracks.iter_mut().zip(&self.histories) {
            history.take().iter().for_each(|event| track.take(event));
        }
        // The log is read after all events of readers and all answers to publishers.
        let log = self.redis.log().await;
        outcomes.entries = log.len();
        let trims = self.topology == Topology::Short;
        let round = Round { effects, sent, log: &log, probe: value, trims, probed: ended };
        outcomes.violations.extend(self.judge.judge(round));
        // A short log may drop the probe before the last node is asked, since the publishers go on.
        let place = log.iter().find(|(_, entry)| *entry == value && trims).map(|(place, _)| *place);
        if trims && place.is_none() {
            // The log has dropped the probe before the test read the log, so there is no end up to which a node's
            // history and the log must agree. The judge has checked everything behind the log's first entry.
            return;
        }
        for node in 0..3 {
            let own = self.nodes.own_history(node, (place, value), self.judge.has_deleted()).await;
            if let Some(words) = differs(node, own, &log, value, trims, &self.judge) {
                outcomes.violations.push(Violation { kind: Kind::Other, words });
            }
        }
    }

    /// The last check: nobody publishes any more, and there was time to append every message that a node received.
    pub async fn finish(&mut self) -> Outcomes {
        self.flow.stopped.store(true, Ordering::Relaxed);
        pause(7000).await;
        self.flow.progress.lock().expect("progress").extend(REPEATED.map(|way| (way, Instant::now() + RECOVERS)));
        self.round(&Plan::default()).await
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.reading.iter().chain(&self.publishing).for_each(JoinHandle::abort);
    }
}

fn is_whole(fault: &Fault) -> bool {
    matches!(fault, Fault::PowerCut { .. } | Fault::NodeStartsInSilence { .. })
}

/// Checks that a node returns the log from `earliest`, up to the probe.
fn differs(
    node: usize,
    own: Result<Vec<Entry>, String>,
    log: &[Entry],
    probe: Value,
    trims: bool,
    judge: &Judge,
) -> Option<String> {
    let mut own = match own {
        Ok(own) => own,
        Err(error) => return Some(format!("node {node}, from `earliest`: {error}")),
    };
    let end = log.iter().position(|(_, value)| *value == probe)?;
    let mut log = log[..=end].to_vec();
    if trims {
        // The log changes between the two reads: an entry that is too old for one of them may still be in the other.
        let both = own.first()?.0.max(log.first()?.0);
        own.retain(|(place, _)| *place >= both);
        log.retain(|(place, _)| *place >= both);
    }
    own.retain(|entry| !judge.is_free(entry));
    log.retain(|entry| !judge.is_free(entry));
    if own == log {
        return None;
    }
    let at = own.iter().zip(&log).position(|(own, log)| own != log).unwrap_or(own.len().min(log.len()));
    let part = |list: &[Entry]| format!("{:?}", &list[at.saturating_sub(2).min(list.len())..list.len().min(at + 3)]);
    Some(format!(
        "node {node} gives {} messages from `earliest`, and the log has {}; they part at number {at}: {} and {}",
        own.len(),
        log.len(),
        part(&own),
        part(&log)
    ))
}
