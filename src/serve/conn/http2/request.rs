//! One HTTP/2 request and its response, in a separate task.

use super::abuse::ConnectionState;
use super::body::StreamBody;
use super::stream::StreamIo;
use crate::serve::http::date;
use crate::serve::http::headers::has_token;
use crate::serve::http::peer::Peer;
use crate::serve::http::request::{ExtendedConnect, RequestBody};
use crate::serve::limits::memory::BufferId;
use crate::serve::net::socket::Socket;
use crate::serve::net::stream::ClientStream;
use crate::serve::router;
use crate::serve::routes::context::Context;
use crate::serve::routes::response::{Body, Pieces, Response};
use crate::serve::session::session::Session;
use bytes::Bytes;
use futures_util::StreamExt;
use h2::RecvStream;
use h2::ext::Protocol;
use h2::server::SendResponse;
use hyper::header::{CONNECTION, CONTENT_LENGTH, DATE, EXPECT, HeaderValue};
use hyper::{Method, Request, StatusCode};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use tokio::io::AsyncWriteExt;

/// The task of a request.
pub struct RequestTask {
    /// The context that the routes need.
    pub context: Arc<Context>,
    /// The peer of the stream.
    pub peer: Peer,
    /// The state of the connection.
    pub connection: ConnectionState,
    /// The socket of the connection.
    pub socket: Socket,
}

impl RequestTask {
    /// Answers the request, and starts the session of the response, if there is one.
    pub async fn run(self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let (mut head, receive) = request.into_parts();
        let method = head.method.clone();
        let is_socket = head.extensions.get::<Protocol>().is_some_and(|protocol| protocol.as_str() == "websocket");
        let mut guard = self.connection.opened(if is_socket { "websocket" } else { "request" });
        // The body of a client that sends it only if the server asks for it (RFC 9110 §10.1.1).
        let mut expected = None;
        let (body, receive) = if is_socket {
            head.method = Method::GET;
            head.extensions.insert(ExtendedConnect);
            (RequestBody::Whole(Bytes::new()), Some(receive))
        } else {
            let body = StreamBody::new(receive, self.connection.clone());
            expected = has_token(&head.headers, EXPECT.as_str(), "100-continue").then(|| body.is_awaited());
            (RequestBody::Boxed(Box::pin(body)), None)
        };
        let answered = {
            let request = Request::from_parts(head, body);
            let mut answer = pin!(router::answer(&self.context, &self.peer, request));
            let answered = poll_fn(|cx| {
                if let Poll::Ready(response) = answer.as_mut().poll(cx) {
                    return Poll::Ready(Some(response));
                }
                if expected.take_if(|is_awaited| is_awaited.load(Ordering::Relaxed)).is_some() {
                    // The response below ends if the stream has ended.
                    let _ = respond.send_informational(go_on());
                }
                // The client has reset the stream. A reset also ends a long poll.
                respond.poll_reset(cx).map(|_| None)
            });
            answered.await
        };
        let Some(response) = answered else { return };
        let (head, body) = head_of(response, &method);
        let Ok(send) = respond.send_response(head, body.is_none()) else { return };
        let Some(body) = body else { return guard.completed() };
        let layer = Box::new(StreamIo::new(send, receive, guard));
        let io = ClientStream::new(self.socket.clone(), Some(layer), self.context.state.settings.write_timeout);
        self.write(body, io).await;
    }

    /// Writes a body, or starts its session.
    async fn write(self, body: Body, mut io: ClientStream) {
        let state = self.context.state.clone();
        match body {
            // An HTTP/2 stream carries only one request.
            Body::Session(Session::Stream(stream)) => stream.spawn(state, io, self.peer, |_, _| {}),
            Body::Session(Session::Duplex(duplex)) => duplex.spawn(state, io, self.peer),
            Body::Session(Session::Protocol(session)) => session.spawn(state, io, self.peer),
            // Over HTTP/2 the handler itself waits for a long poll: see `routes/poll.rs`.
            Body::Session(Session::LongPoll(_)) => {}
            Body::Whole(bytes) => {
                let bytes = bytes.unwrap_or_default();
                match state.budget.write(BufferId::of(&bytes), io.write_all(&bytes)).await {
                    Ok(_) => io.linger().await,
                    Err(error) => state.rejections.write_failed(&error),
                }
            }
            Body::Pieces(mut pieces) => {
                while let Some(bytes) = next_piece(&mut pieces, &mut io).await {
                    if io.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                io.linger().await;
            }
        }
    }
}

/// Asks the client for the body.
fn go_on() -> hyper::Response<()> {
    let mut response = hyper::Response::new(());
    *response.status_mut() = StatusCode::CONTINUE;
    response
}

/// The head of a response, and its body if there is one.
fn head_of(response: Response, method: &Method) -> (hyper::Response<()>, Option<Body>) {
    let (mut head, body) = response.into_parts();
    // HTTP/2 does not allow the headers of a connection (RFC 9113 §8.2.2).
    head.headers.remove(CONNECTION);
    head.headers.insert(DATE, date::now());
    let mut is_empty = false;
    if !matches!(body, Body::Session(_)) {
        is_empty = *method == Method::HEAD;
        if let Some(length) = body.length() {
            let has_body = !matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
            if has_body && (length > 0 || *method != Method::HEAD) {
                head.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
            }
            is_empty |= length == 0;
        }
    }
    (hyper::Response::from_parts(head, ()), (!is_empty).then_some(body))
}

/// The next piece of a body; `None` at its end, or if the client has reset the stream.
async fn next_piece(pieces: &mut Pieces, io: &mut ClientStream) -> Option<Bytes> {
    poll_fn(|cx| {
        if let Poll::Ready(piece) = pieces.poll_next_unpin(cx) {
            return Poll::Ready(piece);
        }
        io.poll_reset(cx).map(|()| None)
    })
    .await
}
