//! Copies messages out of a ring, within a limit.

use crate::cursor::Id;
use crate::hub::limit::Limit;
use crate::hub::message_id::id_of;
use crate::message::{ClientId, Message};
use std::collections::VecDeque;
use std::sync::Arc;

/// The index of the first message after a position. Most readers are at the end of the ring, so the search looks there
/// first.
pub(super) fn unseen(ring: &VecDeque<Arc<Message>>, after: Id) -> usize {
    match ring.len().checked_sub(2).and_then(|last_but_one| ring.get(last_but_one)) {
        Some(message) if id_of(message) <= after => ring.len() - 1,
        _ => ring.partition_point(|message| id_of(message) <= after),
    }
}

/// The properties of a reader that decide which entries of its channels it gets.
#[derive(Clone, Copy)]
pub(in crate::hub) struct Recipient<'a> {
    /// The reader's client id, if it has one.
    pub(in crate::hub) client: Option<&'a ClientId>,
    /// Whether the reader also gets entries about members that join or leave.
    pub(in crate::hub) reads_members: bool,
}

impl Recipient<'_> {
    /// Whether the reader gets an entry.
    #[inline]
    pub(in crate::hub) fn gets(&self, message: &Message) -> bool {
        message.is_for_all() || self.gets_special(message)
    }

    /// Whether the reader gets an entry that is not for all readers. Only sessions read the channels of control entries.
    #[cold]
    fn gets_special(&self, message: &Message) -> bool {
        self.client.is_none_or(|client| !message.excludes(client))
            && (self.reads_members || message.is_for_readers() || message.is_control())
    }
}

/// Copies the messages that a reader at `after` has not seen. Returns the position at which the limit stopped the copy;
/// `None` if it did not.
pub(super) fn copy_one(
    ring: &VecDeque<Arc<Message>>,
    after: Id,
    recipient: Recipient<'_>,
    limit: Limit,
    out: &mut Vec<Arc<Message>>,
) -> Option<Id> {
    if ring.back().is_none_or(|message| id_of(message) <= after) {
        return None;
    }
    let mut copier = Copier::new(limit);
    ring.range(unseen(ring, after)..).find_map(|message| copier.copy(message, recipient, out))
}

/// Copies messages for one reader until a limit is reached.
pub(in crate::hub) struct Copier {
    left: Limit,
    last: Option<Id>,
}

impl Copier {
    pub(in crate::hub) fn new(left: Limit) -> Copier {
        Copier { left, last: None }
    }

    /// Copies a message. Returns the position at which the reader has to go on: after a control entry, which may change
    /// what it reads, and if the limit is reached, after the last message that was copied. The first
    /// message is always copied, even if it is large.
    pub(in crate::hub) fn copy(
        &mut self,
        message: &Arc<Message>,
        recipient: Recipient<'_>,
        out: &mut Vec<Arc<Message>>,
    ) -> Option<Id> {
        if recipient.gets(message) {
            let size = message.object().len();
            let is_full = self.left.messages == 0 || (self.left.bytes < size && !out.is_empty());
            if let (true, Some(last)) = (is_full, self.last) {
                return Some(last);
            }
            self.left.messages = self.left.messages.saturating_sub(1);
            self.left.bytes = self.left.bytes.saturating_sub(size);
            out.push(message.clone());
            if !message.is_for_all() && message.is_control() {
                // The entry may change which channels the reader reads from here on.
                return Some(id_of(message));
            }
        }
        self.skip(message);
        None
    }

    /// Moves past a message that the reader does not get.
    pub(in crate::hub) fn skip(&mut self, message: &Message) {
        self.last = Some(id_of(message));
    }
}
