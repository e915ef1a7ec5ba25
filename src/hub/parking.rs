//! The state that a reader leaves with the hub while it is parked, so that the hub can write for it.

use super::news::{FanOutShare, News};
use super::outlet::Outlet;
use crate::cursor::Cursor;
use crate::message::ClientId;
use bytes::Bytes;
use smallvec::SmallVec;
use tokio::time::Instant;

/// The place where a reader leaves its state while it is parked. While it holds a state, only the hub may write to the
/// reader's socket.
#[derive(Default)]
pub(super) struct Parking {
    pub(super) client: Option<ClientId>,
    /// The slots of the reader's channels, if it reads several channels: all their messages have one order. Most
    /// readers read one channel, and its slot is not recorded. The list is boxed, so that it takes one word in each
    /// reader.
    several: Option<Box<SmallVec<[usize; 4]>>>,
    parked: Option<Parked>,
    /// Whether the task was woken, or has to deliver messages itself, since it last took its state back. The hub does
    /// not write in this case, because its bytes must not overtake the bytes that the task will write.
    is_closed: bool,
    /// Whether the reader also gets entries about members that join or leave.
    pub(super) reads_members: bool,
}

/// A parked reader's state.
struct Parked {
    /// The position up to which all messages were written.
    at: Cursor,
    allowance: Allowance,
    written: Written,
}

/// The amount that the hub may write to a parked reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowance {
    /// A stream may get this number of bytes before a rollover.
    Bytes(usize),
    /// A poll may get one answer with at most this number of messages. After the answer, the hub does not write again
    /// and does not wake the task: the client's next request wakes the task.
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

/// The result of the hub's writes for a reader while the reader was parked.
#[derive(Debug, Default)]
pub struct Written {
    /// Bytes that count against a rollover.
    pub weight: usize,
    /// The time of the last write.
    pub at: Option<Instant>,
    /// The bytes that the socket did not accept. These bytes must be written before any others.
    pub remainder: Remainder,
}

/// The remainder of a partial write. It keeps the whole buffer alive. Many readers that stopped at different places
/// share the buffer, and the memory accounting recognises it by its address.
#[derive(Clone, Debug, Default)]
pub struct Remainder(Option<Box<Partial>>);

/// A partial write. It is boxed, because most parked readers never have one.
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

    /// The whole buffer of the write.
    pub fn whole(&self) -> &Bytes {
        self.0.as_ref().map_or(&EMPTY, |partial| &partial.whole)
    }

    /// Whether nothing remains.
    pub fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }
}

/// The outcome of offering new messages to a parked reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offered {
    Written,
    /// The reader already has the messages.
    AlreadyRead,
    /// The reader's task has to read the messages itself.
    LeftToTask,
}

impl Parking {
    /// Leaves the reader's state here, unless its task has already been woken.
    pub(super) fn park(&mut self, at: Cursor, allowance: Allowance) {
        if !self.is_closed {
            self.parked = Some(Parked { at, allowance, written: Written::default() });
        }
    }

    /// Sets the slots of the channels that the reader reads. Call it before the reader parks.
    pub(super) fn set_slots(&mut self, slots: impl ExactSizeIterator<Item = usize>) {
        self.several = (slots.len() > 1).then(|| Box::new(slots.collect()));
    }

    /// Whether the reader is a poll and has received its answer.
    pub(super) fn is_answered(&self) -> bool {
        let is_answered =
            |parked: &Parked| matches!(parked.allowance, Allowance::Answer(_)) && parked.written.at.is_some();
        self.parked.as_ref().is_some_and(is_answered)
    }

    /// Gives the state back: the reader's position, and the hub's writes for it.
    pub(super) fn unpark(&mut self) -> Option<(Cursor, Written)> {
        self.is_closed = false;
        self.parked.take().map(|parked| (parked.at, parked.written))
    }

    /// Forbids the hub to write until the task has parked again.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
    }

    /// Decides about messages that are not for all readers. `None`: this reader gets all of them.
    #[cold]
    fn pass_over(&mut self, news: &News) -> Option<Offered> {
        // A reader without `presence=1` skips the entries about members.
        if !self.reads_members && news.is_of_members() {
            self.parked.as_mut()?.at = news.head;
            return Some(Offered::AlreadyRead);
        }
        // If the reader has several channels, only its task can find the messages that exclude the readers of a
        // channel.
        let may_get_all = !(news.has_members || news.excludes_channels && self.several.is_some());
        let is_wanted = |client: &ClientId| !news.messages.iter().any(|message| message.excludes(client));
        (!(may_get_all && self.client.as_ref().is_none_or(is_wanted))).then_some(Offered::LeftToTask)
    }

    /// Writes new messages in the plain case; see `fan_out.rs`. In all other cases the task writes them, and the caller
    /// closes the parking before it releases the lock.
    #[inline]
    pub(super) fn offer(
        &mut self,
        outlet: Option<&dyn Outlet>,
        news: &News,
        share: &mut FanOutShare,
        now: Instant,
    ) -> Offered {
        let (Some(outlet), Some(parked)) = (outlet, &self.parked) else { return Offered::LeftToTask };
        if self.is_closed || parked.at.epoch != news.head.epoch {
            return Offered::LeftToTask;
        }
        if parked.at.id >= news.last {
            return Offered::AlreadyRead;
        }
        let is_next = news.before <= parked.at.id && parked.at.id < news.first;
        let is_ordered = self.several.as_ref().is_none_or(|slots| !news.are_of_several(slots));
        if !is_next || !is_ordered {
            return Offered::LeftToTask;
        }
        if !news.is_for_all
            && let Some(offered) = self.pass_over(news)
        {
            return offered;
        }
        let Some(parked) = &mut self.parked else { return Offered::LeftToTask };
        let encoded = share.encode(outlet, news);
        if !parked.allowance.has_room(news.messages.len(), encoded.weight) {
            return Offered::LeftToTask;
        }
        let (size, weight) = (encoded.bytes.len(), encoded.weight);
        // If no bytes were written, or if the write failed, the task later finds the same messages and the same error.
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
