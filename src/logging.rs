//! Log lines, on standard error. A thread writes them: if standard error is full, closed or without a reader, the
//! server neither blocks nor ends.

mod filter;
mod rate_limit;

pub use rate_limit::RateLimit;

use crate::config::{BadConfig, Config, LogFormat};
use crate::line_writer::{LineWriter, Notice};
use filter::filter;
use prometheus_client::metrics::counter::Counter;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::Display;
use std::io::{self, IsTerminal, Write as _, stderr};
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::time::Duration;
use tracing::{error, warn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt, registry};

/// The maximum number of bytes of lines that wait for standard error.
const WAITING: usize = 1 << 20;

/// The time for which the end of the process waits for the last lines.
const FLUSH: Duration = Duration::from_secs(1);

/// The writer of standard error. The process has only one such writer. Nothing else in the server writes there: while
/// the thread waits for a reader, it holds the lock of standard error.
static STDERR: OnceLock<LineWriter> = OnceLock::new();

/// The limiter of the rate of log lines.
static RATES: OnceLock<RateLimit> = OnceLock::new();

/// Starts the thread that writes to standard error. Call it once in a process.
///
/// # Errors
///
/// The system cannot start a thread.
pub fn open() -> io::Result<()> {
    let writer = LineWriter::start("log", WAITING, stderr(), |notice| {
        // A failure cannot be logged here. The metric shows it.
        if let Notice::Resumed { dropped, in_all } = notice {
            warn!(dropped, in_all, "log lines were lost: standard error could not be written, or was too slow");
        }
    })?;
    let _ = STDERR.set(writer);
    Ok(())
}

/// Starts logging as the flags specify. Call it once in a process, after [`open`].
///
/// # Errors
///
/// `--log` is not a valid filter.
pub fn init(config: &Config) -> Result<(), BadConfig> {
    let filter = filter(&config.log)?;
    let rates = RATES.get_or_init(RateLimit::default).clone();
    let lines = fmt::layer().with_writer(StderrLine::new).log_internal_errors(false);
    let lines = match config.log_format {
        LogFormat::Text => lines.with_ansi(stderr().is_terminal()).with_target(false).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    registry().with(filter).with(rates).with(lines).init();
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// Limits the rate of log lines from now on: call it when clients can connect.
pub async fn limit_rates() {
    RATES.get_or_init(RateLimit::default).clone().run().await;
}

/// Writes a line that is not a log line, such as the reason why the server does not start.
pub fn print(line: impl Display) {
    match STDERR.get() {
        Some(writer) => writer.line(line.to_string().as_bytes()),
        // If the line cannot be written, there is no place to report that.
        None => drop(writeln!(stderr(), "{line}")),
    }
}

/// Waits a short time for the last lines.
pub fn flush() {
    if let Some(rates) = RATES.get() {
        rates.tell();
    }
    if let Some(writer) = STDERR.get() {
        writer.flush(FLUSH);
    }
}

/// Counts the lines that could not be written; `None` if this process does not log here.
pub fn dropped_lines() -> Option<Counter> {
    STDERR.get().map(|writer| writer.dropped().clone())
}

/// A line on its way to standard error.
struct StderrLine;

impl StderrLine {
    fn new() -> StderrLine {
        StderrLine
    }
}

impl io::Write for StderrLine {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some(writer) = STDERR.get() {
            writer.line(line);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Logs a panic. The standard hook would write to standard error in the panicking thread, and wait there for a reader.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or_default();
    let at = panic.location().map(ToString::to_string).unwrap_or_default();
    error!("a task panicked at {at}: {text}");
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        print(backtrace);
    }
}
