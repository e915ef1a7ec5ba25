//! Parses the command line and the environment. The errors are clap's own, with two changes. They do not repeat
//! secrets. If a value comes from an environment variable, they name the variable instead of the flag.

use super::{Cli, Origins};
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};
use clap::{Arg, Command, CommandFactory, FromArgMatches};
use std::env;
use std::ffi::OsString;

/// The text that an error shows instead of a secret.
const HIDDEN: &str = "(not shown)";

impl Cli {
    /// Parses the environment and the arguments. The first argument is the program's name.
    ///
    /// # Errors
    ///
    /// The text that clap prints: an error, or the text of `--help` or `--version`.
    pub fn parse_with_origins(args: impl IntoIterator<Item = OsString>) -> Result<(Cli, Origins), Error> {
        let args: Vec<OsString> = args.into_iter().collect();
        let mut command = Cli::command();
        // This call also builds all commands. By default, clap builds only the command that the user calls, but an
        // error may name a flag of another command.
        command.build();
        let parsed = command.try_get_matches_from_mut(&args).and_then(|matches| {
            let origins = Origins::new(&command, &matches);
            Ok((Cli::from_arg_matches(&matches)?, origins))
        });
        parsed.map_err(|error| corrected(error, &command, &args))
    }
}

fn text(error: &Error, kind: ContextKind) -> Option<String> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    }
}

fn corrected(mut error: Error, command: &Command, args: &[OsString]) -> Error {
    if let Some(tip) = other_programs(&error, args) {
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
        return error;
    }
    let Some(shown) = text(&error, ContextKind::InvalidArg) else { return error };
    if find(command, &shown).is_some_and(Arg::is_hide_env_values_set)
        && text(&error, ContextKind::InvalidValue).is_some_and(|value| !value.is_empty())
    {
        error.insert(ContextKind::InvalidValue, ContextValue::String(HIDDEN.to_owned()));
    }
    for kind in [ContextKind::InvalidArg, ContextKind::PriorArg] {
        if let Some(variable) = text(&error, kind).and_then(|shown| set_by(find(command, &shown)?, args)) {
            error.insert(kind, ContextValue::String(variable));
        }
    }
    error
}

/// Finds the argument that clap prints as this text. It may belong to a command.
fn find<'a>(command: &'a Command, shown: &str) -> Option<&'a Arg> {
    let commands = std::iter::once(command).chain(command.get_subcommands());
    commands.flat_map(Command::get_arguments).find(|arg| arg.to_string() == shown)
}

/// Returns the variable that has set an argument; `None` if the argument is on the command line.
fn set_by(arg: &Arg, args: &[OsString]) -> Option<String> {
    let flag = format!("--{}", arg.get_long()?);
    let is_flag = |arg: &str| arg.strip_prefix(&flag).is_some_and(|rest| rest.is_empty() || rest.starts_with('='));
    if args.iter().take_while(|arg| *arg != "--").any(|arg| is_flag(&arg.to_string_lossy())) {
        return None;
    }
    let variable = arg.get_env()?;
    env::var_os(variable).map(|_| variable.to_string_lossy().into_owned())
}

/// Returns advice for an argument that other servers accept, such as a port or a command that starts them.
fn other_programs(error: &Error, args: &[OsString]) -> Option<&'static str> {
    let is_called = |command: &str| args.iter().skip(1).any(|arg| arg == command);
    match error.kind() {
        ErrorKind::UnknownArgument => {
            let name = text(error, ContextKind::InvalidArg)?;
            if !ADDRESS_FLAGS.contains(&name.trim_start_matches('-').split('=').next()?) || !name.starts_with('-') {
                return None;
            }
            Some(if is_called("check") {
                "give the address of the server: longtail check http://127.0.0.1:8080"
            } else if is_called("publish") || is_called("tail") {
                "'--url http://127.0.0.1:8080' gives the address of the server"
            } else {
                "'--listen 127.0.0.1:8080' sets the address and the port"
            })
        }
        ErrorKind::InvalidSubcommand => {
            let name = text(error, ContextKind::InvalidSubcommand)?;
            let is_address = name.trim_start_matches(':').starts_with(|c: char| c.is_ascii_digit());
            if SERVE_COMMANDS.contains(&name.as_str()) {
                Some("longtail serves without a command: longtail --listen 127.0.0.1:8080")
            } else if is_address {
                Some("'--listen 127.0.0.1:8080' sets the address and the port")
            } else {
                None
            }
        }
        _ => None,
    }
}

/// Flags with which other servers set their address.
const ADDRESS_FLAGS: [&str; 12] =
    ["p", "P", "l", "port", "http-port", "http", "host", "bind", "bind-address", "addr", "address", "interface"];

/// Commands with which other servers start.
const SERVE_COMMANDS: [&str; 7] = ["serve", "server", "start", "run", "listen", "daemon", "up"];
