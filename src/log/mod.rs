//! The log: a single ordered sequence of messages, in [`memory`] or in one stream of [`redis`].
//!
//! A [`MessageLog`] can append, read a range and be tailed. No other part of the program stores messages permanently.
//! Both implementations pass the same suite, `tests/log_conformance.rs`.

pub mod bridge;
pub mod clock;
pub mod connections;
mod extent;
pub mod idempotency;
pub mod memory;
pub mod metrics;
pub mod presence;
pub mod publish_payload;
pub mod queued;
pub mod redis;
pub mod sessions;
pub mod subscriber_counts;
pub mod told;

pub use extent::{Ancestor, Descent, Extent, Lineage, Resolved};

use crate::cursor::{Cursor, Id};
use crate::message::{Draft, Message};
use queued::Queued;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio_stream::Stream;

/// A boxed future. With boxed futures the log can be a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The ordered sequence of messages.
///
/// A caller may leave a future of this trait unpolled for any time. Such a future does not hold a lock, or a position
/// in a queue for which other futures wait.
pub trait MessageLog: Send + Sync {
    /// Appends all drafts in their order, or none of them. Returns one cursor for each draft, when the log holds the
    /// drafts. A volatile draft is sent to all tails of the log and is not kept; its cursor is `None`.
    ///
    /// For a draft whose idempotency key was seen within the last five minutes, the cursor is that of the first draft
    /// with the key.
    ///
    /// `queued` is set when the drafts are queued or wait in line for the queue. A call that begins later is later in
    /// the log. Usually it is set at the first poll, even if the polling task has used up tokio's budget. But if some
    /// node of the log cannot read the drafts yet, they wait outside the queue, and other calls overtake them.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped after its first poll, the drafts may or may not be appended.
    fn append_in_order(
        &self,
        drafts: Vec<Draft>,
        queued: Queued,
    ) -> BoxFuture<'_, Result<Vec<Option<Cursor>>, AppendError>>;

    /// Appends drafts for a caller that does not need an order.
    fn append(&self, drafts: Vec<Draft>) -> BoxFuture<'_, Result<Vec<Option<Cursor>>, AppendError>> {
        self.append_in_order(drafts, Queued::default())
    }

    /// Reads at most `limit` entries after a position. Cancel safe.
    ///
    /// If [`Extent::resolve`] returns a gap for the position, the page has no messages, unless reading continues at
    /// that same position. The page's extent determines where reading continues.
    fn read(&self, after: Cursor, limit: usize) -> BoxFuture<'_, Result<Page, Unreachable>>;

    /// Returns a stream of all entries from the oldest retained one on, and then of all new entries. The stream does
    /// not end. While the log cannot be reached, the stream reports this. It continues when the log can be reached
    /// again.
    fn tail(self: Arc<Self>) -> Pin<Box<dyn Stream<Item = TailEvent> + Send>>;

    /// The log's clock, in milliseconds since 1970. The age of entries is measured by this clock. It does not follow
    /// steps of this node's clock.
    fn now_ms(&self) -> u64;
}

/// The bounds within which the log, and a node's memory of it, keep messages.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// The time for which messages are kept.
    pub age: Duration,
    /// The maximum number of messages that are kept.
    pub messages: usize,
    /// The maximum number of bytes of messages that are kept, measured by [`Message::weight`].
    pub bytes: usize,
    /// How many control entries are kept besides the messages, in percent of both numbers. They never take the place
    /// of messages.
    pub control: u8,
}

impl Retention {
    /// The bounds for control entries.
    pub fn of_control(&self) -> Retention {
        let part = |whole: usize| {
            (whole / 100).saturating_mul(self.control.into()) + whole % 100 * usize::from(self.control) / 100
        };
        // The last change of a session is kept however small the share is.
        Retention { messages: part(self.messages).max(16), bytes: part(self.bytes).max(16 << 10), ..*self }
    }
}

/// A range of the log.
#[derive(Clone, Debug)]
pub struct Page {
    /// The extent of the log when the page was read.
    pub extent: Extent,
    /// The entries, oldest first.
    pub messages: Vec<Arc<Message>>,
    /// The position up to which the page reaches. All messages after the requested position and up to this one are in
    /// `messages`; other entries were skipped.
    pub upto: Id,
}

/// An event of a log's tail.
#[derive(Clone, Debug)]
pub enum TailEvent {
    /// The log was reached, and has this extent. Later entries continue the earlier ones, if the extent still includes
    /// those.
    Opened(Extent),
    /// New entries, oldest first. The tail has read all entries up to `upto`.
    Entries {
        /// `messages` has all messages between this position and `upto`. If this position lies beyond the previous
        /// `upto`, the entries between them were dropped from the log before the tail read them.
        after: Id,
        /// The entries that are messages.
        messages: Vec<Arc<Message>>,
        /// The last id read, which may belong to a skipped entry.
        upto: Id,
    },
    /// The tail has reached the end that the log had at the last `Opened`.
    CaughtUp,
    /// A volatile message.
    Volatile(Arc<Message>),
    /// The log cannot be reached at the moment.
    Lost,
}

/// The log could not be reached, and nothing was read.
#[derive(Debug, thiserror::Error)]
#[error("the log cannot be reached")]
pub struct Unreachable;

/// The reason why an append was not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// It is proven that the drafts are not in the log and never will be. Every publisher gets the text, so it is
    /// fixed: the text of another server could contain addresses and names of users.
    #[error("the log is unavailable ({0}); nothing was appended")]
    Unavailable(&'static str),
    /// The drafts were written to the log's connection, but no answer came in time.
    #[error("the log gave no answer in time; the message may or may not have been appended")]
    OutcomeUnknown,
    /// The idempotency keys of the publisher use up its share of `--key-bytes`. There will be room again after this
    /// time. Nothing was appended.
    #[error(
        "your idempotency keys have used up their share of --key-bytes: the server remembers each key for five minutes"
    )]
    NoRoomForKeys(Duration),
    /// The drafts have more keys than any publisher may ever have. Nothing was appended.
    #[error("the messages have more idempotency keys than --key-bytes allows one publisher: send fewer at a time")]
    TooManyKeys,
}
