//! The command line and the environment into a [`Cli`]; what is wrong with them, in one line that says the mend.

use super::Cli;
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, CommandFactory, FromArgMatches};
use std::env;
use std::ffi::OsString;
use std::num::{IntErrorKind, ParseIntError};

/// Variables that our own tests and examples set around a server, and that are no flags.
const OF_SCRIPTS: [&str; 3] = ["LONGTAIL_BIN", "LONGTAIL_LONG", "LONGTAIL_WRITE"];

/// Why there is nothing to carry out.
pub enum Unparsed {
    /// `--help` or `--version`: to be printed, and no error.
    Asked(Error),
    /// What is wrong, in one line.
    Wrong(String),
}

impl Cli {
    /// Takes arguments, the program's name first, and the environment. Tells also which flags the environment has
    /// set.
    ///
    /// # Errors
    ///
    /// What is no command line of ours, and the wish for help.
    pub fn of(args: impl IntoIterator<Item = OsString>) -> Result<(Cli, Origins), Unparsed> {
        let args: Vec<OsString> = args.into_iter().collect();
        let parsed = Cli::command().try_get_matches_from(&args).and_then(|matches| {
            let origins = Origins::of(&Cli::command(), &matches);
            Ok((Cli::from_arg_matches(&matches)?, origins))
        });
        parsed.map_err(|error| {
            if !error.use_stderr() {
                return Unparsed::Asked(error);
            }
            let args = args.iter().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
            let mut command = Cli::command();
            command.build();
            Unparsed::Wrong(Said { args, command }.wrong(&error))
        })
    }
}

/// Which flags the environment has set, and by which variables.
pub struct Origins(Vec<(String, String)>);

impl Origins {
    fn of(command: &Command, matches: &ArgMatches) -> Origins {
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
            found.extend(Origins::of(command, matches).0);
        }
        Origins(found)
    }

    /// A text with variables in place of the flags that they have set.
    pub fn tell(&self, text: &str) -> String {
        let mut told = text.to_owned();
        for (flag, variable) in &self.0 {
            let mut parts = told.split(flag.as_str());
            let mut whole = parts.next().unwrap_or_default().to_owned();
            for part in parts {
                // --redis is no part of --redis-prefix.
                let goes_on = part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '-');
                whole.push_str(if goes_on { flag } else { variable });
                whole.push_str(part);
            }
            told = whole;
        }
        told
    }
}

/// Of these variables those that look like settings of ours and are none, each with a line that says so.
pub fn unknown_variables(names: impl Iterator<Item = OsString>) -> Vec<String> {
    let command = Cli::command();
    let commands = || std::iter::once(&command).chain(command.get_subcommands());
    let is_known = |name: &str| {
        let mut args = commands().flat_map(Command::get_arguments);
        OF_SCRIPTS.contains(&name) || args.any(|arg| arg.get_env().is_some_and(|known| known == name))
    };
    // A Service of the name longtail is told to every container beside it in such variables.
    let is_of_kubernetes = |name: &str| {
        let rest = name.trim_start_matches("LONGTAIL_");
        rest.starts_with("SERVICE_") || rest.contains("_SERVICE_") || format!("_{rest}_").contains("_PORT_")
    };
    let names = names.filter_map(|name| name.into_string().ok());
    let ours = names.filter(|name| name.starts_with("LONGTAIL_") && !is_known(name) && !is_of_kubernetes(name));
    let mut lines: Vec<String> = ours.map(|name| format!("{name} is no setting{}", like(&name))).collect();
    lines.sort();
    lines
}

/// The setting that a variable's name comes near, as clap finds it for flags.
fn like(name: &str) -> String {
    let flag = format!("--{}", name.trim_start_matches("LONGTAIL_").to_lowercase().replace('_', "-"));
    let asked = Cli::command().try_get_matches_from(["longtail", &flag]);
    match asked.err().as_ref().and_then(|error| error.get(ContextKind::SuggestedArg)) {
        Some(ContextValue::String(near)) => {
            format!(": is it LONGTAIL_{}?", near.trim_start_matches('-').to_uppercase().replace('-', "_"))
        }
        _ => ", and changes nothing: `longtail --help` has all of them".into(),
    }
}

/// What was said, for who has to say what is wrong with it.
struct Said {
    args: Vec<String>,
    command: Command,
}

impl Said {
    fn wrong(&self, error: &Error) -> String {
        let program = match self.word() {
            Some(word) => format!("longtail {}", word.get_name()),
            None => "longtail".into(),
        };
        let text = match self.reason(error) {
            Reason::Whole(text) => text,
            Reason::Ask(text) => format!("{text}; see {program} --help"),
        };
        format!("{program}: {text}").replace(char::is_control, "\u{fffd}")
    }

