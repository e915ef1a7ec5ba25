//! Random histories of nodes that come and go, checked against what the contract promises.
//!
//! Each history runs the code of the nodes ([`NodePresence`]) with a store: the record in memory, or the real scripts in a
//! real Redis (`src/log/redis/presence/histories.rs`). Its time is simulated. After each step these must hold:
//!
//! - The list of members is what the entries up to its cursor add up to. An entry adds only a user who is not a member,
//!   and removes only a member. So each `member_removed` comes once.
//! - No user is removed while it has a connection, or within the grace after its last one.
//! - A user without a connection is removed in time, if nothing was away or lost in the meantime.
//! - When all is quiet, exactly the users with connections are members, with the info that came last.

mod checks;
mod faults;
mod memory;
mod parked_poll;

pub(in crate::log) use parked_poll::leave_a_parked_poll;

use super::node::{NodePresence, Place};
use super::{GRACE, Joined, PERIOD, PresenceStore, SWEEP};
use crate::cursor::Id;
use crate::log::BoxFuture;
use crate::message::{Channel, ClientId, User};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// An entry about a member: whether it adds the user, the channel, and the user's JSON.
pub(in crate::log) type Change = (bool, Channel, String);

/// A store whose time and whose losses the test controls.
pub(in crate::log) trait Bench: PresenceStore {
    /// Sets the time, in ms.
    fn set_time(&self, ms: u64) -> BoxFuture<'_, ()>;

    /// The entries after the first `n`, in order, and the cursor of the last entry.
    fn changes(&self, n: usize) -> BoxFuture<'_, (Vec<Change>, Id)>;

    /// Keeps a copy of all there is, or puts the copy back.
    fn save(&self) -> BoxFuture<'_, ()>;
    fn restore(&self) -> BoxFuture<'_, ()>;

    /// Loses everything.
    fn flush(&self) -> BoxFuture<'_, ()>;
}

const NODES: usize = 3;
const USERS: usize = 6;
const CHANNELS: usize = 2;
const AWAY: u64 = 3000;

/// A connection as the history knows it.
struct Stay {
    node: usize,
    place: Place,
    user: usize,
    /// The info that the connection said last.
    info: u8,
    channel: usize,
    client: Option<ClientId>,
    /// Whether the user is a member by it, as far as the node was told.
    outcome: Option<super::node::Outcome>,
}

/// A poll that is parked.
struct Poll {
    node: usize,
    place: Place,
    user: usize,
    channel: usize,
    client: usize,
    /// Whether the user must be a member by it: the node has told the store.
    counts: bool,
    /// Whether the user need not be a member by it. A stream of the client has come to another node, so the client may
    /// have left this poll. Or the store was away, and the channel may be full when it is back.
    is_loose: bool,
}

/// By polling client, or for streams together: the time until which a user must stay, and after which it must be gone.
type Times = BTreeMap<Option<usize>, (u64, u64)>;

/// A channel, a user, the polling client if it is one, and the time until which the user stays.
type Untold = (usize, usize, Option<usize>, u64);

struct World<'a, B> {
    bench: &'a B,
    random: fastrand::Rng,
    start: Instant,
    now: u64,
    nodes: Vec<NodePresence>,
    ticks: [u64; NODES],
    named: usize,
    stays: Vec<Stay>,
    polls: Vec<Poll>,
    channels: Vec<Channel>,
    clients: Vec<ClientId>,
    /// For each user in each channel, the time until which it must not be removed, and the time after which it must be.
    /// A polling client's times are apart: a stream of the client takes their place.
    keep: BTreeMap<(usize, usize), Times>,
    /// What the first entries add up to, and their number.
    folded: BTreeMap<(Channel, String), String>,
    folded_upto: usize,
    /// The times until which users stay of which each node has not told the store yet: they are lost with the node.
    untold: [Vec<Untold>; NODES],
    /// The info that came last.
    info: BTreeMap<(usize, usize), u8>,
    is_away: bool,
    /// Whether the next answer of the store gets lost.
    loses_answer: bool,
    disturbed_at: Option<u64>,
    has_saved: Option<u64>,
    /// Whether a channel may have more members than its limit: nodes repeat what was lost whatever the limit is.
    may_exceed: bool,
    /// Whether the order in which infos came is known.
    is_plain: bool,
    most: usize,
    trace: Vec<String>,
}

fn new_node(index: usize) -> NodePresence {
    NodePresence::new(&format!("n{index}"), Duration::from_millis(AWAY))
}

fn user(index: usize, info: u8) -> Arc<User> {
    Arc::new(User::new(&format!("user {index}"), Some(&format!("{{\"n\":{info}}}"))).expect("a user"))
}

