//! Members and the script under a random fate: nothing is taken twice, and nothing that a living
//! member has heard is lost.

use super::member::{Member, Request, State, Want};
use super::queue::{Bounds, Place};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tokio::time::Instant;

const BOUNDS: Bounds = Bounds { messages: 10_000, bytes: 1 << 24 };

/// What `lua/bridge.lua` does, over a log of numbers.
#[derive(Default)]
struct Script {
    state: State,
    beat: u64,
    generations: u64,
    begun: usize,
    notes: HashMap<String, (String, i64)>,
    log: Vec<u64>,
    /// The order in which all subscribers hear.
    order: Vec<Place>,
}

impl Script {
    fn run(&mut self, member: &str, marker: &str, request: &Request) -> State {
        let is_as_seen = self.state.holder == request.holder && self.state.beat == request.beat;
        match &request.want {
            Want::Look => {}
            Want::Join => {
                self.order.push(Place::Marker(request.marker.clone()));
                if self.state.generation.is_empty() {
                    (self.state.generation, self.state.taken) = request.lost.clone();
                    self.begin(member, &request.marker);
                }
            }
            Want::Begin if is_as_seen => {
                self.begun += 1;
                self.order.push(Place::Marker(request.marker.clone()));
                self.begin(member, &request.marker);
            }
            Want::Take if is_as_seen && self.state.generation == request.generation => {
                self.state.holder = member.into();
            }
            Want::Release if self.state.holder == member => self.state.holder.clear(),
            _ => {}
        }
        if self.state.holder == member {
            self.beat += 1;
            self.state.beat = self.beat.to_string();
        }
        self.take(member, request);
        State { note: self.notes.get(marker).cloned(), ..self.state.clone() }
    }

    fn begin(&mut self, member: &str, marker: &str) {
        self.generations += 1;
        self.state = State {
            holder: member.into(),
            beat: self.state.beat.clone(),
            generation: format!("g{}", self.generations),
            origin: marker.into(),
            previous: self.state.generation.clone(),
            previous_taken: self.state.taken,
            previous_origin: self.state.origin.clone(),
            ..State::default()
        };
    }

    fn take(&mut self, member: &str, request: &Request) {
        let is_next = self.state.holder == member && request.first == self.state.taken + 1;
        let is_before = request.last == self.state.low - 1;
        if request.places.is_empty() || request.generation != self.state.generation || !(is_next || is_before) {
            return;
        }
        let mut number = request.first;
        for place in &request.places {
            match place {
                Place::Nothing(_) => {}
                Place::Marker(key) => {
                    self.notes.insert(key.clone(), (self.state.generation.clone(), number));
                }
                Place::Entry(words) => self.log.push(words[1].parse().expect("a number")),
            }
            number += place.count() as i64;
        }
        assert_eq!(number, request.last + 1);
        if is_next {
            self.state.taken = request.last;
        } else {
            self.state.low = request.first;
        }
    }
}

struct Node {
    member: Member,
    /// How far it has heard the order.
    heard: usize,
    /// Since it stalled it says nothing.
    stalled: bool,
    is_alive: bool,
}

struct World {
    script: Script,
    nodes: Vec<Node>,
    now: Instant,
    published: u64,
    /// For each message, the nodes that had joined when it was published.
    witnesses: BTreeMap<u64, Vec<usize>>,
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
    Wait(u64),
}

fn fate() -> impl Strategy<Value = Fate> {
    let node = 0..6usize;
    prop_oneof![
        8 => Just(Fate::Publish),
        1 => Just(Fate::Empty),
        10 => (node.clone(), 1..6usize).prop_map(|(node, count)| Fate::Hear(node, count)),
        12 => node.clone().prop_map(Fate::Say),
        2 => node.clone().prop_map(Fate::SayUnanswered),
        1 => Just(Fate::Start),
        1 => node.clone().prop_map(Fate::Kill),
        1 => node.clone().prop_map(Fate::Stall),
        2 => node.prop_map(Fate::Wake),
        4 => (100..2500u64).prop_map(Fate::Wait),
    ]
}

impl World {
    fn new() -> World {
        let (script, nodes) = (Script::default(), Vec::new());
        World { script, nodes, now: Instant::now(), published: 0, witnesses: BTreeMap::new() }
    }

    fn start(&mut self) {
        let id = format!("n{}", self.nodes.len());
        let member = Member::new(id.clone(), format!("marker:{id}"), BOUNDS, self.now);
        self.nodes.push(Node { member, heard: self.script.order.len(), stalled: false, is_alive: true });
        let index = self.nodes.len() - 1;
        let join = self.nodes[index].member.join();
        self.run(index, &join, true);
    }

