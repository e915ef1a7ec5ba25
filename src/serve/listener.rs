//! Listening, accepting, and the life of a connection.

use super::access::{self, Door};
use super::access_log::Entry;
use super::asker::Asker;
use super::budget::Buffer;
use super::commands::Commands;
use super::cork::{Cork, Patience};
use super::door::{self, Speech};
use super::duplex::Duplex;
use super::io::ClientIo;
use super::limits::{Admission, Place};
use super::plain::Next;
use super::ports::{prepare, waiting};
use super::proxy_protocol;
use super::pump::Pump;
use super::reply::Body;
use super::request::Inbound;
use super::stream::{Framing, Streaming};
use super::waiting::Waiting;
use super::{App, Drain, READY_WAIT, http2, plain, router, subscribe};
use crate::message::ClientId;
use crate::transport::{self, Bye, Control, Lifecycle, Params, Peer, Transport};
use bytes::BytesMut;
use hyper::HeaderMap;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{debug, warn};

/// Bytes of a request's head. Its headers are 100 at most over HTTP/1, which is hyper's own bound.
pub const MAX_HEAD: usize = 32 << 10;

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

/// What is known of a connection's other end.
#[derive(Clone)]
pub struct Client {
    /// Whether it is one connection too many, which is only told so.
    pub is_over: bool,
    /// Where it comes from: the address behind the proxies that are trusted.
    pub ip: IpAddr,
    /// Whether it came without TLS to where it should not.
    pub wants_tls: bool,
    /// Whether a trusted proxy has said whose connection it is (the PROXY protocol).
    pub is_passed_on: bool,
    /// Which listener it came to.
    pub door: Door,
    /// The host that its request was sent to before a trusted proxy changed it.
    forwarded_host: Option<Arc<String>>,
    /// Its request's place among those of its address, where a proxy's connection carries many.
    pub place: Option<Arc<Place>>,
    /// Where a response leaves what goes on when its head is written; `None` while nobody asks for anything.
    handover: Option<Arc<Handover>>,
    /// Counted for as long as anybody speaks with it.
    _admission: Arc<Admission>,
    /// The server has ended when the last of these is gone.
    _alive: mpsc::Sender<()>,
}

impl Client {
    /// The same client, for one stream of its connection. A stream counts like a connection, or one connection would be
    /// a way around the limits. `None`: it is to be refused without a word.
    pub(super) fn of_stream(&self, app: &App) -> Option<Client> {
        let admission = app.admission(self.ip, self.door)?;
        let is_over = self.is_over || admission.is_over;
        let _admission = Arc::new(admission);
        Some(Client { is_over, handover: Some(Arc::default()), _admission, ..self.clone() })
    }

    /// Who a request comes from, where proxies that are trusted have passed it on; `None`: this client itself.
    pub fn behind_proxies(&self, app: &App, headers: &HeaderMap) -> Option<Client> {
        if !app.proxies.trusts(self.ip) || self.door != Door::Public {
            return None;
        }
        let forwarded_host = app.proxies.host(self.ip, headers).map(|host| Arc::new(host.into()));
        let ip = app.proxies.client(self.ip, headers);
        let place = app.connections.place(ip);
        let is_over = self.is_over || place.is_err();
        Some(Client { ip, forwarded_host, is_over, place: place.ok().flatten().map(Arc::new), ..self.clone() })
    }

    /// Where a response leaves what goes on. A client that asks has one; by itself it would lead nowhere.
    pub(super) fn handover(&self) -> Arc<Handover> {
        self.handover.clone().unwrap_or_default()
    }

    /// The host that its request was sent to before a trusted proxy changed it.
    pub fn forwarded_host(&self) -> Option<&str> {
        self.forwarded_host.as_ref().map(|host| host.as_str())
    }

    /// The host that a request was sent to, without its port.
    pub fn host<'a>(&'a self, headers: &'a HeaderMap) -> &'a str {
        access::host(headers, self.forwarded_host())
    }
}

