//! Listening and accepting.

use super::access::Door;
use super::client::Client;
use super::io::ClientIo;
use super::ports::prepare;
use super::socket::Socket;
use super::{App, connection, proxy_protocol, reactor};
use crate::transport;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tracing::{debug, error, warn};

/// Where a server listens.
pub struct Listeners {
    /// For HTTP.
    pub http: Vec<TcpListener>,
    /// For HTTP that comes through the demo's weather: never TLS, which no path can look into.
    pub behind_weather: Option<TcpListener>,
    /// For raw TCP.
    pub tcp: Option<TcpListener>,
    /// For the keepers.
    pub admin: Option<TcpListener>,
}

/// Serves until the drain is over: all connections are gone, or `drain_time` is up.
pub async fn serve(app: Arc<App>, listeners: Listeners, drain_time: Duration) {
    let (alive, mut all_gone) = mpsc::channel::<()>(1);
    for listener in listeners.http.into_iter().chain(listeners.behind_weather) {
        tokio::spawn(accept(app.clone(), listener, Door::Public, alive.clone(), connection::enter));
    }
    if let Some(listener) = listeners.admin {
        let is_near = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
        tokio::spawn(accept(app.clone(), listener, Door::Admin { is_near }, alive.clone(), connection::enter));
    }
    if let (Some(listener), Some(socket)) = (listeners.tcp, transport::socket()) {
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
}

async fn accept<F, S>(app: Arc<App>, listener: TcpListener, door: Door, alive: mpsc::Sender<()>, serve: S)
where
    F: Future<Output = ()> + Send + 'static,
    S: Fn(Arc<App>, ClientIo, Client) -> F + Clone + Send + 'static,
{
    // Past tokio, which would take each connection for one of its own.
    let listener = match listener.into_std().map(mio::net::TcpListener::from_std).and_then(reactor::watched) {
        Ok(listener) => listener,
        Err(error) => return error!(%error, "cannot accept connections"),
    };
    let drain = app.drain.clone();
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
            Ok((app.reactor.add(stream)?, peer.ip().to_canonical()))
        });
        let (socket, ip) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, mostly. Accepting on at once would spin.
                warn!(%error, "cannot accept a connection");
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
    match tokio::time::timeout(proxy_protocol::PATIENCE, proxy_protocol::read(&mut socket)).await {
        Ok(Ok(ip)) => {
            if let Some(mut client) = Client::admit(&app, ip.unwrap_or(proxy), Door::Public, &alive) {
                client.is_passed_on = true;
                let io = ClientIo::new(socket, None, app.settings.write_timeout);
                tokio::spawn(serve(app, io, client));
            }
        }
        Ok(Err(_)) | Err(_) => {
            app.refused.because("proxy_protocol");
            debug!(%proxy, "no PROXY protocol header came from a trusted proxy");
        }
    }
}
