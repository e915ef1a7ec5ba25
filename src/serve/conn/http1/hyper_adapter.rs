//! Serves requests with hyper, until the connection ends or a session takes it over.

use super::answers::last_response;
use super::handover::Handover;
use super::head_input::{HeadInput, Heads};
use crate::serve::http::head::MAX_HEAD;
use crate::serve::http::peer::Peer;
use crate::serve::http::request::{ClientShut, RequestBody};
use crate::serve::limits::memory::BlockedWrite;
use crate::serve::net::drain;
use crate::serve::net::socket::Socket;
use crate::serve::net::stream::ClientStream;
use crate::serve::router;
use crate::serve::routes::context::Context;
use crate::serve::routes::response::Body;
use crate::serve::session::session::Session;
use crate::serve::state::ServerState;
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

/// Serves requests. Returns the connection and a session that takes it over; `None` if the connection has ended.
pub async fn serve(context: &Arc<Context>, mut io: ClientStream, peer: &Peer) -> Option<(ClientStream, Session)> {
    let state = &context.state;
    let handover = Arc::<Handover>::default();
    let (heads, client_shut) = (Arc::<Heads>::default(), ClientShut::default());
    let service = service_fn(|request: hyper::Request<_>| {
        let (context, peer, handover) = (context.clone(), peer.clone(), handover.clone());
        let answering = heads.begin(&request);
        let mut request = request.map(RequestBody::Http1);
        request.extensions_mut().insert(client_shut.clone());
        // It is called inside: a future that is made outside and moved in is stored twice.
        Box::pin(async move {
            let _answering = answering;
            let (head, body) = router::answer(&context, &peer, request).await.into_parts();
            if let Body::Session(Session::LongPoll(mut poll)) = body {
                poll.set_head(context.polls.head(head.status, &head.headers));
                handover.leave(Session::LongPoll(poll));
                // The poll writes its own head. This future never ends; it is dropped with hyper's connection.
                handover.set_head_written();
                return std::future::pending().await;
            }
            Ok::<_, Infallible>(hyper::Response::from_parts(head, handover.accept(body)))
        })
    });
    let mut progress = Progress {
        state,
        handover: &handover,
        heads: &heads,
        client_shut: &client_shut,
        is_blocked: io.blocked(),
        socket: io.socket().clone(),
        draining: Box::pin(state.drain.begun()),
        is_draining: false,
        is_late: false,
        blocked_write: None,
    };
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(state.settings.request_timeout)
        // A client may shut its sending side and wait for its response.
        .half_close(true)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(HeadInput::new(io, heads.clone(), &state.budget)), service);
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
    let (mut io, refusal) = io.into_inner().into_inner();
    io.drop_blocked();
    if let (Ok(()), Some(session)) = (&ended, handover.take()) {
        io.unread(read_buf);
        return Some((io, session));
    }
    // The connection may last for a while, and needs the buffer no longer.
    drop(read_buf);
    if let Some(refusal) = refusal {
        state.rejections.count(refusal.code);
        if io.write_all(&last_response(&refusal)).await.is_ok() {
            io.linger().await;
        }
        return None;
    }
    if let Err(error) = ended {
        state.rejections.bad_head(&error);
        debug!(%error, "an HTTP/1 connection ended with an error");
        return None;
    }
    match state.drain.is_late() {
        true => io.linger_for(drain::LAST_WORDS).await,
        false => io.linger().await,
    }
    None
}

/// Decides, after each poll of hyper, how the connection goes on.
struct Progress<'a> {
    state: &'a ServerState,
    handover: &'a Handover,
    heads: &'a Heads,
    client_shut: &'a ClientShut,
    /// Whether a write of hyper waits for the client.
    is_blocked: Arc<AtomicBool>,
    socket: Socket,
    /// The beginning of the drain, and then the end of its grace period.
    draining: Pin<Box<dyn Future<Output = ()> + Send + 'a>>,
    is_draining: bool,
    is_late: bool,
    blocked_write: Option<BlockedWrite>,
}

/// The end of hyper's part: `None` if the connection must be dropped.
type Ended = Option<Result<(), hyper::Error>>;

enum Step {
    /// Ask hyper to shut down gracefully, and poll it again.
    ShutDown,
    Done(Poll<Ended>),
}

impl Progress<'_> {
    fn poll(&mut self, cx: &mut TaskContext<'_>, polled: Poll<Result<(), hyper::Error>>) -> Step {
        let is_flushed = !self.is_blocked.load(Ordering::Relaxed);
        if let Poll::Ready(ended) = polled {
            return Step::Done(Poll::Ready(Some(ended)));
        }
        // The head of a session is out, and hyper has nothing left to write.
        if self.handover.is_head_written() && is_flushed {
            return Step::Done(Poll::Ready(Some(Ok(()))));
        }
        // A request under way is answered; an idle connection is closed. This is checked after hyper has read once, so that a
        // request that waits in the socket is not lost.
        if !self.is_draining && self.draining.as_mut().poll(cx).is_ready() {
            self.is_draining = true;
            self.draining = Box::pin(self.state.drain.late());
            return Step::ShutDown;
        }
        // hyper closes idle connections, but waits for the rest of a head as long as without a drain.
        if self.is_draining && !self.heads.is_answering() && is_flushed {
            self.is_late = self.is_late || self.draining.as_mut().poll(cx).is_ready();
            if self.is_late {
                self.state.rejections.count_reason("request_timeout");
                return Step::Done(Poll::Ready(None));
            }
        }
        if !is_flushed {
            // The client does not read a response.
            let body = self.handover.body();
            let blocked = self.blocked_write.get_or_insert_with(|| self.state.budget.block(body));
            return Step::Done(blocked.poll_cut(cx).map(|()| None));
        }
        // hyper does not read while a response is being made, and would not notice that the client has gone.
        self.blocked_write = None;
        if self.heads.is_answering() && self.socket.is_read_closed() {
            self.client_shut.set();
        }
        Step::Done(self.socket.poll_reset(cx).map(|()| None))
    }
}
