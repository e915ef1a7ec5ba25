//! The reserved channels of control entries: which sessions read an entry.
//!
//! An entry for one session is on that session's own channel. An entry for all sessions of a client, a user or a channel
//! is on one of 256 shared channels, and names its addressee. Each session reads its own channel and the shared channels
//! of its client, its user and its channels. So such an entry is written once, however many sessions it is for, and has
//! one place in the log for all of them.

use super::id::SessionId;
use crate::message::Channel;
use ring::digest;
use serde::{Deserialize, Serialize};

/// The sessions that an entry is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Addressee {
    /// All sessions of a client id.
    Client(String),
    /// All sessions of a user.
    User(String),
    /// All sessions that read a channel.
    Channel(String),
}

impl Addressee {
    /// The channel of entries for these sessions.
    pub fn channel(&self) -> Option<Channel> {
        let (kind, name) = match self {
            Addressee::Client(name) => ('c', name),
            Addressee::User(name) => ('u', name),
            Addressee::Channel(name) => ('r', name),
        };
        // Every version and every node has to find the same channel.
        let hash = digest::digest(&digest::SHA256, format!("{kind}{name}").as_bytes());
        Channel::reserved(&format!("~b/{:02x}", hash.as_ref()[0])).ok()
    }
}

/// The channel of entries for one session.
pub fn own_channel(id: &SessionId) -> Option<Channel> {
    Channel::reserved(&format!("~s/{}", id.secret())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_channel_of_an_addressee_never_changes() {
        for (addressee, channel) in [
            (Addressee::Client("me".into()), "~b/2e"),
            (Addressee::User("me".into()), "~b/34"),
            (Addressee::Channel("me".into()), "~b/a6"),
        ] {
            assert_eq!(addressee.channel().expect("a channel").as_str(), channel, "{addressee:?}");
        }
        let long = Addressee::Channel("x".repeat(700));
        assert!(long.channel().is_some_and(|channel| channel.is_reserved()));
    }
}
