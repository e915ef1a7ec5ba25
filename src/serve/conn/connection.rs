//! The life of a connection: its requests, and what they turn it into.

use super::detect::{self, Speech};
use super::http2;
use crate::message::ClientId;
use crate::serve::App;
use crate::serve::TOLD_TIME;
use crate::serve::access::credentials::Asker;
use crate::serve::conn::http1::fast;
use crate::serve::conn::http1::fast::Next;
use crate::serve::http::peer::{Client, Taken};
use crate::serve::http::request::Inbound;
use crate::serve::net::cork::Cork;
use crate::serve::net::deadline::WriteDeadline;
use crate::serve::net::drain;
use crate::serve::net::stream::ClientIo;
use crate::serve::routes::response::Body;
use crate::serve::routes::router;
use crate::serve::routes::subscribe;
use crate::serve::session::commands::Commands;
use crate::serve::session::duplex::Duplex;
use crate::serve::session::long_poll::Waiting;
use crate::serve::session::stream::Streaming;
use crate::transport::{CloseReason, Control, Lifecycle, Params, RequestHead, Transport};
use bytes::BytesMut;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;
use tracing::debug;

/// Bytes of a request's head. Its headers are 100 at most over HTTP/1, which is hyper's own bound.
pub const MAX_HEAD: usize = 32 << 10;

/// Whatever of HTTP a client speaks, behind TLS or not.
pub async fn enter(app: Arc<App>, io: ClientIo, client: Client) {
    if client.is_over {
        // Nothing takes such a connection over, so this is all of it.
        let _ = tokio::time::timeout(TOLD_TIME, Box::pin(converse(app, io, client))).await;
    } else {
        converse(app, io, client).await;
    }
}

async fn converse(app: Arc<App>, io: ClientIo, mut client: Client) {
    let Some((mut io, is_secure)) = detect::secure(&app, io).await else { return };
    client.wants_tls = app.tls.is_some() && !is_secure && !detect::may_be_plain(&app, &client);
    match detect::hear(&mut io, &app.drain, app.settings.request_timeout).await {
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
        let next = fast::serve(&app, &mut io, &client, BytesMut::new()).await;
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
            let is_last = match waiting.run(&app, &mut io).await {
                Ok(is_last) => is_last,
                Err(error) => return app.refused.writer(&error),
            };
            let has_input = io.has_input(&mut waiting.input).await;
            // Who was not told of the end, and has asked again by now, is answered.
            if is_last || (!has_input && app.drain.has_begun()) {
                return Box::pin(io.linger()).await;
            }
            // The common case, without the room that all others take.
            if has_input && waiting.again(&app, &client) {
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
            match fast::read(app, io, waiting.input.buffer(), Instant::now()).await {
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
    let next = fast::serve(app, io, client, waiting.input.take()).await;
    if matches!(next, Ok(Next::Wait(_))) {
        client.handover = None;
    }
    Some(next)
}

/// The tasks borrow what they carry: an argument that is moved into a future is kept twice, and a parked reader
/// is as large as its task.
pub fn take_over(app: Arc<App>, io: ClientIo, mut client: Client, taken: Taken) {
    // It is asked for nothing while it is parked.
    client.handover = None;
    match taken {
        Taken::Duplex(transport, pump, commands) => {
            if let Some(mut duplex) = Duplex::new(app, io, transport, pump, commands) {
                let counted = client.counted;
                park(async move {
                    duplex.run().await;
                    drop(counted);
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
    // Whether a request is being answered. Else hyper waits for a head, or for the rest of one.
    let is_asked = Arc::<AtomicBool>::default();
    let service = service_fn(|request: hyper::Request<_>| {
        let (app, client, request) = (app.clone(), client.clone(), request.map(Inbound::Http1));
        let asking = Asking::new(&is_asked);
        // Called within: a future that is made outside is kept twice.
        Box::pin(async move {
            let _asking = asking;
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
    let (blocked, socket) = (io.blocked(), io.socket().clone());
    let (cork, mut patience) = (io.cork(), WriteDeadline::new(app.settings.write_timeout));
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(app.settings.request_timeout)
        // A client may shut its sending side and wait for its answer.
        .half_close(true)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(io), service);
    let mut draining: Pin<Box<dyn Future<Output = ()> + Send + '_>> = Box::pin(app.drain.begun());
    let (mut is_draining, mut is_late) = (false, false);
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
                    draining = Box::pin(app.drain.late());
                    Pin::new(&mut connection).graceful_shutdown();
                    continue;
                }
                // hyper closes what is idle, and waits for the rest of a head as long as without a drain.
                Poll::Pending
                    if is_draining && !is_asked.load(Ordering::Relaxed) && is_flushed && {
                        is_late = is_late || draining.as_mut().poll(cx).is_ready();
                        is_late
                    } =>
                {
                    app.refused.because("request_timeout");
                    Poll::Ready(None)
                }
                // A reply that is not taken.
                Poll::Pending if !is_flushed => {
                    let ticket = ticket.get_or_insert_with(|| app.budget.wait(handover.reply()));
                    ticket.poll_cut(cx).map(|()| None)
                }
                // While an answer is waited for hyper does not read, and would not notice.
                Poll::Pending => {
                    ticket = None;
                    socket.poll_reset(cx).map(|()| None)
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
            match app.drain.is_late() {
                true => io.linger_for(drain::LAST_WORDS).await,
                false => io.linger().await,
            }
            None
        }
        (Err(error), _) => {
            app.refused.head(&error);
            debug!(%error, "a connection ended with an error");
            None
        }
    }
}

/// A request that is being answered, for as long as this lives.
struct Asking(Arc<AtomicBool>);

impl Asking {
    fn new(is_asked: &Arc<AtomicBool>) -> Asking {
        is_asked.store(true, Ordering::Relaxed);
        Asking(is_asked.clone())
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Raw TCP, or the same in TLS.
pub async fn raw(app: Arc<App>, io: ClientIo, client: Client, transport: &'static dyn Transport) {
    if client.is_over {
        let _ = tokio::time::timeout(TOLD_TIME, Box::pin(lines(app, io, client, transport))).await;
    } else {
        lines(app, io, client, transport).await;
    }
}

async fn lines(app: Arc<App>, io: ClientIo, client: Client, transport: &'static dyn Transport) {
    let Some((mut io, _)) = detect::secure(&app, io).await else { return };
    let params = Params { client: Some(ClientId::random()), ..Params::default() };
    let Ok(opening) = transport.open(&params, &RequestHead::default()) else { return };
    let refused = if client.is_over {
        Some((CloseReason::TooManyConnections, Duration::from_millis(fastrand::u64(2000..8000))))
    } else {
        // A subscribe that comes early is read when the node is ready.
        (!app.is_ready().await).then(|| (CloseReason::Drain, app.drain.retry()))
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
        let counted = client.counted;
        park(async move {
            duplex.run().await;
            drop(counted);
        });
    }
}
