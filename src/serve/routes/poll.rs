//! Answers polls and long polls.

use super::etag;
use super::response::{self, Body, Response};
use crate::cursor::Start;
use crate::serve::http::peer::Peer;
use crate::serve::http::request::ClientShut;
use crate::serve::session::batch;
use crate::serve::session::long_poll::LongPoll;
use crate::serve::session::record::SessionRecord;
use crate::serve::session::session::Session;
use crate::serve::state::ServerState;
use crate::transport::{Accepted, ApiError, Batch, Params, Transport};
use hyper::StatusCode;
use hyper::header::{self, HeaderMap};
use std::time::Duration;
use tokio::time::Instant;

/// The maximum number of messages in a response by default.
pub const BATCH_MESSAGES: usize = 100;

/// The way in which a poll waits for messages.
pub struct Wait<'a> {
    /// The maximum time to wait; `None` if the handler does not wait.
    pub time: Option<Duration>,
    /// Whether the client only checks the path (`probe=1`), as a client that reads by a stream does when the stream is
    /// silent.
    pub is_check: bool,
    /// Whether the response may be a session. If it may not be a session, the handler itself waits.
    pub as_session: bool,
    /// Informs the handler that the client has closed its sending side, if the connection can detect this.
    pub client_shut: Option<&'a ClientShut>,
}

/// Answers with a batch, or with a [`LongPoll`] that waits for one.
///
/// # Errors
///
/// `If-None-Match` is invalid.
pub async fn answer(
    state: &ServerState,
    peer: &Peer,
    transport: &'static dyn Transport,
    params: &Params,
    opening: Accepted,
    headers: &HeaderMap,
    wait: Wait<'_>,
) -> Result<Response, ApiError> {
    // If there is a cursor, the tag only decides whether the response is a 304. So a tag that is not a cursor is
    // ignored.
    let tag = if params.cursor.is_some() {
        etag::if_none_match(headers).unwrap_or_default()
    } else {
        etag::if_none_match(headers)?
    };
    let start = params.cursor.or(tag.map(Start::After)).unwrap_or(Start::Latest);
    let name = transport.name();
    let (mut record, asked) = (SessionRecord::new(state.delivery.open(name)), Instant::now());
    let client = params.client.clone();
    // A request that only checks the path does not count as a reader.
    let counts = !wait.is_check;
    if let Some(client) = client.as_ref().filter(|_| counts) {
        state.hub.polled(name, params.channels.iter(), client, wait.time.unwrap_or_default());
    }
    // A client that counts by its id does not also count by its connection.
    let counted = (counts && client.is_none()).then_some(name);
    let mut subscription = state.hub.subscribe(counted, &params.channels, start, params.last, client);
    subscription.read_members(params.presence);
    let limit = params.limit.unwrap_or(BATCH_MESSAGES);
    let batch = match wait.time {
        None => batch::now(&state.hub, &mut subscription, limit).await,
        Some(timeout) => match batch::first(&mut subscription, limit).await {
            Some(batch) => batch,
            None if wait.as_session => {
                let mut response = response::whole(StatusCode::OK, opening.content_type, "");
                response::write_headers(&opening, response.headers_mut());
                let permit = peer.address_permit.clone();
                let poll = LongPoll::new(&state.timers, limit, subscription, timeout, opening.envelope, record, permit);
                *response.body_mut() = Body::Session(Session::LongPoll(Box::new(poll)));
                return Ok(response);
            }
            None => batch::wait(state, &mut subscription, limit, timeout, wait.client_shut).await,
        },
    };
    if let (None, Some(tag)) = (wait.time, tag)
        && etag::is_unmodified(state, &batch, start, tag)
    {
        let mut response = response::whole(StatusCode::NOT_MODIFIED, "", "");
        *response.body_mut() = Body::Whole(None);
        response.headers_mut().insert(header::ETAG, etag::quoted(tag));
        return Ok(response);
    }
    Ok(response_of(&batch, &opening, &mut record, asked))
}

/// The response with a batch. `asked` is the time of the request.
pub fn response_of(batch: &Batch, opening: &Accepted, record: &mut SessionRecord, asked: Instant) -> Response {
    let mut body = Vec::with_capacity(batch.size_hint());
    opening.envelope.batch(batch, &mut body);
    record.wrote(body.len());
    record.answer(&batch.messages, batch.gap.is_some(), asked);
    let mut response = response::whole(StatusCode::OK, opening.content_type, body);
    response::write_headers(opening, response.headers_mut());
    response.headers_mut().insert(header::ETAG, etag::quoted(batch.cursor));
    response
}
