//! Commands of duplex clients, in the terms of no protocol. A [`Dialect`] reads them; the session carries them out.

use super::ApiError;
use crate::cursor::Start;
use crate::message::{Channel, ClientId, Draft};
use std::borrow::Cow;

/// A command, read and checked as far as its text alone can tell.
#[derive(Debug, PartialEq)]
pub enum Command {
    /// Read more channels.
    Subscribe(Subscribe),
    /// Read these channels no longer.
    Unsubscribe(Vec<Channel>),
    /// Publish a message.
    Publish(Draft),
    /// Answer with a pong.
    Ping,
}

/// What a `subscribe` asks for.
#[derive(Debug, PartialEq)]
pub struct Subscribe {
    /// The channels, each once, in the order in which they were named.
    pub channels: Vec<Channel>,
    /// Where to begin, if that was given.
    pub start: Option<Start>,
    /// How many retained messages to begin with, if that was given.
    pub last: Option<usize>,
    /// The client's id, if it was named.
    pub client: Option<ClientId>,
}

/// The kinds of commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandKind {
    /// [`Command::Subscribe`].
    Subscribe,
    /// [`Command::Unsubscribe`].
    Unsubscribe,
    /// [`Command::Publish`].
    Publish,
    /// [`Command::Ping`].
    Ping,
}

/// What all commands have. It is read first: a client over its rate limit costs no more than this.
#[derive(Debug, PartialEq)]
pub struct CommandHead<'a> {
    /// The client's name for the command, as the answer repeats it. It is held until the command is answered, so a dialect
    /// bounds its length.
    pub reference: Option<String>,
    /// The token of the command. It replaces the client's credentials.
    pub token: Option<Cow<'a, str>>,
    /// What is asked for; `None` if the dialect has no such command.
    pub kind: Option<CommandKind>,
    /// The text that [`Dialect::command`] reads.
    pub text: &'a str,
}

/// How a protocol writes commands. A connection has a dialect of its own, which may keep state.
///
/// A frame that brings several commands is split by the transport's [`Decode`](super::Decode).
pub trait Dialect: Send {
    /// Reads what all commands have.
    ///
    /// # Errors
    ///
    /// The frame is not a command. The error is sent without a reference, and does not count for the rate limit.
    fn head<'a>(&mut self, frame: &'a [u8]) -> Result<CommandHead<'a>, ApiError>;

    /// Reads the rest of a command. `max_payload` is the longest payload, in bytes.
    ///
    /// # Errors
    ///
    /// The command is unknown, or a field is not valid. The error is sent with the reference of the head.
    fn command(&mut self, head: &CommandHead<'_>, max_payload: usize) -> Result<Command, ApiError>;
}
