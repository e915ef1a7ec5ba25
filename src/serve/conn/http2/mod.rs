//! HTTP/2 (RFC 9113).
//!
//! When the head of a response is written, its stream becomes a [`ClientStream`] like any other connection, and
//! sessions write to it. With HTTP/1, TCP detects a client that does not read or has vanished. With HTTP/2, this module
//! detects such a client and disconnects it.
//!
//! The `h2` crate limits header lists, CONTINUATION frames, small DATA frames, and streams that are reset before the
//! server has seen them. [`abuse`] limits other kinds of abuse, and [`frames`] counts the bytes for these limits.

pub mod abuse;
pub mod body;
pub mod field_names;
pub mod frames;
mod limits;
pub mod request;
pub mod stream;

use crate::serve::http::head::MAX_HEAD;
use crate::serve::http::peer::Peer;
use crate::serve::limits::connections::ConnectionKind;
use crate::serve::net::drain::LAST_WORDS;
use crate::serve::net::stream::ClientStream;
use crate::serve::routes::context::Context;
use crate::serve::state::ServerState;
use abuse::{ConnectionState, Metered};
use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{PingPong, Reason, RecvStream};
use hyper::Request;
use limits::{OWN_RESETS, PENDING_RESETS, STREAMS, UNSENT, WINDOW, WINDOWS};
use request::RequestTask;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// A connection that is silent for this long gets a PING. Without the PING, the server would not notice for minutes
/// that a client has vanished, because the system's send buffers continue to accept bytes.
const PING_AFTER: Duration = Duration::from_secs(20);

/// Serves a connection whose client has sent the preface.
pub async fn serve(context: Arc<Context>, io: ClientStream, peer: Peer) {
    let state = &context.state;
    let shared = ConnectionState::new(state.http2.clone());
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
        .handshake(Metered::new(io, shared.clone(), &state.budget));
    let handshake = tokio::time::timeout(state.settings.request_timeout, handshake);
    let Some(Ok(Ok(connection))) = state.drain.in_time(handshake).await else { return };
    let open = |request, respond| {
        let Some(permit) = state.admit(peer.ip, peer.listener, ConnectionKind::Stream) else { return };
        let peer = peer.of_stream(permit);
        let task = RequestTask { context: context.clone(), peer, connection: shared.clone(), socket: socket.clone() };
        tokio::spawn(task.run(request, respond));
    };
    drive(state, connection, &shared, open).await;
}

/// An event on an HTTP/2 connection.
enum Event {
    Ended,
    Abuse(Reason),
    Drain,
    Timer,
}

/// Drives a connection to its end.
async fn drive(
    state: &ServerState,
    mut connection: Connection<Metered, Bytes>,
    shared: &ConnectionState,
    open: impl Fn(Request<RecvStream>, SendResponse<Bytes>),
) {
    let mut watch = Watch::new(state, shared, connection.ping_pong());
    let mut draining = pin!(state.drain.begun());
    loop {
        let event = poll_fn(|cx| {
            if let Some(pings) = &mut watch.pings {
                let _ = pings.poll_pong(cx);
            }
            loop {
                match connection.poll_accept(cx) {
                    Poll::Ready(Some(Ok((request, respond)))) => {
                        shared.requested(size_of_head(&request));
                        open(request, respond);
                    }
                    Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(Event::Ended),
                    Poll::Pending => break,
                }
            }
            if !watch.is_abusive
                && let Poll::Ready(code) = shared.poll_close(cx)
            {
                return Poll::Ready(Event::Abuse(code));
            }
            if !watch.is_draining && draining.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Event::Drain);
            }
            watch.timer.as_mut().poll(cx).map(|()| Event::Timer)
        });
        match event.await {
            Event::Ended => return,
            Event::Abuse(code) => {
                // The GOAWAY frame gives the reason. The server does not wait for the requests under way.
                watch.is_abusive = true;
                watch.ending = Some(Instant::now());
                connection.abrupt_shutdown(code);
                watch.timer.as_mut().reset(Instant::now() + watch.write_timeout.min(Duration::from_secs(1)));
            }
            Event::Drain => {
                // After a GOAWAY, requests under way end with their response, and sessions end with their farewell.
                watch.is_draining = true;
                watch.ending.get_or_insert_with(Instant::now);
                connection.graceful_shutdown();
                watch.timer.as_mut().reset(state.drain.late_at().unwrap_or_else(Instant::now));
            }
            Event::Timer => match watch.timer_fired() {
                Action::Continue => {}
                Action::ShutDown => connection.graceful_shutdown(),
                Action::Close => return,
            },
        }
    }
}

