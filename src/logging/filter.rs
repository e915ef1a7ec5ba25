//! `--log`: the filter that selects the lines.

use crate::config::BadConfig;
use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{LevelFilter, ParseError};

/// The crates that log through `tracing`: this one and its dependencies.
const CRATES: [&str; 3] = ["longtail", "h2", "hyper_util"];

/// The h2 crate warns of unusual actions of a client, such as a PING acknowledgement without a PING. Only a developer
/// can use these lines, so they are written only if `--log` names the crate or a level below `info`.
const QUIET_CRATE: &str = "h2";

/// The filter of `--log`.
///
/// # Errors
///
/// The filter is not valid.
pub fn filter(text: &str) -> Result<EnvFilter, BadConfig> {
    let bad = |what: &str| {
        BadConfig::new(format!(
            "--log {what}: use error, warn, info, debug or trace, also per module, such as info,longtail::hub=debug"
        ))
    };
    let mut directives: Vec<&str> = text.split(',').map(str::trim).collect();
    // The filter would treat a mistyped level as the name of a module, and then log nothing.
    if let Some(word) = directives.iter().find(|directive| !is_valid(directive)) {
        return Err(bad(word));
    }
    if directives.iter().any(|level| matches!(level.parse(), Ok(Level::INFO | Level::WARN)))
        && !directives.iter().any(|directive| crate_of(directive) == QUIET_CRATE)
    {
        directives.push("h2=error");
    }
    // The parts are joined again, because the filter does not accept spaces.
    EnvFilter::builder().parse(directives.join(",")).map_err(|_: ParseError| bad(text))
}

fn is_valid(directive: &str) -> bool {
    let module = module_of(directive);
    let is_level = module == directive && directive.parse::<LevelFilter>().is_ok();
    is_level || module.is_empty() || CRATES.contains(&crate_of(directive))
}

fn module_of(directive: &str) -> &str {
    directive.split(['=', '[']).next().unwrap_or_default()
}

fn crate_of(directive: &str) -> &str {
    module_of(directive).split("::").next().unwrap_or_default()
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

    #[test]
    fn a_dependency_speaks_when_it_is_asked() {
        for (text, is_quiet) in [
            ("info", true),
            ("WARN", true),
            ("info,longtail::hub=debug", true),
            ("debug", false),
            ("trace", false),
            ("info,h2=warn", false),
            ("info,h2::proto=debug", false),
            ("off", false),
            ("error", false),
        ] {
            let filter = filter(text).map(|filter| filter.to_string()).unwrap_or_default();
            assert_eq!(filter.contains("h2=error"), is_quiet, "{text}: {filter}");
        }
    }
}
