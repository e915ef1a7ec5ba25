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
    /// The channel's connected readers on this node, and whether polling clients read it here. A channel without
    /// readers and polling clients is forgotten.
    Channel(Channel, Counts, bool),
    /// For this time, a polling client counts as a reader by this transport, and not by any other polling transport.
    Polled(Channel, ClientId, &'static str, Duration),
    /// A polling client has changed to a stream or a socket.
    Left(Channel, ClientId),
}

/// The counts of one channel that this node cannot know by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoteCounts {
    /// Connected readers on other nodes.
    pub readers: Counts,
    /// Polling clients on all nodes.
    pub pollers: Counts,
}

/// Channels that have readers, on all nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OccupiedChannels {
    /// The channels, in any order. A channel may be there twice.
    pub channels: Vec<Channel>,
    /// The name up to which these are all; `None` if there are no more.
    pub upto: Option<String>,
}

/// The exchange of subscriber counts between nodes.
pub trait SubscriberCounts: Send + Sync {
    /// Reports changes. With `everything`, the changes take the place of all earlier reports. A report without changes
    /// shows that this node is alive. Returns false if the store no longer knows this node. The node then has to report
    /// everything.
    fn report(&self, changes: Vec<CountChange>, everything: bool) -> BoxFuture<'_, Result<bool, Unreachable>>;

    /// Removes this node's counts at once. Without this call they disappear only after the node has not reported for
    /// some time.
    fn leave(&self) -> BoxFuture<'_, ()>;

    /// Returns how many other nodes there are, and their counts.
    fn remote<'a>(&'a self, channels: &'a [Channel]) -> BoxFuture<'a, Result<(usize, Vec<RemoteCounts>), Unreachable>>;

    /// Returns channels that other nodes report: the first channels by name whose names begin with `prefix` and come
    /// after `after`. The list may have a channel twice.
    fn remote_channels<'a>(
        &'a self,
        prefix: &'a str,
        after: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Channel>, Unreachable>>;

    /// Returns the channels that have readers on any node, this one included, after a name. A node that has not
    /// reported for `silence` does not count.
    fn occupied<'a>(
        &'a self,
        after: &'a str,
        silence: Duration,
    ) -> BoxFuture<'a, Result<OccupiedChannels, Unreachable>>;
}
