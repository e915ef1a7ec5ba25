//! The node's tail: one blocking `XREAD`, and the log's identity behind each; and what the node has appended
//! itself, which comes sooner (see [`own`](super::own)).

use super::own::Stretch;
use super::{RedisLog, ScriptError, entry};
use crate::cursor::{Cursor, Id};
use crate::log::memory::now_ms;
use crate::log::{Extent, Resolved, TailEvent};
use crate::message::Message;
use redis::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use tokio_stream::Stream;
use tracing::{info, warn};

/// Entries read at a time.
const COUNT: usize = 512;

/// How long an `XREAD` blocks: a log that was lost is noticed after this time at the latest.
const BLOCK: Duration = Duration::from_millis(1000);

/// How long Redis may take beyond that before it is taken for gone.
const GRACE: Duration = Duration::from_secs(2);

/// While this node's appends follow one another, each looks at the log for the tail, and an `XREAD` would only
/// repeat that. This long after the last one the tail reads again itself, so that is by how much an
/// entry of somebody else may come later.
const QUIET: Duration = Duration::from_millis(1);

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
        // Why entries could not be read, on a connection that is well.
        let mut unread = None::<String>;
        loop {
            log.own.leave();
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
            // Goes on where it stood, if the log still holds that.
            let epoch = extent.epoch;
            let from = match at.map(|at| extent.resolve(at)) {
                None => extent.floor,
                Some(Resolved::At(id) | Resolved::Gap(id)) => id,
            };
            let mut place = Place::new(Cursor { id: from, epoch }, &extent);
            let end = extent.end;
            yield TailEvent::Opened(extent);
            yield TailEvent::Entries { after: from, messages: Vec::new(), upto: from };
            let server = connection.server().1.to_owned();
            'read: loop {
                if log.has_moved(&server) {
                    info!("the log has moved to another server");
                    break;
                }
                if !caught_up && place.at.id >= end {
                    caught_up = true;
                    yield TailEvent::CaughtUp;
                }
                if caught_up {
                    log.own.stand(place.at);
                }
                let mut has_own = false;
                let read = {
                    let from = place.at.id.to_string();
                    let read = connection.read_and_identify(&log.keys.log, &from, COUNT, BLOCK);
                    tokio::pin!(read);
                    loop {
                        tokio::select! {
                            biased;
                            own = log.own.next() => {
                                if log.has_moved(&server) {
                                    continue 'read;
                                }
                                if let Some(event) = place.follow(&log, own) {
                                    has_own = true;
                                    yield event;
                                }
                            }
                            read = &mut read => break read,
                        }
                    }
                };
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
                let read = read.extract_error().map_err(ScriptError::of);
                let taken = read.and_then(|read| take(&log, &read, place.at).ok_or(ScriptError::Unexpected));
                let Batch { hole, messages, upto } = match taken {
                    // Whoever was told that it is lost is told that it is there.
                    Ok(_) if unread.take().is_some() => break,
                    Ok(taken) => taken,
                    // The connection is well: to open another would say that the log is there.
                    Err(error) => {
                        if unread.replace(error.to_string()) != unread {
                            warn!(%error, "the log cannot be read");
                        }
                        is_lost = true;
                        log.metrics.reachable.set(0);
                        yield TailEvent::Lost;
                        tokio::time::sleep(LONGEST_PAUSE).await;
                        continue;
                    }
                };
                // Trimmed beyond what was read: entries between are gone unseen. Or they are there, and this node
                // cannot read them.
                let after = place.at.id.max(floor).max(hole.unwrap_or(Id::ZERO));
                if let Some(event) = place.go_on(&log, after, messages, upto.max(after)) {
                    yield event;
                }
                if !has_own {
                    continue;
                }
                log.own.stand(place.at);
                let mut last = Instant::now();
                let quiet = tokio::time::sleep(QUIET);
                tokio::pin!(quiet);
                loop {
                    tokio::select! {
                        biased;
                        own = log.own.next() => {
                            if log.has_moved(&server) {
                                continue 'read;
                            }
                            let Some(event) = place.follow(&log, own) else { continue 'read };
                            last = Instant::now();
                            yield event;
                        }
                        // Not set anew by each append, which would cost more than it does to look again.
                        () = &mut quiet => {
                            if last.elapsed() >= QUIET {
                                break;
                            }
                            quiet.as_mut().reset(last + QUIET);
                        }
                    }
                }
            }
            at = Some(place.at);
        }
    }
}

/// Up to where everything was read.
struct Place {
    at: Cursor,
    /// How far Redis's clock is ahead of ours: entries are as old as Redis's says.
    skew_ms: i64,
}

impl Place {
    fn new(at: Cursor, extent: &Extent) -> Place {
        Place { at, skew_ms: extent.now_ms as i64 - now_ms() as i64 }
    }

    /// Goes on to `upto`, if that is any further.
    fn go_on(&mut self, log: &RedisLog, after: Id, messages: Vec<Arc<Message>>, upto: Id) -> Option<TailEvent> {
        if upto <= self.at.id {
            return None;
        }
        self.at.id = upto;
        // An entry may have any id.
        let upto_ms = i64::try_from(upto.ms).unwrap_or(i64::MAX);
        let age_ms = (now_ms() as i64).saturating_add(self.skew_ms).saturating_sub(upto_ms);
        log.metrics.lag.set(age_ms.max(0) as f64 / 1000.0);
        Some(TailEvent::Entries { after, messages, upto })
    }

    /// Goes on with what this node has appended, if it continues this place.
    fn follow(&mut self, log: &RedisLog, own: Option<Stretch>) -> Option<TailEvent> {
        let (messages, upto) = own?.beyond(self.at)?;
        self.go_on(log, self.at.id, messages, upto)
    }
}

struct Batch {
    /// The last of the entries that this node cannot read, before all messages.
    hole: Option<Id>,
    messages: Vec<Arc<Message>>,
    upto: Id,
}

fn take(log: &RedisLog, read: &Value, at: Cursor) -> Option<Batch> {
    let mut entries = entry::read_entries(read)?;
    // Our own among them may have come sooner.
    entries.retain(|entry| entry.id > at.id);
    let taken = log.take(entries, at.epoch);
    let upto = taken.upto.unwrap_or(at.id);
    if upto > at.id {
        log.note_seen(Cursor { id: upto, epoch: at.epoch });
    }
    Some(Batch { hole: taken.hole, messages: taken.messages, upto })
}
