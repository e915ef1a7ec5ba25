//! The polling clients of one node. A client has one connection in a channel, and any number of requests: one after the
//! other, and also several at the same time (a proxy that repeats a request, a page that is reloaded).
//!
//! The time until which a client is not away only moves on. So it does not matter which of several requests ends first,
//! nor which of several nodes tells the store last that the client has left it.

use super::connections::{Connection, NodePresence, Outcome, Phase, Place};
use crate::log::presence::{GRACE, PERIOD};
use crate::message::{Channel, ClientId, User};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// How many polling connections are known at most. The users of further ones are not members by them.
const POLLING: usize = 100_000;

/// How many polling clients of one user have a connection of their own in a channel. Further ones share one: a client
/// may make up as many ids as it likes.
const POLLING_A_USER: usize = 16;

impl NodePresence {
    /// Notes a request of a polling client. Its connection lasts for the grace, until the poll is [parked][Self::park]:
    /// a refused poll leaves nothing behind that would have to be taken back. Returns the place, and the outcome if the
    /// client's user has to join. `None`: there are too many polling clients.
    pub fn polled(
        &mut self,
        channel: &Channel,
        user: &Arc<User>,
        client: Option<&ClientId>,
        now: Instant,
    ) -> Option<(Place, Option<Outcome>)> {
        let mut place = (channel.clone(), polling_name(client, user));
        let of_user = self.polling.get(&(channel.clone(), user.id().into())).copied().unwrap_or(0);
        if of_user >= POLLING_A_USER && !self.connections.contains_key(&place) {
            place.1 = polling_name(None, user);
        }
        let Some(connection) = self.connections.get_mut(&place) else {
            if self.polls >= POLLING {
                return None;
            }
            let (sender, outcome) = oneshot::channel();
            self.insert(place.clone(), user, now, Some(now), None, sender);
            return Some((place, Some(outcome)));
        };
        connection.until = connection.until.max(Some(now));
        (connection.newest, connection.is_newer) = (now, true);
        let is_same = connection.user == *user;
        match connection.phase {
            Phase::Stored if is_same => {
                self.changed.insert(place.clone());
                Some((place, None))
            }
            // A join under way is followed by another one if the user differs: see `joined`.
            Phase::Waiting | Phase::Joining => {
                let outcome = if is_same { connection.outcome() } else { connection.set_user(user) };
                Some((place, Some(outcome)))
            }
            Phase::Stored | Phase::Refused => {
                let outcome = connection.set_user(user);
                connection.phase = Phase::Waiting;
                self.waiting.push_back(place.clone());
                Some((place, Some(outcome)))
            }
        }
    }

    /// Lets a stream take the place of its client's polls, and returns the name of their connection. `None`: a poll is
    /// still parked there.
    pub(super) fn take_place_of_polls(
        &mut self,
        channel: &Channel,
        user: &User,
        client: &ClientId,
    ) -> Option<Arc<str>> {
        let polled = (channel.clone(), polling_name(Some(client), user));
        if self.connections.get(&polled).is_some_and(|it| it.parked > 0) {
            return None;
        }
        self.forget(&polled);
        Some(polled.1)
    }

    /// Notes that a poll is parked: its client is there until the poll ends. Returns whether the connection is known;
    /// only then [`NodePresence::unpark`] has to follow.
    pub fn park(&mut self, place: &Place, now: Instant) -> bool {
        let Some(connection) = self.connections.get_mut(place).filter(|it| it.until.is_some()) else { return false };
        connection.parked += 1;
        if connection.is_due(now, self.away) {
            self.move_on(place, now);
        }
        true
    }

    /// Notes that a parked poll has ended: its client is away some time later.
    pub fn unpark(&mut self, place: &Place, now: Instant) {
        if let Some(connection) = self.connections.get_mut(place) {
            connection.parked = connection.parked.saturating_sub(1);
            self.move_on(place, now);
        }
    }

    /// Moves on the time until which a polling client is not away. It never moves back: another poll of the client may
    /// have set it.
    fn move_on(&mut self, place: &Place, now: Instant) {
        if let Some(connection) = self.connections.get_mut(place) {
            connection.until = connection.until.max(Some(now + self.away));
            if connection.phase == Phase::Stored {
                self.changed.insert(place.clone());
            }
        }
    }

    /// Notes that a poll was refused. A connection that the store may have ends by itself, after the grace.
    pub fn refuse_poll(&mut self, place: &Place) {
        if self.connections.get(place).is_some_and(|it| it.until.is_some() && it.parked == 0 && !it.is_stored) {
            self.forget(place);
        }
    }

