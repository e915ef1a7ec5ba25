//! The connections of one node: which of them the store has, and what it has to be told. It does not do I/O.
//!
//! The node calls the store with one call after the other: [`joins`](NodePresence::joins) and
//! [`joined`](NodePresence::joined), then [`renewal`](NodePresence::renewal) and [`renewed`](NodePresence::renewed). In
//! between, connections may open and close.
//!
//! The calls on a lease are numbered, and the store keeps the number of the last one. If it does not know the last call
//! that it has answered (a failover, an emptied Redis, a lease that has lapsed), it has lost something: the node takes a
//! new lease and adds all its connections again. What then still hangs on the old lease ends with it. A call without an
//! answer may have been carried out. What it told is told again, which has no other effect.

mod connections;
mod polling;

pub use connections::{NodePresence, Outcome, Place};

use super::{Call, Deadline, GRACE, Join, Joined, Renewed};
use crate::message::{Channel, ClientId, User};
use connections::{Connection, Phase};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// How many connections one call adds at most.
const JOINS: usize = 100;

/// How many deadlines one renewal sets at most.
const DEADLINES: usize = 1000;

/// How many closed connections wait for the next renewal at most. With more (a store that is away for long), the node
/// takes a new lease, and the old one ends all of them.
const CLOSED: usize = 10_000;

impl NodePresence {
    /// Opens a connection of a stream or a socket. If its client has polled before, the connection takes the place of
    /// the polling one, unless a poll is still parked there.
    pub fn open(
        &mut self,
        channel: &Channel,
        user: &Arc<User>,
        client: Option<&ClientId>,
        now: Instant,
    ) -> (Place, Outcome) {
        self.opened += 1;
        let place = (channel.clone(), format!("{}:{}", self.node, self.opened).into());
        let (sender, outcome) = oneshot::channel();
        let replaces = client.and_then(|client| self.take_place_of_polls(channel, user, client));
        self.insert(place.clone(), user, now, None, replaces, sender);
        (place, outcome)
    }

    /// Notes that a connection has another user now, or the same one with other info.
    pub fn set_user(&mut self, place: &Place, user: &Arc<User>) {
        let Some(connection) = self.connections.get_mut(place).filter(|it| !it.is_closed && it.user != *user) else {
            return;
        };
        drop(connection.set_user(user));
        // A join under way is followed by another one: see `joined`.
        if matches!(connection.phase, Phase::Stored | Phase::Refused) {
            connection.phase = Phase::Waiting;
            self.waiting.push_back(place.clone());
        }
    }

    /// Closes a connection. Its user stays a member for the grace.
    pub fn close(&mut self, place: &Place) {
        let Some(connection) = self.connections.get_mut(place) else { return };
        connection.is_closed = true;
        if connection.phase == Phase::Joining {
            // The outcome decides: see `joined`.
        } else if connection.is_stored {
            self.changed.insert(place.clone());
            self.has_lost |= self.changed.len() > CLOSED;
        } else {
            self.forget(place);
        }
    }

    /// Closes a connection whose user may not read the channel any more. The user is not a member any more as soon as the
    /// store hears of it.
    pub fn revoke(&mut self, place: &Place) {
        if let Some(connection) = self.connections.get_mut(place) {
            connection.is_revoked = true;
        }
        self.close(place);
    }

    /// The next joins that the store has to be told of; `None` if there are none.
    pub fn joins(&mut self, now: Instant) -> Option<Call<Join>> {
        if self.has_lost {
            self.begin_again();
        }
        let mut joins = Vec::new();
        while joins.len() < JOINS
            && let Some(place) = self.waiting.pop_front()
        {
            let Some(connection) = self.connections.get_mut(&place) else { continue };
            // A connection may stand in the queue twice.
            if connection.phase != Phase::Waiting || connection.is_closed {
                continue;
            }
            (connection.phase, connection.is_newer) = (Phase::Joining, false);
            connection.is_stored = true;
            joins.push(Join {
                channel: place.0,
                connection: place.1,
                user: connection.user.clone(),
                ends_in: connection.ends_in(now, self.away),
                is_again: connection.is_again,
                replaces: connection.replaces.clone(),
                age: connection.age(now),
            });
        }
        (!joins.is_empty()).then(|| self.call(joins))
    }

    fn call<T>(&mut self, items: Vec<T>) -> Call<T> {
        self.called += 1;
        Call { lease: self.lease.clone(), number: self.called, answered: self.answered, items }
    }