/// The size of the head counts, because it may be most of the bytes that a client sends: cookies that are too long for
/// the table of headers are sent with each poll.
fn size_of_head(request: &Request<RecvStream>) -> usize {
    let path = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    path + request.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>()
}

/// The action that the connection must take after its timer has fired.
enum Action {
    Continue,
    ShutDown,
    Close,
}

/// Watches whether a connection is idle, and whether its client is still there.
struct Watch<'a> {
    state: &'a ServerState,
    shared: &'a ConnectionState,
    pings: Option<PingPong>,
    timer: Pin<Box<Sleep>>,
    /// The maximum idle time of the connection before the first request, and between two requests.
    first_timeout: Duration,
    idle_timeout: Duration,
    write_timeout: Duration,
    /// The time at which the unanswered PING was sent.
    pinged: Option<Instant>,
    /// The time at which the shutdown of the connection began.
    ending: Option<Instant>,
    is_abusive: bool,
    is_draining: bool,
}

impl Watch<'_> {
    fn new<'a>(state: &'a ServerState, shared: &'a ConnectionState, pings: Option<PingPong>) -> Watch<'a> {
        let (first_timeout, write_timeout) = (state.settings.request_timeout, state.settings.write_timeout);
        Watch {
            state,
            shared,
            pings,
            timer: Box::pin(tokio::time::sleep(first_timeout.min(PING_AFTER))),
            first_timeout,
            idle_timeout: state.settings.keep_alive_timeout,
            write_timeout,
            pinged: None,
            ending: None,
            is_abusive: false,
            is_draining: false,
        }
    }

    fn timer_fired(&mut self) -> Action {
        let (now, shared) = (Instant::now(), self.shared);
        let is_gone = |pinged| shared.last_read() < pinged && now >= pinged + self.write_timeout;
        if self.is_abusive || self.pinged.is_some_and(is_gone) {
            return Action::Close;
        }
        self.pinged = self.pinged.filter(|pinged| shared.last_read() < *pinged);
        if let Some(late) = self.state.drain.late_at().filter(|_| self.is_draining) {
            // The client has sent only a part of a header block or frame, or it does not acknowledge the GOAWAY.
            if shared.idle_since().is_some_and(|since| now >= late.max(since + LAST_WORDS)) {
                return Action::Close;
            }
            self.timer.as_mut().reset(now + LAST_WORDS / 2);
            return Action::Continue;
        }
        let mut action = Action::Continue;
        let idle_timeout = if shared.has_requested() { self.idle_timeout } else { self.first_timeout };
        match shared.idle_since() {
            // The client does not send a request. The timeouts are the same as for the first and the next request of
            // HTTP/1.
            Some(since) if now >= since + idle_timeout && self.ending.is_none() => {
                self.ending = Some(now);
                action = Action::ShutDown;
            }
            // The client got a GOAWAY and does not have a request under way, but it does not close the connection.
            Some(since) if self.ending.is_some_and(|began| now >= began.max(since) + self.write_timeout) => {
                return Action::Close;
            }
            _ => {}
        }
        if self.pinged.is_none()
            && now >= shared.last_read() + PING_AFTER
            && self.pings.as_mut().is_some_and(|pings| pings.send_ping(h2::Ping::opaque()).is_ok())
        {
            self.pinged = Some(now);
        }
        self.timer.as_mut().reset(now + idle_timeout.min(self.write_timeout).min(PING_AFTER) / 2);
        action
    }
}
