//! Accepts connections.

use super::{connection, raw_tcp};
use crate::serve::access::origin::ListenerKind;
use crate::serve::http::peer::Peer;
use crate::serve::limits::connections::ConnectionKind;
use crate::serve::net::listen::prepare;
use crate::serve::net::socket::Socket;
use crate::serve::net::stream::ClientStream;
use crate::serve::net::{proxy_protocol, reactor};
use crate::serve::routes::context::Context;
use crate::serve::state::ServerState;
use crate::transport;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::{debug, warn};

/// The listeners of a server.
pub struct Listeners {
    /// For HTTP.
    pub http: Vec<TcpListener>,
    /// The listener for HTTP through the demo's fault proxy, which cannot read TLS.
    pub behind_proxy: Option<TcpListener>,
    /// For raw TCP.
    pub tcp: Option<TcpListener>,
    /// For operators.
    pub admin: Option<TcpListener>,
}

/// Serves until the drain is over: all connections have ended, or `drain_time` is up.
///
/// # Errors
///
/// The system cannot watch a listener, or a listener's task has failed.
pub async fn serve(context: Arc<Context>, listeners: Listeners, drain_time: Duration) -> io::Result<()> {
    let state = context.state.clone();
    let (alive, mut all_gone) = mpsc::channel::<()>(1);
    let mut accepting = JoinSet::new();
    let mut http = |listener, kind| -> io::Result<()> {
        let (context, alive) = (context.clone(), alive.clone());
        let serve = move |io, peer| connection::serve(context.clone(), io, peer);
        accepting.spawn(accept(state.clone(), watched(listener)?, kind, alive, serve));
        Ok(())
    };
    for listener in listeners.http.into_iter().chain(listeners.behind_proxy) {
        http(listener, ListenerKind::Public)?;
    }
    if let Some(listener) = listeners.admin {
        let is_loopback = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
        http(listener, ListenerKind::Admin { is_loopback })?;
    }
    if let (Some(listener), Some(transport)) = (listeners.tcp, transport::socket()) {
        let raw_state = state.clone();
        let serve = move |io, peer| raw_tcp::serve(raw_state.clone(), io, peer, transport);
        accepting.spawn(accept(state.clone(), watched(listener)?, ListenerKind::Public, alive.clone(), serve));
    }
    drop(alive);
    tokio::select! {
        biased;
        () = state.drain.begun() => {}
        Some(ended) = accepting.join_next() => {
            return Err(io::Error::other(format!("a listener's task has ended: {ended:?}")));
        }
    }
    state.hub.wake_all();
    if tokio::time::timeout(drain_time, all_gone.recv()).await.is_err() {
        warn!(connections = state.connections.count(), "drain timeout: closing the remaining connections");
    }
    Ok(())
}

/// A listener that does not use tokio's type: tokio would also register each accepted connection.
fn watched(listener: TcpListener) -> io::Result<AsyncFd<mio::net::TcpListener>> {
    listener.into_std().map(mio::net::TcpListener::from_std).and_then(reactor::watched)
}

async fn accept<F, S>(
    state: Arc<ServerState>,
    listener: AsyncFd<mio::net::TcpListener>,
    kind: ListenerKind,
    alive: mpsc::Sender<()>,
    serve: S,
) where
    F: Future<Output = ()> + Send + 'static,
    S: Fn(ClientStream, Peer) -> F + Clone + Send + 'static,
{
    let drain = state.drain.clone();
    let most = match kind {
        ListenerKind::Public => state.descriptors.public_sockets(),
        ListenerKind::Admin { .. } => state.descriptors.all_sockets(),
    };
    loop {
        let accepted = tokio::select! {
            accepted = listener.async_io(Interest::READABLE, mio::net::TcpListener::accept) => accepted,
            // Clients that connected before the drain get a response or a farewell. Dropping the listener would reset
            // the connections that the server has not accepted.
            () = drain.begun() => match listener.get_ref().accept() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                accepted => accepted,
            },
        };
        let accepted = accepted.and_then(|(stream, peer)| {
            prepare(&stream, state.settings.send_buffer, state.settings.write_timeout);
            Ok((state.reactor.add(stream, most)?, peer.ip().to_canonical()))
        });
        let (socket, ip) = match accepted {
            Ok((Some(registration), ip)) => (Socket::new(registration), ip),
            // All descriptors are in use, so the server cannot even send an error response. It closes the connection at
            // once: in the backlog, the connection would delay other connections.
            Ok((None, _)) => {
                state.rejections.count_reason("connection_limit");
                continue;
            }
            Err(error) => {
                state.rejections.count_reason("accept_failed");
                warn!(%error, "cannot accept a connection");
                // Most errors concern the whole system and persist, so accepting again at once would be a busy loop.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if state.proxies.trusts(ip) && state.proxies.send_proxy_header && kind == ListenerKind::Public {
            tokio::spawn(serve_proxied(state.clone(), socket, ip, alive.clone(), serve.clone()));
        } else if let Some(peer) = admit(&state, ip, kind, &alive) {
            let io = ClientStream::new(socket, None, state.settings.write_timeout);
            tokio::spawn(serve(io, peer));
        }
    }
}

/// Returns the peer of a new connection; `None` if the connection must be closed at once.
fn admit(state: &ServerState, ip: IpAddr, kind: ListenerKind, alive: &mpsc::Sender<()>) -> Option<Peer> {
    let permit = state.admit(ip, kind, ConnectionKind::Socket);
    if permit.as_ref().is_none_or(|permit| permit.is_over_limit) {
        state.rejections.count_reason("connection_limit");
    }
    Some(Peer::new(ip, kind, permit?, alive))
}

/// Serves a connection of a trusted proxy, which begins with a PROXY protocol header.
async fn serve_proxied<F, S>(
    state: Arc<ServerState>,
    mut socket: Socket,
    proxy: IpAddr,
    alive: mpsc::Sender<()>,
    serve: S,
) where
    F: Future<Output = ()> + Send + 'static,
    S: Fn(ClientStream, Peer) -> F,
{
    let header = tokio::time::timeout(proxy_protocol::TIMEOUT, proxy_protocol::read(&mut socket));
    match state.drain.in_time(header).await {
        Some(Ok(Ok(ip))) => {
            if let Some(mut peer) = admit(&state, ip.unwrap_or(proxy), ListenerKind::Public, &alive) {
                peer.has_proxy_header = true;
                let io = ClientStream::new(socket, None, state.settings.write_timeout);
                tokio::spawn(serve(io, peer));
            }
        }
        Some(Ok(Err(_)) | Err(_)) | None => {
            state.rejections.count_reason("proxy_protocol");
            debug!(%proxy, "a trusted proxy sent no PROXY protocol header");
        }
    }
}
