//! HTTP/2 (RFC 9113): a connection, its streams, and what a client may not do with them.
//!
//! A stream that has its answer's head becomes a [`ClientIo`] like any other connection, and the pump writes to it.
//! What HTTP/1 gets from TCP is done here: a client that takes nothing is let go, and so is one that is gone.
//!
//! The `h2` crate bounds header lists and CONTINUATION frames, small DATA frames, and streams that are reset before
//! we have seen them. What it does not bound is counted here.

mod abuse;
mod stream;

pub use abuse::{Metrics, Share};

use crate::serve::App;
use crate::serve::conn::connection::{self, MAX_HEAD};
use crate::serve::http::peer::Client;
use crate::serve::http::request::{ExtendedConnect, Inbound};
use crate::serve::limits::memory::Buffer;
use crate::serve::net::drain::LAST_WORDS;
use crate::serve::net::socket::Socket;
use crate::serve::net::stream::ClientIo;
use crate::serve::routes::response::{Body, Pieces, Reply};
use crate::serve::routes::router;
use abuse::Metered;
use bytes::Bytes;
use futures_util::StreamExt;
use h2::ext::Protocol;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use hyper::body::Body as _;
use hyper::header::{CONTENT_LENGTH, DATE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};
use stream::StreamIo;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

/// What a connection of HTTP/2 begins with (RFC 9113 §3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Requests of a connection at a time. RFC 9113 §6.5.2 wants 100 at least; a browser's tabs share one connection.
const STREAMS: u32 = 128;

/// Bytes of a body that may come before somebody has read them: of one request, and of all.
const WINDOW: u32 = 64 << 10;
const WINDOWS: u32 = 1 << 20;

/// Bytes that a stream may have handed over and the client has not taken. They count as written, and to no budget, so they
/// are few: one frame, and 2 MiB for all streams of a connection.
const UNSENT: usize = 16 << 10;

/// Streams that the client has reset and that we have not seen yet (CVE-2023-44487), and those that we had to reset for
/// what it did to them (CVE-2025-8671).
const PENDING_RESETS: usize = 20;
const OWN_RESETS: usize = 100;

/// A connection that says nothing for so long is asked whether it is there: what a vanished client was sent waits in the
/// system's buffers, which takes it for minutes.
const PING_AFTER: Duration = Duration::from_secs(20);

/// Serves a connection, behind TLS or not, whose client has sent the preface.
pub async fn serve(app: Arc<App>, io: ClientIo, client: Client) {
    let share = Share::new(app.http2.clone());
    let socket = io.socket().clone();
    let handshake = Builder::new()
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOWS)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(MAX_HEAD as u32)
        .max_send_buffer_size(UNSENT)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(Some(OWN_RESETS))
        .enable_connect_protocol()
        .handshake(Metered::new(io, share.clone()));
    let handshake = tokio::time::timeout(app.settings.request_timeout, handshake);
    let Some(Ok(Ok(connection))) = app.drain.in_time(handshake).await else { return };
    let open = |request, respond| {
        let Some(client) = client.of_stream(&app) else { return };
        let stream = Stream { app: app.clone(), client, share: share.clone(), socket: socket.clone() };
        tokio::spawn(stream.serve(request, respond));
    };
    carry(&app, connection, &share, open).await;
}

/// Carries a connection to its end.
async fn carry(
    app: &App,
    mut connection: Connection<Metered, Bytes>,
    share: &Share,
    open: impl Fn(Request<RecvStream>, SendResponse<Bytes>),
) {
    let mut pings = connection.ping_pong();
    let mut draining = pin!(app.drain.begun());
    let (idle, patience) = (app.settings.request_timeout, app.settings.write_timeout);
    let mut timer = pin!(tokio::time::sleep(idle.min(PING_AFTER)));
    // When it was asked whether it is there, and since when it is being ended.
    let (mut asked, mut ending) = (None::<Instant>, None::<Instant>);
    let (mut is_let_go, mut is_draining) = (false, false);
    loop {
        let event = poll_fn(|cx| {
            if let Some(pings) = &mut pings {
                let _ = pings.poll_pong(cx);
            }
            loop {
                match connection.poll_accept(cx) {
                    Poll::Ready(Some(Ok((request, respond)))) => {
                        share.was_of_use(HEAD_CREDIT + size_of_head(&request));
                        open(request, respond);
                    }
                    Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(Event::Ended),
                    Poll::Pending => break,
                }
            }
            if !is_let_go && share.poll_let_go(cx).is_ready() {
                return Poll::Ready(Event::LetGo);
            }
            if !is_draining && draining.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Event::Drain);
            }
            timer.as_mut().poll(cx).map(|()| Event::Time)
        });
        match event.await {
            Event::Ended => return,
            Event::LetGo => {
                // GOAWAY says why, to whom it may concern; nothing else is waited for.
                is_let_go = true;
                ending = Some(Instant::now());
                connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                timer.as_mut().reset(Instant::now() + patience.min(Duration::from_secs(1)));
            }
            Event::Drain => {
                // GOAWAY: what is under way ends by itself, by its bye or its answer.
                is_draining = true;
                ending.get_or_insert_with(Instant::now);
                connection.graceful_shutdown();
                timer.as_mut().reset(app.drain.late_at().unwrap_or_else(Instant::now));
            }
            Event::Time => {
                let now = Instant::now();
                if is_let_go || asked.is_some_and(|asked| share.heard() < asked && now >= asked + patience) {
                    return;
                }
                asked = asked.filter(|asked| share.heard() < *asked);
                if let Some(late) = app.drain.late_at().filter(|_| is_draining) {
                    // Half a header block, half a frame, or a client that does not acknowledge the GOAWAY.
                    if share.idle_since().is_some_and(|since| now >= late.max(since + LAST_WORDS)) {
                        return;
                    }
                    timer.as_mut().reset(now + LAST_WORDS / 2);
                    continue;
                }
                match share.idle_since() {
                    // Nobody asks for anything: the same bound as for the next request of HTTP/1.
                    Some(since) if now >= since + idle && ending.is_none() => {
                        ending = Some(now);
                        connection.graceful_shutdown();
                    }
                    // It was told to go, has nothing to wait for, and stays.
                    Some(since) if ending.is_some_and(|began| now >= began.max(since) + patience) => return,
                    _ => {}
                }
                if asked.is_none()
                    && now >= share.heard() + PING_AFTER
                    && pings.as_mut().is_some_and(|pings| pings.send_ping(h2::Ping::opaque()).is_ok())
                {
                    asked = Some(now);
                }
                timer.as_mut().reset(now + idle.min(patience).min(PING_AFTER) / 2);
            }
        }
    }
}

