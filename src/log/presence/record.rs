//! The record of presence in memory: connections, leases, members, and the clock. It does not do I/O. The scripts
//! `lua/presence*.lua` do the same in Redis.

use super::{
    Call, Deadline, GRACE, Join, Joined, REPLACED, Renewed, STALL_MS, STEP_BACK_EVERY_MS, STEP_BACK_MS, SWEEP,
};
use crate::message::{Channel, Kind, User};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// Writes an entry about a member. The text is the user's JSON.
pub(super) type Append<'a> = &'a mut dyn FnMut(Kind, &Channel, &str);

/// The members of all channels, and what keeps them.
#[derive(Clone, Default)]
pub(super) struct Record {
    clock: Clock,
    leases: BTreeMap<Arc<str>, Lease>,
    /// The connections that have a deadline, by their deadlines.
    due: BTreeSet<(u64, Channel, Arc<str>)>,
    channels: HashMap<Channel, Present>,
    replaced: Replaced,
}

/// When the streams began that have taken the places of polling clients, by the time of the machine: it passes also while the presence
/// clock stands still, as the age of a request does.
#[derive(Clone, Default)]
struct Replaced {
    times: HashMap<(Channel, Arc<str>), u64>,
    order: BTreeSet<(u64, Channel, Arc<str>)>,
}

/// The presence clock.
#[derive(Clone, Copy, Default)]
struct Clock {
    at: u64,
    /// The time of the machine when the clock was moved last, and when it last went back.
    moved: Option<u64>,
    went_back: Option<u64>,
}

#[derive(Clone, Default)]
struct Lease {
    until: u64,
    /// The number of the last call at which the store still had what all answered calls before it did.
    call: u64,
    connections: BTreeSet<(Channel, Arc<str>)>,
}

/// The users that are present in a channel.
#[derive(Clone, Default)]
struct Present {
    connections: HashMap<Arc<str>, Connection>,
    members: BTreeMap<Box<str>, Member>,
}

#[derive(Clone)]
struct Connection {
    user: Arc<User>,
    hangs_on: HangsOn,
}

#[derive(Clone, PartialEq)]
enum HangsOn {
    Lease(Arc<str>),
    Deadline(u64),
}

#[derive(Clone)]
struct Member {
    connections: usize,
    /// The user with the info that counts: the one that came last.
    user: Arc<User>,
}

impl Clock {
    fn tick(&mut self, now_ms: u64) {
        let passed = self.moved.map_or(0, |moved| now_ms.saturating_sub(moved));
        if self.moved.is_none() {
            // The clock can go back, so it does not begin at zero.
            self.at = 1_000_000;
        }
        if passed <= STALL_MS {
            self.at += passed;
        } else if self.went_back.is_none_or(|at| now_ms.saturating_sub(at) >= STEP_BACK_EVERY_MS) {
            self.at -= STEP_BACK_MS.min(self.at);
            self.went_back = Some(now_ms);
        }
        self.moved = Some(now_ms);
    }
}

impl Replaced {
    /// Notes that a stream which began at this time has taken the place of a polling client.
    fn note(&mut self, channel: &Channel, name: &Arc<str>, began_ms: u64) {
        let at = self.times.entry((channel.clone(), name.clone())).or_insert(0);
        if began_ms > *at {
            self.order.remove(&(*at, channel.clone(), name.clone()));
            *at = began_ms;
            self.order.insert((began_ms, channel.clone(), name.clone()));
        }
    }

    /// Whether a stream has taken the place of a polling client, and began after a request of this age had begun.
    fn is_gone(&self, channel: &Channel, name: &Arc<str>, age: Duration, now_ms: u64) -> bool {
        let at = self.times.get(&(channel.clone(), name.clone()));
        at.is_some_and(|at| *at > began(age, now_ms))
    }

    fn forget(&mut self, now_ms: u64) {
        let oldest = now_ms.saturating_sub(REPLACED.as_millis() as u64);
        while let Some((_, channel, name)) = self.order.first().filter(|(at, ..)| *at < oldest).cloned() {
            self.order.pop_first();
            self.times.remove(&(channel, name));
        }
    }
}

/// The time of the machine at which something of this age began.
fn began(age: Duration, now_ms: u64) -> u64 {
    now_ms.saturating_sub(age.as_millis() as u64)
}