    /// Takes the outcomes of joins; `None` if the store did not answer. Returns whether all of them are known: otherwise
    /// the next attempt should not follow at once.
    pub fn joined(&mut self, joins: Call<Join>, outcomes: Option<Vec<Joined>>) -> bool {
        if outcomes.is_some() {
            self.answered = joins.number;
        }
        let mut are_known = true;
        let outcomes = outcomes.unwrap_or_default().into_iter().chain(std::iter::repeat(Joined::Later));
        for (join, outcome) in joins.items.into_iter().zip(outcomes) {
            are_known &= outcome != Joined::Later;
            let place = (join.channel, join.connection);
            let Some(connection) = self.connections.get_mut(&place) else { continue };
            // The connection may have got another user in the meantime.
            let is_same = connection.user == join.user;
            // A caller does not wait for a store that is away, or for a join that is possible only later.
            if is_same {
                for caller in std::mem::take(&mut connection.outcomes) {
                    // The caller may have gone.
                    let _ = caller.send(outcome);
                }
            }
            match outcome {
                Joined::Member => {
                    connection.phase = Phase::Stored;
                    connection.is_again = is_same;
                    connection.replaces = None;
                }
                Joined::Full => (connection.phase, connection.is_stored) = (Phase::Refused, false),
                Joined::Gone => {
                    connection.phase = if connection.is_newer { Phase::Waiting } else { Phase::Refused };
                    (connection.is_stored, connection.is_again) = (false, false);
                }
                Joined::Later => connection.phase = Phase::Waiting,
            }
            if !is_same {
                connection.phase = Phase::Waiting;
            }
            let (phase, is_polling) = (connection.phase, connection.until.is_some());
            if connection.is_closed {
                if connection.is_stored {
                    self.changed.insert(place);
                } else {
                    self.forget(&place);
                }
            } else if phase == Phase::Waiting {
                self.waiting.push_back(place);
            } else if phase == Phase::Stored && is_polling {
                // Its deadline may have changed in the meantime.
                self.changed.insert(place);
            }
        }
        are_known
    }

    /// Whether connections wait for a join.
    pub fn has_joins(&self) -> bool {
        !self.waiting.is_empty() || self.has_lost
    }

    /// The next renewal of the lease.
    pub fn renewal(&mut self, now: Instant) -> Call<Deadline> {
        if self.has_lost {
            self.begin_again();
        }
        let taken: Vec<Place> = self.changed.iter().take(DEADLINES).cloned().collect();
        let mut deadlines = Vec::with_capacity(taken.len());
        for place in taken {
            self.changed.remove(&place);
            let Some(connection) = self.connections.get_mut(&place) else { continue };
            let ends_in = match connection.is_closed {
                true if connection.is_revoked => Duration::ZERO,
                true => GRACE,
                false => connection.ends_in(now, self.away).unwrap_or(GRACE),
            };
            let age = connection.age(now);
            let (channel, connection) = place;
            deadlines.push(Deadline { channel, connection, ends_in, age });
        }
        self.call(deadlines)
    }

    /// Takes the answer to a renewal; `None` if the store did not answer. Returns whether another renewal should follow
    /// at once.
    pub fn renewed(&mut self, renewal: Call<Deadline>, answer: Option<&Renewed>, now: Instant) -> bool {
        let number = renewal.number;
        let places = renewal.items.into_iter().map(|deadline| (deadline.channel, deadline.connection));
        let Some(answer) = answer else {
            self.changed.extend(places);
            return false;
        };
        self.answered = number;
        for (index, place) in places.enumerate() {
            let Some(connection) = self.connections.get_mut(&place) else { continue };
            if connection.is_closed {
                self.forget(&place);
            } else if answer.unknown.contains(&index) && connection.phase == Phase::Stored {
                connection.phase = Phase::Waiting;
                self.waiting.push_back(place);
            }
        }
        self.has_lost |= !answer.is_complete;
        if self.changed.len() < DEADLINES {
            self.look_at_polls(now);
        }
        answer.has_more || self.changed.len() >= DEADLINES
    }

    /// Takes a new lease, and queues all connections again.
    fn begin_again(&mut self) {
        self.has_lost = false;
        self.leases += 1;
        self.lease = format!("{}.{}", self.node, self.leases).into();
        (self.called, self.answered) = (0, 0);
        self.waiting.clear();
        if self.changed.len() > CLOSED {
            let closed = |(place, it): (&Place, &Connection)| it.is_closed.then(|| place.clone());
            let closed: Vec<Place> = self.connections.iter().filter_map(closed).collect();
            closed.iter().for_each(|place| self.forget(place));
        }
        for (place, connection) in &mut self.connections {
            if matches!(connection.phase, Phase::Stored | Phase::Waiting) && !connection.is_closed {
                connection.phase = Phase::Waiting;
                self.waiting.push_back(place.clone());
            }
        }
    }
}
