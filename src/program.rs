//! The `longtail` program: arguments, logging, run, exit codes. The program is a part of the library, so that the
//! compiler generates its generic code only once.

use crate::config::{Cli, Command, Config, Origins, unknown_variables};
use crate::server::{RunError, Server, StartError};
use crate::signals::{self, EndSignals};
use crate::{cli, logging, systemd};
use clap::CommandFactory as _;
use std::fmt::Display;
use std::future::Future;
use std::io::Write as _;
use std::process::ExitCode;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tracing::{debug, info, warn};

/// The configuration is invalid (sysexits.h: EX_USAGE).
const USAGE: u8 = 64;

/// A system resource is unavailable (EX_OSERR).
const SYSTEM: u8 = 71;

#[cfg(not(feature = "demo"))]
const NO_DEMO: &str = "this build does not include the demo: `cargo run -- demo` in the source starts it, and a build \
                       with the cargo feature `demo` includes it";

/// Runs the program with the arguments of this process.
pub fn main() -> ExitCode {
    let code = run().unwrap_or_else(|code| code);
    logging::flush();
    code
}

/// Runs the steps of the program. If a step fails, it prints the reason and returns the exit code.
fn run() -> Result<ExitCode, ExitCode> {
    disable_huge_pages();
    let (Cli { command, config }, origins) = parse_arguments()?;
    // Removes variables from the environment, so it runs before there are threads.
    let sockets = systemd::inherited_sockets().map_err(|error| failed(USAGE, format!("inherited sockets: {error}")))?;
    let runtime = Runtime::new().map_err(|error| failed(SYSTEM, format!("cannot start threads: {error}")))?;
    let code = runtime.block_on(async {
        match command {
            None => serve(&config, &origins, Server::bind_on(&config, sockets)).await,
            #[cfg(feature = "demo")]
            Some(Command::Demo(demo)) => serve(&demo.config, &origins, Server::bind_demo(&demo, sockets)).await,
            #[cfg(not(feature = "demo"))]
            Some(Command::Demo(_)) => Err(failed(USAGE, NO_DEMO)),
            Some(Command::Healthcheck(check)) => match check.question() {
                Ok(question) => Ok(question.run().await),
                Err(error) => Err(failed(USAGE, origins.rename(&error.to_string()))),
            },
            Some(Command::Completions { shell }) => Ok(print_completions(shell)),
            Some(Command::Client(command)) => Ok(cli::run(command, |text| origins.rename(text)).await),
        }
    });
    // The process does not wait for blocking tasks.
    runtime.shutdown_background();
    code
}

/// Runs a server until a signal ends it.
async fn serve(
    config: &Config,
    origins: &Origins,
    binding: impl Future<Output = Result<Server, StartError>>,
) -> Result<ExitCode, ExitCode> {
    logging::open().map_err(|error| failed(SYSTEM, format!("cannot start threads: {error}")))?;
    logging::init(config).map_err(|error| failed(USAGE, origins.rename(&error.to_string())))?;
    warn_of_unknown_variables();
    raise_descriptor_limit();
    let server = binding.await.map_err(|error| failed(error.exit_code(), origins.rename(&error.to_string())))?;
    say_what_to_open(&server, config);
    let signals = signals::listen().map_err(|error| failed(SYSTEM, format!("cannot handle signals: {error}")));
    let (signals, hangup) = signals?;
    tokio::spawn(server.reloader().reload_at(hangup));
    // Before this line, clients could not connect, so they could not cause any log lines.
    tokio::spawn(logging::limit_rates());
    Ok(run_until_signal(server, signals).await)
}

/// Says what to open. The demo says it to the person in front of it, and the server says it in its log.
fn say_what_to_open(server: &Server, config: &Config) {
    let welcome = server.welcome();
    #[cfg(feature = "demo")]
    if server.is_demo() {
        let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stdout());
        return print_to_stdout(welcome.demo_lines(is_terminal).join("\n"));
    }
    let is_guarded = config.access.guarded_by().is_some() || config.pusher.has_apps();
    let (ready, next) = (server.ready(), welcome.next_step(is_guarded));
    tokio::spawn(async move {
        ready.await;
        info!("{next}");
    });
}

/// Prints the completion script of a shell.
fn print_completions(shell: clap_complete::Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "longtail", &mut script);
    match std::io::stdout().write_all(&script) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            failed(SYSTEM, format!("cannot write the script: {error}"))
        }
        _ => ExitCode::SUCCESS,
    }
}

/// The first signal begins the drain, and a second signal ends the process at once.
async fn run_until_signal(server: Server, mut signals: EndSignals) -> ExitCode {
    let (shutdown, stopping) = oneshot::channel::<()>();
    let serving = server.run(async {
        let _ = stopping.await;
    });
    tokio::pin!(serving);
    tokio::select! {
        ended = &mut serving => return exit_code(ended),
        () = signals.recv() => {}
    }
    let _ = shutdown.send(());
    tokio::select! {
        ended = serving => exit_code(ended),
        () = signals.recv() => {
            warn!("second signal: stopping at once");
            ExitCode::SUCCESS
        }
    }
}

/// The server has logged its error itself.
fn exit_code(ended: Result<(), RunError>) -> ExitCode {
    ended.err().map_or(ExitCode::SUCCESS, |error| ExitCode::from(error.exit_code()))
}

/// Disables huge pages for this process, because the allocator asks for pages of 2 MiB. Such pages do not make the
/// readers measurably faster. The first message in such a page waits until the kernel has cleared the whole page. Free
/// memory is spread over many pages, so it returns to the system late.
fn disable_huge_pages() {
    // If the system refuses, the server still works.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

/// Parses the arguments. If they are invalid or ask for help, prints the error or the help.
fn parse_arguments() -> Result<(Cli, Origins), ExitCode> {
    Cli::parse_with_origins(std::env::args_os()).map_err(|error| {
        let _ = error.print();
        if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS }
    })
}

fn warn_of_unknown_variables() {
    for line in unknown_variables(std::env::vars_os().map(|(name, _)| name)) {
        warn!("{line}");
    }
}

/// Raises the limit on file descriptors as far as the system allows, because each reader needs a descriptor.
fn raise_descriptor_limit() {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => debug!(limit, "file descriptors"),
        Err(error) => warn!(%error, "cannot raise the limit of file descriptors"),
    }
}

fn failed(code: u8, why: impl Display) -> ExitCode {
    logging::print(format_args!("longtail: {why}"));
    ExitCode::from(code)
}

/// Prints a line in a separate thread, because a paused terminal must not stop the server.
#[cfg(feature = "demo")]
fn print_to_stdout(line: String) {
    let print = move || drop(writeln!(std::io::stdout(), "{line}"));
    // It does no harm if the line is lost, because the log also names the address.
    drop(std::thread::Builder::new().name("stdout".into()).spawn(print));
}
