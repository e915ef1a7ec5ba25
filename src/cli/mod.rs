//! Clients for the command line: `longtail check`, `longtail publish`, `longtail tail`. They know the wire protocol and
//! nothing of the server's inside.

mod check;
mod client;
mod publish;
mod tail;

use clap::Subcommand;
use client::Reason;
use std::io;
use std::process::ExitCode;

/// The commands.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Tries every transport of a running server, from here
    Check(check::Check),
    /// Publishes a message
    Publish(publish::Publish),
    /// Prints messages as they come
    Tail(tail::Tail),
}

/// A command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The arguments are invalid.
    #[error("{0}")]
    Usage(String),
    /// The server is unreachable.
    #[error("cannot reach {url}: {reason}")]
    Unreachable {
        /// The URL, without credentials.
        url: String,
        /// The error, in the system's words.
        reason: String,
    },
    /// The server, or a proxy in front of it, refused the request.
    #[error("{status} {reason}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The error in the body.
        reason: Reason,
    },
    /// The server refused where there is no status: in a stream, or in the answer to a command.
    #[error("{0}")]
    Denied(Reason),
    /// Something arrived that a Longtail server does not send.
    #[error("{0}")]
    Unexpected(String),
    /// Standard input or output failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Failure {
    /// The exit code, after sysexits.h: 64 usage, 69 unreachable; 1 for the others.
    fn exit_code(&self) -> u8 {
        match self {
            Failure::Usage(_) => 64,
            Failure::Unreachable { .. } => 69,
            _ => 1,
        }
    }
}

/// Runs a command. `rename` replaces flags in an error's text by the variables that have set them.
pub async fn run(command: Command, rename: impl Fn(&str) -> String) -> ExitCode {
    let (name, done) = match command {
        Command::Check(check) => ("check", check.run().await),
        Command::Publish(publish) => ("publish", publish.run().await),
        Command::Tail(tail) => ("tail", tail.run().await),
    };
    match done {
        Ok(code) => code,
        // The reader of the output has ended, as in `longtail tail a | head`.
        Err(Failure::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("longtail {name}: {}", rename(&failure.to_string()));
            ExitCode::from(failure.exit_code())
        }
    }
}
