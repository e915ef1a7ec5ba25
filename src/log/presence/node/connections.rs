//! The connections of one node.

use crate::log::presence::Joined;
use crate::message::{Channel, User};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// A connection of this node: its channel and its name.
pub type Place = (Channel, Arc<str>);

/// What a join has led to, as soon as it is known.
pub type Outcome = oneshot::Receiver<Joined>;

/// The connections of one node.
pub struct NodePresence {
    pub(super) node: Box<str>,
    /// How long a polling client is not away after its last answer.
    pub(super) away: Duration,
    pub(super) lease: Arc<str>,
    pub(super) leases: u64,
    pub(super) opened: u64,
    pub(super) connections: HashMap<Place, Connection>,
    /// The polling connections of each user in each channel.
    pub(super) polling: HashMap<(Channel, Arc<str>), usize>,
    /// How many of the connections poll.
    pub(super) polls: usize,
    /// The numbers of the last call on the lease, and of the last one that the store has answered.
    pub(super) called: u64,
    pub(super) answered: u64,
    /// Connections that the store has to be told of.
    pub(super) waiting: VecDeque<Place>,
    /// Connections in the store whose deadline has changed.
    pub(super) changed: HashSet<Place>,
    /// Whether the store has lost something.
    pub(super) has_lost: bool,
}

/// A connection, and what the store knows of it.
pub(super) struct Connection {
    pub(super) user: Arc<User>,
    pub(super) phase: Phase,
    /// For a polling client, the time until which it is not away, as far as the store has been told or will be.
    pub(super) until: Option<Instant>,
    /// When the stream began, or the newest request of a polling client, and whether that was after the last join.
    pub(super) newest: Instant,
    pub(super) is_newer: bool,
    /// How many polls of the client are parked. Meanwhile the time is moved on again and again.
    pub(super) parked: usize,
    /// Whether the user has been a member by this connection. Then the store has lost it, if it does not have it.
    pub(super) is_again: bool,
    /// Whether the store may have the connection, so that it has to be told when the connection is closed.
    pub(super) is_stored: bool,
    pub(super) is_closed: bool,
    /// Whether its user may not read the channel any more, so that the connection does not have the grace.
    pub(super) is_revoked: bool,
    pub(super) replaces: Option<Arc<str>>,
    /// The callers that wait for the outcome of the next join.
    pub(super) outcomes: Vec<oneshot::Sender<Joined>>,
}

/// What the store knows of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The store has to be told.
    Waiting,
    /// The store is being told.
    Joining,
    Stored,
    /// The channel is full, or a stream at another node has taken the place of the polling client: the user is not a
    /// member by this connection.
    Refused,
}

impl NodePresence {
    /// A node without connections. The name must be unique among all nodes. A polling client is away for `away` after
    /// its last answer.
    pub fn new(node: &str, away: Duration) -> NodePresence {
        NodePresence {
            node: node.into(),
            away,
            lease: format!("{node}.0").into(),
            leases: 0,
            opened: 0,
            connections: HashMap::new(),
            polling: HashMap::new(),
            polls: 0,
            called: 0,
            answered: 0,
            waiting: VecDeque::new(),
            changed: HashSet::new(),
            has_lost: false,
        }
    }

    /// The node's lease.
    pub fn lease(&self) -> &Arc<str> {
        &self.lease
    }

    /// How many connections the node has.
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Whether the node has no connections.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    pub(super) fn insert(
        &mut self,
        place: Place,
        user: &Arc<User>,
        now: Instant,
        until: Option<Instant>,
        replaces: Option<Arc<str>>,
        outcome: oneshot::Sender<Joined>,
    ) {
        if until.is_some() {
            self.polls += 1;
            *self.polling.entry((place.0.clone(), user.id().into())).or_default() += 1;
        }
        let connection = Connection {
            user: user.clone(),
            phase: Phase::Waiting,
            until,
            newest: now,
            is_newer: false,
            parked: 0,
            is_again: false,
            is_stored: false,
            is_closed: false,
            is_revoked: false,
            replaces,
            outcomes: vec![outcome],
        };
        self.connections.insert(place.clone(), connection);
        self.waiting.push_back(place);
    }

    /// Removes a connection without telling the store.
    pub(super) fn forget(&mut self, place: &Place) {
        self.changed.remove(place);
        let Some(connection) = self.connections.remove(place) else { return };
        if connection.until.is_some() {
            self.polls -= 1;
            let of_user = (place.0.clone(), connection.user.id().into());
            if let Some(count) = self.polling.get_mut(&of_user) {
                *count -= 1;
                if *count == 0 {
                    self.polling.remove(&of_user);
                }
            }
        }
    }
}

impl Connection {
    pub(super) fn set_user(&mut self, user: &Arc<User>) -> Outcome {
        self.is_again &= self.user.id() == user.id();
        self.user = user.clone();
        self.outcome()
    }

    /// How long ago the stream began, or the newest request of a polling client.
    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.newest)
    }

    /// The outcome of the next join.
    pub(super) fn outcome(&mut self) -> Outcome {
        let (sender, outcome) = oneshot::channel();
        // While the store is away a client may ask again and again, and does not wait for the outcome.
        self.outcomes.retain(|caller| !caller.is_closed());
        self.outcomes.push(sender);
        outcome
    }
}
