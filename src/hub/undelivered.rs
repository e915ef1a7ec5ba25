//! The messages that the tail has read and the fan-out has not delivered yet.

use super::LIMIT;
use super::news::Messages;
use crate::message::Message;
use smallvec::smallvec;
use std::sync::Arc;

/// The messages that the tail has read and the fan-out has not delivered yet.
#[derive(Default)]
pub(super) struct Undelivered {
    /// Messages with their channel's slot, in log order.
    pub(super) messages: Vec<(usize, Arc<Message>)>,
    /// Whether the log has changed, so that each reader has to look up its position again.
    pub(super) has_log_changed: bool,
}

impl Undelivered {
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty() && !self.has_log_changed
    }

    /// Whether there are enough messages for one delivery.
    pub(super) fn is_full(&self) -> bool {
        self.messages.len() >= LIMIT.messages
    }

    /// Whether a message after the first `before` messages is in the same channel as one of these.
    pub(super) fn repeats(&self, before: usize) -> bool {
        let (first, rest) = self.messages.split_at(before.min(self.messages.len()));
        rest.iter().any(|(slot, _)| first.iter().any(|(known, _)| known == slot))
    }

    /// Makes every reader look up its position again, so that these messages need not be delivered.
    pub(super) fn log_has_changed(&mut self) {
        self.messages.clear();
        self.has_log_changed = true;
    }

    /// The messages by channel, in log order within each channel.
    pub(super) fn by_channel(&mut self) -> Vec<(usize, Messages)> {
        let mut messages = std::mem::take(&mut self.messages);
        // The sort is stable, so the messages of a channel stay in the log's order.
        messages.sort_by_key(|(slot, _)| *slot);
        let mut channels: Vec<(usize, Messages)> = Vec::new();
        for (slot, message) in messages {
            match channels.last_mut() {
                Some((last, same)) if *last == slot => same.push(message),
                _ => channels.push((slot, smallvec![message])),
            }
        }
        channels
    }
}
