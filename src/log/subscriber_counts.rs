//! Counts of subscribers, on all nodes of one log.

use super::{BoxFuture, Unreachable};
use crate::message::{Channel, ClientId};
use std::collections::BTreeMap;
use std::time::Duration;

/// Readers by transport.
pub type Counts = BTreeMap<String, usize>;

/// A change of a node's counts since its last report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CountChange {
    /// The channel's connected readers on this node, and whether polling clients read it here. A
    /// channel without either is forgotten.
    Channel(Channel, Counts, bool),
    /// A polling client counts for this long, as a reader by this transport and by no other poll.
    Polled(Channel, ClientId, &'static str, Duration),
    /// A polling client has changed to a stream or a socket.
    Left(Channel, ClientId),
}

/// Those counts of one channel that this node does not know by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoteCounts {
    /// Connected readers on other nodes.
    pub readers: Counts,
    /// Polling clients on all nodes.
    pub pollers: Counts,
}

/// How nodes share their counts.
pub trait SubscriberCounts: Send + Sync {
    /// Reports what has changed; with `everything`, the changes take the place of all earlier reports. A report without
    /// changes says that this node lives. Returns false if nothing is known about this node any more, so that it has to
    /// report everything.
    fn report(&self, changes: Vec<CountChange>, everything: bool) -> BoxFuture<'_, Result<bool, Unreachable>>;

    /// Forgets this node at once. Otherwise it is forgotten only after it has not reported for a while.
    fn leave(&self) -> BoxFuture<'_, ()>;

    /// How many other nodes there are, and what they count.
    fn remote<'a>(&'a self, channels: &'a [Channel]) -> BoxFuture<'a, Result<(usize, Vec<RemoteCounts>), Unreachable>>;

    /// The first channels by name with this prefix that come after `after`, as other nodes
    /// have them. A channel may be in it twice.
    fn remote_channels<'a>(
        &'a self,
        prefix: &'a str,
        after: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Channel>, Unreachable>>;
}
