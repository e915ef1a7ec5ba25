//! Errors at the start of a server, and of a running server.

use crate::config::BadConfig;
use std::fmt::Display;
use std::io;

/// The server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is invalid.
    #[error(transparent)]
    BadConfig(#[from] BadConfig),
    /// An address cannot be bound.
    #[error(transparent)]
    Listen(#[from] io::Error),
    /// The log is unreachable, and `--wait-for-log` is not set. The text is one line that explains how to fix the
    /// cause.
    #[error("{0}")]
    LogUnreachable(String),
    /// The server itself needs all file descriptors within the limit.
    #[error(
        "the limit of {limit} file descriptors leaves none for clients: the server itself needs {own}; raise it \
         (LimitNOFILE= in the unit, `ulimit -n` in a shell)"
    )]
    Descriptors {
        /// The limit.
        limit: u64,
        /// The number of descriptors that the server needs.
        own: u64,
    },
}

impl StartError {
    /// The exit code of the process, as in sysexits.h.
    pub fn exit_code(&self) -> u8 {
        match self {
            StartError::BadConfig(_) => 64,
            StartError::LogUnreachable(_) => 69,
            StartError::Listen(_) | StartError::Descriptors { .. } => 71,
        }
    }
}

/// The server has ended because of an error. Restart it.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The server can no longer read from clients.
    #[error("socket reactor failed; no client I/O is possible: {0}")]
    Reactor(String),
    /// A task that the server needs has ended, usually by a panic. The other tasks would only seem to serve.
    #[error("{task} has ended: {reason}")]
    Task {
        /// A description of the task.
        task: &'static str,
        /// The panic, or another reason.
        reason: String,
    },
    /// The server cannot accept connections.
    #[error("cannot accept connections: {0}")]
    Accept(#[from] io::Error),
}

impl RunError {
    /// The exit code of the process, as in sysexits.h.
    pub fn exit_code(&self) -> u8 {
        match self {
            RunError::Reactor(_) | RunError::Task { .. } => 70,
            RunError::Accept(_) => 71,
        }
    }
}

/// Returns the error for an invalid value of a flag.
pub fn bad_flag(flag: &str, error: &dyn Display) -> BadConfig {
    BadConfig::new(format!("{flag}: {error}"))
}
