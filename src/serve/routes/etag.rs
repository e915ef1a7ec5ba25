//! Conditional polls: `ETag` and `If-None-Match` carry a cursor.

use crate::cursor::{Cursor, Start};
use crate::serve::http::headers::list;
use crate::serve::state::ServerState;
use crate::transport::{ApiError, Batch};
use hyper::HeaderMap;
use hyper::header::HeaderValue;

/// The `ETag` of a cursor.
pub fn quoted(cursor: Cursor) -> HeaderValue {
    HeaderValue::try_from(format!("\"{cursor}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

/// The cursor in `If-None-Match`: the first one of a list (RFC 9110 §13.1.2). `*` is skipped. Tags that proxies have
/// changed (`"…-gzip"`) are accepted.
///
/// # Errors
///
/// The header contains tags, but none of them is a cursor.
pub fn if_none_match(headers: &HeaderMap) -> Result<Option<Cursor>, ApiError> {
    let tags = list(headers, "if-none-match");
    let tags = tags.split(',').map(str::trim).filter(|tag| !tag.is_empty() && *tag != "*");
    let mut cursors = tags.map(|tag| {
        let tag = tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"');
        tag.split_once("-gzip").map_or(tag, |(tag, _)| tag).parse::<Cursor>()
    });
    let Some(first) = cursors.next() else { return Ok(None) };
    Ok(Some(first.or_else(|error| cursors.find_map(Result::ok).ok_or(error))?))
}

/// Whether a client with this tag has every message of the batch. The tag is the batch's cursor, or an older cursor if
/// the channels have not had a message since that cursor. An older cursor counts only while it is far from the oldest
/// retained message: a client that gets "not modified" keeps its tag, and that tag must not become too old.
pub fn is_unmodified(state: &ServerState, batch: &Batch, start: Start, tag: Cursor) -> bool {
    if batch.gap.is_some() || !batch.is_complete && batch.cursor != tag {
        return false;
    }
    if batch.cursor == tag {
        return true;
    }
    // The batch begins at `start`. If `start` is not later than the tag, the batch contains every message after the
    // tag.
    let covers = match start {
        Start::After(cursor) => cursor == tag || (cursor.epoch == tag.epoch && cursor.id <= tag.id),
        Start::Earliest => true,
        Start::Latest => false,
    };
    let is_newer =
        |cursor: Option<Cursor>| cursor.is_some_and(|cursor| cursor.epoch != tag.epoch || cursor.id > tag.id);
    let has_newer = batch.messages.iter().any(|message| is_newer(message.cursor()));
    covers && !has_newer && batch.cursor.epoch == tag.epoch && state.hub.is_well_retained(tag)
}
