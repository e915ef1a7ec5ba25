//! A session: a response that continues after its head.

use super::duplex::DuplexSession;
use super::long_poll::LongPoll;
use super::stream::StreamSession;
use crate::serve::http::access_log::Entry;

/// A session, which a handler returns as the body of its response. The connection writes the head and then runs the
/// session.
pub enum Session {
    /// A stream of messages.
    Stream(Box<StreamSession>),
    /// A long poll that has not found a message yet. The session also writes the head of the response.
    LongPoll(Box<LongPoll>),
    /// A WebSocket or raw TCP connection, with messages in one direction and commands in the other.
    Duplex(Box<DuplexSession>),
}

impl Session {
    /// Gives the session its entry of the access log. The entry is written when the session ends.
    pub fn log(&mut self, entry: Entry) {
        match self {
            Session::Stream(stream) => stream.pump.log(entry),
            Session::LongPoll(poll) => poll.log(entry),
            Session::Duplex(duplex) => duplex.pump.log(entry),
        }
    }
}