    /// Forgets polling clients that have been away for longer than the grace: the store does so by itself. The deadlines
    /// of clients whose polls are parked are moved on in time.
    pub(super) fn look_at_polls(&mut self, now: Instant) {
        let mut away = Vec::new();
        for (place, connection) in &self.connections {
            let Some(until) = connection.until else { continue };
            if connection.parked == 0 {
                if until + GRACE < now {
                    away.push(place.clone());
                }
            } else if connection.phase == Phase::Stored && connection.is_due(now, self.away) {
                // See `ends_in`.
                self.changed.insert(place.clone());
            }
        }
        away.iter().for_each(|place| self.forget(place));
    }
}

impl Connection {
    /// Whether the store has to be told that the polling client is still there. Half of the time is left for this, and
    /// the renewal may come a period later.
    fn is_due(&self, now: Instant, away: Duration) -> bool {
        self.until.is_some_and(|until| until <= now + away / 2 + PERIOD)
    }

    /// The time after which the connection ends by itself. A client whose poll is parked is there now.
    pub(super) fn ends_in(&mut self, now: Instant, away: Duration) -> Option<Duration> {
        if self.parked > 0 {
            self.until = self.until.max(Some(now + away));
        }
        self.until.map(|until| until.saturating_duration_since(now) + GRACE)
    }
}

