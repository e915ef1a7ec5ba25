//! The log: the one ordered sequence of messages, in [`memory`] or in one stream of [`redis`].
//!
//! A [`MessageLog`] can append, read a range and be tailed; nothing else in the program stores
//! messages for good. Both implementations pass the same suite, `tests/log_conformance.rs`.

pub mod bridge;
pub mod census;
pub mod clock;
pub mod memory;
pub mod metrics;
pub mod pushed;
pub mod redis;

use crate::cursor::{Cursor, Epoch, Id};
use crate::message::{Draft, Message};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio_stream::Stream;

/// A boxed future, so that the log can be a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The ordered sequence of messages.
///
/// Whoever holds a future of it may leave it unpolled for as long as he likes: it holds nothing that others wait for.
pub trait MessageLog: Send + Sync {
    /// Appends all drafts in their order, or none. Answers one cursor a draft, when the log holds it;
    /// a volatile draft is sent to whoever tails the log, is not kept, and answers `None`.
    ///
    /// A draft whose idempotency key was seen within five minutes answers the first one's cursor.
    ///
    /// # Cancel safety
    ///
    /// Drafts are queued, or stand in the line for it, at the first poll, in the order of first polls: also where the polling task
    /// has used up tokio's budget. Dropping the future later leaves open whether they are appended.
    fn append(&self, drafts: Vec<Draft>) -> BoxFuture<'_, Result<Vec<Option<Cursor>>, AppendError>>;

    /// Reads at most `limit` entries after a position. Cancel safe.
    ///
    /// A position that [`Extent::resolve`] calls a gap reads nothing, unless reading goes on at that very position; the
    /// page says where to go on.
    fn read(&self, after: Cursor, limit: usize) -> BoxFuture<'_, Result<Page, Unreachable>>;

    /// Everything from the oldest entry retained, then everything new, for as long as it is polled.
    /// An unreachable log is weather: the stream says so and goes on when it is back.
    fn tail(self: Arc<Self>) -> Pin<Box<dyn Stream<Item = TailEvent> + Send>>;

    /// The log's clock, in milliseconds since 1970: entries age by it. It does not follow steps of this node's clock.
    fn now_ms(&self) -> u64;
}

/// How much the log, and a node's memory of it, keeps.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// How long.
    pub age: Duration,
    /// How many.
    pub messages: usize,
    /// How many bytes, by [`Message::weight`].
    pub bytes: usize,
}

/// The epochs of a log: the present one, and the earlier ones whose cursors it honours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// The present epoch.
    pub epoch: Epoch,
    /// Earlier epochs of the same log, in no order.
    pub ancestors: Vec<Ancestor>,
}

/// An earlier epoch of a log. Cursors up to its last position stay good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ancestor {
    /// The epoch.
    pub epoch: Epoch,
    /// Its last position that is proven to be in the log.
    pub last: Id,
    /// Whether a node has read more of the epoch: that was lost, in a failover, say.
    pub is_cut: bool,
}

/// Where a cursor's epoch stands in a [`Lineage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Descent {
    /// The cursor's position is one of the present epoch, and what comes behind it does, too.
    Same(Id),
    /// All between the cursor's position and this one is there. What came behind that in the epoch was lost.
    Until(Id),
    /// The cursor lies behind the end of its epoch, which is this position: it has read what was lost.
    Beyond(Id),
    /// The log knows nothing of the epoch.
    Unknown,
}

impl Lineage {
    /// Finds a cursor's position in the present epoch.
    pub fn locate(&self, cursor: Cursor) -> Descent {
        if cursor.epoch == self.epoch {
            return Descent::Same(cursor.id);
        }
        match self.ancestors.iter().find(|ancestor| ancestor.epoch == cursor.epoch) {
            Some(ancestor) if cursor.id > ancestor.last => Descent::Beyond(ancestor.last),
            // Right at the cut, and behind it, readers go on in the present epoch, and are told why.
            Some(ancestor) if ancestor.is_cut && cursor.id == ancestor.last => Descent::Beyond(ancestor.last),
            Some(ancestor) if ancestor.is_cut => Descent::Until(ancestor.last),
            Some(_) => Descent::Same(cursor.id),
            None => Descent::Unknown,
        }
    }
}

/// What a log reaches from and to, and which epochs' cursors it honours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Its epochs.
    pub lineage: Lineage,
    /// Entries up to here may have been dropped; all behind it are there, except single ones up to `deleted`.
    pub floor: Id,
    /// The newest entry that somebody deleted from the middle of the log, if it lies behind the floor, else the floor.
    /// Which other entries between the floor and here were deleted is not known.
    pub deleted: Id,
    /// The last id given.
    pub end: Id,
    /// The log's clock, in milliseconds since 1970.
    pub now_ms: u64,
}

/// What a cursor means to a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// All that comes after this position is in the log.
    At(Id),
    /// All that comes after the position and up to this one is in the log. Behind that there is a gap.
    Until(Id),
    /// Something after the cursor may have been dropped unseen. Reading goes on here. That may be the cursor's own
    /// position: then entries behind it are there, and others between them may be missing.
    Gap(Id),
}

impl Extent {
    /// Finds a cursor's place, which is exact: a cursor is not too old by its age, only because
    /// something behind it was dropped.
    pub fn resolve(&self, cursor: Cursor) -> Resolved {
        match self.lineage.locate(cursor) {
            Descent::Same(id) if id < self.floor => Resolved::Gap(self.floor),
            Descent::Same(id) if id > self.end => Resolved::Gap(self.end),
            Descent::Same(id) if id < self.deleted => Resolved::Gap(id),
            Descent::Same(id) => Resolved::At(id),
            Descent::Until(_) if cursor.id < self.floor => Resolved::Gap(self.floor),
            Descent::Until(last) => Resolved::Until(last),
            Descent::Beyond(last) => Resolved::Gap(last.max(self.floor)),
            Descent::Unknown => Resolved::Gap(self.floor),
        }
    }
}

/// A range of the log.
#[derive(Clone, Debug)]
pub struct Page {
    /// The log as it was when the page was read.
    pub extent: Extent,
    /// The entries, oldest first.
    pub messages: Vec<Arc<Message>>,
    /// Everything after the position asked for and up to here is in `messages` (or was skipped as
    /// not a message).
    pub upto: Id,
}

/// What a tail tells.
#[derive(Clone, Debug)]
pub enum TailEvent {
    /// The log was reached; its extent at this moment. Entries that follow continue the ones before
    /// where the extent still holds them.
    Opened(Extent),
    /// New entries, oldest first; the tail has read all up to `upto`.
    Entries {
        /// `messages` is all there is between this position and `upto`. Where it is beyond the
        /// `upto` before, entries between were dropped from the log before the tail read them.
        after: Id,
        /// The entries that are messages.
        messages: Vec<Arc<Message>>,
        /// The last id read, which may belong to a skipped entry.
        upto: Id,
    },
    /// The end of the log as of the last `Opened` was reached.
    CaughtUp,
    /// A volatile message.
    Volatile(Arc<Message>),
    /// The log cannot be reached for now.
    Lost,
}

/// The log cannot be reached; nothing was read.
#[derive(Debug, thiserror::Error)]
#[error("the log cannot be reached")]
pub struct Unreachable;

/// Why an append was not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// It is proven that the drafts are not in the log and never will be.
    #[error("the log is unavailable ({0}); nothing was appended")]
    Unavailable(String),
    /// The drafts were written to the log's connection and no answer came in time.
    #[error("the log gave no answer in time; the message may or may not have been appended")]
    OutcomeUnknown,
}
