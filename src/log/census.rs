//! Who reads what, on all nodes of one log.

use super::{BoxFuture, Unreachable};
use crate::message::{Channel, ClientId};
use std::collections::BTreeMap;
use std::time::Duration;

/// Readers by transport.
pub type Counts = BTreeMap<String, usize>;

/// What has changed on a node since it last told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The channel's connected readers on this node, and whether polling clients read it here. A
    /// channel without either is forgotten.
    Channel(Channel, Counts, bool),
    /// A polling client counts for so long, as a reader by this transport and by no other poll.
    Polled(Channel, ClientId, &'static str, Duration),
    /// A polling client has gone on to a stream or a socket.
    Left(Channel, ClientId),
}

/// Counts of one channel on the other nodes, and of the polling clients on all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elsewhere {
    /// Connected readers on other nodes.
    pub readers: Counts,
    /// Polling clients, whichever nodes they come to.
    pub pollers: Counts,
}

/// What nodes tell each other.
pub trait Census: Send + Sync {
    /// Tells what has changed, or everything, in the place of all that was told before. No change at all says that
    /// this node lives. False: nothing is known of this node any more, and it is to tell everything.
    fn tell(&self, changes: Vec<Change>, everything: bool) -> BoxFuture<'_, Result<bool, Unreachable>>;

    /// Forgets this node at once, instead of when it has not been heard of for a while.
    fn leave(&self) -> BoxFuture<'_, ()>;

    /// How many other nodes there are, and what they count.
    fn elsewhere<'a>(&'a self, channels: &'a [Channel]) -> BoxFuture<'a, Result<(usize, Vec<Elsewhere>), Unreachable>>;

    /// The first channels by name that begin with a prefix, behind one that is given, as other nodes
    /// have them. May hold one twice.
    fn names<'a>(
        &'a self,
        prefix: &'a str,
        after: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Channel>, Unreachable>>;
}
