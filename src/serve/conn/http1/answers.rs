//! Responses of a connection, in the order of its requests.
//!
//! Publishes that arrive together are appended together: each is queued for the log before the next one is handled, so
//! the log keeps their order. Their responses go out in the same order, in one write.

use super::decided_by_head::{Scope, is_decided_by_head};
use super::publish_template::{PendingTemplate, PublishHead, PublishTemplate};
use crate::log::queued::Queued;
use crate::serve::http::access_log::Entry;
use crate::serve::http::head::{write_chunked, write_head, write_length};
use crate::serve::http::peer::Peer;
use crate::serve::http::request::Request;
use crate::serve::limits::memory::BufferId;
use crate::serve::net::stream::ClientStream;
use crate::serve::router;
use crate::serve::routes::context::Context;
use crate::serve::routes::publish::PublishRequest;
use crate::serve::routes::response::{self, Body, Response};
use crate::serve::session::session::Session;
use crate::serve::state::ServerState;
use crate::transport::ApiError;
use bytes::Bytes;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::{HeaderMap, StatusCode};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use tokio::io::AsyncWriteExt as _;

/// The maximum number of publishes of a connection that are under way.
const MAX_PENDING: usize = 64;

/// The number of bytes of responses that are collected before they are written.
const MAX_GATHERED: usize = 16 << 10;

/// A response that refuses the request that the client is sending. The connection ends with this response.
pub fn last_response(refusal: &ApiError) -> Vec<u8> {
    let (mut head, body) = response::refused(refusal).into_parts();
    head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    let body = if let Body::Whole(Some(body)) = body { body } else { Bytes::new() };
    let mut out = Vec::new();
    write_head(head.status, &head.headers, &mut out);
    write_length(Some(body.len()), &mut out);
    out.extend_from_slice(&body);
    out
}

/// The response to a request.
enum Answer {
    /// A response, and the template for publishes with the same head.
    Response(Response, Option<Box<PublishTemplate>>),
    /// The body of the response to a publish that matched a template.
    Published(Arc<PublishTemplate>, Vec<u8>),
}

/// A response that is being made.
type PendingResponse = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// Responses in the order of their requests.
#[derive(Default)]
pub struct Answers {
    pending: VecDeque<PendingResponse>,
    out: Vec<u8>,
    /// Whether the last response ends the connection.
    is_last: bool,
    /// Whether any of the responses is to a publish.
    has_published: bool,
    /// The template of the last publish that was parsed.
    template: Option<Arc<PublishTemplate>>,
}

impl Answers {
    /// Whether the last response ends the connection.
    pub fn is_last(&self) -> bool {
        self.is_last
    }

    /// The template of the last publish that was parsed.
    pub fn template(&self) -> Option<&Arc<PublishTemplate>> {
        self.template.as_ref()
    }

    /// Begins to answer a publish: when this returns, the publish is queued for the log, or answered.
    pub async fn publish(
        &mut self,
        context: &Arc<Context>,
        peer: &Peer,
        mut request: Request,
        head: Option<PublishHead>,
    ) {
        let state = &context.state;
        let head = head.filter(|_| is_decided_by_head(state, peer, Scope::Publish));
        let pending = head.and_then(|head| PendingTemplate::of(state, peer, &request, head));
        let queued = Queued::default();
        request.extensions_mut().insert(queued.clone());
        let (context_, peer_) = (context.clone(), peer.clone());
        let answer = Box::pin(async move {
            let response = router::answer(&context_, &peer_, request).await;
            let template = pending.and_then(|pending| pending.answered(&response));
            Answer::Response(response, template.map(Box::new))
        });
        self.begin(state, &queued, answer).await;
    }

    /// Begins to answer a publish that matched a template, as [`Answers::publish`] does for others.
    pub async fn publish_again(
        &mut self,
        state: &Arc<ServerState>,
        publish: PublishRequest,
        template: Arc<PublishTemplate>,
        mut entry: Option<Entry>,
    ) {
        let queued = Queued::default();
        let (state_, queued_) = (state.clone(), queued.clone());
        let answer = Box::pin(async move {
            let (status, length, answer) = match publish.carry_out(&state_, template.credentials(), &queued_).await {
                Ok(body) => (StatusCode::OK, Some(body.len()), Answer::Published(template, body)),
                Err(refusal) => {
                    let response = template.refused(&state_, &refusal);
                    (response.status(), response.body().length(), Answer::Response(response, None))
                }
            };
            if let Some(entry) = &mut entry {
                entry.answered(status, length);
            }
            answer
        });
        self.begin(state, &queued, answer).await;
    }

