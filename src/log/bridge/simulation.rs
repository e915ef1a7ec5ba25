//! Members and the script under random faults: no message is taken twice, and a message is not lost if a surviving node
//! has received it.

use super::member::{Learned, Marker, Member, NEWCOMER, PATIENCE};
use super::queue::{Bounds, PublishSlot};
use super::simulated::Script;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

const BOUNDS: Bounds = Bounds { messages: 10_000, bytes: 1 << 24 };

#[derive(Clone)]
enum Delivered {
    Marker(String),
    PublishSlot(PublishSlot),
}

struct Node {
    is_alive: bool,
    /// Whether the member stalls. A stalled member does not receive or send.
    is_stalled: bool,
}

struct Subscription {
    member: Member,
    node: usize,
    server: usize,
    /// How many of its server's deliveries the member has received.
    received: usize,
    /// Messages that the member received before a marker.
    early: Vec<u64>,
    is_cut: bool,
}

struct World {
    script: Script,
    /// The state that Redis has written to its disk.
    saved: Script,
    /// Messages that the script appended to the log, and that the log has lost since then.
    rolled_back: BTreeSet<u64>,
    /// The deliveries of each server, in the server's order. The last server is the primary.
    servers: Vec<Vec<Delivered>>,
    /// A server that was the primary and now replicates the present primary.
    replica: Option<usize>,
    nodes: Vec<Node>,
    subscriptions: Vec<Subscription>,
    now: Instant,
    published: u64,
    /// Runs of the script.
    spoken: u64,
    /// For each message, the nodes that have received it.
    witnesses: BTreeMap<u64, BTreeSet<usize>>,
}

#[derive(Clone, Debug)]
enum Fate {
    Publish,
    Empty,
    Hear(usize, usize),
    Say(usize),
    SayUnanswered(usize),
    Start,
    Kill(usize),
    Stall(usize),
    Wake(usize),
    Cut(usize),
    CutAll,
    /// The server is killed and starts again with all its data.
    Restart,
    /// Another server takes over in an orderly way, and the old one becomes its replica.
    Failover,
    Save,
    /// The server is killed and starts again with the data on its disk.
    Crash,
    Wait(u64),
}

fn fate() -> impl Strategy<Value = Fate> {
    let node = 0..6usize;
    prop_oneof![
        12 => Just(Fate::Publish),
        1 => Just(Fate::Empty),
        14 => (0..12usize, 1..6usize).prop_map(|(subscription, count)| Fate::Hear(subscription, count)),
        14 => (0..12usize).prop_map(Fate::Say),
        2 => (0..12usize).prop_map(Fate::SayUnanswered),
        1 => Just(Fate::Start),
        1 => node.clone().prop_map(Fate::Kill),
        1 => node.clone().prop_map(Fate::Stall),
        2 => node.clone().prop_map(Fate::Wake),
        1 => node.prop_map(Fate::Cut),
        1 => prop_oneof![Just(Fate::CutAll), Just(Fate::Restart), Just(Fate::Failover), Just(Fate::Crash)],
        1 => Just(Fate::Save),
        4 => (50..900u64).prop_map(Fate::Wait),
    ]
}

impl World {
    fn new() -> World {
        World {
            script: Script::new(),
            saved: Script::new(),
            rolled_back: BTreeSet::new(),
            servers: vec![Vec::new()],
            replica: None,
            nodes: Vec::new(),
            subscriptions: Vec::new(),
            now: Instant::now(),
            published: 0,
            spoken: 0,
            witnesses: BTreeMap::new(),
        }
    }

    fn start(&mut self) {
        self.nodes.push(Node { is_alive: true, is_stalled: false });
        self.subscribe(self.nodes.len() - 1);
        self.say(self.subscriptions.len() - 1, true);
    }

    fn primary(&self) -> usize {
        self.servers.len() - 1
    }

    fn subscribe(&mut self, node: usize) {
        let id = format!("m{}", self.subscriptions.len());
        let patience = PATIENCE + Duration::from_millis(self.subscriptions.len() as u64 * 17 % 100);
        let server = self.primary();
        let received = self.servers[server].len();
        let member = Member::new(id, BOUNDS, patience, self.now);
        self.subscriptions.push(Subscription { member, node, server, received, early: Vec::new(), is_cut: false });
    }

