//! Who starts us and ends us: signals, and systemd: the sockets that it hands over (`LISTEN_FDS`) and what it is told (`NOTIFY_SOCKET`).
//! Without it nothing here does anything.

use listenfd::ListenFd;
use sd_notify::NotifyState;
use std::future::Future;
use std::net::TcpListener;
use std::time::Duration;
use std::{env, io};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::warn;

/// How often the status is told where nobody watches.
const STATUS_EVERY: Duration = Duration::from_secs(10);

/// Sockets that somebody else has bound for us.
#[derive(Debug, Default)]
pub struct Sockets {
    /// For HTTP; any whose name is not `tcp`.
    pub http: Vec<TcpListener>,
    /// For raw TCP: the one that is named `tcp` (`FileDescriptorName=tcp`).
    pub tcp: Option<TcpListener>,
}

/// Takes the sockets that were handed over. To be called before threads are started, since it
/// removes from the environment what it has read.
///
/// # Errors
///
/// A descriptor that is no listening TCP socket, or two that are named `tcp`.
pub fn sockets() -> io::Result<Sockets> {
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut handed = ListenFd::from_env();
    let mut sockets = Sockets::default();
    for index in 0..handed.len() {
        let Some(socket) = handed.take_tcp_listener(index)? else { continue };
        // Ours accept without blocking; systemd's need not be so.
        socket.set_nonblocking(true)?;
        match names.next() {
            Some("tcp") if sockets.tcp.is_some() => {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "two sockets are named tcp; one is served"));
            }
            Some("tcp") => sockets.tcp = Some(socket),
            _ => sockets.http.push(socket),
        }
    }
    Ok(sockets)
}

/// Signals that are the end.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Waits for one. Cancel safe.
    pub async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Listens for signals: those that are the end, and SIGHUP, which would be one without this.
///
/// # Errors
///
/// The system's.
pub fn signals() -> io::Result<(Signals, Signal)> {
    let ends = Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? };
    Ok((ends, signal(SignalKind::hangup())?))
}

/// Tells the service manager when we are ready, then that we are alive, as often as it wants to
/// hear it, and in a few words what we do. `status` looks at what every delivery needs: should that
/// be locked for good, nothing is told, and we are started anew.
pub async fn supervise(ready: impl Future<Output = ()>, status: impl Fn() -> String) {
    if env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let watchdog = sd_notify::watchdog_enabled();
    let every = watchdog.map_or(STATUS_EVERY, |limit| (limit / 3).clamp(Duration::from_millis(10), STATUS_EVERY));
    tell(&[NotifyState::Status("reading the log")]);
    ready.await;
    tell(&[NotifyState::Ready]);
    loop {
        let status = status();
        match watchdog {
            Some(_) => tell(&[NotifyState::Watchdog, NotifyState::Status(&status)]),
            None => tell(&[NotifyState::Status(&status)]),
        }
        tokio::time::sleep(every).await;
    }
}

/// Tells the service manager that we are going.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "the service manager cannot be told");
    }
}
