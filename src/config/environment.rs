//! Settings from environment variables: finds the flags that these variables set, and variables that are misspelled.

use super::Cli;
use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, CommandFactory};
use std::ffi::OsString;

/// Variables that the project's tests and examples use when they run a server. They do not belong to flags.
const SET_BY_SCRIPTS: [&str; 3] = ["LONGTAIL_BIN", "LONGTAIL_LONG", "LONGTAIL_WRITE"];

/// The flags that environment variables have set, with these variables. An error can then name the variable instead of
/// a flag that is not on the command line.
pub struct Origins(Vec<(String, String)>);

impl Origins {
    pub(super) fn new(command: &Command, matches: &ArgMatches) -> Origins {
        let is_set = |arg: &Arg| {
            let id = arg.get_id().as_str();
            matches.try_contains_id(id).is_ok() && matches.value_source(id) == Some(ValueSource::EnvVariable)
        };
        let set = command.get_arguments().filter(|arg| is_set(arg));
        let mut found: Vec<_> = set
            .filter_map(|arg| Some((format!("--{}", arg.get_long()?), arg.get_env()?.to_str()?.to_owned())))
            .collect();
        if let Some((word, matches)) = matches.subcommand()
            && let Some(command) = command.find_subcommand(word)
        {
            found.extend(Origins::new(command, matches).0);
        }
        Origins(found)
    }

    /// Replaces each flag in a text with the variable that has set it.
    pub fn rename(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (flag, variable) in &self.0 {
            let mut parts = text.split(flag.as_str());
            let mut renamed = parts.next().unwrap_or_default().to_owned();
            for part in parts {
                // The match must not be the beginning of a longer flag, such as --redis in --redis-prefix.
                let goes_on = part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '-');
                renamed.push_str(if goes_on { flag } else { variable });
                renamed.push_str(part);
            }
            text = renamed;
        }
        text
    }
}

/// Returns a warning for each variable that looks like a setting of this program but is not one.
pub fn unknown_variables(names: impl Iterator<Item = OsString>) -> Vec<String> {
    let command = Cli::command();
    let commands = || std::iter::once(&command).chain(command.get_subcommands());
    let is_known = |name: &str| {
        let mut args = commands().flat_map(Command::get_arguments);
        SET_BY_SCRIPTS.contains(&name) || args.any(|arg| arg.get_env().is_some_and(|known| known == name))
    };
    // Kubernetes sets such variables in every container beside a Service named longtail.
    let is_by_kubernetes = |name: &str| {
        let rest = name.trim_start_matches("LONGTAIL_");
        rest.starts_with("SERVICE_") || rest.contains("_SERVICE_") || format!("_{rest}_").contains("_PORT_")
    };
    let names = names.filter_map(|name| name.into_string().ok());
    let ours = names.filter(|name| name.starts_with("LONGTAIL_") && !is_known(name) && !is_by_kubernetes(name));
    let mut lines: Vec<String> = ours.map(|name| format!("{name} is not a setting{}", suggestion(&name))).collect();
    lines.sort();
    lines
}

/// Suggests the setting with a similar name, as clap does for flags.
fn suggestion(name: &str) -> String {
    let flag = format!("--{}", name.trim_start_matches("LONGTAIL_").to_lowercase().replace('_', "-"));
    let parsed = Cli::command().try_get_matches_from(["longtail", &flag]);
    match parsed.err().as_ref().and_then(|error| error.get(ContextKind::SuggestedArg)) {
        Some(ContextValue::String(near)) => {
            format!("; did you mean LONGTAIL_{}?", near.trim_start_matches('-').to_uppercase().replace('-', "_"))
        }
        _ => " and has no effect; `longtail --help` lists all settings".into(),
    }
}
