//! The node's tail: one blocking `XREAD`, and the log's identity behind each.

use super::{RedisLog, entry};
use crate::cursor::{Cursor, Id};
use crate::log::{Resolved, TailEvent};
use redis::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio_stream::Stream;
use tracing::{info, warn};

/// Entries read at a time.
const COUNT: usize = 512;

/// How long an `XREAD` blocks: a log that was lost is noticed after this time at the latest.
const BLOCK: Duration = Duration::from_millis(1000);

/// How long Redis may take beyond that before it is taken for gone.
const GRACE: Duration = Duration::from_secs(2);

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

pub(super) fn tail(log: Arc<RedisLog>) -> impl Stream<Item = TailEvent> + Send {
    let mut volatile = log.volatile.subscribe();
    let entries = durable(log);
    async_stream::stream! {
        tokio::pin!(entries);
        loop {
            tokio::select! {
                event = futures_util::future::poll_fn(|cx| entries.as_mut().poll_next(cx)) => match event {
                    Some(event) => yield event,
                    None => return,
                },
                message = volatile.recv() => match message {
                    Ok(message) => yield TailEvent::Volatile(message),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                },
            }
        }
    }
}

fn durable(log: Arc<RedisLog>) -> impl Stream<Item = TailEvent> + Send {
    async_stream::stream! {
        let mut at: Option<Cursor> = None;
        let mut caught_up = false;
        let mut pause = FIRST_PAUSE;
        let mut is_lost = false;
        let mut reported = String::new();
        loop {
            let opened = async {
                let mut connection = log.connect(BLOCK + GRACE).await?;
                let extent = log.open(&mut connection).await?;
                Ok::<_, super::ScriptError>((connection, extent))
            };
            let (mut connection, extent) = match opened.await {
                Ok(opened) => opened,
                Err(error) => {
                    if reported != error.to_string() {
                        reported = error.to_string();
                        warn!(%error, "the log cannot be reached; readers stay, and it is tried again until it can");
                    }
                    if !is_lost {
                        is_lost = true;
                        log.metrics.reachable.set(0);
                        yield TailEvent::Lost;
                    }
                    // Jitter, or all nodes would come back in the same moment.
                    tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    continue;
                }
            };
            if is_lost {
                is_lost = false;
                reported.clear();
                info!(epoch = %extent.epoch, end = %extent.end, "the log is reached again");
            }
            pause = FIRST_PAUSE;
            log.metrics.reachable.set(1);
            // Entries are as old as Redis's clock says.
            let skew_ms = extent.now_ms as i64 - crate::log::memory::now_ms() as i64;

            // Goes on where it stood, if the log still holds that.
            let epoch = extent.epoch;
            let from = match at.map(|at| extent.resolve(at)) {
                None => extent.floor,
                Some(Resolved::At(id) | Resolved::Gap(id)) => id,
            };
            let end = extent.end;
            let mut at_id = from;
            at = Some(Cursor { id: from, epoch });
            yield TailEvent::Opened(extent);
            yield TailEvent::Entries { after: from, messages: Vec::new(), upto: from };
            loop {
                if log.has_moved(&connection) {
                    info!("the log has moved to another server");
                    break;
                }
                if !caught_up && at_id >= end {
                    caught_up = true;
                    yield TailEvent::CaughtUp;
                }
                let read = connection.read_and_identify(&log.keys.log, &at_id.to_string(), COUNT, BLOCK).await;
                let [read, groups] = match read {
                    Ok(replies) => replies,
                    Err(error) => {
                        warn!(%error, "the connection to the log is lost");
                        log.metrics.lost("tail");
                        break;
                    }
                };
                // Looked at behind the block and before its entries count: a stream that was lost
                // and begun anew answers without a hint.
                let Some((_, floor)) = entry::identity(&groups).filter(|(now, _)| *now == epoch) else {
                    break;
                };
                let Some((messages, upto)) = take(&log, &read, Cursor { id: at_id, epoch }) else {
                    warn!("the log's entries make no sense");
                    tokio::time::sleep(LONGEST_PAUSE).await;
                    break;
                };
                // Trimmed beyond what was read: entries between are gone unseen.
                let after = at_id.max(floor);
                let upto = upto.max(after);
                if upto > at_id {
                    at_id = upto;
                    let age_ms = crate::log::memory::now_ms() as i64 + skew_ms - upto.ms as i64;
                    log.metrics.lag.set(age_ms.max(0) as f64 / 1000.0);
                    at = Some(Cursor { id: upto, epoch });
                    yield TailEvent::Entries { after, messages, upto };
                }
            }
        }
    }
}

type Batch = (Vec<Arc<crate::message::Message>>, Id);

fn take(log: &RedisLog, read: &Value, at: Cursor) -> Option<Batch> {
    let entries = entry::read_entries(read)?;
    let upto = entries.last().map_or(at.id, |entry| entry.id);
    if upto > at.id {
        log.note_seen(Cursor { id: upto, epoch: at.epoch });
    }
    Some((log.messages(entries, at.epoch), upto))
}