    fn deliver(&mut self, delivered: Delivered) {
        let primary = self.primary();
        if let Some(replica) = self.replica {
            self.servers[replica].push(delivered.clone());
        }
        self.servers[primary].push(delivered);
    }

    /// The subscription ends; its node begins another if it is running.
    fn end(&mut self, index: usize) {
        let subscription = &mut self.subscriptions[index];
        if subscription.is_cut {
            return;
        }
        subscription.is_cut = true;
        subscription.member.finish();
        let node = subscription.node;
        if self.nodes[node].is_alive {
            self.subscribe(node);
        }
    }

    fn say(&mut self, index: usize, is_answered: bool) -> Learned {
        let primary = self.primary();
        let subscription = &mut self.subscriptions[index];
        if !subscription.is_cut && subscription.server != primary {
            self.end(index);
            return Learned::default();
        }
        self.spoken += 1;
        let request = subscription.member.next_request(self.now);
        let id = subscription.member.id().to_owned();
        let (state, marker) = self.script.run(&id, (primary, self.replica.is_some()), self.spoken, &request);
        if let Some(marker) = marker {
            self.deliver(Delivered::Marker(marker));
        }
        let member = &mut self.subscriptions[index].member;
        if !is_answered {
            member.unanswered();
            return Learned::default();
        }
        let learned = member.learn(&request, state, self.now);
        if learned.has_lost_track {
            self.end(index);
        }
        learned
    }

    fn receive(&mut self, index: usize, count: usize) {
        let subscription = &mut self.subscriptions[index];
        let server = format!("s{}", subscription.server);
        for _ in 0..count {
            let Some(delivered) = self.servers[subscription.server].get(subscription.received).cloned() else { return };
            if subscription.is_cut {
                return;
            }
            subscription.received += 1;
            match delivered {
                Delivered::Marker(text) => {
                    let marker = Marker::parse(&text).expect("a marker");
                    let early = std::mem::take(&mut subscription.early);
                    if marker.is_first && !subscription.member.has_joined() {
                        for number in early.into_iter().rev().take(20) {
                            self.witnesses.entry(number).or_default().insert(subscription.node);
                        }
                    }
                    if subscription.member.receive_marker(marker, &server, false, self.now).is_err() {
                        return self.end(index);
                    }
                }
                Delivered::PublishSlot(place) => {
                    if let PublishSlot::Entries(entries) = &place {
                        let [words] = entries.as_slice() else { panic!("one entry") };
                        let number = words[1].parse().expect("a number");
                        if subscription.member.has_joined() {
                            self.witnesses.entry(number).or_default().insert(subscription.node);
                        } else {
                            subscription.early.push(number);
                        }
                    }
                    assert_eq!(subscription.member.receive(place, self.now), 0);
                }
            }
        }
    }

    fn is_up(&self, index: usize) -> bool {
        let node = self.subscriptions.get(index).map(|subscription| &self.nodes[subscription.node]);
        node.is_some_and(|node| node.is_alive && !node.is_stalled)
    }

    fn cut(&mut self, concerned: impl Fn(&Subscription) -> bool) {
        for index in 0..self.subscriptions.len() {
            if concerned(&self.subscriptions[index]) {
                self.end(index);
            }
        }
    }

    fn publish(&mut self) {
        self.deliver(Delivered::PublishSlot(PublishSlot::Entries(vec![vec![
            String::new(),
            self.published.to_string(),
        ]])));
        self.published += 1;
    }

