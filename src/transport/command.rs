//! Commands of duplex clients, independent of a protocol. A [`Dialect`] parses them, and the session carries them out.

use super::{ApiError, ClientAck, ClientEvent, Envelope, WantedSession};
use crate::cursor::Start;
use crate::message::{Channel, ClientId, Draft};
use std::borrow::Cow;
use std::sync::Arc;

/// A command, parsed and checked as far as possible without the state of the session.
#[derive(Debug, PartialEq)]
pub enum Command {
    /// Read more channels.
    Subscribe(Subscribe),
    /// Stop reading these channels.
    Unsubscribe(Vec<Channel>),
    /// Publish a message.
    Publish(Draft),
    /// Publish a message that the client itself does not get.
    Broadcast(Draft),
    /// Send a message to the client alone. The message does not get into the log.
    Echo(Draft),
    /// Begin: the client has connected before, and says only now what it is.
    Connect,
    /// End the connection. All commands before it are answered first.
    Disconnect,
    /// Do nothing: the server's flags say that nobody gets what the client sends.
    Ignored,
    /// Pass an event on to the application.
    Event(ClientEvent),
    /// Pass an answer to an event of the application on to it.
    Ack(ClientAck),
    /// Answer with a pong.
    Ping,
}

/// The fields of a `subscribe`.
#[derive(Debug, PartialEq)]
pub struct Subscribe {
    /// The channels, each once, in the order in which they were named.
    pub channels: Vec<Channel>,
    /// The start position, if it was given.
    pub start: Option<Start>,
    /// The number of retained messages to begin with, if it was given.
    pub last: Option<usize>,
    /// The client's id, if it was named.
    pub client: Option<ClientId>,
    /// Whether to send entries about members that join or leave, if that was given.
    pub presence: Option<bool>,
    /// The session that the client wants, if it wants one.
    pub session: Option<WantedSession>,
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
    /// [`Command::Event`].
    Event,
    /// [`Command::Ack`].
    Ack,
    /// [`Command::Ping`].
    Ping,
}

/// The part that all commands have. It is parsed first, so that a command over the rate limit does not cost any more
/// work.
#[derive(Debug, PartialEq)]
pub struct CommandHead<'a> {
    /// The client's name for the command. The answer repeats it. The session keeps it until the command is answered, so
    /// a dialect bounds its length.
    pub reference: Option<String>,
    /// The token of the command. It replaces the client's credentials.
    pub token: Option<Cow<'a, str>>,
    /// The kind of the command; `None` if the dialect does not have such a command.
    pub kind: Option<CommandKind>,
    /// The text that [`Dialect::command`] reads.
    pub text: &'a str,
}

/// The command syntax of a protocol. Each connection has its own dialect, so a dialect may keep state.
///
/// If a frame has several commands, the transport's [`Decode`](super::Decode) splits it.
pub trait Dialect: Send {
    /// Whether the protocol ends a connection after any error.
    fn ends_on_error(&self) -> bool {
        false
    }

    /// The envelope for the messages from now on, if the last command has changed how they look.
    fn envelope(&mut self) -> Option<Arc<dyn Envelope>> {
        None
    }

    /// Parses the part that all commands have.
    ///
    /// # Errors
    ///
    /// The frame is not a command. The error is sent without a reference, and does not count against the rate limit.
    fn head<'a>(&mut self, frame: &'a [u8]) -> Result<CommandHead<'a>, ApiError>;

    /// Parses the rest of a command. `max_payload` is the longest payload, in bytes.
    ///
    /// # Errors
    ///
    /// The command is unknown, or a field is not valid. The error is sent with the reference of the head.
    fn command(&mut self, head: &CommandHead<'_>, max_payload: usize) -> Result<Command, ApiError>;
}

impl Dialect for Box<dyn Dialect> {
    fn ends_on_error(&self) -> bool {
        (**self).ends_on_error()
    }

    fn envelope(&mut self) -> Option<Arc<dyn Envelope>> {
        (**self).envelope()
    }

    fn head<'a>(&mut self, frame: &'a [u8]) -> Result<CommandHead<'a>, ApiError> {
        (**self).head(frame)
    }

    fn command(&mut self, head: &CommandHead<'_>, max_payload: usize) -> Result<Command, ApiError> {
        (**self).command(head, max_payload)
    }
}

/// The dialect of a transport whose protocol parses commands itself. No value of this type exists.
pub enum NoCommands {}

impl Dialect for NoCommands {
    fn head<'a>(&mut self, _: &'a [u8]) -> Result<CommandHead<'a>, ApiError> {
        match *self {}
    }

    fn command(&mut self, _: &CommandHead<'_>, _: usize) -> Result<Command, ApiError> {
        match *self {}
    }
}
