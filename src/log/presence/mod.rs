//! Presence: the users that read a channel, on all nodes of one log.
//!
//! A *connection* is one stay of a user in a channel: a stream, a socket, or a polling client. A user is a *member* of
//! the channel while it has a connection. A connection hangs on the *lease* of its node, or has a deadline of its own:
//! a closed connection has one, and a polling client always has one. A deadline never moves back: several nodes may know a
//! polling client, and the node that the client has left must not end its stay at another one.
//!
//! Each change of the members is an entry of the log, written in the same step as the change. So the list of members
//! and the entries after its cursor fit together.
//!
//! Times are measured by the *presence clock*. Each renewal and each join moves it on by the time since the last one.
//! If nobody has moved it for longer than [`STALL_MS`], the store was away: the clock then goes back by
//! [`STEP_BACK_MS`], so that every node has time to renew its lease and its deadlines before they count as missed.

mod memory;
pub mod node;
mod record;

pub use memory::MemoryPresence;

use super::{BoxFuture, Unreachable};
use crate::cursor::Cursor;
use crate::message::{Channel, User};
use std::sync::Arc;
use std::time::Duration;

/// How long a connection counts after it was closed, and a lease after its last renewal.
pub const GRACE: Duration = Duration::from_secs(5);

/// How often a node renews its lease. Each renewal also removes what has missed its time.
pub const PERIOD: Duration = Duration::from_secs(1);

/// If the clock was not moved for longer than this, the store counts as having been away.
pub const STALL_MS: u64 = 2000;

/// How far the clock goes back after the store was away.
pub const STEP_BACK_MS: u64 = 3000;

/// How often the clock may go back. In between it only stops, so that a store that stalls again and again does not keep
/// members for ever.
pub const STEP_BACK_EVERY_MS: u64 = 10_000;

/// How many connections one renewal removes at most. If more have missed their time, the next renewal follows at once.
pub const SWEEP: usize = 500;

/// How long the store remembers that a stream has taken the place of a polling client: no poll is parked for longer.
pub const REPLACED: Duration = Duration::from_secs(600);

/// A connection that joins a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// The channel.
    pub channel: Channel,
    /// The name of the connection, which is unique in the channel.
    pub connection: Arc<str>,
    /// Its user.
    pub user: Arc<User>,
    /// The time after which the connection ends by itself; `None` if it hangs on the node's lease.
    pub ends_in: Option<Duration>,
    /// Whether the user has been a member by this connection. If the store does not know the connection, it was lost: it is
    /// added whatever the limit is, and the user's known info stays.
    pub is_again: bool,
    /// A connection of the same user that this one takes the place of.
    pub replaces: Option<Arc<str>>,
    /// How long ago the stream began, or the newest request of a polling client at the node. So the order of the two does
    /// not depend on when the store hears of them.
    pub age: Duration,
}

/// The outcome of a join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joined {
    /// The user is a member.
    Member,
    /// The channel has as many members as it may have.
    Full,
    /// The user is not a member yet: the join needs an entry that this node may not write yet.
    Later,
    /// The user is not a member by this connection: since the polling client's newest request at the node, a stream of
    /// the client has taken its place at another node.
    Gone,
}

/// A connection that ends at another time than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// The channel.
    pub channel: Channel,
    /// The connection.
    pub connection: Arc<str>,
    /// The time after which it ends.
    pub ends_in: Duration,
    /// How long ago the stream began, or the newest request of a polling client at the node.
    pub age: Duration,
}

/// A call of a node to the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call<T> {
    /// The node's lease.
    pub lease: Arc<str>,
    /// The number of the call on the lease, from 1 on.
    pub number: u64,
    /// The number of the last call on the lease that the store has answered; 0 before the first answer. The store may or
    /// may not have carried out the calls after it.
    pub answered: u64,
    /// What the node tells the store.
    pub items: Vec<T>,
}

/// The answer to a renewal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Renewed {
    /// Whether the store still has what all answered calls on the lease did.
    pub is_complete: bool,
    /// Which of the deadlines name connections that the store does not know, or that a stream has taken the place of since
    /// the request.
    pub unknown: Vec<usize>,
    /// Whether more connections have missed their time than one renewal removes.
    pub has_more: bool,
}

/// The members of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    /// Each member as JSON ([`User::data`]), in the order of these texts.
    pub members: Vec<String>,
    /// The end of the log at the same moment.
    pub cursor: Cursor,
}

/// The members of all channels. Each method is one step.
pub trait PresenceStore: Send + Sync {
    /// Adds connections to channels. Adding a connection that is there has no effect, unless its user or the info of
    /// its user differs.
    fn join<'a>(&'a self, joins: &'a Call<Join>) -> BoxFuture<'a, Result<Vec<Joined>, Unreachable>>;

    /// Renews a node's lease, sets deadlines (which only move on), and removes the connections of all nodes that have missed their time. A
    /// connection with a deadline does not hang on a lease any more.
    fn renew<'a>(&'a self, renewal: &'a Call<Deadline>) -> BoxFuture<'a, Result<Renewed, Unreachable>>;

    /// Waits until entries about members may be written: a node that has just started does not know yet whether all nodes
    /// read them. Cancel safe.
    fn writable(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// The members of a channel.
    fn members<'a>(&'a self, channel: &'a Channel) -> BoxFuture<'a, Result<Members, Unreachable>>;

    /// The first `limit` channels that have members, in the order of their names, after a name.
    fn channels<'a>(&'a self, after: &'a str, limit: usize) -> BoxFuture<'a, Result<Vec<Channel>, Unreachable>>;
}

#[cfg(test)]
pub(in crate::log) mod histories;
