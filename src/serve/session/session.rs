//! A session: a response that continues after its head.

use super::duplex::DuplexSession;
use super::long_poll::LongPoll;
use super::stream::StreamSession;
use crate::serve::http::access_log::Entry;
use crate::serve::http::peer::Peer;
use crate::serve::net::stream::ClientStream;
use crate::serve::state::ServerState;
use std::sync::Arc;

/// A session, which a handler returns as the body of its response. The connection writes the head and then runs the
/// session.
pub enum Session {
    /// A stream of messages.
    Stream(Box<StreamSession>),
    /// A long poll that has not found a message yet. The session also writes the head of the response.
    LongPoll(Box<LongPoll>),
    /// A WebSocket or raw TCP connection, with messages in one direction and commands in the other.
    Duplex(Box<DuplexSession>),
    /// A WebSocket whose protocol has its own rules for messages and commands.
    Protocol(Box<dyn ProtocolSession>),
}

/// A session of a protocol that has its own rules for what a connection carries.
pub trait ProtocolSession: Send {
    /// Gives the session its entry of the access log. The entry is written when the session ends.
    fn log(&mut self, entry: Entry);

    /// Runs the session in a separate task. The head of its response is already written.
    fn spawn(self: Box<Self>, state: Arc<ServerState>, io: ClientStream, peer: Peer);
}

impl Session {
    /// Gives the session its entry of the access log. The entry is written when the session ends.
    pub fn log(&mut self, entry: Entry) {
        match self {
            Session::Stream(stream) => stream.pump.log(entry),
            Session::LongPoll(poll) => poll.log(entry),
            Session::Duplex(duplex) => duplex.pump.log(entry),
            Session::Protocol(session) => session.log(entry),
        }
    }
}
