//! The pages that are made of the code: docs/configuration.md and docs/errors.md.

use clap::{Arg, Command, CommandFactory};
use longtail::internals::config::Cli;
use longtail::internals::transport::Code;
use std::fmt::Write;

const BEGIN: &str = "<!-- flags: begin -->\n";
const END: &str = "<!-- flags: end -->\n";

/// docs/configuration.md with the present flags between its marks.
pub fn configuration(page: &str) -> String {
    let (before, rest) = page.split_once(BEGIN).expect("the beginning of the flags");
    let (_, after) = rest.split_once(END).expect("the end of the flags");
    format!("{before}{BEGIN}{}\n{END}{after}", tables())
}

/// The flags of the server, and of the demo alone.
fn flags() -> Vec<Arg> {
    let cli = Cli::command();
    let all = |command: &Command| command.get_arguments().cloned().collect::<Vec<_>>();
    let mut flags = all(&cli);
    for flag in cli.get_subcommands().filter(|command| command.get_name() == "demo").flat_map(all) {
        if !flags.iter().any(|known| known.get_id() == flag.get_id()) {
            flags.push(flag);
        }
    }
    flags.into_iter().filter(|flag| flag.get_env().is_some()).collect()
}

/// A table for each group of `--help`.
fn tables() -> String {
    let flags = flags();
    let mut headings: Vec<&str> = Vec::new();
    for heading in flags.iter().filter_map(Arg::get_help_heading) {
        if !headings.contains(&heading) {
            headings.push(heading);
        }
    }
    let mut text = String::new();
    for heading in headings {
        let _ = write!(text, "\n### {heading}\n\n| flag | default | meaning |\n|---|---|---|\n");
        for flag in flags.iter().filter(|flag| flag.get_help_heading() == Some(heading)) {
            text.push_str(&row(flag));
        }
    }
    text
}

fn row(flag: &Arg) -> String {
    let name = flag.get_long().expect("a long flag");
    let takes_value = flag.get_action().takes_values();
    let value = flag.get_value_names().unwrap_or_default().first().filter(|_| takes_value);
    let value = value.map(|value| format!(" {}", value.replace('|', "\\|"))).unwrap_or_default();
    let defaults: Vec<_> = flag.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    let default = if defaults.is_empty() || !takes_value { String::new() } else { format!("`{}`", defaults.join(" ")) };
    let help = flag.get_long_help().or(flag.get_help()).map(ToString::to_string).unwrap_or_default();
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
    format!("| `--{name}{value}` | {default} | {help} |\n")
}

/// The rows of docs/errors.md, with a code and a status, that differ from the code.
pub fn wrong_errors(page: &str) -> Vec<String> {
    let rows = page.lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix("| `")?.split('|').map(str::trim).collect();
        Some((cells.first()?.trim_matches('`').to_owned(), cells.get(1)?.parse::<u16>().ok()?))
    });
    let rows: Vec<(String, u16)> = rows.collect();
    let wanted = Code::ALL.iter().map(|code| (code.to_string(), code.status()));
    let missing = wanted.clone().filter(|code| !rows.contains(code)).map(|code| format!("no row for {code:?}"));
    let unknown = rows.iter().filter(|row| !wanted.clone().any(|code| code == **row));
    missing.chain(unknown.map(|row| format!("no such code: {row:?}"))).collect()
}
