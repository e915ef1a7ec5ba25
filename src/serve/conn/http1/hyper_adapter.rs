//! Serves requests with hyper, until the connection ends or a session takes it over.

use super::answers::last_response;
use super::handover::{BodyForHyper, Handover};
use super::request_input::{InputState, Patience, RequestInput};
use crate::serve::http::date;
use crate::serve::http::head::MAX_HEAD;
use crate::serve::http::peer::Peer;
use crate::serve::http::request::{ClientShut, Request, RequestBody};
use crate::serve::limits::memory::BlockedWrite;
use crate::serve::net::drain;
use crate::serve::net::socket::Socket;
use crate::serve::net::stream::ClientStream;
use crate::serve::router;
use crate::serve::routes::context::Context;
use crate::serve::routes::response::Body;
use crate::serve::session::session::Session;
use crate::serve::state::ServerState;
use crate::transport::ApiError;
use hyper::Version;
use hyper::header::{CONNECTION, DATE, HeaderValue};
use hyper::http::response::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as TaskContext, Poll};
use tokio::io::AsyncWriteExt as _;
use tracing::debug;

/// Serves requests. Returns the connection and the session that takes it over. Without a session, the last response is
/// already written, and the connection has to linger. `None` if the connection has ended.
///
/// The caller lingers, because this future holds much more memory than a connection that lingers needs. Otherwise, a
/// client that does not read its refusals could hold that memory outside the budget.
pub async fn serve(
    context: &Arc<Context>,
    mut io: ClientStream,
    peer: &Peer,
) -> Option<(ClientStream, Option<Session>)> {
    let state = &context.state;
    let handover = Arc::<Handover>::default();
    // Whether a request is being answered. Otherwise hyper waits for a head, or for the rest of one.
    let is_answering = Arc::<AtomicBool>::default();
    let client_shut = ClientShut::default();
    let service = service_fn(|request: hyper::Request<_>| {
        let (context, peer, handover) = (context.clone(), peer.clone(), handover.clone());
        let answering = Answering::new(&is_answering);
        let mut request = request.map(RequestBody::Http1);
        request.extensions_mut().insert(client_shut.clone());
        // The router is called inside this future: a future that is made outside and moved in is stored twice.
        Box::pin(async move {
            let _answering = answering;
            Ok::<_, Infallible>(answer(&context, &peer, &handover, request).await)
        })
    });
    let (is_blocked, socket) = (io.blocked(), io.socket().clone());
    let patience = Patience { head: state.settings.request_timeout, idle: state.settings.keep_alive_timeout };
    let input = RequestInput::new(io, patience, &state.budget);
    let input_state = input.state();
    let mut progress = Progress {
        state,
        handover: &handover,
        input: &input_state,
        is_answering: &is_answering,
        client_shut: &client_shut,
        is_blocked,
        socket,
        draining: Box::pin(state.drain.begun()),
        is_draining: false,
        is_shutting_down: false,
        is_late: false,
        blocked_write: None,
    };
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // The input enforces the timeouts.
        .header_read_timeout(None)
        // A client may shut its sending side and wait for its response.
        .half_close(true)
        .max_buf_size(MAX_HEAD)
        // The buffer may be larger than the requested size.
        .max_header_size(MAX_HEAD)
        .serve_connection(TokioIo::new(input), service);
    let ended = poll_fn(|cx| {
        loop {
            let polled = connection.poll_without_shutdown(cx);
            match progress.poll(cx, polled) {
                Step::ShutDown => Pin::new(&mut connection).graceful_shutdown(),
                Step::Done(done) => return done,
            }
        }
    });
    let ended = ended.await?;
    let http1::Parts { io, read_buf, .. } = connection.into_parts();
    let (mut io, refusal) = io.into_inner().into_stream();
    io.drop_blocked();
    if input_state.is_late() {
        state.rejections.count_reason("request_timeout");
        return None;
    }
    if let (Ok(()), Some(session)) = (&ended, handover.take()) {
        io.unread(read_buf);
        return Some((io, Some(session)));
    }
    Some((end(state, io, refusal, ended).await?, None))
}

/// Ends a connection that no session takes over. `refusal`: why the server did not read the rest of a head. Returns the
/// connection if it has to linger: the rest of a head that is too long must not reset the connection before the client
/// has read the error.
async fn end(
    state: &ServerState,
    mut io: ClientStream,
    refusal: Option<ApiError>,
    ended: Result<(), hyper::Error>,
) -> Option<ClientStream> {
    if let Some(refusal) = refusal {
        state.rejections.count(refusal.code);
        io.write_all(&last_response(&refusal)).await.ok()?;
    } else if let Err(error) = ended {
        state.rejections.bad_head(&error);
        debug!(%error, "an HTTP/1 connection ended with an error");
    } else if state.drain.is_late() {
        io.linger_for(drain::LAST_WORDS).await;
        return None;
    }
    Some(io)
}

