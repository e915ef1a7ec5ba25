//! Takes the sockets that systemd passes (`LISTEN_FDS`), and reports the state of the server to systemd
//! (`NOTIFY_SOCKET`). Without systemd, this module does not have any effect.

use listenfd::ListenFd;
use sd_notify::NotifyState;
use std::future::Future;
use std::net::TcpListener;
use std::time::Duration;
use std::{env, io};
use tracing::warn;

/// The interval at which the status is sent without a watchdog.
const STATUS_EVERY: Duration = Duration::from_secs(10);

/// Sockets that the service manager has bound.
#[derive(Debug, Default)]
pub struct Sockets {
    /// The sockets for HTTP: all sockets that are not named `tcp`.
    pub http: Vec<TcpListener>,
    /// The socket for raw TCP: the one that is named `tcp` (`FileDescriptorName=tcp`).
    pub tcp: Option<TcpListener>,
}

/// Takes the inherited sockets. Call it before there are threads, because it removes variables from the environment.
///
/// # Errors
///
/// A descriptor is not a listening TCP socket, or two descriptors are named `tcp`.
pub fn inherited_sockets() -> io::Result<Sockets> {
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut inherited = ListenFd::from_env();
    let mut sockets = Sockets::default();
    for index in 0..inherited.len() {
        let Some(socket) = inherited.take_tcp_listener(index)? else { continue };
        // systemd's sockets may be blocking; tokio needs non-blocking ones.
        socket.set_nonblocking(true)?;
        match names.next() {
            Some("tcp") if sockets.tcp.is_some() => {
                let error = "two sockets are named tcp, and only one can be served";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, error));
            }
            Some("tcp") => sockets.tcp = Some(socket),
            _ => sockets.http.push(socket),
        }
    }
    Ok(sockets)
}

/// Tells the service manager when the server is ready. From then on, sends the server's status, and a watchdog message
/// as often as the watchdog demands. `status` takes the lock that every delivery needs: if that lock is never
/// sent, and the service manager restarts the process.
pub async fn supervise(ready: impl Future<Output = ()>, status: impl Fn() -> String) {
    if env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let watchdog = sd_notify::watchdog_enabled();
    let every = watchdog.map_or(STATUS_EVERY, |limit| (limit / 3).clamp(Duration::from_millis(10), STATUS_EVERY));
    notify(&[NotifyState::Status("reading the log")]);
    ready.await;
    notify(&[NotifyState::Ready]);
    loop {
        let status = status();
        match watchdog {
            Some(_) => notify(&[NotifyState::Watchdog, NotifyState::Status(&status)]),
            None => notify(&[NotifyState::Status(&status)]),
        }
        tokio::time::sleep(every).await;
    }
}

/// Tells the service manager that the server is stopping.
pub fn stopping() {
    notify(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "cannot notify the service manager");
    }
}
