//! Listening, accepting, and the life of a connection.

use super::io::{ClientIo, Watch};
use super::limits::Admission;
use super::{App, Drain, READY_WAIT, commands, duplex, router, subscribe};
use crate::message::ClientId;
use crate::transport::{self, Bye, Control, Lifecycle, Params, Peer, Transport};
use bytes::BytesMut;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tracing::{debug, warn};

/// Connections that may wait to be accepted: a page full of readers comes back at once after a drain.
const BACKLOG: i32 = 4096;

/// Bytes of a request's head. Its headers are 100 at most, which is hyper's own bound.
const MAX_HEAD: usize = 32 << 10;

/// Where a server listens.
pub struct Listeners {
    /// For HTTP.
    pub http: Vec<TcpListener>,
    /// For raw TCP.
    pub tcp: Option<TcpListener>,
}

/// Binds an address.
///
/// # Errors
///
/// The system's, with the address.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let bind = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            // Else [::]:80 would take 0.0.0.0:80, too, which may be listened on besides.
            socket.set_only_v6(true)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    bind().map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))
}

/// What is known of a connection's other end.
#[derive(Clone)]
pub struct Client {
    /// Whether it is one connection too many, which is only told so.
    pub is_over: bool,
    pub(super) watch: Watch,
    /// Counted for as long as anybody speaks with it.
    _admission: Arc<Admission>,
    /// The server has ended when the last of these is gone.
    _alive: mpsc::Sender<()>,
}

/// Serves until the drain is over: all connections are gone, or `drain_time` is up.
pub async fn serve(app: Arc<App>, listeners: Listeners, drain_time: Duration) {
    let (alive, mut all_gone) = mpsc::channel::<()>(1);
    for listener in listeners.http {
        tokio::spawn(accept(app.clone(), listener, alive.clone(), http));
    }
    if let (Some(listener), Some(socket)) = (listeners.tcp, transport::socket()) {
        tokio::spawn(accept(app.clone(), listener, alive.clone(), move |app, stream, client| {
            raw(app, stream, client, socket)
        }));
    }
    drop(alive);
    app.drain.begun().await;
    app.hub.wake_all();
    if tokio::time::timeout(drain_time, all_gone.recv()).await.is_err() {
        warn!(connections = app.connections.count(), "the time to drain is up; the rest is cut");
    }
}

async fn accept<F, S>(app: Arc<App>, listener: TcpListener, alive: mpsc::Sender<()>, serve: S)
where
    F: Future<Output = ()> + Send + 'static,
    S: Fn(Arc<App>, ClientIo, Client) -> F,
{
    let drain: Drain = app.drain.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // The listener is dropped with this: no new connections.
            () = drain.begun() => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, mostly. Accepting on at once would spin.
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Some(admission) = app.connections.admit(peer.ip().to_canonical()) else { continue };
        prepare(&stream);
        let (io, watch) = ClientIo::new(stream, app.settings.write_timeout);
        let is_over = admission.is_over;
        let client = Client { is_over, watch, _admission: Arc::new(admission), _alive: alive.clone() };
        tokio::spawn(serve(app.clone(), io, client));
    }
}

fn prepare(stream: &TcpStream) {
    // A message waits for nothing.
    let _ = stream.set_nodelay(true);
    // Clients that vanish without a word are found although nothing is written to them.
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

async fn http(app: Arc<App>, io: ClientIo, client: Client) {
    let service = service_fn(|request| {
        let (app, client) = (app.clone(), client.clone());
        async move { Ok::<_, Infallible>(router::answer(app, client, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(app.settings.request_timeout)
        // A client may shut its sending side and wait for its answer.
        .half_close(true)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let serving = async {
        tokio::pin!(connection);
        tokio::select! {
            biased;
            ended = connection.as_mut() => ended,
            () = app.drain.begun() => {
                // What is under way is answered; what is idle is closed.
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    };
    let ended = client.watch.until_reset(serving).await.unwrap_or(Ok(()));
    if let Err(error) = ended {
        debug!(%error, "a connection ended with an error");
    }
}

async fn raw(app: Arc<App>, mut io: ClientIo, client: Client, transport: &'static dyn Transport) {
    let params = Params { client: Some(ClientId::random()), ..Params::default() };
    let Ok(opening) = transport.open(&params, &Peer::default()) else { return };
    let refused = if client.is_over {
        Some((Bye::TooManyConnections, Duration::from_millis(fastrand::u64(2000..8000))))
    } else {
        // A subscribe that comes early is read when the node is ready.
        let ready = tokio::time::timeout(READY_WAIT, app.hub.ready()).await.is_ok();
        (!ready).then(|| (Bye::Drain, app.drain.retry()))
    };
    if let Some((bye, retry)) = refused {
        let mut out = Vec::new();
        opening.envelope.control(&Control::Bye { bye, retry: Some(retry), cursor: None }, &mut out);
        if io.write_all(&out).await.is_ok() {
            duplex::linger(&mut io).await;
        }
        return;
    }
    debug_assert_eq!(transport.lifecycle(&params), Lifecycle::Socket);
    let pump = subscribe::pump(&app, transport, &params, opening, None);
    let commands = commands::Commands::new(false, false);
    duplex::Duplex::run(app, io, BytesMut::new(), transport, pump, commands, &client).await;
}