    fn reason(&self, error: &Error) -> Reason {
        let texts = |kind| match error.get(kind) {
            Some(ContextValue::String(text)) => vec![text.clone()],
            Some(ContextValue::Strings(texts)) => texts.clone(),
            _ => Vec::new(),
        };
        let text = |kind| texts(kind).into_iter().next().unwrap_or_default();
        let (arg, value) = (text(ContextKind::InvalidArg), text(ContextKind::InvalidValue));
        match error.kind() {
            ErrorKind::InvalidValue => match one_of(&texts(ContextKind::ValidValue)) {
                Some(valid) => Reason::Whole(format!("{}: use {valid}", self.with_value(&arg, &value))),
                None => Reason::Ask(format!("a value is missing: {arg}")),
            },
            ErrorKind::ValueValidation => {
                let why = why(error, &value, arg.ends_with("<S>"));
                Reason::Whole(format!("{}: {why}", self.with_value(&arg, &value)))
            }
            ErrorKind::UnknownArgument => self.unknown(&arg, &text(ContextKind::SuggestedArg)),
            ErrorKind::InvalidSubcommand => {
                let word = text(ContextKind::InvalidSubcommand);
                match one_of(&texts(ContextKind::SuggestedSubcommand)) {
                    Some(near) => Reason::Whole(format!("there is no command {word}: did you mean {near}?")),
                    None => Reason::Ask(format!("there is no command {word}")),
                }
            }
            ErrorKind::MissingRequiredArgument => {
                Reason::Ask(format!("{} is missing", texts(ContextKind::InvalidArg).join(" ")))
            }
            ErrorKind::ArgumentConflict => {
                let (word, others) = (text(ContextKind::InvalidSubcommand), texts(ContextKind::PriorArg));
                match self.command.find_subcommand(&word) {
                    Some(command) => misplaced(command, &others.join(" ")),
                    None if others == [arg.as_str()] => Reason::Whole(format!("{} is there twice", self.name(&arg))),
                    None => {
                        let names: Vec<String> = [&arg].into_iter().chain(&others).map(|arg| self.name(arg)).collect();
                        Reason::Whole(format!("{} do not go together: set one", names.join(" and ")))
                    }
                }
            }
            _ => {
                let text = error.to_string();
                Reason::Ask(text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned())
            }
        }
    }

    /// What is said of an argument that the command does not know.
    fn unknown(&self, arg: &str, near: &str) -> Reason {
        if !near.is_empty() {
            return Reason::Whole(format!("there is no {arg}: did you mean {near}?"));
        }
        let knows = |command: &Command| command.get_arguments().any(|known| spelt(known) == arg);
        // In front of the word, or behind that of another command.
        let named = self.args.iter().find_map(|said| self.command.find_subcommand(said));
        match (self.word(), named) {
            (None, Some(command)) if knows(command) => misplaced(command, arg),
            (Some(command), _) if knows(&self.command) => {
                Reason::Ask(format!("{arg} is a flag of the server, which {} is not", command.get_name()))
            }
            _ if arg.starts_with('-') => Reason::Ask(format!("there is no {arg}")),
            _ => Reason::Ask(format!("{arg} is one argument too many")),
        }
    }

    /// The command that was asked for; it stands in front.
    fn word(&self) -> Option<&Command> {
        self.args.first().and_then(|first| self.command.find_subcommand(first))
    }

    fn find(&self, shown: &str) -> Option<&Arg> {
        let commands = self.word().into_iter().chain([&self.command]);
        commands.flat_map(Command::get_arguments).find(|arg| arg.to_string() == shown)
    }

    /// The flag, or the variable where it was that.
    fn name(&self, shown: &str) -> String {
        let Some(arg) = self.find(shown) else { return shown.to_owned() };
        let flag = spelt(arg);
        let mut said = self.args.iter().take_while(|said| *said != "--");
        let is_flag =
            said.any(|said| said.strip_prefix(&flag).is_some_and(|rest| rest.is_empty() || rest.starts_with('=')));
        match arg.get_env().filter(|name| !is_flag && env::var_os(name).is_some()) {
            Some(variable) => variable.to_string_lossy().into_owned(),
            None => flag,
        }
    }

    /// A flag and its value; one that may be a secret is not repeated.
    fn with_value(&self, shown: &str, value: &str) -> String {
        let name = self.name(shown);
        if value.is_empty() || self.find(shown).is_none_or(Arg::is_hide_env_values_set) {
            return name;
        }
        let sign = if name.starts_with('-') { ' ' } else { '=' };
        format!("{name}{sign}{value}")
    }
}

enum Reason {
    /// There is nothing more to say.
    Whole(String),
    /// `--help` says more.
    Ask(String),
}

/// An argument as it is given: its flag, or what stands in for it in the usage.
fn spelt(arg: &Arg) -> String {
    match (arg.get_long(), arg.get_short()) {
        (Some(long), _) => format!("--{long}"),
        (None, Some(short)) => format!("-{short}"),
        _ => arg.to_string(),
    }
}

/// Flags in front of a command's word, where they would have no effect.
fn misplaced(command: &Command, flags: &str) -> Reason {
    let word = command.get_name();
    let first = flags.split(' ').next().unwrap_or_default();
    if command.get_arguments().any(|arg| spelt(arg) == first) {
        return Reason::Whole(format!("put flags behind the word: longtail {word} {flags}"));
    }
    Reason::Ask(format!("{first} is a flag of the server, which {word} is not"))
}

fn one_of(texts: &[String]) -> Option<String> {
    let (last, others) = texts.split_last()?;
    Some(if others.is_empty() { last.clone() } else { format!("{} or {last}", others.join(", ")) })
}

/// Why a value is none. The mend is ours; numbers and truths are clap's, and say none.
fn why(error: &Error, value: &str, is_time: bool) -> String {
    let Some(source) = std::error::Error::source(error) else { return "it is no value".into() };
    let unit = if is_time { " of seconds" } else { "" };
    if let Some(error) = source.downcast_ref::<ParseIntError>() {
        return match error.kind() {
            IntErrorKind::PosOverflow => "use a smaller number".into(),
            _ if value.starts_with('-') => "use no number below 0".into(),
            _ => format!("use a whole number{unit}"),
        };
    }
    let text = source.to_string();
    let range = text.split_once(" is not in ").and_then(|(_, range)| range.split_once("..="));
    match range {
        Some((from, to)) => format!("use a number{unit} from {from} to {to}"),
        None if text == "value was not a boolean" => "use true or false".into(),
        None => text,
    }
}
