//! The records of client sessions, beside the log: where a request on any node finds what a session was at its last
//! bookmark. What has changed since then is in the log.
//!
//! A record has a deadline, which each request of its session moves on. For a session with an open stream, its node
//! moves it. A record whose deadline has passed is removed by the next renewal of any node, and only this renewal
//! returns it: so one node tells the application that the session has ended.
//!
//! Times are measured by the presence clock (see [`presence`](super::presence)): while the store is away, no deadline
//! passes.

mod memory;

pub use memory::MemorySessions;

use super::{BoxFuture, Unreachable};
use crate::cursor::Cursor;
use crate::message::Channel;
use sha1::{Digest as _, Sha1};
use std::sync::Arc;
use std::time::Duration;

/// How many sessions one renewal ends at most. If more have missed their time, the next renewal follows at once.
pub const SWEEP: usize = 500;

/// What the store knows about a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSession {
    /// The state of the session at its bookmark, as a text that only sessions understand.
    pub bookmark: Arc<str>,
    /// The position up to which the changes of the session are in the bookmark. It may be later than the position in
    /// the text: then there were no changes between them.
    pub cursor: Cursor,
}

/// What a node tells the store about a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionWrite {
    /// The session's id.
    pub id: Arc<str>,
    /// The new bookmark, and the channels by which the session is found; `None` if they are as before.
    pub bookmark: Option<(Arc<str>, Vec<Channel>)>,
    /// The position of the bookmark. A write with an earlier position than the known one moves only the deadline.
    pub cursor: Cursor,
    /// The [digest] of the bookmark that the node knows. If the store has another one, only the deadline moves: a stream
    /// at another node may read other channels, and this position may be after changes that it has not read. `None`:
    /// whatever the store has.
    pub base: Option<u64>,
    /// The time after which the session ends if nothing more is heard of it.
    pub ends_in: Duration,
}

/// The answer to a renewal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionsRenewed {
    /// The sessions that this renewal has ended, because their deadlines had passed.
    pub ended: Vec<(Arc<str>, StoredSession)>,
    /// Whether more sessions have missed their deadlines.
    pub has_more: bool,
    /// The sessions of this call that the store does not know.
    pub unknown: Vec<Arc<str>>,
    /// The sessions of this call whose bookmark or position was not taken, with what the store has: a bookmark that the
    /// node does not know, or a later position.
    pub differing: Vec<(Arc<str>, StoredSession)>,
}

/// A session in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedSession {
    /// Its place in the order of the list. It does not tell the id.
    pub place: String,
    /// The session.
    pub session: StoredSession,
}

/// The records of all sessions of a log. Each method is one step.
pub trait SessionStore: Send + Sync {
    /// Adds a session, unless there are `most` of them already. Returns whether it was added.
    fn create<'a>(&'a self, session: &'a SessionWrite, most: usize) -> BoxFuture<'a, Result<bool, Unreachable>>;

    /// Finds a session whose deadline has not passed, and gives it a new deadline, unless the known one is later.
    fn begin<'a>(&'a self, id: &'a str, ends_in: Duration)
    -> BoxFuture<'a, Result<Option<StoredSession>, Unreachable>>;

    /// Writes bookmarks and deadlines of known sessions, and ends up to `sweep` sessions whose deadlines have passed.
    fn renew<'a>(
        &'a self,
        sessions: &'a [SessionWrite],
        sweep: usize,
    ) -> BoxFuture<'a, Result<SessionsRenewed, Unreachable>>;

    /// Ends a session. Returns it if this call has ended it.
    fn end<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<StoredSession>, Unreachable>>;

    /// Lists the sessions that read a channel, after a place in the order of the list.
    fn list<'a>(
        &'a self,
        channel: &'a Channel,
        after: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<ListedSession>, Unreachable>>;

    /// How many sessions there are.
    fn count(&self) -> BoxFuture<'_, Result<usize, Unreachable>>;
}

/// The digest of a bookmark: the first bytes of its SHA-1, which a script in Redis can compute, too.
pub fn digest(bookmark: &str) -> u64 {
    let bytes: [u8; 20] = Sha1::digest(bookmark.as_bytes()).into();
    bytes[..8].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// The place of a session in a list: a hash of its id, so that it does not tell the id.
pub(in crate::log) fn place(id: &str) -> String {
    Sha1::digest(id.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
