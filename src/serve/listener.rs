//! Listening, accepting, and the life of a connection.

use super::access::{self, Door};
use super::asker::Asker;
use super::budget::Buffer;
use super::commands::Commands;
use super::duplex::Duplex;
use super::io::ClientIo;
use super::limits::{Admission, Place};
use super::proxy_protocol;
use super::pump::Pump;
use super::reply::Body;
use super::stream::{self, Framing};
use super::{App, Drain, READY_WAIT, router, subscribe};
use crate::message::ClientId;
use crate::transport::{self, Bye, Control, Lifecycle, Params, Peer, Transport};
use hyper::HeaderMap;
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
    /// For the keepers.
    pub admin: Option<TcpListener>,
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
    /// Where it comes from: the address behind the proxies that are trusted.
    pub ip: IpAddr,
    /// Which listener it came to.
    pub door: Door,
    /// The host that its request was sent to before a trusted proxy changed it.
    pub forwarded_host: Option<Arc<str>>,
    /// Its request's place among those of its address, where a proxy's connection carries many.
    pub place: Option<Arc<Place>>,
    /// Where a response leaves what goes on when its head is written.
    pub(super) handover: Arc<Handover>,
    /// Counted for as long as anybody speaks with it.
    _admission: Arc<Admission>,
    /// The server has ended when the last of these is gone.
    _alive: mpsc::Sender<()>,
}

impl Client {
    /// Who a request comes from, where proxies that are trusted have passed it on.
    pub fn behind_proxies(self, app: &App, headers: &HeaderMap) -> Client {
        if !app.proxies.trusts(self.ip) || self.door != Door::Public {
            return self;
        }
        let forwarded_host = app.proxies.host(self.ip, headers).map(Into::into);
        let ip = app.proxies.client(self.ip, headers);
        let place = app.connections.place(ip);
        let is_over = self.is_over || place.is_err();
        Client { ip, forwarded_host, is_over, place: place.ok().flatten().map(Arc::new), ..self }
    }

    /// The host that a request was sent to, without its port.
    pub fn host<'a>(&'a self, headers: &'a HeaderMap) -> &'a str {
        access::host(headers, self.forwarded_host.as_deref())
    }
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
    /// The body that was given to hyper last.
    reply: Mutex<Buffer>,
}

impl Handover {
    pub(super) fn leave(&self, taken: Taken) {
        *self.taken.lock() = Some(taken);
    }

    /// Set when hyper has taken the head and asks for a body.
    pub(super) fn reached(&self) -> Arc<AtomicBool> {
        self.reached.clone()
    }

    /// Notes the body that is given to hyper.
    pub(super) fn replied(&self, body: &Body) {
        if let Body::Whole(Some(bytes)) = body {
            *self.reply.lock() = Buffer::of(bytes);
        }
    }