    async fn begin(&mut self, state: &ServerState, queued: &Queued, mut answer: PendingResponse) {
        self.has_published = true;
        let answered = poll_fn(|cx| match answer.as_mut().poll(cx) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending if queued.is_set() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        });
        match answered.await {
            None => self.pending.push_back(answer),
            Some(answer) if self.pending.is_empty() => self.write(state, answer),
            Some(answer) => self.pending.push_back(Box::pin(std::future::ready(answer))),
        }
    }

    /// Waits for the responses to all publishes under way.
    pub async fn finish(&mut self, state: &ServerState) {
        while let Some(pending) = self.pending.pop_front() {
            let answer = pending.await;
            self.write(state, answer);
        }
    }

    /// Adds a response. Returns the session that writes the rest of the response, if there is one. The head of a long
    /// poll is not written here: the long poll writes it.
    pub fn respond(&mut self, state: &ServerState, response: Response) -> Option<(Session, StatusCode, HeaderMap)> {
        if !matches!(response.body(), Body::Session(_)) {
            self.write(state, Answer::Response(response, None));
            return None;
        }
        let (head, body) = response.into_parts();
        let Body::Session(session) = body else { return None };
        match &session {
            Session::LongPoll(_) => {}
            Session::Stream(_) => {
                self.write_head(state, head.status, &head.headers);
                write_chunked(&mut self.out);
            }
            Session::Duplex(_) | Session::Protocol(_) => {
                self.write_head(state, head.status, &head.headers);
                write_length(None, &mut self.out);
            }
        }
        Some((session, head.status, head.headers))
    }

    fn write_head(&mut self, state: &ServerState, status: StatusCode, headers: &HeaderMap) {
        self.is_last |= headers.contains_key(CONNECTION);
        write_head(status, headers, &mut self.out);
        self.announce_end(state);
    }

    /// Marks the last response before a drain with the header that announces the end of the connection.
    fn announce_end(&mut self, state: &ServerState) {
        if state.drain.has_begun() && !self.is_last && self.pending.is_empty() {
            self.is_last = true;
            self.out.extend_from_slice(b"connection: close\r\n");
        }
    }

    fn write(&mut self, state: &ServerState, answer: Answer) {
        let (response, template) = match answer {
            Answer::Response(response, template) => (response, template),
            Answer::Published(template, body) => {
                self.out.extend_from_slice(template.response_head());
                self.announce_end(state);
                write_length(Some(body.len()), &mut self.out);
                return self.out.extend_from_slice(&body);
            }
        };
        self.write_head(state, response.status(), response.headers());
        if let Some(template) = template {
            self.template = Some((*template).into());
        }
        // A 304 does not give the length of the body that the client already has.
        let has_length = response.status() != StatusCode::NOT_MODIFIED;
        let Body::Whole(body) = response.into_body() else {
            // A plain request never has a response in pieces. If one did, closing the connection would be better than a
            // client that waits for the rest of the body.
            self.is_last = true;
            return;
        };
        write_length(body.as_ref().map(Bytes::len).or(has_length.then_some(0)), &mut self.out);
        self.out.extend_from_slice(&body.unwrap_or_default());
    }

    /// Refuses the request that the client is sending, with the last response of the connection.
    ///
    /// # Errors
    ///
    /// The client has disconnected, or does not read.
    pub async fn refuse(&mut self, state: &ServerState, io: &mut ClientStream, refusal: &ApiError) -> io::Result<()> {
        state.rejections.count(refusal.code);
        self.out.extend_from_slice(&last_response(refusal));
        self.is_last = true;
        self.send(state, io).await
    }

    /// Writes the responses to the connection if there are many.
    ///
    /// # Errors
    ///
    /// The client has disconnected, or does not read.
    pub async fn send_if_many(&mut self, state: &ServerState, io: &mut ClientStream) -> io::Result<()> {
        if self.pending.len() >= MAX_PENDING || self.out.len() >= MAX_GATHERED {
            self.send(state, io).await?;
        }
        Ok(())
    }

    /// Waits for all responses, and writes them to the connection.
    ///
    /// # Errors
    ///
    /// The client has disconnected, or does not read.
    pub async fn send(&mut self, state: &ServerState, io: &mut ClientStream) -> io::Result<()> {
        self.finish(state).await;
        if self.out.is_empty() {
            return Ok(());
        }
        // A publisher may send its next message as soon as it has the response to the last one. Without this wait, the
        // publisher would publish again while readers still wait for the last message: the publisher's connection would
        // always have input, so the hub's task would run late.
        if std::mem::take(&mut self.has_published) {
            state.hub.handed_out().await;
        }
        let out = Bytes::from(std::mem::take(&mut self.out));
        Box::pin(state.budget.write(BufferId::of(&out), io.write_all(&out))).await?;
        Ok(())
    }
}
