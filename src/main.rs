//! The `longtail` binary: arguments, logging, run, exit codes.

use clap::Parser;
use longtail::config::Cli;
use longtail::service::{self, Sockets};
use longtail::{Config, Server, cli, logging};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{debug, warn};

/// A configuration that cannot be served (sysexits.h: EX_USAGE).
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let Cli { command, config } = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // --help and --version come this way, too, and are no errors.
            if !error.use_stderr() {
                let _ = error.print();
                return ExitCode::SUCCESS;
            }
            let text = error.to_string();
            let reason = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
            eprintln!("longtail: {reason}; see --help");
            return ExitCode::from(USAGE);
        }
    };
    // Before there are threads.
    let sockets = match service::sockets() {
        Ok(sockets) => sockets,
        Err(error) => {
            eprintln!("longtail: the sockets of the service manager: {error}");
            return ExitCode::from(USAGE);
        }
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("longtail: cannot start threads: {error}");
            return ExitCode::from(71);
        }
    };
    let code = runtime.block_on(async {
        match command {
            Some(command) => cli::run(command).await,
            None => serve(&config, sockets).await,
        }
    });
    // What still blocks shall not hold the process up.
    runtime.shutdown_background();
    code
}

async fn serve(config: &Config, sockets: Sockets) -> ExitCode {
    if let Err(error) = logging::init(config) {
        eprintln!("longtail: --log: {error}");
        return ExitCode::from(USAGE);
    }
    raise_file_limit();
    let server = match Server::bind_on(config, sockets).await {
        Ok(server) => server,
        Err(error) => {
            eprintln!("longtail: {error}");
            return ExitCode::from(error.exit_code());
        }
    };
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        eprintln!("longtail: cannot listen for signals");
        return ExitCode::from(71);
    };
    let (shutdown, stopping) = tokio::sync::oneshot::channel::<()>();
    let serving = server.run(async {
        let _ = stopping.await;
    });
    tokio::pin!(serving);
    tokio::select! {
        () = &mut serving => return ExitCode::SUCCESS,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    let _ = shutdown.send(());
    tokio::select! {
        () = serving => {}
        _ = terminate.recv() => warn!("a second signal: stopping at once"),
        _ = interrupt.recv() => warn!("a second signal: stopping at once"),
    }
    ExitCode::SUCCESS
}

/// A reader is a descriptor: takes as many as the system lets us have.
fn raise_file_limit() {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => debug!(limit, "file descriptors"),
        Err(error) => warn!(%error, "cannot raise the limit of file descriptors"),
    }
}
