//! Listening, accepting, and the life of a connection.

use super::access_log::Entry;
use super::authorize::{Asker, Lease};
use super::commands::Commands;
use super::duplex::Duplex;
use super::io::ClientIo;
use super::limits::Admission;
use super::pump::Pump;
use super::stream::{self, Framing};
use super::{App, Drain, READY_WAIT, router, subscribe};
use crate::message::ClientId;
use crate::transport::{self, Bye, Control, Lifecycle, Params, Peer, Transport};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
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
    /// Where it comes from.
    pub ip: IpAddr,
    /// Where a response leaves what goes on when its head is written.
    pub(super) handover: Arc<Handover>,
    /// Counted for as long as anybody speaks with it.
    _admission: Arc<Admission>,
    /// The server has ended when the last of these is gone.
    _alive: mpsc::Sender<()>,
}

/// What takes a connection over from hyper.
pub(super) enum Taken {
    /// A stream, behind a head that promised this framing, and whether requests may follow it.
    Stream(Pump, Framing, bool),
    /// A WebSocket, behind a 101.
    Duplex(&'static dyn Transport, Pump, Commands),
}

/// Where a connection changes hands.
#[derive(Default)]
pub(super) struct Handover {
    taken: Mutex<Option<Taken>>,
    reached: Arc<AtomicBool>,
}

impl Handover {
    pub(super) fn leave(&self, taken: Taken) {
        *self.taken.lock() = Some(taken);
    }

    /// Set when hyper has taken the head and asks for a body.
    pub(super) fn reached(&self) -> Arc<AtomicBool> {
        self.reached.clone()
    }

    /// Writes a request down when what was left here ends; at once where nothing was left.
    pub(super) fn log(&self, entry: Entry) {
        match &mut *self.taken.lock() {
            Some(Taken::Stream(pump, ..) | Taken::Duplex(_, pump, _)) => pump.log(entry),
            None => {}
        }
    }

    fn take(&self) -> Option<Taken> {
        self.reached.store(false, Ordering::Relaxed);
        self.taken.lock().take()
    }
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
            () = drain.begun() => match waiting(&listener).await {
                Some(accepted) => accepted,
                // The listener is dropped with this: no new connections.
                None => return,
            },
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
        let ip = peer.ip().to_canonical();
        let Some(admission) = app.connections.admit(ip) else { continue };
        prepare(&stream);
        let io = ClientIo::new(stream, app.settings.write_timeout);
        let (is_over, handover) = (admission.is_over, Arc::default());
        let client = Client { is_over, ip, handover, _admission: Arc::new(admission), _alive: alive.clone() };
        tokio::spawn(serve(app.clone(), io, client));
    }
}

/// A connection that waits to be accepted. Who has connected in time is answered, or sent away with a
/// word: a listener that is dropped resets those that it has not accepted.
async fn waiting(listener: &TcpListener) -> Option<io::Result<(TcpStream, SocketAddr)>> {
    // Without tokio's budget: used up, it would look as if nobody waited.
    let accepted = tokio::task::unconstrained(poll_fn(|cx| Poll::Ready(listener.poll_accept(cx)))).await;
    match accepted {
        Poll::Ready(accepted) => Some(accepted),
        Poll::Pending => None,
    }
}

fn prepare(stream: &TcpStream) {
    // A message waits for nothing.
    let _ = stream.set_nodelay(true);
    // Clients that vanish without a word are found although nothing is written to them.
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

/// Requests, until the connection ends or a response takes it over. Each phase is a task of its own,
/// so that a parked stream does not keep the memory of the other.
///
/// Boxed, since a stream comes back here and a type cannot hold itself.
fn http(app: Arc<App>, io: ClientIo, client: Client) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        if let Some((io, taken)) = requests(&app, io, &client).await {
            take_over(app, io, client, taken);
        }
    })
}

fn take_over(app: Arc<App>, mut io: ClientIo, client: Client, taken: Taken) {
    match taken {
        Taken::Duplex(transport, pump, commands) => {
            tokio::spawn(async move {
                let _client = client;
                Duplex::run(app, io, transport, pump, commands).await;
            });
        }
        Taken::Stream(pump, framing, may_reuse) => {
            tokio::spawn(async move {
                let unread = match stream::run(&mut io, pump, framing).await {
                    Ok(unread) => unread,
                    Err(error) => return app.meters.cut(&error),
                };
                if !may_reuse || app.drain.has_begun() {
                    return io.linger().await;
                }
                io.unread(unread);
                tokio::spawn(http(app, io, client));
            });
        }
    }
}

async fn requests(app: &Arc<App>, io: ClientIo, client: &Client) -> Option<(ClientIo, Taken)> {
    let service = service_fn(|request| {
        let answer = router::answer(app.clone(), client.clone(), request);
        Box::pin(async move { Ok::<_, Infallible>(answer.await) })
    });
    let (blocked, mut reset) = (io.blocked(), io.reset());
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(app.settings.request_timeout)
        // A client may shut its sending side and wait for its answer.
        .half_close(true)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(io), service);
    let mut draining = Box::pin(app.drain.begun());
    let mut is_draining = false;
    let reached = client.handover.reached();
    let ended = poll_fn(|cx| {
        loop {
            let polled = connection.poll_without_shutdown(cx);
            // hyper has asked for the body and has nothing left to write: the head is out.
            let is_out = reached.load(Ordering::Relaxed) && !blocked.load(Ordering::Relaxed);
            return match polled {
                Poll::Pending if is_out => Poll::Ready(Some(Ok(()))),
                // What is under way is answered; what is idle is closed. Behind a first reading, or a
                // request that waits in the socket would be nobody's.
                Poll::Pending if !is_draining && draining.as_mut().poll(cx).is_ready() => {
                    is_draining = true;
                    Pin::new(&mut connection).graceful_shutdown();
                    continue;
                }
                // While an answer is waited for hyper does not read, and would not notice.
                Poll::Pending => reset.as_mut().poll(cx).map(|()| None),
                Poll::Ready(ended) => Poll::Ready(Some(ended)),
            };
        }
    });
    let ended = ended.await?;
    let parts = connection.into_parts();
    let mut io = parts.io.into_inner();
    match (ended, client.handover.take()) {
        (Ok(()), Some(taken)) => {
            io.unread(parts.read_buf);
            Some((io, taken))
        }
        (Ok(()), None) => {
            io.linger().await;
            None
        }
        (Err(error), _) => {
            debug!(%error, "a connection ended with an error");
            None
        }
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
        app.meters.bye(bye);
        opening.envelope.control(&Control::Bye { bye, retry: Some(retry), cursor: None }, &mut out);
        if io.write_all(&out).await.is_ok() {
            io.linger().await;
        }
        return;
    }
    debug_assert_eq!(transport.lifecycle(&params), Lifecycle::Socket);
    let mut pump = subscribe::pump(&app, transport, &params, opening, None);
    pump.lease(Lease::new(&app.authorizer, Asker::unknown(client.ip, transport.name()), params.client));
    if let Some(log) = &app.access_log {
        pump.log(log.begin_raw(client.ip));
    }
    let commands = Commands::new(false, false);
    Duplex::run(app, io, transport, pump, commands).await;
}
