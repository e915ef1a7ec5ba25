//! The commands of a duplex connection: those of the native protocol, or those of another protocol.

use super::commands::CommandHandler;
use super::pump::Pump;
use crate::serve::state::ServerState;
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// Carries out the commands of one connection of another protocol. It answers through the pump.
pub trait ProtocolCommands: Send {
    /// Carries out one command. The connection reads its next command after that.
    fn handle<'a>(&'a mut self, state: &'a Arc<ServerState>, pump: &'a mut Pump, frame: &'a [u8]) -> BoxFuture<'a, ()>;
}

/// The part of a duplex session that carries out commands.
pub enum Commands {
    /// The native protocol. The transport's dialect parses its commands.
    Native(CommandHandler),
    /// Another protocol, which parses its commands itself.
    Protocol(Box<dyn ProtocolCommands>),
    /// The connection was refused: it gets its last frames, and its commands are not read.
    Refused,
}

impl Commands {
    /// The memory that the credentials take until the connection ends.
    pub fn held(&self) -> usize {
        match self {
            Commands::Native(commands) => commands.held(),
            Commands::Protocol(_) | Commands::Refused => 0,
        }
    }
}

impl From<CommandHandler> for Commands {
    fn from(commands: CommandHandler) -> Commands {
        Commands::Native(commands)
    }
}