/// What a request is worth against what its connection reads, beside its head.
const HEAD_CREDIT: usize = 512;

/// A head may be most of what a client sends: cookies that are too long for the table of fields come with each poll.
fn size_of_head(request: &Request<RecvStream>) -> usize {
    let path = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    path + request.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>()
}

enum Event {
    Ended,
    LetGo,
    Drain,
    Time,
}

/// One request and its answer.
struct Stream {
    app: Arc<App>,
    client: Client,
    share: Share,
    socket: Socket,
}

impl Stream {
    async fn serve(self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let (mut head, receive) = request.into_parts();
        let wanted = head.method.clone();
        let is_socket = head.extensions.get::<Protocol>().is_some_and(|protocol| protocol.as_str() == "websocket");
        let mut guard = self.share.opened(if is_socket { "websocket" } else { "request" });
        let (body, receive) = if is_socket {
            head.method = Method::GET;
            head.extensions.insert(ExtendedConnect);
            (Inbound::Whole(Bytes::new()), Some(receive))
        } else {
            (Inbound::Http2(receive, self.share.clone()), None)
        };
        let answered = {
            let mut answer = pin!(router::answer(&self.app, &self.client, Request::from_parts(head, body)));
            let answered = poll_fn(|cx| {
                if let Poll::Ready(reply) = answer.as_mut().poll(cx) {
                    return Poll::Ready(Some(reply));
                }
                // The client wants it no longer: a long-poll that nobody waits for ends with this.
                respond.poll_reset(cx).map(|_| None)
            });
            answered.await
        };
        let Some(reply) = answered else { return };
        let taken = self.client.handover().take();
        let (head, body) = head_of(reply, taken.is_none().then_some(&wanted));
        let Ok(send) = respond.send_response(head, body.is_none()) else { return };
        let Some(body) = body else { return guard.ended() };
        let layer = Box::new(StreamIo::new(send, receive, guard));
        let mut io = ClientIo::new(self.socket, Some(layer), self.app.settings.write_timeout);
        match (taken, body) {
            (Some(taken), _) => connection::take_over(self.app, io, self.client, *taken),
            (None, Body::Whole(bytes)) => {
                let bytes = bytes.unwrap_or_default();
                match self.app.budget.write(Buffer::of(&bytes), io.write_all(&bytes)).await {
                    Ok(_) => io.linger().await,
                    Err(error) => self.app.refused.writer(&error),
                }
            }
            (None, Body::Pieces(mut pieces)) => {
                while let Some(bytes) = next_piece(&mut pieces, &mut io).await {
                    if io.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                io.linger().await;
            }
            (None, Body::Handover(_) | Body::Waiting(_)) => {}
        }
    }
}

/// The answer's head, and its body where there is one. `asked`: the method, where nothing takes the stream over.
fn head_of(reply: Reply, asked: Option<&Method>) -> (Response<()>, Option<Body>) {
    let (mut head, body) = reply.into_parts();
    // RFC 9113 §8.2.2: no header of the connection.
    head.headers.remove(hyper::header::CONNECTION);
    if let Ok(date) = HeaderValue::from_str(&httpdate::fmt_http_date(SystemTime::now())) {
        head.headers.insert(DATE, date);
    }
    let Some(method) = asked else { return (Response::from_parts(head, ()), Some(body)) };
    let mut is_empty = method == Method::HEAD || body.is_end_stream();
    if let Some(length) = body.size_hint().exact() {
        let has_body = !matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if has_body && (length > 0 || method != Method::HEAD) {
            head.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        is_empty |= length == 0;
    }
    (Response::from_parts(head, ()), (!is_empty).then_some(body))
}

/// The next piece of a body, unless the client wants no more.
async fn next_piece(pieces: &mut Pieces, io: &mut ClientIo) -> Option<Bytes> {
    poll_fn(|cx| {
        if let Poll::Ready(piece) = pieces.poll_next_unpin(cx) {
            return Poll::Ready(piece);
        }
        io.poll_reset(cx).map(|()| None)
    })
    .await
}
