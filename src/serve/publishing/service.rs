//! Publishing: authorization and appending, for requests and commands.

use crate::cursor::Cursor;
use crate::log::AppendError;
use crate::log::queued::Queued;
use crate::message::{Channel, ClientId, Draft, warn_ignored_exclude};
use crate::serve::access::authorizer::Authorizer;
use crate::serve::access::credentials::Credentials;
use crate::serve::access::query::{AccessRequest, Action};
use crate::serve::limits::rate_limiter::Publisher;
use crate::serve::metrics::delivery::PublishSource;
use crate::serve::state::ServerState;
use crate::transport::{ApiError, Code};
use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The maximum time, from the beginning of an append, for which the response waits until this node has read the
/// message. Because of this wait, a client that publishes and then polls sees its own message. The message is in the
/// log in any case.
const OWN_TAIL_WAIT: Duration = Duration::from_millis(500);

/// The minimum wait after an append that itself has taken longer than [`OWN_TAIL_WAIT`].
const OWN_TAIL_LEAST: Duration = Duration::from_millis(20);

/// Checks that a client may publish each of these drafts to all channels of the draft. Also checks the client's message
/// rate; a message to several channels counts once. Writes the publisher into the drafts' keys.
///
/// # Errors
///
/// The client may not publish to all of the channels, or publishes too much.
pub async fn authorize(
    state: &ServerState,
    credentials: &Credentials,
    client: Option<ClientId>,
    drafts: &mut [Draft],
) -> Result<(), ApiError> {
    let publisher = match *state.authorizer {
        Authorizer::Open => Publisher::Anonymous(credentials.ip),
        Authorizer::Guarded(_) => {
            let channels = channels_of(drafts);
            let credentials = credentials.to_publish()?;
            let access_request = AccessRequest { action: Action::Publish, channels, client, credentials };
            state.authorizer.ask(access_request).await?.publisher
        }
    };
    state.rates.publish(&publisher, drafts.len())?;
    for key in drafts.iter_mut().filter_map(|draft| draft.key.as_mut()) {
        (key.publisher, key.owner) = (publisher.scope(), publisher.owner());
    }
    Ok(())
}

/// The channels of drafts. If a draft has several channels, each channel appears once, because an array may name a
/// channel very often.
fn channels_of(drafts: &[Draft]) -> Vec<Channel> {
    if drafts.iter().all(|draft| draft.channels().len() == 1) {
        return drafts.iter().map(|draft| draft.channel.clone()).collect();
    }
    let mut seen = HashSet::new();
    drafts.iter().flat_map(Draft::channels).filter(|channel| seen.insert(*channel)).cloned().collect()
}

/// Appends drafts for a caller that does not need an order; see [`append_in_order`].
pub fn append(
    state: &Arc<ServerState>,
    source: PublishSource,
    drafts: Vec<Draft>,
) -> impl Future<Output = Result<Vec<Option<Cursor>>, ApiError>> + Send + 'static {
    append_in_order(state, source, drafts, Queued::default())
}

/// Appends drafts. Sets `queued` when the drafts have their place in the order of the log, usually at the first poll. A
/// connection that keeps the order of its publishes begins the next one after that.
pub fn append_in_order(
    state: &Arc<ServerState>,
    source: PublishSource,
    drafts: Vec<Draft>,
    queued: Queued,
) -> impl Future<Output = Result<Vec<Option<Cursor>>, ApiError>> + Send + 'static {
    let state = state.clone();
    async move {
        let began = Instant::now();
        for _ in drafts.iter().filter(|draft| draft.ignored_exclude) {
            warn_ignored_exclude(&state.delivery.ignored_excludes, source.name());
        }
        let cursors = state.hub.log().append_in_order(drafts, queued).await.map_err(|error| {
            let (code, retry) = match error {
                AppendError::Unavailable(_) => (Code::LogUnavailable, None),
                AppendError::OutcomeUnknown => (Code::OutcomeUnknown, None),
                AppendError::NoRoomForKeys(wait) => (Code::RateLimited, Some(wait)),
                AppendError::TooManyKeys => (Code::TooLarge, None),
            };
            state.delivery.append_failed(code);
            ApiError { retry, ..ApiError::new(code, error.to_string()) }
        })?;
        state.delivery.published(source, cursors.len(), began);
        if let Some(newest) = cursors.iter().flatten().max_by_key(|cursor| cursor.id) {
            state.hub.advance();
            if state.hub.has_reached(*newest) {
                return Ok(cursors);
            }
            // The time runs from the beginning of the append and not from this point, because only the first of
            // pipelined publishes is polled. The next one reaches this point only after the previous one was answered,
            // and would then wait again.
            let until = (began + OWN_TAIL_WAIT).max(Instant::now() + OWN_TAIL_LEAST);
            let _ = tokio::time::timeout_at(until, state.hub.reached(*newest)).await;
        }
        Ok(cursors)
    }
}
