//! The log: the one ordered sequence of messages, in [`memory`] or in one stream of [`redis`].
//!
//! A [`MessageLog`] can append, read a range and be tailed. Nothing else in the program stores
//! messages for good. Both implementations pass the same suite, `tests/log_conformance.rs`.

pub mod bridge;
pub mod clock;
pub mod counted_warning;
mod extent;
pub mod idempotency;
pub mod memory;
pub mod metrics;
pub mod publish_payload;
pub mod redis;
pub mod subscriber_counts;

pub use extent::{Ancestor, Descent, Extent, Lineage, Resolved};

use crate::cursor::{Cursor, Id};
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
/// A caller may leave a future of this trait unpolled for any time: the future holds nothing that others wait for.
pub trait MessageLog: Send + Sync {
    /// Appends all drafts in their order, or none. Returns one cursor for each draft, when the log holds the drafts.
    /// A volatile draft is sent to all tails of the log and is not kept; its cursor is `None`.
    ///
    /// For a draft whose idempotency key was seen within five minutes, the cursor is that of the first one.
    ///
    /// # Cancel safety
    ///
    /// Drafts are queued, or wait in line for the queue, at the first poll, in the order of first polls. This also
    /// holds if the polling task has used up tokio's budget. If the future is dropped later, they may or may not be
    /// appended.
    fn append(&self, drafts: Vec<Draft>) -> BoxFuture<'_, Result<Vec<Option<Cursor>>, AppendError>>;

    /// Reads at most `limit` entries after a position. Cancel safe.
    ///
    /// If [`Extent::resolve`] calls the position a gap, nothing is read, unless reading goes on at that same position.
    /// The page says where to go on.
    fn read(&self, after: Cursor, limit: usize) -> BoxFuture<'_, Result<Page, Unreachable>>;

    /// A stream of everything from the oldest entry retained, then of everything new, for as long as it is polled.
    /// While the log cannot be reached, the stream says so; it goes on when the log is back.
    fn tail(self: Arc<Self>) -> Pin<Box<dyn Stream<Item = TailEvent> + Send>>;

    /// The log's clock, in milliseconds since 1970. Entries age by it. It does not follow steps of this node's clock.
    fn now_ms(&self) -> u64;
}

/// How much the log, and a node's memory of it, keeps.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// How long messages are kept.
    pub age: Duration,
    /// How many messages are kept.
    pub messages: usize,
    /// How many bytes are kept, by [`Message::weight`].
    pub bytes: usize,
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

/// An event of a log's tail.
#[derive(Clone, Debug)]
pub enum TailEvent {
    /// The log was reached, with this extent. Entries that follow continue the earlier ones, if the extent still holds
    /// them.
    Opened(Extent),
    /// New entries, oldest first. The tail has read everything up to `upto`.
    Entries {
        /// `messages` is everything between this position and `upto`. If it is beyond the
        /// previous `upto`, entries between were dropped from the log before the tail read them.
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

/// The log could not be reached, and nothing was read.
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
    /// The idempotency keys of the publisher take its share of `--key-bytes`. There is room again after this time.
    /// Nothing was appended.
    #[error("your idempotency keys take their share of --key-bytes: each is remembered for five minutes")]
    NoRoomForKeys(Duration),
    /// The drafts have more keys than any publisher may ever have. Nothing was appended.
    #[error("the messages have more idempotency keys than --key-bytes allows one publisher: send fewer at a time")]
    TooManyKeys,
}
