//! Log lines, on standard error.

use crate::config::{Config, LogFormat};
use std::io::{IsTerminal, stderr};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// Begins to log as the flags say; once a process.
///
/// # Errors
///
/// `--log` is no filter.
pub fn init(config: &Config) -> Result<(), ParseError> {
    let filter = EnvFilter::builder().parse(&config.log)?;
    let logging = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    match config.log_format {
        LogFormat::Text => logging.with_ansi(stderr().is_terminal()).with_target(false).init(),
        LogFormat::Json => logging.json().flatten_event(true).init(),
    }
    Ok(())
}
