//! The counts of a channel, and the size of the memory.

use crate::cursor::Cursor;
use crate::log::subscriber_counts::Counts;

/// The counts of one channel on this node, for `/channels/{channel}`.
#[derive(Debug, Default)]
pub struct ChannelCounts {
    /// Connected readers on this node, without readers that are counted by client id.
    pub readers: Counts,
    /// Polling clients that use this node.
    pub pollers: Counts,
    /// The number of messages in this node's memory.
    pub retained: usize,
    /// The newest message in this node's memory.
    pub last: Option<Cursor>,
}

/// The size of a node's memory of the log.
#[derive(Clone, Copy, Debug, Default)]
pub struct Retained {
    /// The number of messages in the memory.
    pub messages: usize,
    /// The size of the messages, by [`Message::weight`](crate::message::Message::weight).
    pub bytes: usize,
    /// The number of channels that have readers or retained messages.
    pub channels: usize,
    /// The number of messages that were read from the log since the start.
    pub read: u64,
}