    fn reply(&self) -> Buffer {
        *self.reply.lock()
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
        tokio::spawn(accept(app.clone(), listener, Door::Public, alive.clone(), http));
    }
    if let Some(listener) = listeners.admin {
        let is_near = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
        tokio::spawn(accept(app.clone(), listener, Door::Admin { is_near }, alive.clone(), http));
    }
    if let (Some(listener), Some(socket)) = (listeners.tcp, transport::socket()) {
        tokio::spawn(accept(app.clone(), listener, Door::Public, alive.clone(), move |app, stream, client| {
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

async fn accept<F, S>(app: Arc<App>, listener: TcpListener, door: Door, alive: mpsc::Sender<()>, serve: S)
where
    F: Future<Output = ()> + Send + 'static,
    S: Fn(Arc<App>, ClientIo, Client) -> F + Clone + Send + 'static,
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
        let ip = peer.ip().to_canonical();
        let is_proxy = app.proxies.trusts(ip);
        prepare(&stream, app.settings.send_buffer);
        if is_proxy && app.proxies.speak_first && door == Door::Public {
            tokio::spawn(behind_proxy(app.clone(), stream, ip, alive.clone(), serve.clone()));
        } else if let Some(client) = admit(&app, ip, door, &alive) {
            let io = ClientIo::new(stream, app.settings.write_timeout);
            tokio::spawn(serve(app.clone(), io, client));
        }
    }
}

/// A connection that a proxy begins by saying for whom it is.
async fn behind_proxy<F, S>(app: Arc<App>, mut stream: TcpStream, proxy: IpAddr, alive: mpsc::Sender<()>, serve: S)
where
    F: Future<Output = ()> + Send + 'static,
    S: Fn(Arc<App>, ClientIo, Client) -> F,
{
    match tokio::time::timeout(proxy_protocol::PATIENCE, proxy_protocol::read(&mut stream)).await {
        Ok(Ok(ip)) => {
            if let Some(client) = admit(&app, ip.unwrap_or(proxy), Door::Public, &alive) {
                let io = ClientIo::new(stream, app.settings.write_timeout);
                tokio::spawn(serve(app, io, client));
            }
        }
        Ok(Err(_)) | Err(_) => {
            app.refused.because("proxy_protocol");
            debug!(%proxy, "no PROXY protocol header came from a trusted proxy");
        }
    }
}

/// Counts a connection in; nothing: it is to be closed at once.
fn admit(app: &App, ip: IpAddr, door: Door, alive: &mpsc::Sender<()>) -> Option<Client> {
    let admission = app.connections.admit((!app.proxies.trusts(ip)).then_some(ip));
    if admission.as_ref().is_none_or(|admission| admission.is_over) && door == Door::Public {
        app.refused.because("connection_limit");
    }
    let admission = admission?;
    Some(Client {
        is_over: admission.is_over && door == Door::Public,
        ip,
        door,
        forwarded_host: None,
        place: None,
        handover: Arc::default(),
        _admission: Arc::new(admission),
        _alive: alive.clone(),
    })
}

fn prepare(stream: &TcpStream, send_buffer: usize) {
    if send_buffer > 0 {
        // Left to itself it grows to 4 MiB for a client that takes nothing: memory of the system's, which no
        // budget of ours sees.
        let _ = SockRef::from(stream).set_send_buffer_size(send_buffer);
    }
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
                let unread = match stream::run(&mut io, pump, framing, &app.budget).await {
                    Ok(unread) => unread,
                    Err(error) => return app.refused.writer(&error),
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
    let mut ticket = None;
    let ended = poll_fn(|cx| {
        if !is_draining && draining.as_mut().poll(cx).is_ready() {
            // What is under way is answered; what is idle is closed.
            is_draining = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        let polled = connection.poll_without_shutdown(cx);
        // hyper has asked for the body and has nothing left to write: the head is out.
        let is_out = reached.load(Ordering::Relaxed) && !blocked.load(Ordering::Relaxed);
        match polled {
            Poll::Pending if is_out => Poll::Ready(Some(Ok(()))),
            // A reply that is not taken.
            Poll::Pending if blocked.load(Ordering::Relaxed) => {
                let ticket = ticket.get_or_insert_with(|| app.budget.wait(client.handover.reply()));
                ticket.poll_cut(cx).map(|()| None)
            }
            // While an answer is waited for hyper does not read, and would not notice.
            Poll::Pending => {
                ticket = None;
                reset.as_mut().poll(cx).map(|()| None)
            }
            Poll::Ready(ended) => Poll::Ready(Some(ended)),
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
            app.refused.head(&error);
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
        opening.envelope.control(&Control::Bye { bye, retry: Some(retry), cursor: None }, &mut out);
        if io.write_all(&out).await.is_ok() {
            io.linger().await;
        }
        return;
    }
    debug_assert_eq!(transport.lifecycle(&params), Lifecycle::Socket);
    let pump = subscribe::pump(&app, transport, &params, opening, None);
    let asker = Arc::new(Asker::unknown(client.ip, transport.name()));
    let commands = Commands::new(asker, None, false, false);
    Duplex::run(app, io, transport, pump, commands).await;
}
