//! The messages that the tail has read and the fan-out has not delivered yet.

use super::limit::LIMIT;
use super::news::Messages;
use crate::message::Message;
use smallvec::smallvec;
use std::sync::Arc;

/// The messages that the tail has read and the fan-out has not delivered yet.
#[derive(Default)]
pub(super) struct Undelivered {
    /// Messages with their channel's slot, in log order.
    pub(super) messages: Vec<(usize, Arc<Message>)>,
    /// Their size, by [`Message::weight`].
    bytes: usize,
    /// Whether the log has changed, so that each reader has to look up its position again.
    pub(super) has_log_changed: bool,
}

/// The size of messages, by [`Message::weight`], that is enough for one delivery. The memory may have dropped them
/// already, so `--retain-bytes` does not bound them.
const BYTES: usize = 4 << 20;

impl Undelivered {
    /// Adds a message of a channel that has readers.
    pub(super) fn push(&mut self, slot: usize, message: Arc<Message>, weight: usize) {
        self.messages.push((slot, message));
        self.bytes += weight;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty() && !self.has_log_changed
    }

    /// Whether there are enough messages for one delivery.
    pub(super) fn is_full(&self) -> bool {
        self.messages.len() >= LIMIT.messages || self.bytes >= BYTES
    }

    /// Whether a message after the first `before` messages is in the same channel as one of these.
    pub(super) fn repeats(&self, before: usize) -> bool {
        let (first, rest) = self.messages.split_at(before.min(self.messages.len()));
        rest.iter().any(|(slot, _)| first.iter().any(|(known, _)| known == slot))
    }

    /// Makes every reader look up its position again, so that these messages need not be delivered.
    pub(super) fn log_has_changed(&mut self) {
        self.messages.clear();
        self.bytes = 0;
        self.has_log_changed = true;
    }

    /// The messages by channel, in log order within each channel.
    pub(super) fn by_channel(&mut self) -> Vec<(usize, Messages)> {
        let mut messages = std::mem::take(&mut self.messages);
        self.bytes = 0;
        // The sort is stable, so the messages of a channel stay in the log's order.
        messages.sort_by_key(|(slot, _)| *slot);
        let mut channels: Vec<(usize, Messages)> = Vec::new();
        for (slot, message) in messages {
            match channels.last_mut() {
                // A slot may now belong to another channel, because the first channel has lost its readers and
                // messages.
                Some((last, same)) if *last == slot && same[0].channel() == message.channel() => same.push(message),
                _ => channels.push((slot, smallvec![message])),
            }
        }
        channels
    }
}
