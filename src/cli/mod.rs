//! Daily work from the command line: `longtail check`, `longtail publish`, `longtail tail`.
//!
//! These are clients: they know the wire and nothing of the server's inside.

mod check;
mod client;
mod publish;
mod tail;

use clap::Subcommand;
use client::Reason;
use std::io;
use std::process::ExitCode;

/// What a client of a running server does.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Tries every transport of a running server, from here
    Check(check::Check),
    /// Publishes a message
    Publish(publish::Publish),
    /// Prints messages as they come
    Tail(tail::Tail),
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The arguments say nothing that can be done.
    #[error("{0}")]
    Usage(String),
    /// The server was not reached.
    #[error("cannot reach {url}: {reason}")]
    Unreachable {
        /// What was asked for, without credentials.
        url: String,
        /// What went wrong, in the system's words.
        reason: String,
    },
    /// The server, or something in front of it, said no.
    #[error("{status} {said}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Its error, or what else was said.
        said: Reason,
    },
    /// The server said no where there is no status: in a stream, or to a command.
    #[error("{0}")]
    Denied(Reason),
    /// Something came that is none of ours.
    #[error("{0}")]
    Unsound(String),
    /// Standard input or output.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Failure {
    /// After sysexits.h: 64 usage, 69 unreachable; 1 for all else.
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
        // Whoever read what we print has gone: `longtail tail a | head`.
        Err(Failure::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("longtail {name}: {}", rename(&failure.to_string()));
            ExitCode::from(failure.exit_code())
        }
    }
}
