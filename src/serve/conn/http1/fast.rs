//! HTTP/1.1 fast path for polls, streams and publishes. All other requests go to hyper unchanged.
//!
//! Clients that poll or publish send simple requests again and again. With hyper, each round of a long poll would need
//! a new hyper connection, and pipelined requests would be handled one by one. This would cost more than all other work
//! for these requests. A stream that hyper has begun would leave holes in memory where hyper's buffers were. So this
//! module reads plain requests, with hyper's own parser, and passes them to the same router as all others.
//!
//! `--plain-requests false` gives all requests to hyper. `tests/plain.rs` checks that both give the same responses.

use super::answers::Answers;
use super::decided_by_head::{Scope, is_decided_by_head};
use super::parse::{MAX_REQUEST, Parsed, parse};
use super::publish_template::PublishTemplate;
use crate::serve::http::access_log::Entry;
use crate::serve::http::head::MAX_HEAD;
use crate::serve::http::peer::Peer;
use crate::serve::http::request::Request;
use crate::serve::net::stream::ClientStream;
use crate::serve::router;
use crate::serve::routes::context::Context;
use crate::serve::routes::publish::PublishRequest;
use crate::serve::session::session::Session;
use crate::serve::state::ServerState;
use bytes::{Buf, Bytes, BytesMut};
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::time::Instant;

/// The time in which a request must be complete, and the time without input after which a connection also watches for a
/// drain. A client that polls usually sends its next request sooner, so it needs only this one timer.
const QUIET: Duration = Duration::from_secs(1);

/// The next phase of a connection after its plain requests.
pub enum Next {
    /// A session, and the input that follows its request. The head of its response is already written, unless the
    /// session is a long poll.
    Session(Session, Bytes),
    /// Requests for hyper.
    Hyper(Bytes),
    /// The end of the connection.
    End,
}

/// Answers plain requests as long as they follow each other. `input` holds the bytes that were already read.
///
/// # Errors
///
/// The client has disconnected, or does not read.
pub async fn serve(
    context: &Arc<Context>,
    io: &mut ClientStream,
    peer: &Peer,
    mut input: BytesMut,
) -> io::Result<Next> {
    let state = &context.state;
    if !state.settings.plain_requests {
        return Ok(Next::Hyper(input.freeze()));
    }
    let mut answers = Answers::default();
    let mut since = Instant::now();
    loop {
        let known = answers.template().and_then(|template| match_template(state, peer, template, &mut input));
        if let Some((publish, template, entry)) = known {
            answers.publish_again(state, publish, template, entry).await;
            answers.send_if_many(state, io).await?;
        } else {
            match parse(&mut input) {
                Parsed::Publish(request, head) => {
                    answers.publish(context, peer, *request, head).await;
                    answers.send_if_many(state, io).await?;
                }
                Parsed::Request(request, head) => {
                    answers.finish(state).await;
                    if !answers.is_last()
                        && let Some(session) = get(context, peer, &mut answers, *request, &head, &mut input).await
                    {
                        answers.send(state, io).await?;
                        return Ok(Next::Session(session, input.freeze()));
                    }
                    // A request of sixty bytes may have a response of a megabyte.
                    answers.send_if_many(state, io).await?;
                }
                Parsed::Incomplete => {
                    answers.send(state, io).await?;
                    if answers.is_last() {
                        return Ok(Next::End);
                    }
                    if input.is_empty() {
                        since = Instant::now();
                    } else if input.len() < MAX_REQUEST && has_arrived(io, &mut input).await? {
                        continue;
                    }
                    // The server holds an incomplete request until the rest arrives, and many connections may have one.
                    let mut held = state.budget.reservation();
                    if !input.is_empty()
                        && let Err(refusal) = held.resize(input.capacity())
                    {
                        answers.refuse(state, io, &refusal).await?;
                        return Ok(Next::End);
                    }
                    if input.len() >= MAX_REQUEST || !read(state, io, &mut input, since).await? {
                        return Ok(if input.is_empty() { Next::End } else { Next::Hyper(input.freeze()) });
                    }
                }
                Parsed::Other => {
                    answers.send(state, io).await?;
                    return Ok(if answers.is_last() { Next::End } else { Next::Hyper(input.freeze()) });
                }
            }
        }
        if answers.is_last() {
            answers.send(state, io).await?;
            return Ok(Next::End);
        }
    }
}

/// Answers a GET. Returns the session that follows the response, if there is one. A long poll takes the rest of the
/// input.
async fn get(
    context: &Context,
    peer: &Peer,
    answers: &mut Answers,
    request: Request,
    request_head: &Bytes,
    input: &mut BytesMut,
) -> Option<Session> {
    let response = router::answer(context, peer, request).await;
    let (mut session, status, headers) = answers.respond(&context.state, response)?;
    if let Session::LongPoll(poll) = &mut session {
        poll.set_head(context.polls.head(status, &headers));
        if is_decided_by_head(&context.state, peer, Scope::Poll)
            && let Some(template) = context.polls.template(request_head)
        {
            poll.set_template(template);
        }
        poll.input = std::mem::take(input).into();
    }
    Some(session)
}

/// Takes a publish that matches the template from the input, and begins its entry of the access log. Returns `None` if
/// the publish must be parsed like any other request.
fn match_template(
    state: &ServerState,
    peer: &Peer,
    template: &Arc<PublishTemplate>,
    input: &mut BytesMut,
) -> Option<(PublishRequest, Arc<PublishTemplate>, Option<Entry>)> {
    let found = template.find(input)?;
    let size = found.head.saturating_add(found.body);
    let body = input.get(found.head..size).filter(|_| found.head <= MAX_HEAD && size <= MAX_REQUEST)?;
    let body = std::str::from_utf8(body).ok()?;
    // If anything in the publish is wrong, the router reports it and counts the request.
    let publish = PublishRequest::read(found.query, template.kind(), body, state.settings.max_message).ok()?;
    state.rates.request(peer.ip).ok()?;
    let entry = state.access_log.as_ref().map(|log| log.begin_head(peer.ip, &input[..found.head]));
    input.advance(size);
    Some((publish, template.clone(), entry))
}

/// Reads the bytes that have already arrived. Returns false if there are none.
///
/// # Errors
///
/// The system's.
async fn has_arrived(io: &mut ClientStream, input: &mut BytesMut) -> io::Result<bool> {
    let read = poll_fn(|cx| {
        Poll::Ready(match io.poll_input(cx, input) {
            Poll::Ready(read) => read,
            Poll::Pending => Ok(0),
        })
    });
    Ok(read.await? > 0)
}

/// Reads more input. Returns false if plain requests can no longer follow.
///
/// # Errors
///
/// The system reports an error of the socket.
pub async fn read(
    state: &ServerState,
    io: &mut ClientStream,
    input: &mut BytesMut,
    since: Instant,
) -> io::Result<bool> {
    let is_new = input.is_empty();
    if is_new {
        // A quiet connection does not keep a buffer.
        *input = BytesMut::new();
    }
    if let Ok(read) = tokio::time::timeout_at(since + QUIET, poll_fn(|cx| io.poll_input(cx, input))).await {
        return Ok(read? > 0);
    }
    if !is_new || state.drain.has_begun() {
        return Ok(false);
    }
    let waiting = tokio::time::timeout(state.settings.keep_alive_timeout, poll_fn(|cx| io.poll_input(cx, input)));
    tokio::select! {
        // The input is polled first: a request that the client has sent in time is answered, even during a drain.
        biased;
        read = waiting => read.map_or(Ok(false), |read| Ok(read? > 0)),
        () = state.drain.begun() => Ok(false),
    }
}