    fn meet(&mut self, fate: &Fate) {
        match *fate {
            Fate::Publish => self.publish(),
            Fate::Empty => self.deliver(Delivered::PublishSlot(PublishSlot::Nothing(1))),
            Fate::Hear(back, count) => {
                if let Some(index) = self.newest(back) {
                    self.receive(index, count);
                }
            }
            Fate::Say(back) | Fate::SayUnanswered(back) => {
                if let Some(index) = self.newest(back) {
                    self.say(index, matches!(fate, Fate::Say(_)));
                }
            }
            Fate::Start if self.nodes.iter().filter(|node| node.is_alive).count() < 4 => self.start(),
            Fate::Kill(node) if node < self.nodes.len() => {
                self.nodes[node].is_alive = false;
                self.cut(|subscription| subscription.node == node);
            }
            Fate::Stall(node) if node < self.nodes.len() => self.nodes[node].is_stalled = true,
            Fate::Wake(node) if node < self.nodes.len() => self.nodes[node].is_stalled = false,
            Fate::Cut(node) => self.cut(|subscription| subscription.node == node),
            Fate::CutAll => self.cut(|_| true),
            Fate::Restart | Fate::Crash => {
                if matches!(fate, Fate::Crash) {
                    let saved: BTreeSet<u64> = self.saved.log.iter().copied().collect();
                    self.rolled_back.extend(self.script.log.iter().filter(|number| !saved.contains(number)));
                    self.script = self.saved.clone();
                }
                self.servers.push(Vec::new());
                self.replica = None;
                self.cut(|_| true);
            }
            Fate::Failover => {
                self.replica = Some(self.primary());
                self.servers.push(Vec::new());
            }
            Fate::Save => self.saved = self.script.clone(),
            Fate::Wait(ms) => self.now += Duration::from_millis(ms),
            _ => {}
        }
    }

    /// One of the newest subscriptions of the nodes that run.
    fn newest(&self, back: usize) -> Option<usize> {
        let index = self.subscriptions.len().checked_sub(back + 1)?;
        self.is_up(index).then_some(index)
    }

    /// All deliveries were received, and no message waits.
    fn is_quiet(&self) -> bool {
        (0..self.subscriptions.len()).filter(|index| self.is_up(*index)).all(|index| {
            let subscription = &self.subscriptions[index];
            let has_heard_all = subscription.is_cut
                || subscription.member.has_joined()
                    && subscription.server == self.primary()
                    && subscription.received == self.servers[subscription.server].len();
            has_heard_all && subscription.member.waiting() == 0
        })
    }

