//! The source of transitions: a channel gets its first reader or loses its last one, and users join and leave a channel,
//! over all nodes. One node tells them: the sender. Each consumer gets each transition at least once, and the
//! transitions of a channel in their order.
//!
//! - [`sender`] is the task: it holds the lease, and gathers, tells and records.
//! - [`told`] is what the consumers know, as texts. The record in the store has the same texts.
//! - [`backlog`] has the transitions that were not told yet.
//! - [`occupancy`] finds the channels that have got readers or lost them.
//! - [`members`] follows the log for users that join or leave.
//! - [`gathering`] adds what they find to the backlog.

mod backlog;
mod gathering;
mod members;
pub mod metrics;
pub mod occupancy;
pub mod sender;
mod told;

use crate::cursor::Cursor;
use crate::message::Channel;
use futures_util::future::BoxFuture;
use ring::digest;
use std::fmt::Write as _;

/// The type of a transition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransitionKind {
    /// The channel has got its first reader.
    Occupied,
    /// The channel has lost its last reader.
    Vacated,
    /// A user is a member of the channel from now on.
    MemberAdded,
    /// A user is not a member of the channel any more.
    MemberRemoved,
}

/// A transition of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Its type.
    pub kind: TransitionKind,
    /// The channel.
    pub channel: Channel,
    /// The member as JSON, with its info.
    pub user: Option<String>,
    /// The position in the log: that of the entry, or where the node was when it noticed the transition.
    pub cursor: Cursor,
    /// The id. The same transition has the same id when it is told again.
    pub id: String,
}

/// A part of the server that is told transitions.
pub trait TransitionConsumer: Send + Sync {
    /// Whether it is told transitions of this type.
    fn takes(&self, kind: TransitionKind) -> bool;

    /// Tells it a transition. Returns false if it has to be told again.
    fn tell<'a>(&'a self, transition: &'a Transition) -> BoxFuture<'a, bool>;
}

/// An id made of texts: the beginning of a hash, as hexadecimal digits.
fn id_of(parts: &[&str]) -> String {
    let mut all = String::new();
    for part in parts {
        // The length in front distinguishes lists whose parts would join to the same text.
        let _ = write!(all, "{}:{part}", part.len());
    }
    let hash = digest::digest(&digest::SHA256, all.as_bytes());
    let mut id = String::with_capacity(32);
    for byte in &hash.as_ref()[..16] {
        let _ = write!(id, "{byte:02x}");
    }
    id
}

impl TransitionKind {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            TransitionKind::Occupied => "occupied",
            TransitionKind::Vacated => "vacated",
            TransitionKind::MemberAdded => "member_added",
            TransitionKind::MemberRemoved => "member_removed",
        }
    }
}