/// Answers a request. A session waits in the handover until hyper has ended.
async fn answer(
    context: &Context,
    peer: &Peer,
    handover: &Arc<Handover>,
    request: Request,
) -> hyper::Response<BodyForHyper> {
    let version = request.version();
    let (mut head, body) = router::answer(context, peer, request).await.into_parts();
    if let Body::Session(Session::LongPoll(mut poll)) = body {
        poll.set_head(context.polls.head(head.status, &head.headers));
        handover.leave(Session::LongPoll(poll));
        // The poll writes its own head. This future never ends; it is dropped with hyper's connection.
        handover.set_head_written();
        return std::future::pending().await;
    }
    complete_head(version, &body, context.state.drain.has_begun(), &mut head);
    hyper::Response::from_parts(head, handover.accept(body))
}

/// Completes the head of a response that hyper writes.
fn complete_head(version: Version, body: &Body, is_draining: bool, head: &mut Parts) {
    // The end of the connection ends the body. A client that asked for keep-alive must not wait for another response.
    let is_close_delimited = version == Version::HTTP_10 && body.length().is_none();
    // If half of the head was read when the drain began, hyper learns of the drain only after this response.
    if is_close_delimited || (is_draining && !head.headers.contains_key(CONNECTION)) {
        head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if version == Version::HTTP_10 && head.headers.contains_key(CONNECTION) {
        // hyper would add `keep-alive` to a response of HTTP/1.1.
        head.version = version;
    }
    // hyper's own date does not follow a clock that is set back.
    head.headers.insert(DATE, date::now());
}

/// Decides, after each poll of hyper, how the connection continues.
struct Progress<'a> {
    state: &'a ServerState,
    handover: &'a Handover,
    input: &'a InputState,
    is_answering: &'a AtomicBool,
    client_shut: &'a ClientShut,
    /// Whether a write of hyper waits for the client to read.
    is_blocked: Arc<AtomicBool>,
    socket: Socket,
    /// The beginning of the drain, and then the end of its grace period.
    draining: Pin<Box<dyn Future<Output = ()> + Send + 'a>>,
    is_draining: bool,
    is_shutting_down: bool,
    is_late: bool,
    blocked_write: Option<BlockedWrite>,
}

/// Hyper's part has ended. `None` if the connection must be dropped.
type Ended = Option<Result<(), hyper::Error>>;

enum Step {
    /// The adapter must ask hyper to shut down gracefully, and poll it again.
    ShutDown,
    Done(Poll<Ended>),
}

impl Progress<'_> {
    fn poll(&mut self, cx: &mut TaskContext<'_>, polled: Poll<Result<(), hyper::Error>>) -> Step {
        let is_flushed = !self.is_blocked.load(Ordering::Relaxed);
        if let Poll::Ready(ended) = polled {
            return Step::Done(Poll::Ready(Some(ended)));
        }
        // The head of a session was sent, and hyper does not have anything left to write.
        if self.handover.is_head_written() && is_flushed {
            return Step::Done(Poll::Ready(Some(Ok(()))));
        }
        // A request under way is answered; an idle connection is closed. This is checked after hyper has read once, so
        // that a request that waits in the socket is not lost.
        if !self.is_draining && self.draining.as_mut().poll(cx).is_ready() {
            self.is_draining = true;
            self.draining = Box::pin(self.state.drain.late());
        }
        // hyper does not see a head before it is complete, and would treat the connection as idle.
        if self.is_draining && !self.is_shutting_down && !self.input.has_part_of_head() {
            self.is_shutting_down = true;
            return Step::ShutDown;
        }
        // A drain does not shorten the time in which the rest of a head may arrive.
        if self.is_draining && !self.is_answering.load(Ordering::Relaxed) && is_flushed {
            self.is_late = self.is_late || self.draining.as_mut().poll(cx).is_ready();
            if self.is_late {
                self.state.rejections.count_reason("request_timeout");
                return Step::Done(Poll::Ready(None));
            }
        }
        if !is_flushed {
            // The client does not read the response, so the blocked bytes are counted.
            let body = self.handover.body();
            let blocked = self.blocked_write.get_or_insert_with(|| self.state.budget.block(body));
            return Step::Done(blocked.poll_cut(cx).map(|()| None));
        }
        // hyper does not read while the handler makes a response, and would not notice that the client has
        // disconnected.
        self.blocked_write = None;
        if self.is_answering.load(Ordering::Relaxed) && self.socket.is_read_closed() {
            self.client_shut.set();
        }
        Step::Done(self.socket.poll_reset(cx).map(|()| None))
    }
}

/// Marks a request as being answered as long as this value exists.
struct Answering(Arc<AtomicBool>);

impl Answering {
    fn new(is_answering: &Arc<AtomicBool>) -> Answering {
        is_answering.store(true, Ordering::Relaxed);
        Answering(is_answering.clone())
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}
