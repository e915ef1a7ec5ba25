//! The last event of a cache channel.

use super::apps::App;
use crate::cursor::{Cursor, Start};
use crate::hub::{LIMIT, Step};
use crate::message::{Channel, Message};
use crate::serve::state::ServerState;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// How long the log is asked.
const WAIT: Duration = Duration::from_secs(2);

/// How long an event stays in a cache channel, in milliseconds. The log may forget it earlier.
const LIFE_MS: u64 = 30 * 60 * 1000;

/// How many of the newest entries are searched.
const ENTRIES: usize = 64;

/// The last event of a channel.
pub struct LastEvent {
    /// The event.
    pub message: Arc<Message>,
    /// Its position.
    pub cursor: Cursor,
    /// The seconds for which the channel keeps it.
    pub ttl: u64,
}

/// The log cannot be asked.
#[derive(Debug)]
pub struct Unavailable;

/// The newest event of a channel that clients get.
///
/// # Errors
///
/// The log does not answer.
pub async fn last_event(state: &ServerState, app: &App, channel: &Channel) -> Result<Option<LastEvent>, Unavailable> {
    let found = timeout(WAIT, newest(state, app, channel)).await.map_err(|_| Unavailable)?;
    let now = state.hub.log().now_ms();
    Ok(found.and_then(|(cursor, message)| {
        let left = cursor.id.ms.saturating_add(LIFE_MS).checked_sub(now)?;
        Some(LastEvent { message, cursor, ttl: left / 1000 })
    }))
}

async fn newest(state: &ServerState, app: &App, channel: &Channel) -> Option<(Cursor, Arc<Message>)> {
    let (channels, last) = (std::slice::from_ref(channel), Some(ENTRIES));
    let mut reader = state.hub.subscribe(None, channels, Start::Latest, last, None);
    let mut newest = None;
    loop {
        let mut batch = Vec::new();
        let step = poll_fn(|cx| reader.poll_step(cx, LIMIT, &mut batch)).await;
        // Clients do not get every entry, and volatile messages are not kept.
        let of_clients = batch.into_iter().rev().find_map(|message| {
            let cursor = message.cursor()?;
            (!app.encoding.frame(&message).is_empty()).then_some((cursor, message))
        });
        newest = of_clients.or(newest);
        if matches!(step, Step::Idle | Step::Ahead) {
            return newest;
        }
    }
}
