//! Log lines, on standard error.

use crate::config::{BadConfig, Config, LogFormat};
use std::io::{IsTerminal, stderr};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{LevelFilter, ParseError};

/// The crates that log through `tracing`: this one and its dependencies.
const CRATES: [&str; 3] = ["longtail", "h2", "hyper_util"];

/// Starts logging in the way that the flags set. Call it once in a process.
///
/// # Errors
///
/// `--log` is not a valid filter.
pub fn init(config: &Config) -> Result<(), BadConfig> {
    let filter = filter(&config.log)?;
    let logging = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    match config.log_format {
        LogFormat::Text => logging.with_ansi(stderr().is_terminal()).with_target(false).init(),
        LogFormat::Json => logging.json().flatten_event(true).init(),
    }
    Ok(())
}

fn filter(text: &str) -> Result<EnvFilter, BadConfig> {
    let bad = |what: &str| {
        BadConfig::new(format!(
            "--log {what}: use error, warn, info, debug or trace, also per module, such as info,longtail::hub=debug"
        ))
    };
    let directives: Vec<&str> = text.split(',').map(str::trim).collect();
    // The filter would take a mistyped level for a module's name, and then log nothing.
    if let Some(word) = directives.iter().find(|directive| !is_valid(directive)) {
        return Err(bad(word));
    }
    // The parts are joined again, because the filter does not accept spaces.
    EnvFilter::builder().parse(directives.join(",")).map_err(|_: ParseError| bad(text))
}

fn is_valid(directive: &str) -> bool {
    let module = directive.split(['=', '[']).next().unwrap_or_default();
    let is_level = module == directive && directive.parse::<LevelFilter>().is_ok();
    is_level || module.is_empty() || CRATES.contains(&module.split("::").next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_or_a_module_that_logs() {
        for good in [
            "info",
            "DEBUG",
            "off",
            "",
            "info,longtail::hub=debug",
            "warn, hyper_util=trace",
            "longtail",
            "longtail[span]=info",
            "[span]=info",
        ] {
            assert!(filter(good).is_ok(), "{good}");
        }
        for (bad, named) in [
            ("debgu", "--log debgu:"),
            ("info,longtial::hub=debug", "--log longtial::hub=debug:"),
            ("longtail=debgu", "--log longtail=debgu:"),
            ("debug=longtail", "--log debug=longtail:"),
            ("info;warn", "--log info;warn:"),
        ] {
            let error = filter(bad).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.starts_with(named) && error.contains("use error"), "{bad}: {error}");
        }
    }
}