/// The name of a polling client's connection. It holds the user: a client id is public, and must not let one user end
/// the connection of another. Both may hold a colon, so the length of the id says where it ends. An id is never empty.
fn polling_name(client: Option<&ClientId>, user: &User) -> Arc<str> {
    let client = client.map(ClientId::to_string).unwrap_or_default();
    format!("p:{}:{client}:{}", client.len(), user.id()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::presence::{Joined, Renewed};

    const AWAY: Duration = Duration::from_secs(30);

    fn node() -> NodePresence {
        NodePresence::new("n", AWAY)
    }

    fn user(id: &str) -> Arc<User> {
        Arc::new(User::new(id, None).expect("a user"))
    }

    fn room() -> Channel {
        "room".parse().expect("a channel")
    }

    fn client(id: &str) -> ClientId {
        id.parse().expect("an id")
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    /// Carries out what the node has to tell. Returns when the connections end, by the last word of the node on each.
    fn tell(node: &mut NodePresence, now: Instant) -> Vec<Duration> {
        let mut told = Vec::new();
        while let Some(joins) = node.joins(now) {
            told.extend(joins.items.iter().filter_map(|join| join.ends_in));
            let outcomes = vec![Joined::Member; joins.items.len()];
            node.joined(joins, Some(outcomes));
        }
        loop {
            let renewal = node.renewal(now);
            let ends: Vec<Duration> = renewal.items.iter().map(|deadline| deadline.ends_in).collect();
            told = if ends.is_empty() { told } else { ends };
            let answer = Renewed { is_complete: true, ..Renewed::default() };
            if !node.renewed(renewal, Some(&answer), now) {
                return told;
            }
        }
    }

    /// While the store is away, a polling client that asks again and again takes no more memory than one that asks once.
    #[test]
    fn callers_that_have_gone_are_not_kept() {
        let (mut node, user, channel, client) = (node(), user("7"), room(), client("c"));
        for _ in 0..1000 {
            drop(node.polled(&channel, &user, Some(&client), Instant::now()));
            if let Some(joins) = node.joins(Instant::now()) {
                node.joined(joins, None);
            }
            drop(node.polled(&channel, &user, Some(&client), Instant::now()));
        }
        assert_eq!(node.connections.values().map(|connection| connection.outcomes.len()).sum::<usize>(), 1);
        assert_eq!(node.waiting.len(), 1);
    }

    /// What a refused poll leaves behind: what the store may have ends after the grace.
    #[test]
    fn a_refused_poll_ends_its_stay() {
        for (outcome, left) in [(Joined::Full, 0), (Joined::Later, 1), (Joined::Member, 1)] {
            let (mut node, now) = (node(), Instant::now());
            let (place, _) = node.polled(&room(), &user("7"), None, now).expect("a place");
            let joins = node.joins(now).expect("a join");
            assert_eq!(joins.items[0].ends_in, Some(GRACE), "{outcome:?}");
            node.joined(joins, Some(vec![outcome]));
            node.refuse_poll(&place);
            assert_eq!(node.len(), left, "{outcome:?}");
            let told = tell(&mut node, now);
            assert_eq!(told, vec![GRACE; left], "{outcome:?}");
        }
    }

    /// A poll that is refused in another channel does not end the stay of a poll that is parked.
    #[test]
    fn a_refused_poll_leaves_a_parked_one() {
        let (mut node, now) = (node(), Instant::now());
        let (place, _) = node.polled(&room(), &user("7"), None, now).expect("a place");
        assert!(node.park(&place, now));
        node.polled(&room(), &user("7"), None, now).expect("a place");
        node.refuse_poll(&place);
        assert_eq!(tell(&mut node, now), [AWAY + GRACE]);
    }

    /// However polls of one client overlap, it is there until the last of them has ended, and away some time later.
    #[test]
    fn a_client_is_there_while_one_of_its_polls_is_parked() {
        // When polls begin (+) and end (-), in seconds; the last one ends at 100.
        let cases: [&[(u64, char)]; 4] = [
            &[(0, '+'), (100, '-')],
            &[(0, '+'), (1, '+'), (1, '-'), (100, '-')],
            &[(0, '+'), (10, '+'), (20, '-'), (50, '+'), (51, '-'), (100, '-')],
            &[(0, '+'), (25, '-'), (25, '+'), (50, '-'), (50, '+'), (100, '-')],
        ];
        for case in cases {
            let (mut node, start) = (node(), Instant::now());
            let (mut parked, mut ends_at) = (Vec::new(), seconds(0));
            for second in 0..=100 {
                let now = start + seconds(second);
                for (_, kind) in case.iter().filter(|(at, _)| *at == second) {
                    if *kind == '+' {
                        let (place, _) = node.polled(&room(), &user("7"), Some(&client("c")), now).expect("a place");
                        assert!(node.park(&place, now), "{case:?}");
                        parked.push(place);
                    } else {
                        node.unpark(&parked.pop().expect("a poll"), now);
                    }
                }
                for ends_in in tell(&mut node, now) {
                    // As in the store, a deadline does not move back.
                    ends_at = ends_at.max(seconds(second) + ends_in);
                }
                assert!(ends_at >= seconds(second) + GRACE, "{case:?}: {ends_at:?} at {second} s");
                assert!(ends_at <= seconds(second) + AWAY + GRACE, "{case:?}: {ends_at:?} at {second} s");
            }
            assert_eq!(ends_at, seconds(100) + AWAY + GRACE, "{case:?}");
            tell(&mut node, start + ends_at + seconds(1));
            assert!(node.is_empty() && node.polling.is_empty(), "{case:?}");
            assert_eq!(node.polls, 0, "{case:?}");
        }
    }

    /// A stream takes the place of its client's polls, unless one of them is still parked.
    #[test]
    fn a_stream_leaves_a_parked_poll() {
        for is_parked in [false, true] {
            let (mut node, now, client) = (node(), Instant::now(), client("c"));
            let (place, _) = node.polled(&room(), &user("7"), Some(&client), now).expect("a place");
            assert!(node.park(&place, now));
            tell(&mut node, now);
            if !is_parked {
                node.unpark(&place, now);
            }
            node.open(&room(), &user("7"), Some(&client), now);
            let joins = node.joins(now).expect("a join");
            assert_eq!(joins.items[0].replaces.is_none(), is_parked);
            assert_eq!(node.len(), if is_parked { 2 } else { 1 });
        }
    }

    /// A user whose name, together with the id of its client, looks like those of another user.
    #[test]
    fn names_of_clients_and_users_do_not_run_into_one_another() {
        let pairs = [("v", "b:c"), ("v:b", "c"), ("", "v:b:c"), ("", "1:v:b:c"), ("1:v", "b:c"), ("1", "v:b:c")];
        let (mut node, now) = (node(), Instant::now());
        let mut places = Vec::new();
        for (id, name) in pairs {
            let client = (!id.is_empty()).then(|| client(id));
            let (place, _) = node.polled(&room(), &user(name), client.as_ref(), now).expect("a place");
            assert!(node.park(&place, now));
            places.push(place);
        }
        assert_eq!(node.len(), pairs.len(), "{places:?}");
        tell(&mut node, now);
        places.iter().for_each(|place| node.unpark(place, now));
        let later = now + AWAY + GRACE + seconds(1);
        tell(&mut node, later);
        assert!(node.is_empty() && node.polling.is_empty(), "{:?}", node.polling);
    }
}
