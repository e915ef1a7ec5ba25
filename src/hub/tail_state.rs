//! The log's tail, and the messages that were read from it and not delivered yet.

use super::undelivered::Undelivered;
use crate::log::TailEvent;
use std::pin::Pin;
use std::task::Waker;
use tokio_stream::Stream;

/// The log's tail, and the messages that it has returned.
pub(super) struct Tail {
    pub(super) events: Pin<Box<dyn Stream<Item = TailEvent> + Send>>,
    /// The waker of the task that follows the log. It is woken for the next event, whichever task polls the tail.
    pub(super) waker: Waker,
    pub(super) undelivered: Undelivered,
    pub(super) is_over: bool,
}

impl Tail {
    /// Whether several messages are undelivered, and the first and the last of them are in the same channel.
    pub(super) fn is_gathering(&self) -> bool {
        matches!(&*self.undelivered.messages, [(first, _), .., (last, _)] if first == last)
    }
}
