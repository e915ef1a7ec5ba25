//! Listening and accepting.

use super::connection;
use super::log_throttle::Seldom;
use crate::serve::App;
use crate::serve::access::origin::Door;
use crate::serve::http::peer::Client;
use crate::serve::net::listen::prepare;
use crate::serve::net::proxy_protocol;
use crate::serve::net::reactor;
use crate::serve::net::socket::Socket;
use crate::serve::net::stream::ClientIo;
use crate::transport;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tracing::{debug, warn};

/// Where a server listens.
pub struct Listeners {
    /// For HTTP.
    pub http: Vec<TcpListener>,
    /// For HTTP from the demo's proxy: never TLS, which the proxy cannot read.
    pub behind_proxy: Option<TcpListener>,
    /// For raw TCP.
    pub tcp: Option<TcpListener>,
    /// For the keepers.
    pub admin: Option<TcpListener>,
}

/// Serves until the drain is over: all connections are gone, or `drain_time` is up.
///
/// # Errors
///
/// The system's, where it cannot watch a listener.
pub async fn serve(app: Arc<App>, listeners: Listeners, drain_time: Duration) -> io::Result<()> {
    let (alive, mut all_gone) = mpsc::channel::<()>(1);
    for listener in listeners.http.into_iter().chain(listeners.behind_proxy) {
        let listener = watched(listener)?;
        tokio::spawn(accept(app.clone(), listener, Door::Public, alive.clone(), connection::enter));
    }
    if let Some(listener) = listeners.admin {
        let is_near = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
        let (listener, door) = (watched(listener)?, Door::Admin { is_near });
        tokio::spawn(accept(app.clone(), listener, door, alive.clone(), connection::enter));
    }
    if let (Some(listener), Some(socket)) = (listeners.tcp, transport::socket()) {
        let listener = watched(listener)?;
        tokio::spawn(accept(app.clone(), listener, Door::Public, alive.clone(), move |app, stream, client| {
            connection::raw(app, stream, client, socket)
        }));
    }
    drop(alive);
    app.drain.begun().await;
    app.hub.wake_all();
    if tokio::time::timeout(drain_time, all_gone.recv()).await.is_err() {
        warn!(connections = app.connections.count(), "the time to drain is up; the rest is cut");
    }
    Ok(())
}

/// A listener past tokio, which would take each connection for one of its own.
fn watched(listener: TcpListener) -> io::Result<AsyncFd<mio::net::TcpListener>> {
    listener.into_std().map(mio::net::TcpListener::from_std).and_then(reactor::watched)
}

async fn accept<F, S>(
    app: Arc<App>,
    listener: AsyncFd<mio::net::TcpListener>,
    door: Door,
    alive: mpsc::Sender<()>,
    serve: S,
) where
    F: Future<Output = ()> + Send + 'static,
    S: Fn(Arc<App>, ClientIo, Client) -> F + Clone + Send + 'static,
{
    let drain = app.drain.clone();
    let most = match door {
        Door::Public => app.room.public_sockets(),
        Door::Admin { .. } => app.room.all_sockets(),
    };
    let mut seldom = Seldom::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.async_io(Interest::READABLE, mio::net::TcpListener::accept) => accepted,
            // Who has connected in time is answered, or sent away with a word: a listener that is dropped resets those
            // that it has not accepted.
            () = drain.begun() => match listener.get_ref().accept() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                accepted => accepted,
            },
        };
        let accepted = accepted.and_then(|(stream, peer)| {
            prepare(&stream, app.settings.send_buffer);
            Ok((app.reactor.add(stream, most)?, peer.ip().to_canonical()))
        });
        let (socket, ip) = match accepted {
            Ok((Some(socket), ip)) => (socket, ip),
            // Neither is there a place nor one to be told so. It is closed: left in the backlog, it would keep others from it.
            Ok((None, _)) => {
                app.refused.because("connection_limit");
                continue;
            }
            Err(error) => {
                app.refused.because("accept_failed");
                if let Some(left_out) = seldom.say() {
                    warn!(%error, left_out, "cannot accept a connection");
                }
                // Most errors are of the whole system and last, so accepting on at once would spin.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if app.proxies.trusts(ip) && app.proxies.speak_first && door == Door::Public {
            tokio::spawn(behind_proxy(app.clone(), socket, ip, alive.clone(), serve.clone()));
        } else if let Some(client) = Client::admit(&app, ip, door, &alive) {
            let io = ClientIo::new(socket, None, app.settings.write_timeout);
            tokio::spawn(serve(app.clone(), io, client));
        }
    }
}

/// A connection that a proxy begins by saying for whom it is.
async fn behind_proxy<F, S>(app: Arc<App>, mut socket: Socket, proxy: IpAddr, alive: mpsc::Sender<()>, serve: S)
where
    F: Future<Output = ()> + Send + 'static,
    S: Fn(Arc<App>, ClientIo, Client) -> F,
{
    let header = tokio::time::timeout(proxy_protocol::PATIENCE, proxy_protocol::read(&mut socket));
    match app.drain.in_time(header).await {
        Some(Ok(Ok(ip))) => {
            if let Some(mut client) = Client::admit(&app, ip.unwrap_or(proxy), Door::Public, &alive) {
                client.is_passed_on = true;
                let io = ClientIo::new(socket, None, app.settings.write_timeout);
                tokio::spawn(serve(app, io, client));
            }
        }
        Some(Ok(Err(_)) | Err(_)) | None => {
            app.refused.because("proxy_protocol");
            debug!(%proxy, "no PROXY protocol header came from a trusted proxy");
        }
    }
}
