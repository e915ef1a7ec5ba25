//! The state of a reader whose position is not in the node's memory.

use crate::cursor::{Epoch, Id};
use crate::log::Page;
use std::future::Future;
use std::pin::Pin;

/// The state of a reader whose position is not in the node's memory.
pub(super) struct OutsideMemory {
    pub(super) request: LogRequest,
    /// The reader got a gap for entries that are missing up to this position, and continues with the remaining entries.
    pub(super) told: Id,
    /// Whether the reader has not named a position and has not read yet. Such a reader does not miss dropped entries.
    pub(super) is_fresh: bool,
}

/// The state of the question to the log about a reader's position.
pub(super) enum LogRequest {
    /// The reader has to ask the log.
    NotAsked,
    /// The log was asked, but its answer is still under way.
    UnderWay(PageFuture),
    /// The log has confirmed that the position is ahead of this node, but not ahead of the log. The epoch is the node's
    /// epoch at that time.
    Ahead(Option<Epoch>),
}

/// The answer of the log, which the reader waits for.
pub(super) type PageFuture = Pin<Box<dyn Future<Output = Page> + Send>>;
