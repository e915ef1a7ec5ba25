//! The `longtail` binary: arguments, logging, run, exit codes.

use longtail::config::{Cli, Command, Origins, Unparsed, unknown_variables};
use longtail::{Config, RunError, Server, StartError, cli, logging, service};
use std::future::Future;
use std::process::ExitCode;
use tracing::{debug, warn};

/// Each reader is a handful of small pieces that live long, each delivery a few that do not: kept apart by size and
/// thread they cost less, and what many readers have left goes back to the system.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A configuration that cannot be served (sysexits.h: EX_USAGE).
const USAGE: u8 = 64;

/// The system has not what is needed (EX_OSERR).
const SYSTEM: u8 = 71;

fn main() -> ExitCode {
    without_huge_pages();
    let (Cli { command, config }, origins) = match Cli::of(std::env::args_os()) {
        Ok(parsed) => parsed,
        Err(Unparsed::Asked(help)) => {
            let _ = help.print();
            return ExitCode::SUCCESS;
        }
        Err(Unparsed::Wrong(line)) => {
            eprintln!("{line}");
            return ExitCode::from(USAGE);
        }
    };
    // Before there are threads.
    let sockets = match service::sockets() {
        Ok(sockets) => sockets,
        Err(error) => return failed(USAGE, format_args!("the sockets of the service manager: {error}")),
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(SYSTEM, format_args!("cannot start threads: {error}")),
    };
    let code = runtime.block_on(async {
        match command {
            None => serve(&config, &origins, Server::bind_on(&config, sockets)).await,
            Some(Command::Demo(demo)) => serve(&demo.config, &origins, Server::bind_demo(&demo, sockets)).await,
            Some(Command::Client(command)) => cli::run(command, |text| origins.tell(text)).await,
        }
    });
    // What still blocks shall not hold the process up.
    runtime.shutdown_background();
    code
}

/// The allocator asks for pages of 2 MiB. They save readers nothing that can be measured, and a message that is the first in one
/// waits until all of it is cleared; what readers have left is spread over them and goes back late.
fn without_huge_pages() {
    // Where it is refused it is as it was, and nobody could do anything about it.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

async fn serve(
    config: &Config,
    origins: &Origins,
    binding: impl Future<Output = Result<Server, StartError>>,
) -> ExitCode {
    if let Err(error) = logging::init(config) {
        return failed(USAGE, format_args!("{}", origins.tell(&error.to_string())));
    }
    for line in unknown_variables(std::env::vars_os().map(|(name, _)| name)) {
        warn!("{line}");
    }
    match rlimit::increase_nofile_limit(u64::MAX) {
        // A reader is a descriptor: takes as many as the system lets us have.
        Ok(limit) => debug!(limit, "file descriptors"),
        Err(error) => warn!(%error, "cannot raise the limit of file descriptors"),
    }
    let server = match binding.await {
        Ok(server) => server,
        Err(error) => return failed(error.exit_code(), format_args!("{}", origins.tell(&error.to_string()))),
    };
    if let Some(address) = server.demo_address() {
        println!("Open {address} in a browser.");
    }
    let (mut signals, hangup) = match service::signals() {
        Ok(signals) => signals,
        Err(error) => return failed(SYSTEM, format_args!("cannot listen for signals: {error}")),
    };
    tokio::spawn(server.reloader().reload_at(hangup));
    let (shutdown, stopping) = tokio::sync::oneshot::channel::<()>();
    let serving = server.run(async {
        let _ = stopping.await;
    });
    tokio::pin!(serving);
    tokio::select! {
        ended = &mut serving => return code_of(ended),
        () = signals.end() => {}
    }
    let _ = shutdown.send(());
    tokio::select! {
        ended = serving => code_of(ended),
        () = signals.end() => {
            warn!("a second signal: stopping at once");
            ExitCode::SUCCESS
        }
    }
}

/// The log has said why.
fn code_of(ended: Result<(), RunError>) -> ExitCode {
    ended.err().map_or(ExitCode::SUCCESS, |error| ExitCode::from(error.exit_code()))
}

fn failed(code: u8, why: std::fmt::Arguments<'_>) -> ExitCode {
    eprintln!("longtail: {why}");
    ExitCode::from(code)
}
