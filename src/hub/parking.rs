//! What a reader leaves with the hub while it is parked, so that the hub can write for it.

use super::news::{FanOutShare, News};
use super::outlet::Outlet;
use crate::cursor::Cursor;
use crate::message::ClientId;
use bytes::Bytes;
use smallvec::SmallVec;
use tokio::time::Instant;

/// The place where a reader leaves its state while it is parked. While there is a state, the hub alone may write to the
/// reader's socket.
#[derive(Default)]
pub(super) struct Parking {
    pub(super) client: Option<ClientId>,
    /// The slots of the reader's channels, if it reads several: their messages have one order. Most readers read one
    /// channel, which is not recorded. It is boxed, so that it takes one word in each reader.
    several: Option<Box<SmallVec<[usize; 4]>>>,
    parked: Option<Parked>,
    /// Whether the task was woken, or news was left to it, since it last took its state back. The hub writes nothing
    /// then: what comes later must not overtake what the task will write.
    is_closed: bool,
}

/// A parked reader's state.
struct Parked {
    /// Everything up to here was written.
    at: Cursor,
    allowance: Allowance,
    written: Written,
}

/// What the hub may write to a parked reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowance {
    /// For a stream: this many bytes, until a rollover.
    Bytes(usize),
    /// For a poll: one answer with at most this many messages. Nothing is written after it, and the task is not woken
    /// for it: the client's next request wakes the task.
    Answer(usize),
}

impl Allowance {
    fn has_room(self, messages: usize, weight: usize) -> bool {
        match self {
            Allowance::Bytes(left) => weight <= left,
            Allowance::Answer(most) => messages <= most,
        }
    }
}

/// What the hub has written for a reader while it was parked.
#[derive(Debug, Default)]
pub struct Written {
    /// Bytes that count against a rollover.
    pub weight: usize,
    /// When something was written last.
    pub at: Option<Instant>,
    /// What the socket did not accept. It must be written before anything else.
    pub remainder: Remainder,
}

/// The remainder of a partial write. It holds on to the whole buffer. Many readers that stopped at different places
/// share it, and the memory accounting recognises it by its address.
#[derive(Clone, Debug, Default)]
pub struct Remainder(Option<Box<Partial>>);

/// It is boxed: most parked readers never have one.
#[derive(Clone, Debug)]
struct Partial {
    whole: Bytes,
    taken: usize,
}

static EMPTY: Bytes = Bytes::new();

impl Remainder {
    /// The bytes that are still to be written.
    pub fn bytes(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |partial| &partial.whole[partial.taken..])
    }

    /// The buffer that it is the remainder of.
    pub fn whole(&self) -> &Bytes {
        self.0.as_ref().map_or(&EMPTY, |partial| &partial.whole)
    }

    /// Whether nothing remains.
    pub fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }
}

/// The outcome of offering news to a parked reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offered {
    Written,
    /// The reader has already had it.
    AlreadyRead,
    /// The reader's task has to look for itself.
    LeftToTask,
}

impl Parking {
    /// Leaves the reader's state here, unless its task has something to do already.
    pub(super) fn park(&mut self, at: Cursor, allowance: Allowance) {
        if !self.is_closed {
            self.parked = Some(Parked { at, allowance, written: Written::default() });
        }
    }

    /// Sets the slots of the channels that the reader reads. Call it before the reader parks.
    pub(super) fn set_slots(&mut self, slots: impl ExactSizeIterator<Item = usize>) {
        self.several = (slots.len() > 1).then(|| Box::new(slots.collect()));
    }

    /// Whether the reader was a poll and has its answer.
    pub(super) fn is_answered(&self) -> bool {
        let is_answered =
            |parked: &Parked| matches!(parked.allowance, Allowance::Answer(_)) && parked.written.at.is_some();
        self.parked.as_ref().is_some_and(is_answered)
    }

    /// Gives the state back: where the reader stands, and what was written for it.
    pub(super) fn unpark(&mut self) -> Option<(Cursor, Written)> {
        self.is_closed = false;
        self.parked.take().map(|parked| (parked.at, parked.written))
    }

    /// Makes the hub write nothing until the task has parked again.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
    }

    /// Writes news if this is the plain case; see `fan_out.rs`. If the news is left to the task, the caller closes the
    /// parking before it unlocks it.
    pub(super) fn offer(
        &mut self,
        outlet: Option<&dyn Outlet>,
        news: &News,
        share: &mut FanOutShare,
        now: Instant,
    ) -> Offered {
        let (Some(outlet), Some(parked)) = (outlet, &mut self.parked) else { return Offered::LeftToTask };
        if self.is_closed || parked.at.epoch != news.head.epoch {
            return Offered::LeftToTask;
        }
        if parked.at.id >= news.last {
            return Offered::AlreadyRead;
        }
        let is_next = news.before <= parked.at.id && parked.at.id < news.first;
        let is_ordered = self.several.as_ref().is_none_or(|slots| !news.are_of_several(slots));
        let is_wanted = |client: &ClientId| !news.messages.iter().any(|message| message.excludes(client));
        if !is_next || !is_ordered || !(news.is_for_all || self.client.as_ref().is_none_or(is_wanted)) {
            return Offered::LeftToTask;
        }
        let encoded = share.encode(outlet, news);
        if !parked.allowance.has_room(news.messages.len(), encoded.weight) {
            return Offered::LeftToTask;
        }
        let (size, weight) = (encoded.bytes.len(), encoded.weight);
        // If nothing was written, or on an error, the task finds the same messages, and the same error.
        let Ok(n @ 1..) = outlet.write(&encoded.bytes) else { return Offered::LeftToTask };
        if n < size {
            parked.written.remainder = Remainder(Some(Box::new(Partial { whole: encoded.bytes, taken: n })));
        }
        parked.at = news.head;
        match &mut parked.allowance {
            Allowance::Bytes(left) => *left -= weight,
            Allowance::Answer(_) => self.is_closed = true,
        }
        parked.written.weight += weight;
        parked.written.at = Some(now);
        share.counts.deliveries += news.messages.len() as u64;
        share.counts.writes += 1;
        share.counts.bytes += n as u64;
        share.transports.add(outlet.transport(), weight);
        if n < size { Offered::LeftToTask } else { Offered::Written }
    }
}
