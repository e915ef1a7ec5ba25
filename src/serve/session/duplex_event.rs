//! What happens on a duplex connection, and what may end one that does not read a channel.

use super::pending::CommandAnswer;
use crate::hub::Remainder;
use crate::serve::state::ServerState;
use bytes::Bytes;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use tokio::time::{Instant, Sleep};

/// The events that may end a connection without a channel. The hub finds readers by their channels, so it does not wake
/// such a connection.
pub struct Unsubscribed {
    /// The beginning of the drain.
    pub draining: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// The time for a command, on a raw TCP connection that has never subscribed.
    pub silence: Pin<Box<Sleep>>,
}

impl Unsubscribed {
    /// The events from now on.
    pub fn new(state: &Arc<ServerState>) -> Unsubscribed {
        let drain = state.drain.clone();
        let draining = Box::pin(async move { drain.begun().await });
        Unsubscribed { draining, silence: Box::pin(tokio::time::sleep(state.settings.request_timeout)) }
    }

    /// Restarts the time limit for the client's next command.
    pub fn restart(&mut self, state: &ServerState) {
        self.silence.as_mut().reset(Instant::now() + state.settings.request_timeout);
    }
}

/// The way in which a connection ends.
pub enum End {
    /// The client has disconnected, or does not read.
    Gone,
    /// All bytes were sent, but the client may not have read them yet.
    Finished,
}

/// The next event on a connection.
pub enum Event {
    /// The hub has written only a part of a message; this is the rest of it.
    Remainder(Remainder),
    /// Bytes for the client, or that there are no more.
    Write(Option<Bytes>),
    /// The client has sent this many bytes.
    Read(io::Result<usize>),
    /// The server has executed or refused a command.
    Answered(CommandAnswer),
    /// The drain has begun, and the connection does not read a channel.
    Drain,
    /// The client has not sent a command in time.
    Silence,
    /// The time limit for the answers has passed, so the farewell no longer waits.
    Farewell,
}