impl<'a, B: Bench> World<'a, B> {
    fn new(bench: &'a B, seed: u64, most: usize) -> World<'a, B> {
        let names = |text: &str, count: usize| (0..count).map(|n| format!("{text}{n}")).collect::<Vec<_>>();
        World {
            bench,
            random: fastrand::Rng::with_seed(seed),
            start: Instant::now(),
            now: 1_000_000,
            nodes: (0..NODES).map(new_node).collect(),
            ticks: [1_000_000; NODES],
            named: NODES,
            stays: Vec::new(),
            polls: Vec::new(),
            channels: names("room", CHANNELS).iter().map(|name| name.parse().expect("a channel")).collect(),
            clients: names("client", 4).iter().map(|name| name.parse().expect("an id")).collect(),
            keep: BTreeMap::new(),
            folded: BTreeMap::new(),
            folded_upto: 0,
            untold: Default::default(),
            info: BTreeMap::new(),
            is_away: false,
            loses_answer: false,
            disturbed_at: None,
            has_saved: None,
            may_exceed: false,
            is_plain: true,
            most,
            trace: Vec::new(),
        }
    }

    fn instant(&self) -> Instant {
        self.start + Duration::from_millis(self.now)
    }

    /// Tells the store of the node's joins, as the task of a node does.
    async fn join(&mut self, node: usize) {
        let now = self.instant();
        while let Some(call) = self.nodes[node].joins(now) {
            let mut answer = if self.is_away { None } else { self.bench.join(&call).await.ok() };
            if std::mem::take(&mut self.loses_answer) {
                answer = None;
            }
            if !self.nodes[node].joined(call, answer) {
                return;
            }
        }
    }

    async fn tick(&mut self, node: usize) {
        let now = self.instant();
        for (channel, user, by, end) in std::mem::take(&mut self.untold[node]) {
            self.keep(channel, user, by, end, end);
        }
        loop {
            let call = self.nodes[node].renewal(now);
            let mut answer = if self.is_away { None } else { self.bench.renew(&call).await.ok() };
            if std::mem::take(&mut self.loses_answer) {
                answer = None;
            }
            if !self.nodes[node].renewed(call, answer.as_ref(), now) {
                break;
            }
        }
        self.join(node).await;
        if !self.is_away {
            self.polls
                .iter_mut()
                .filter(|poll| poll.node == node && !poll.is_loose)
                .for_each(|poll| poll.counts = true);
        }
    }

    /// Lets time pass. Each node renews its lease in its own turn.
    async fn pass(&mut self, ms: u64) -> Result<(), String> {
        let end = self.now + ms;
        loop {
            let (node, at) = self.ticks.iter().copied().enumerate().min_by_key(|(_, at)| *at).expect("nodes");
            if at > end {
                break;
            }
            self.now = at.max(self.now);
            self.bench.set_time(self.now).await;
            self.tick(node).await;
            self.ticks[node] = at + PERIOD.as_millis() as u64;
            self.check().await?;
        }
        self.now = end;
        self.bench.set_time(self.now).await;
        Ok(())
    }

    fn keep(&mut self, channel: usize, user: usize, by: Option<usize>, from: u64, until: u64) {
        let (earliest, latest) = self.keep.entry((channel, user)).or_default().entry(by).or_default();
        *earliest = (*earliest).max(from);
        *latest = (*latest).max(until);
    }

    async fn open(&mut self, node: usize, channel: usize, user_index: usize, info: u8, client: Option<usize>) {
        let user = user(user_index, info);
        if let Some((from, _)) = self.keep.get_mut(&(channel, user_index)).and_then(|by| by.get_mut(&client))
            && client.is_some()
        {
            *from = 0;
        }
        self.untold.iter_mut().for_each(|untold| {
            untold.retain(|it| (it.0, it.1, it.2) != (channel, user_index, client) || client.is_none())
        });
        for poll in &mut self.polls {
            if poll.node != node && (poll.channel, poll.user, Some(poll.client)) == (channel, user_index, client) {
                (poll.counts, poll.is_loose) = (false, true);
            }
        }
        let client = client.map(|client| self.clients[client].clone());
        let now = self.instant();
        let (place, outcome) = self.nodes[node].open(&self.channels[channel], &user, client.as_ref(), now);
        self.trace.push(format!("{} open {place:?} {user:?}", self.now));
        let stay = Stay { node, place, user: user_index, info, channel, client, outcome: Some(outcome) };
        self.stays.push(stay);
        self.join(node).await;
        self.settle(self.stays.len() - 1, info);
    }

    /// Looks at the outcome of the last join of a stay.
    fn settle(&mut self, index: usize, info: u8) {
        let stay = &mut self.stays[index];
        let (channel, user, node) = (stay.channel, stay.user, stay.node);
        match stay.outcome.as_mut().map(|outcome| outcome.try_recv()) {
            Some(Ok(Joined::Full)) => {
                let place = stay.place.clone();
                self.nodes[node].close(&place);
                self.stays.remove(index);
                self.trace.push(format!("{} full", self.now));
            }
            Some(Ok(Joined::Member)) => {
                self.info.insert((channel, user), info);
                self.stays[index].outcome = None;
            }
            _ => self.is_plain = false,
        }
    }

    fn close(&mut self, index: usize) -> Stay {
        let stay = self.stays.swap_remove(index);
        self.nodes[stay.node].close(&stay.place);
        let grace = GRACE.as_millis() as u64;
        // The node learns of it at once, tells the store within a second, and a sweep comes a second after the grace.
        // If the node is killed before that, the lease ends it, which was renewed up to a second ago.
        self.keep(stay.channel, stay.user, None, self.now + grace - 1000, self.now + grace + 2000);
        self.untold[stay.node].push((stay.channel, stay.user, None, self.now + grace));
        self.trace.push(format!("{} close {:?} of user {}", self.now, stay.place, stay.user));
        stay
    }

    /// Begins a poll. It is parked until [`World::answer`].
    async fn poll(&mut self, node: usize, channel: usize, user_index: usize, client: usize) {
        // A polling client always says the same info, so that the info that came last is known.
        let known = self.info.get(&(channel, user_index)).copied().unwrap_or(0);
        let user = user(user_index, known);
        let now = self.instant();
        let polled = self.nodes[node].polled(&self.channels[channel], &user, Some(&self.clients[client]), now);
        let (place, outcome) = polled.expect("few polling clients");
        self.trace.push(format!("{} poll {place:?} {user:?} at {node}", self.now));
        self.join(node).await;
        let joined = outcome.map(|mut outcome| outcome.try_recv());
        let mut is_loose = false;
        match joined {
            Some(Ok(Joined::Full)) => return self.nodes[node].refuse_poll(&place),
            Some(Ok(Joined::Member)) => {
                self.info.insert((channel, user_index), known);
            }
            Some(_) => {
                self.is_plain = false;
                is_loose = true;
            }
            // The node knows the client, and tells the store with its next renewal.
            None => {}
        }
        assert!(self.nodes[node].park(&place, now), "{place:?}");
        let counts = joined == Some(Ok(Joined::Member));
        self.polls.push(Poll { node, place, user: user_index, channel, client, counts, is_loose });
    }

    /// Ends a poll.
    fn answer(&mut self, index: usize) {
        let Poll { node, place, user, channel, client, is_loose, .. } = self.polls.swap_remove(index);
        let now = self.instant();
        self.nodes[node].unpark(&place, now);
        self.trace.push(format!("{} answer {place:?} at {node}", self.now));
        let end = self.now + AWAY + GRACE.as_millis() as u64;
        // The end of a poll that is older than a stream of its client does not bring back what the stream has ended.
        if !is_loose {
            self.untold[node].push((channel, user, Some(client), end));
        }
        self.keep(channel, user, Some(client), 0, end + 2000);
    }

    async fn step(&mut self) -> Result<(), String> {
        let mut pick = |n: usize| self.random.usize(..n);
        let (kind, node, channel, who, info, client, ms) =
            (pick(100), pick(NODES), pick(CHANNELS), pick(USERS), pick(3) as u8, pick(8), pick(1500) as u64);
        let other = pick(1 << 16);
        match kind {
            0..25 => self.open(node, channel, who, info, (client < 4).then_some(client)).await,
            25..37 if !self.stays.is_empty() => drop(self.close(other % self.stays.len())),
            37..47 if !self.stays.is_empty() => {
                let stay = self.close(other % self.stays.len());
                self.pass(ms * 3).await?;
                let client = stay.client.and_then(|client| self.clients.iter().position(|known| *known == client));
                let info = self.info.get(&(stay.channel, stay.user)).copied().unwrap_or(info);
                self.open(node, stay.channel, stay.user, info, client).await;
            }
            47..52 => self.poll(node, channel, who, client % 4).await,
            // One more poll of a client: it overlaps, or comes from another node.
            52..57 if !self.polls.is_empty() => {
                let Poll { channel, user, client, .. } = self.polls[other % self.polls.len()];
                self.poll(node, channel, user, client).await;
            }
            // A client that polls: the next request comes a little later, mostly from another node.
            57..60 if !self.polls.is_empty() => {
                let index = other % self.polls.len();
                let Poll { channel, user, client, .. } = self.polls[index];
                self.answer(index);
                self.pass(ms / 4).await?;
                self.poll(node, channel, user, client).await;
            }
            88..93 if !self.polls.is_empty() => self.answer(other % self.polls.len()),
            60..66 => self.kill(node),
            66..69 => self.drain(node).await,
            69..74 if !self.stays.is_empty() => {
                let index = other % self.stays.len();
                let stay = &self.stays[index];
                let (node, place, of, channel) = (stay.node, stay.place.clone(), stay.user, stay.channel);
                self.trace.push(format!("{} info {place:?} {info}", self.now));
                self.nodes[node].set_user(&place, &user(of, info));
                self.join(node).await;
                // A connection that says the same as before is not news.
                if std::mem::replace(&mut self.stays[index].info, info) != info {
                    self.info.insert((channel, of), info);
                }
                self.is_plain &= !self.is_away;
            }
            74..78 => {
                self.trace.push(format!("{} away {}", self.now, !self.is_away));
                self.is_away = !self.is_away;
                self.disturb();
            }
            78..80 => {
                self.trace.push(format!("{} answer lost", self.now));
                self.loses_answer = true;
                self.disturb();
            }
            80..84 if !self.is_away => {
                self.trace.push(format!("{} save", self.now));
                self.bench.save().await;
                self.has_saved = Some(self.now);
            }
            84..87 if self.has_saved.is_some_and(|at| self.now < at + 20_000) => {
                self.trace.push(format!("{} restore", self.now));
                self.bench.restore().await;
                self.bench.set_time(self.now).await;
                self.forget_entries();
            }
            87..88 => {
                self.trace.push(format!("{} flush", self.now));
                self.bench.flush().await;
                self.bench.set_time(self.now).await;
                self.forget_entries();
            }
            _ => self.pass(ms * if other % 8 == 0 { 8 } else { 1 }).await?,
        }
        self.check().await
    }
}

/// Runs a history. On a fault, returns it with the steps.
pub(in crate::log) async fn run<B: Bench>(bench: &B, seed: u64, most: usize) -> Result<(), String> {
    let mut world = World::new(bench, seed, most);
    bench.flush().await;
    bench.set_time(world.now).await;
    let steps = world.random.usize(10..=80);
    let mut outcome = Ok(());
    for _ in 0..steps {
        outcome = world.step().await;
        if outcome.is_err() {
            break;
        }
    }
    if outcome.is_ok() {
        outcome = world.end().await;
    }
    outcome.map_err(|fault| format!("seed {seed}, most {most}: {fault}\n{}", world.trace.join("\n")))
}

/// A node stands still until its lease has lapsed, and comes back when only a part of its many connections is removed.
/// Then it tells all of them again. The channel must have room for 600 members.
pub(in crate::log) async fn come_back_within_a_sweep<B: Bench>(bench: &B) {
    const USERS: usize = SWEEP + 100;
    let channel = "room".parse().expect("a channel");
    let mut world = World::new(bench, 0, USERS);
    bench.flush().await;
    bench.set_time(world.now).await;
    for index in 0..USERS {
        let user = Arc::new(User::new(&format!("user {index}"), None).expect("a user"));
        let now = world.instant();
        drop(world.nodes[0].open(&channel, &user, None, now));
    }
    world.join(0).await;
    world.tick(0).await;
    let list = async || bench.members(&channel).await.expect("a list").members.len();
    assert_eq!(list().await, USERS);
    // The other node renews its lease each second. The first of its sweeps that has something to remove is the last one.
    while list().await == USERS {
        world.now += 1000;
        bench.set_time(world.now).await;
        let now = world.instant();
        let renewal = world.nodes[1].renewal(now);
        let answer = bench.renew(&renewal).await.expect("an answer");
        world.nodes[1].renewed(renewal, Some(&answer), now);
    }
    assert_eq!(list().await, USERS - SWEEP);
    for _ in 0..8 {
        world.now += 1000;
        bench.set_time(world.now).await;
        world.tick(0).await;
        world.tick(1).await;
    }
    assert_eq!(list().await, USERS);
}

/// The number of histories to run, and the first seed. `LONGTAIL_HISTORIES` and `LONGTAIL_SEED` set them.
pub(in crate::log) fn seeds(usual: u64, long: u64) -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let is_long = std::env::var_os("LONGTAIL_LONG").is_some();
    let (first, count) = (number("LONGTAIL_SEED").unwrap_or(0), number("LONGTAIL_HISTORIES"));
    first..first + count.unwrap_or(if is_long { long } else { usual })
}

/// The limit on members in a history: in some of them it is reached.
pub(in crate::log) fn most(seed: u64) -> usize {
    if seed.is_multiple_of(5) { 3 } else { 100 }
}