impl Lease {
    /// Notes a call. Returns whether all answered calls before it are known.
    fn follow<T>(&mut self, call: &Call<T>) -> bool {
        let follows = self.call >= call.answered;
        if follows {
            self.call = call.number;
        }
        follows
    }
}

impl Record {
    /// Adds connections; see [`PresenceStore::join`](super::PresenceStore::join). `most` is the limit on the members of
    /// a channel.
    pub(super) fn join(&mut self, joins: &Call<Join>, most: usize, now_ms: u64, append: Append<'_>) -> Vec<Joined> {
        self.clock.tick(now_ms);
        self.lease(&joins.lease).follow(joins);
        let joins_one = |join: &Join| {
            if self.replaced.is_gone(&join.channel, &join.connection, join.age, now_ms) {
                return Joined::Gone;
            }
            self.join_one(&joins.lease, join, most, now_ms, append)
        };
        joins.items.iter().map(joins_one).collect()
    }

    /// The lease with this name, which is new if it is not known.
    fn lease(&mut self, name: &Arc<str>) -> &mut Lease {
        let until = self.clock.at + GRACE.as_millis() as u64;
        self.leases.entry(name.clone()).or_insert(Lease { until, ..Lease::default() })
    }

    fn join_one(&mut self, lease: &Arc<str>, join: &Join, most: usize, now_ms: u64, append: Append<'_>) -> Joined {
        let (channel, user) = (&join.channel, &join.user);
        let before = self.channels.get(channel).and_then(|present| present.connections.get(&join.connection));
        if before.is_some_and(|before| before.user.id() != user.id()) {
            self.drop_connection(channel, &join.connection, append);
        }
        let present = self.channels.entry(channel.clone()).or_default();
        if !present.members.contains_key(user.id()) && present.members.len() >= most && !join.is_again {
            if present.members.is_empty() {
                self.channels.remove(channel);
            }
            return Joined::Full;
        }
        let hangs_on = match join.ends_in {
            Some(time) => self.deadline(channel, &join.connection, time),
            None => HangsOn::Lease(lease.clone()),
        };
        self.unhang(channel, &join.connection);
        self.hang(channel, &join.connection, hangs_on.clone());
        let present = self.channels.entry(channel.clone()).or_default();
        let connection = Connection { user: user.clone(), hangs_on };
        let known = present.connections.insert(join.connection.clone(), connection);
        let member = present.members.entry(user.id().into());
        let is_new = matches!(member, std::collections::btree_map::Entry::Vacant(_));
        let member = member.or_insert_with(|| Member { connections: 0, user: user.clone() });
        member.connections += usize::from(known.is_none());
        // The info of the connection that came last counts. A connection that says the same as before is not a new one.
        let is_news = known.map_or(!join.is_again, |known| known.user != *user);
        if is_new {
            append(Kind::MemberAdded, channel, user.data());
        } else if is_news && member.user != *user {
            append(Kind::MemberRemoved, channel, member.user.data());
            append(Kind::MemberAdded, channel, user.data());
            member.user = user.clone();
        }
        if let Some(replaced) = join.replaces.as_ref().filter(|replaced| **replaced != join.connection)
            && let Some(connection) = present.connections.get(replaced)
            && connection.user.id() == user.id()
        {
            self.drop_connection(channel, replaced, append);
            self.replaced.note(channel, replaced, began(join.age, now_ms));
        }
        Joined::Member
    }

    /// Renews a lease; see [`PresenceStore::renew`](super::PresenceStore::renew).
    pub(super) fn renew(&mut self, renewal: &Call<Deadline>, now_ms: u64, append: Append<'_>) -> Renewed {
        self.clock.tick(now_ms);
        let mut renewed = Renewed::default();
        for (index, deadline) in renewal.items.iter().enumerate() {
            let (channel, name) = (&deadline.channel, &deadline.connection);
            let is_known = self.channels.get(channel).is_some_and(|present| present.connections.contains_key(name));
            if !is_known || self.replaced.is_gone(channel, name, deadline.age, now_ms) {
                renewed.unknown.push(index);
                continue;
            }
            let until = self.deadline(channel, name, deadline.ends_in);
            self.unhang(channel, name);
            self.hang(channel, name, until);
        }
        let until = self.clock.at + GRACE.as_millis() as u64;
        let lease = self.lease(&renewal.lease);
        lease.until = until;
        renewed.is_complete = lease.follow(renewal);
        renewed.has_more = self.sweep(append);
        self.replaced.forget(now_ms);
        renewed
    }