    fn run(&mut self, index: usize, request: &Request, is_answered: bool) {
        let member = &mut self.nodes[index].member;
        let state = self.script.run(member.id(), member.marker(), request);
        if is_answered && member.learn(request, state, self.now).is_err() {
            // It joins anew, as another member.
            self.nodes[index].is_alive = false;
            self.start();
        }
    }

    fn say(&mut self, index: usize, is_answered: bool) {
        let request = self.nodes[index].member.next_request(self.now);
        self.run(index, &request, is_answered);
    }

    fn hear(&mut self, index: usize, count: usize) {
        let node = &mut self.nodes[index];
        for place in self.script.order.iter().skip(node.heard).take(count) {
            assert_eq!(node.member.hear(place.clone()), 0);
            node.heard += 1;
        }
    }

    fn is_up(&self, index: usize) -> bool {
        self.nodes.get(index).is_some_and(|node| node.is_alive && !node.stalled)
    }

    fn meet(&mut self, fate: &Fate) {
        match *fate {
            Fate::Publish => {
                let number = self.published;
                self.published += 1;
                self.script.order.push(Place::Entry(vec![String::new(), number.to_string()]));
                let joined = |node: &Node| node.is_alive && node.member.has_joined();
                let witnesses = (0..self.nodes.len()).filter(|index| joined(&self.nodes[*index])).collect();
                self.witnesses.insert(number, witnesses);
            }
            Fate::Empty => self.script.order.push(Place::Nothing(1)),
            Fate::Hear(index, count) if self.is_up(index) => self.hear(index, count),
            Fate::Say(index) if self.is_up(index) => self.say(index, true),
            Fate::SayUnanswered(index) if self.is_up(index) => self.say(index, false),
            Fate::Start if self.nodes.len() < 6 => self.start(),
            Fate::Kill(index) if self.is_up(index) => self.nodes[index].is_alive = false,
            Fate::Stall(index) if self.is_up(index) => self.nodes[index].stalled = true,
            Fate::Wake(index) if index < self.nodes.len() => self.nodes[index].stalled = false,
            Fate::Wait(ms) => self.now += Duration::from_millis(ms),
            _ => {}
        }
    }

    /// All who live wake up, hear all and say all.
    fn settle(&mut self) {
        for node in &mut self.nodes {
            node.stalled = false;
        }
        for _ in 0..40 {
            self.now += Duration::from_millis(700);
            for index in 0..self.nodes.len() {
                if self.is_up(index) {
                    self.hear(index, usize::MAX);
                    self.say(index, true);
                    self.say(index, true);
                }
            }
        }
    }
}

fn no_doubles(log: &[u64]) -> Result<(), TestCaseError> {
    let mut sorted = log.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    prop_assert_eq!(sorted.len(), log.len(), "taken twice: {:?}", log);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn one_publish_is_one_message(fates in prop::collection::vec(fate(), 0..250)) {
        let mut world = World::new();
        world.start();
        world.hear(0, 1);
        for fate in &fates {
            world.meet(fate);
        }
        world.settle();
        no_doubles(&world.script.log)?;
        // Whoever comes back from before two new generations has to join anew, and what only it has
        // heard goes with it.
        if world.script.begun < 2 {
            for (number, witnesses) in &world.witnesses {
                let is_witnessed = witnesses.iter().any(|index| world.nodes[*index].is_alive);
                prop_assert!(!is_witnessed || world.script.log.contains(number), "{} is lost", number);
            }
        }
        prop_assert!(world.nodes.iter().all(|node| !node.is_alive || node.member.waiting() == 0));
    }

    /// FLUSHALL: what was taken before is gone. What is published after it is taken once.
    #[test]
    fn the_numbers_begin_anew(
        before in prop::collection::vec(fate(), 0..60),
        after in prop::collection::vec(fate(), 0..60),
    ) {
        let mut world = World::new();
        world.start();
        world.hear(0, 1);
        world.start();
        for fate in before.iter().filter(|fate| !matches!(fate, Fate::Kill(_))) {
            world.meet(fate);
        }
        world.settle();
        world.script.state = State::default();
        world.script.notes.clear();
        world.script.log.clear();
        let first = world.published;
        for fate in after.iter().filter(|fate| !matches!(fate, Fate::Kill(_))) {
            world.meet(fate);
        }
        world.settle();
        if world.script.begun > 0 {
            return Ok(());
        }
        let log: Vec<u64> = world.script.log.iter().copied().filter(|number| *number >= first).collect();
        no_doubles(&log)?;
        prop_assert_eq!(log.len() as u64, world.published - first);
    }
}

/// A flow without faults is taken in its order, in as few runs as it needs.
#[test]
fn in_order() {
    let mut world = World::new();
    world.start();
    world.hear(0, 1);
    world.start();
    for _ in 0..100 {
        world.meet(&Fate::Publish);
    }
    world.settle();
    assert_eq!(world.script.log, (0..100).collect::<Vec<_>>());
}
