//! The new messages of one channel on their way to its readers, and the bytes that readers of one format share.

use super::fan_out_stats::{FanOutCounts, TransportTotals};
use super::outlet::{BareFormat, Encoded, Outlet, OwnedFormat};
use crate::cursor::{Cursor, Id};
use crate::message::Message;
use smallvec::SmallVec;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The maximum number of formats for which a fan-out keeps encoded bytes. The number is bounded, because each callback
/// name makes a format and clients choose these names.
const FORMATS: usize = 8;

/// The number of readers that are copied out of the hub's memory at a time. The readers are copied because the hub's
/// lock is not held during the writes.
const STRIDE: usize = 64;

/// The messages of one channel. Usually there is only one message.
pub(super) type Messages = SmallVec<[Arc<Message>; 1]>;

/// The new messages of one channel.
pub(super) struct News {
    /// The channel's slot in the hub's memory.
    pub(super) slot: usize,
    pub(super) messages: Messages,
    /// The position of the channel's last message before the new ones.
    pub(super) before: Id,
    pub(super) first: Id,
    pub(super) last: Id,
    /// The position up to which the node had read when the fan-out began.
    pub(super) head: Cursor,
    /// The slots of all channels that have new messages up to `head`, in order; `None` if this is the only channel.
    pub(super) channels: Option<Arc<[usize]>>,
    /// Whether none of the messages excludes a client or the readers of a channel.
    pub(super) is_for_all: bool,
    /// Whether one of the messages says that a member has joined or left.
    pub(super) has_members: bool,
    /// Whether one of the messages excludes the readers of a channel.
    pub(super) excludes_channels: bool,
    /// The number of registrations for which the channel has room, used or not.
    pub(super) registrations: usize,
    /// The first registration that no thread has taken yet.
    pub(super) next: AtomicUsize,
}

impl News {
    /// Returns the range of registrations that the calling thread serves next. The ranges are small, because some
    /// contain only free registrations and threads are not equally fast.
    pub(super) fn next_registrations(&self) -> Option<Range<usize>> {
        let start = self.next.fetch_add(STRIDE, Ordering::Relaxed);
        (start < self.registrations).then(|| start..(start + STRIDE).min(self.registrations))
    }

    /// Whether all of the messages say that members have joined or left.
    pub(super) fn is_of_members(&self) -> bool {
        self.has_members && self.messages.iter().all(|message| !message.is_for_readers())
    }

    /// Whether several of these channels have new messages in the same turn.
    pub(super) fn are_of_several(&self, slots: &[usize]) -> bool {
        let has_news = |slot: &&usize| self.channels.as_ref().is_some_and(|with| with.binary_search(slot).is_ok());
        slots.iter().filter(has_news).nth(1).is_some()
    }
}

/// The state of one thread's share of a fan-out: the bytes of each format, and the counts of its writes.
#[derive(Default)]
pub(super) struct FanOutShare {
    encoded: SmallVec<[(OwnedFormat, Encoded); 1]>,
    /// The bytes that were used last, if their format has no prefix and suffix.
    last: Option<(BareFormat, Encoded)>,
    pub(super) counts: FanOutCounts,
    pub(super) transports: TransportTotals,
}

impl FanOutShare {
    /// Returns the new messages in this outlet's format. The messages are encoded once for each format.
    #[inline]
    pub(super) fn encode(&mut self, outlet: &dyn Outlet, news: &News) -> Encoded {
        let bare = outlet.bare_format();
        if let (Some(format), Some((known, encoded))) = (bare, &self.last)
            && format == *known
        {
            return encoded.clone();
        }
        let encoded = self.encode_format(outlet, news);
        self.last = bare.map(|format| (format, encoded.clone()));
        encoded
    }

    #[inline(never)]
    fn encode_format(&mut self, outlet: &dyn Outlet, news: &News) -> Encoded {
        let format = outlet.format();
        if let Some((_, encoded)) = self.encoded.iter().find(|(known, _)| known.is(format)) {
            return encoded.clone();
        }
        let encoded = outlet.encode(&news.messages, news.head);
        self.counts.encoded += 1;
        if self.encoded.len() < FORMATS {
            self.encoded.push((format.to_owned(), encoded.clone()));
        }
        encoded
    }
}