    /// The members of a channel, as JSON.
    pub(super) fn members(&self, channel: &Channel) -> Vec<String> {
        let members = self.channels.get(channel).into_iter().flat_map(|present| present.members.values());
        let mut members: Vec<String> = members.map(|member| member.user.data().to_owned()).collect();
        members.sort_unstable();
        members
    }

    /// The first channels with members, in the order of their names, after a name.
    pub(super) fn channels(&self, after: &str, limit: usize) -> Vec<Channel> {
        let mut channels: Vec<_> = self.channels.keys().filter(|channel| channel.as_str() > after).cloned().collect();
        channels.sort_unstable();
        channels.truncate(limit);
        channels
    }

    /// Removes connections that have missed their time. Returns whether there are more of them.
    fn sweep(&mut self, append: Append<'_>) -> bool {
        let mut room = SWEEP;
        let lapsed: Vec<Arc<str>> = self
            .leases
            .iter()
            .filter(|(_, lease)| lease.until <= self.clock.at)
            .map(|(name, _)| name.clone())
            .collect();
        for name in lapsed {
            // From here on the lease is not complete, also if its other connections are left to later sweeps: its node
            // may come back in between.
            self.lease(&name).call = 0;
            while let Some((channel, connection)) =
                self.leases.get(&name).and_then(|lease| lease.connections.first().cloned())
            {
                if room == 0 {
                    return true;
                }
                room -= 1;
                self.drop_connection(&channel, &connection, append);
            }
            self.leases.remove(&name);
        }
        while let Some((_, channel, connection)) =
            self.due.first().filter(|(until, ..)| *until <= self.clock.at).cloned()
        {
            if room == 0 {
                return true;
            }
            room -= 1;
            self.drop_connection(&channel, &connection, append);
        }
        false
    }

    /// Removes a connection, and its user if it has no other one.
    fn drop_connection(&mut self, channel: &Channel, name: &Arc<str>, append: Append<'_>) {
        self.unhang(channel, name);
        let Some(present) = self.channels.get_mut(channel) else { return };
        let Some(connection) = present.connections.remove(name) else { return };
        let id = connection.user.id();
        if let Some(member) = present.members.get_mut(id) {
            member.connections -= 1;
            if member.connections == 0 {
                append(Kind::MemberRemoved, channel, member.user.data());
                present.members.remove(id);
            }
        }
        if present.connections.is_empty() {
            self.channels.remove(channel);
        }
    }

    fn hang(&mut self, channel: &Channel, name: &Arc<str>, on: HangsOn) {
        match &on {
            HangsOn::Lease(lease) => {
                self.lease(lease).connections.insert((channel.clone(), name.clone()));
            }
            HangsOn::Deadline(until) => {
                self.due.insert((*until, channel.clone(), name.clone()));
            }
        }
        if let Some(connection) = self.channels.get_mut(channel).and_then(|it| it.connections.get_mut(name)) {
            connection.hangs_on = on;
        }
    }

    /// The deadline of a connection that ends in some time. A deadline that it has already does not move back: the client
    /// may poll another node by now.
    fn deadline(&self, channel: &Channel, name: &Arc<str>, ends_in: Duration) -> HangsOn {
        let until = self.clock.at + ends_in.as_millis() as u64;
        let connection = self.channels.get(channel).and_then(|present| present.connections.get(name));
        match connection.map(|connection| &connection.hangs_on) {
            Some(HangsOn::Deadline(known)) => HangsOn::Deadline(until.max(*known)),
            _ => HangsOn::Deadline(until),
        }
    }

    fn unhang(&mut self, channel: &Channel, name: &Arc<str>) {
        let connection = self.channels.get(channel).and_then(|present| present.connections.get(name));
        match connection.map(|connection| &connection.hangs_on) {
            Some(HangsOn::Lease(lease)) => {
                if let Some(lease) = self.leases.get_mut(lease) {
                    lease.connections.remove(&(channel.clone(), name.clone()));
                }
            }
            Some(HangsOn::Deadline(until)) => {
                self.due.remove(&(*until, channel.clone(), name.clone()));
            }
            None => {}
        }
    }
}