    /// All live members wake up, receive all deliveries and offer all their messages.
    fn settle(&mut self) {
        for node in &mut self.nodes {
            node.is_stalled = false;
        }
        for _ in 0..60 {
            if self.is_quiet() {
                return;
            }
            self.now += Duration::from_millis(200);
            for index in 0..self.subscriptions.len() {
                let subscription = &self.subscriptions[index];
                let is_done = subscription.is_cut && subscription.member.waiting() == 0 && !subscription.member.holds();
                if self.is_up(index) && !is_done {
                    self.receive(index, usize::MAX);
                    self.say(index, true);
                }
            }
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let log: BTreeSet<u64> = self.script.log.iter().copied().collect();
        prop_assert_eq!(log.len(), self.script.log.len(), "taken twice: {:?}", self.script.log);
        for (number, nodes) in &self.witnesses {
            let is_witnessed = nodes.iter().any(|node| self.nodes[*node].is_alive);
            let is_there = log.contains(number) || self.rolled_back.contains(number);
            prop_assert!(!is_witnessed || is_there, "{} is lost", number);
        }
        for (index, subscription) in self.subscriptions.iter().enumerate() {
            prop_assert!(!self.is_up(index) || subscription.member.waiting() == 0, "{} has something left", index);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn one_publish_is_one_message(fates in prop::collection::vec(fate(), 0..300)) {
        let mut world = World::new();
        world.start();
        for fate in &fates {
            world.meet(fate);
        }
        world.settle();
        world.check()?;
    }

    /// FLUSHALL deletes the messages that were taken before. Each message that was received but not taken, and each
    /// later message, is taken once.
    #[test]
    fn all_is_forgotten(
        before in prop::collection::vec(fate(), 0..100),
        after in prop::collection::vec(fate(), 0..100),
    ) {
        let mut world = World::new();
        world.start();
        for fate in &before {
            world.meet(fate);
        }
        world.rolled_back.extend(world.script.log.iter());
        world.script = Script::new();
        world.saved = Script::new();
        for fate in &after {
            world.meet(fate);
        }
        world.settle();
        world.check()?;
    }

    /// A member that comes back after its segment was dropped loses the messages that only it has received, and does not
    /// append any message twice.
    #[test]
    fn segments_are_dropped(fates in prop::collection::vec(fate(), 0..300)) {
        let mut world = World::new();
        world.script.kept = 2;
        world.saved.kept = 2;
        world.start();
        for fate in &fates {
            world.meet(fate);
        }
        world.settle();
        let log: BTreeSet<u64> = world.script.log.iter().copied().collect();
        prop_assert_eq!(log.len(), world.script.log.len(), "taken twice: {:?}", world.script.log);
        let first = world.published;
        world.publish();
        world.settle();
        prop_assert!(world.script.log.contains(&first) || !world.nodes.iter().any(|node| node.is_alive));
    }
}

/// Without faults, one node appends all messages, in the order in which they were published.
#[test]
fn in_order() {
    let mut world = World::new();
    for _ in 0..3 {
        world.start();
    }
    let mut bridged = [0; 3];
    for _ in 0..100 {
        world.publish();
        world.now += Duration::from_millis(10);
        for (index, bridged) in bridged.iter_mut().enumerate() {
            world.receive(index, usize::MAX);
            *bridged += world.say(index, true).bridged;
        }
    }
    assert_eq!(world.script.log, (0..100).collect::<Vec<_>>());
    assert_eq!(bridged, [100, 0, 0], "one node appends");
}

/// If the holder has ended, a PUBLISH waits for at most the patience, the jitter and two checks of the lease.
#[test]
fn a_dead_holder_is_not_waited_for() {
    let mut world = World::new();
    for _ in 0..3 {
        world.start();
    }
    world.settle();
    world.now += NEWCOMER;
    let holder = world.subscriptions.iter().position(|subscription| subscription.member.holds()).expect("a holder");
    world.meet(&Fate::Kill(holder));
    world.publish();
    let began = world.now;
    while world.script.log.is_empty() {
        world.now += Duration::from_millis(5);
        for index in 0..3 {
            if world.is_up(index) {
                world.receive(index, usize::MAX);
                if world.subscriptions[index].member.due().is_some_and(|due| due <= world.now) {
                    world.say(index, true);
                }
            }
        }
        assert!(world.now - began < Duration::from_secs(1), "it is not taken");
    }
    let waited = world.now - began;
    assert!(waited < Duration::from_millis(350), "it waited for {waited:?}");
}

/// A member that has just joined leaves the first offer to a member that has received the messages before its marker.
#[test]
fn a_newcomer_does_not_overtake() {
    let mut world = World::new();
    for _ in 0..6 {
        world.start();
    }
    world.settle();
    world.now += NEWCOMER;
    for _ in 0..5 {
        world.publish();
    }
    (0..6).for_each(|index| world.receive(index, usize::MAX));
    world.start();
    for _ in 0..5 {
        world.publish();
    }
    for index in 0..5 {
        world.meet(&Fate::Kill(index));
    }
    // The new member has a shorter patience than the earlier one.
    for _ in 0..200 {
        world.now += Duration::from_millis(5);
        for index in [5, 6] {
            world.receive(index, usize::MAX);
            if world.subscriptions[index].member.due().is_some_and(|due| due <= world.now) {
                world.say(index, true);
            }
        }
    }
    assert_eq!(world.script.log, (0..10).collect::<Vec<_>>());
}

/// A message that only one member has received does not wait while the holder goes on with later messages.
#[test]
fn a_flow_does_not_hide_what_lies_before_it() {
    let mut world = World::new();
    world.start();
    world.receive(0, usize::MAX);
    world.publish();
    world.receive(0, usize::MAX);
    world.start();
    let began = world.now;
    // The member that joined later holds the lease, and always has a message to append.
    world.script.holder = "m1".into();
    while !world.script.log.contains(&0) {
        world.publish();
        world.now += Duration::from_millis(20);
        for index in [1, 0] {
            world.receive(index, usize::MAX);
            if world.subscriptions[index].member.due().is_some_and(|due| due <= world.now) {
                world.say(index, true);
            }
        }
        assert!(world.now - began < Duration::from_secs(1), "it waits for the end of the flow");
    }
}
