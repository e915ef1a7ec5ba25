//! Clients for the command line: `longtail check`, `publish`, `tail` and `healthcheck`. They depend only on the wire
//! protocol, and not on internal parts of the server.

mod check;
mod client;
mod failure;
mod healthcheck;
mod hook_probe;
mod probe;
mod publish;
mod tail;

pub use healthcheck::HealthQuestion;

use clap::Subcommand;
use failure::Failure;
use std::io::{self, Write};
use std::process::ExitCode;

/// The commands.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Tries every transport of a running server, from this machine
    Check(check::Check),
    /// Publishes a message
    Publish(Box<publish::Publish>),
    /// Prints messages as they arrive
    Tail(tail::Tail),
}

/// Runs a command. `rename` replaces each flag in an error's text with the environment variable that set the flag.
pub async fn run(command: Command, rename: impl Fn(&str) -> String) -> ExitCode {
    let (name, done) = match command {
        Command::Check(check) => ("check", check.run().await),
        Command::Publish(publish) => ("publish", publish.run().await),
        Command::Tail(tail) => ("tail", tail.run().await),
    };
    match done {
        Ok(code) => code,
        // The program that reads the output has ended, as in `longtail tail a | head`.
        Err(Failure::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            // If no program reads the error, only the exit code reports it.
            let _ = writeln!(io::stderr(), "longtail {name}: {}", rename(&failure.to_string()));
            ExitCode::from(failure.exit_code())
        }
    }
}
