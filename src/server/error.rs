//! Why a server does not start, and why it ends before it is told to.

use crate::config::BadConfig;
use std::io;

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot be served.
    #[error(transparent)]
    BadConfig(#[from] BadConfig),
    /// An address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] io::Error),
    /// The log cannot be reached, and nobody said to wait for it. The text says the mend, in one line.
    #[error("{0}")]
    LogUnreachable(String),
    /// The server itself needs as many descriptors as there may be.
    #[error(
        "the limit of {limit} file descriptors leaves none for clients, since the server needs {own} itself: raise it \
         (LimitNOFILE= in the unit, `ulimit -n` in a shell)"
    )]
    Descriptors {
        /// How many there may be.
        limit: u64,
        /// How many the server needs.
        own: u64,
    },
}

impl StartError {
    /// The process's exit code, after sysexits.h.
    pub fn exit_code(&self) -> u8 {
        match self {
            StartError::BadConfig(_) => 64,
            StartError::LogUnreachable(_) => 69,
            StartError::Listen(_) | StartError::Descriptors { .. } => 71,
        }
    }
}

/// Why a server has ended before it was told to. Whoever runs it should start another.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Nothing is heard of any client any more.
    #[error("socket reactor failed; no client I/O is possible: {0}")]
    Reactor(String),
    /// The system cannot watch a listener.
    #[error("cannot accept connections: {0}")]
    Accept(#[from] io::Error),
}

impl RunError {
    /// The process's exit code, after sysexits.h.
    pub fn exit_code(&self) -> u8 {
        match self {
            RunError::Reactor(_) => 70,
            RunError::Accept(_) => 71,
        }
    }
}