/// What takes a connection over from hyper.
pub(super) enum Taken {
    /// A stream, behind a head that promised this framing, and whether requests may follow it.
    Stream(Pump, Framing, bool),
    /// A long poll that waits.
    Poll(Box<Waiting>),
    /// A WebSocket, behind a 101.
    Duplex(&'static dyn Transport, Pump, Commands),
}

/// Where a connection changes hands.
#[derive(Default)]
pub struct Handover {
    taken: Mutex<Option<Box<Taken>>>,
    reached: AtomicBool,
    /// The body that was given to hyper last.
    reply: Mutex<Buffer>,
    /// Whether a publish that is being answered has its place in the log's order.
    is_queued: AtomicBool,
}

impl Handover {
    pub(super) fn leave(&self, taken: Taken) {
        *self.taken.lock() = Some(Box::new(taken));
    }

    /// Hyper has taken the head, and asks for a body.
    pub(super) fn is_reached(&self) -> bool {
        self.reached.load(Ordering::Relaxed)
    }

    pub(super) fn reach(&self) {
        self.reached.store(true, Ordering::Relaxed);
    }

    /// Writes a request down when what was left here ends; at once where nothing was left.
    pub(super) fn log(&self, entry: Entry) {
        if let Some(Taken::Stream(pump, ..) | Taken::Duplex(_, pump, _)) = self.taken.lock().as_deref_mut() {
            pump.log(entry);
        }
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

    pub(super) fn is_queued(&self) -> bool {
        self.is_queued.load(Ordering::Relaxed)
    }

    pub(super) fn set_queued(&self, is_queued: bool) {
        self.is_queued.store(is_queued, Ordering::Relaxed);
    }

    pub(super) fn take(&self) -> Option<Box<Taken>> {
        self.reached.store(false, Ordering::Relaxed);
        self.taken.lock().take()
    }
}

/// Serves until the drain is over: all connections are gone, or `drain_time` is up.
pub async fn serve(app: Arc<App>, listeners: Listeners, drain_time: Duration) {
    let (alive, mut all_gone) = mpsc::channel::<()>(1);
    for listener in listeners.http.into_iter().chain(listeners.behind_weather) {
        tokio::spawn(accept(app.clone(), listener, Door::Public, alive.clone(), enter));
    }
    if let Some(listener) = listeners.admin {
        let is_near = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
        tokio::spawn(accept(app.clone(), listener, Door::Admin { is_near }, alive.clone(), enter));
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
            if let Some(mut client) = admit(&app, ip.unwrap_or(proxy), Door::Public, &alive) {
                client.is_passed_on = true;
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
    let admission = app.admission(ip, door);
    if admission.as_ref().is_none_or(|admission| admission.is_over) {
        app.refused.because("connection_limit");
    }
    let admission = admission?;
    Some(Client {
        is_over: admission.is_over,
        ip,
        wants_tls: false,
        is_passed_on: false,
        door,
        forwarded_host: None,
        place: None,
        handover: None,
        _admission: Arc::new(admission),
        _alive: alive.clone(),
    })
}

/// Whatever of HTTP a client speaks, behind TLS or not.
async fn enter(app: Arc<App>, io: ClientIo, mut client: Client) {
    let Some((mut io, is_secure)) = door::secure(&app, io).await else { return };
    client.wants_tls = app.tls.is_some() && !is_secure && !door::may_be_plain(&app, &client);
    match door::hear(&mut io, &app.drain, app.settings.request_timeout).await {
        Some(Speech::Http1) => http(app, io, client).await,
        Some(Speech::Http2) => http2::serve(app, io, client).await,
        None => {}
    }
}

/// Requests, until the connection ends or a response takes it over. Each phase is a task of its own,
/// so that a parked stream does not keep the memory of the other.
///
/// Boxed, since a stream comes back here and a type cannot hold itself.
fn http(app: Arc<App>, mut io: ClientIo, mut client: Client) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        client.handover = Some(Arc::default());
        let next = plain::serve(&app, &mut io, &client, BytesMut::new()).await;
        go_on(app, io, client, next).await;
    })
}

/// Goes on behind plain requests.
async fn go_on(app: Arc<App>, mut io: ClientIo, client: Client, next: io::Result<Next>) {
    match next {
        Ok(Next::Wait(waiting)) => poll(app, io, client, waiting),
        Ok(Next::Taken(taken, unread)) => {
            io.unread(unread);
            take_over(app, io, client, *taken);
        }
        Ok(Next::Hyper(unread)) => {
            io.unread(unread);
            if let Some((io, taken)) = requests(&app, io, &client).await {
                take_over(app, io, client, *taken);
            }
        }
        Ok(Next::End) => io.linger().await,
        Err(error) => app.refused.writer(&error),
    }
}

/// Long polls, one behind the other, in a task that keeps nothing else while one waits.
fn poll(app: Arc<App>, mut io: ClientIo, mut client: Client, mut waiting: Box<Waiting>) {
    client.handover = None;
    waiting.answer_directly(&app, &io);
    park(async move {
        loop {
            if let Err(error) = waiting.run(&app, &mut io).await {
                return app.refused.writer(&error);
            }
            if app.drain.has_begun() {
                return Box::pin(io.linger()).await;
            }
            // The common case, without the room that all others take.
            if io.has_input(&mut waiting.input).await && waiting.again(&app, &client) {
                continue;
            }
            match Box::pin(ask_again(&app, &mut io, &mut client, &mut waiting)).await {
                None => {}
                Some(Ok(Next::Wait(next))) => {
                    waiting = next;
                    waiting.answer_directly(&app, &io);
                }
                Some(other) => {
                    tokio::spawn(go_on(app, io, client, other));
                    return;
                }
            }
        }
    });
}

/// What follows the answer to a poll; `None`: the same poll once more.
async fn ask_again(
    app: &Arc<App>,
    io: &mut ClientIo,
    client: &mut Client,
    waiting: &mut Waiting,
) -> Option<io::Result<Next>> {
    if waiting.may_come_again() {
        if waiting.input.is_empty() {
            // Whoever does not ask at once is no reader while he does not.
            waiting.leave();
            match plain::read(app, io, &mut waiting.input, Instant::now()).await {
                Ok(true) => {}
                Ok(false) => return Some(Ok(Next::End)),
                Err(error) => return Some(Err(error)),
            }
        }
        if waiting.again(app, client) {
            return None;
        }
    }
    waiting.leave();
    client.handover = Some(Arc::default());
    let next = plain::serve(app, io, client, std::mem::take(&mut waiting.input)).await;
    if matches!(next, Ok(Next::Wait(_))) {
        client.handover = None;
    }
    Some(next)
}

/// The tasks borrow what they carry: an argument that is moved into a future is kept twice, and a parked reader
/// is as large as its task.
pub(super) fn take_over(app: Arc<App>, io: ClientIo, mut client: Client, taken: Taken) {
    // It is asked for nothing while it is parked.
    client.handover = None;
    match taken {
        Taken::Duplex(transport, pump, commands) => {
            if let Some(mut duplex) = Duplex::new(app, io, transport, pump, commands) {
                park(async move {
                    duplex.run().await;
                    drop(client);
                });
            }
        }
        Taken::Stream(mut pump, framing, may_reuse) => {
            if let Some(stream) = io.plain().filter(|_| app.settings.direct_writes) {
                pump.write_directly(stream, Some(framing));
            }
            let mut stream = Streaming::new(io, pump, framing);
            park(async move {
                match stream.run(&app.budget).await {
                    Ok(()) => {
                        tokio::spawn(next_request(app, stream.end(), client, may_reuse));
                    }
                    Err(error) => app.refused.writer(&error),
                }
            });
        }
        Taken::Poll(waiting) => poll(app, io, client, waiting),
    }
}

/// Spawns what will mostly be parked. Boxed: tokio's own part of a task is aligned to two cache lines, and the
/// allocator rounds what is so aligned up by as much again.
fn park(parked: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(Box::pin(parked));
}

/// What follows an answer that hyper did not write.
fn next_request(
    app: Arc<App>,
    mut io: ClientIo,
    client: Client,
    may_reuse: bool,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    if !may_reuse || app.drain.has_begun() {
        return Box::pin(async move { io.linger().await });
    }
    http(app, io, client)
}

async fn requests(app: &Arc<App>, mut io: ClientIo, client: &Client) -> Option<(ClientIo, Box<Taken>)> {
    let handover = client.handover();
    let service = service_fn(|request: hyper::Request<_>| {
        let (app, client, request) = (app.clone(), client.clone(), request.map(Inbound::Http1));
        // Called within: a future that is made outside is kept twice.
        Box::pin(async move {
            let reply = router::answer(&app, &client, request).await;
            if !matches!(reply.body(), Body::Waiting(_)) {
                return Ok::<_, Infallible>(reply);
            }
            let head = app.polls.head(&reply);
            if let Body::Waiting(mut waiting) = reply.into_body() {
                waiting.set_head(head);
                let handover = client.handover();
                handover.leave(Taken::Poll(waiting));
                handover.reach();
            }
            // hyper does not answer this: it is dropped.
            std::future::pending().await
        })
    });
    let (blocked, mut reset) = (io.blocked(), io.reset());
    let (cork, mut patience) = (io.cork(), Patience::new(app.settings.write_timeout));
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(app.settings.request_timeout)
        // A client may shut its sending side and wait for its answer.
        .half_close(true)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(io), service);
    let mut draining = Box::pin(app.drain.begun());
    let mut is_draining = false;
    let mut ticket = None;
    let ended = poll_fn(|cx| {
        loop {
            let polled = connection.poll_without_shutdown(cx);
            // All that this turn has answered goes out at once.
            if let Some(cork) = &cork {
                let flushed = cork.poll_flush(cx);
                if let Poll::Ready(Err(_)) = patience.bound(cx, flushed) {
                    return Poll::Ready(None);
                }
            }
            let is_flushed = !blocked.load(Ordering::Relaxed) && cork.as_ref().is_none_or(Cork::is_empty);
            // hyper has asked for the body and has nothing left to write: the head is out.
            let is_out = handover.is_reached() && is_flushed;
            return match polled {
                Poll::Pending if is_out => Poll::Ready(Some(Ok(()))),
                // What is under way is answered; what is idle is closed. Behind a first reading, or a request that
                // waits in the socket would be nobody's.
                Poll::Pending if !is_draining && draining.as_mut().poll(cx).is_ready() => {
                    is_draining = true;
                    Pin::new(&mut connection).graceful_shutdown();
                    continue;
                }
                // A reply that is not taken.
                Poll::Pending if !is_flushed => {
                    let ticket = ticket.get_or_insert_with(|| app.budget.wait(handover.reply()));
                    ticket.poll_cut(cx).map(|()| None)
                }
                // While an answer is waited for hyper does not read, and would not notice.
                Poll::Pending => {
                    ticket = None;
                    reset.as_mut().poll(cx).map(|()| None)
                }
                Poll::Ready(ended) => Poll::Ready(Some(ended)),
            };
        }
    });
    let ended = ended.await?;
    let parts = connection.into_parts();
    let mut io = parts.io.into_inner();
    io.uncork().await.ok()?;
    match (ended, handover.take()) {
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

/// Raw TCP, or the same in TLS.
async fn raw(app: Arc<App>, io: ClientIo, client: Client, transport: &'static dyn Transport) {
    let Some((mut io, _)) = door::secure(&app, io).await else { return };
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
    if let Some(log) = &app.access_log {
        pump.log(log.begin_raw(client.ip));
    }
    let asker = Arc::new(Asker::unknown(client.ip, transport.name()));
    let commands = Commands::new(asker);
    if let Some(mut duplex) = Duplex::new(app, io, transport, pump, commands) {
        // A task of its own, which does not keep the room that all of this has taken.
        park(async move {
            duplex.run().await;
            drop(client);
        });
    }
}
