//! The node's tail: one blocking `XREAD` after the other, each followed by a check of the log's identity. The tail gets
//! the node's own appends earlier (see [`local_append`](super::local_append)).

mod open;
mod read;
mod state;

pub(super) use state::Tail;

use super::{Connection, RedisLog};
use crate::log::TailEvent;
use state::{COUNT, QUIET, Reading, TailState};
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, Sleep};
use tokio_stream::Stream;

/// The approximate number of bytes that are read at a time on a slow path.
const SLOW_BYTES: usize = 1 << 20;

pub(super) fn tail(log: Arc<RedisLog>) -> impl Stream<Item = TailEvent> + Send {
    let mut volatile = log.volatile.subscribe();
    let mut tail = Tail::new(log);
    let entries = async_stream::stream! {
        loop {
            yield tail.next().await;
        }
    };
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

impl Tail {
    async fn next(&mut self) -> TailEvent {
        loop {
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            self.advance().await;
        }
    }

    async fn advance(&mut self) {
        self.state = match std::mem::replace(&mut self.state, TailState::Closed) {
            TailState::Closed => self.open().await,
            TailState::Idle(connection) => self.begin_reading(connection),
            TailState::Reading(reading) => self.wait(reading).await,
            TailState::Following { connection, last, quiet } => self.follow(connection, last, quiet).await,
        };
    }

    fn begin_reading(&mut self, mut connection: Connection) -> TailState {
        let Some((_, at)) = self.at else { return TailState::Closed };
        if self.has_moved(&connection) {
            return TailState::Closed;
        }
        self.has_own = false;
        // The entry at the end of the log may have been deleted: a read that waits for it would wait forever.
        let block = self.block.filter(|_| self.caught_up);
        let key = self.log.keys.log.clone();
        let limits = self.is_slow.then(|| self.log.reply_limits(SLOW_BYTES));
        TailState::Reading(Box::pin(async move {
            let read = match limits {
                Some(limits) => connection.read_bounded_and_identify(&key, at.id, COUNT, limits).await,
                None => connection.read_and_identify(&key, at.id, COUNT, block).await,
            };
            (connection, read)
        }))
    }

    async fn wait(&mut self, mut reading: Reading) -> TailState {
        tokio::select! {
            biased;
            own = self.log.local_appends.next() => {
                self.has_own |= self.take_own(own);
                TailState::Reading(reading)
            }
            (connection, read) = &mut reading => self.take(connection, read).await,
        }
    }

    /// Follows this node's appends until the node stops appending or another publisher appends.
    async fn follow(&mut self, connection: Connection, mut last: Instant, mut quiet: Pin<Box<Sleep>>) -> TailState {
        tokio::select! {
            biased;
            own = self.log.local_appends.next() => {
                if !self.take_own(own) {
                    return TailState::Idle(connection);
                }
                last = Instant::now();
            }
            // Appends do not reset this timer: a reset for each append would cost more than one more check here.
            () = &mut quiet => {
                if last.elapsed() >= QUIET {
                    return TailState::Idle(connection);
                }
                quiet.as_mut().reset(last + QUIET);
            }
        }
        if self.log.has_moved(connection.server().1) {
            return TailState::Closed;
        }
        TailState::Following { connection, last, quiet }
    }
}

#[cfg(test)]
impl Tail {
    /// Opens the log, or reads the present entries without waiting for more.
    pub(super) async fn step(&mut self) -> Vec<TailEvent> {
        self.block = None;
        loop {
            self.advance().await;
            if matches!(self.state, TailState::Closed | TailState::Idle(_)) {
                return self.events.drain(..).collect();
            }
        }
    }

    pub(super) fn is_open(&self) -> bool {
        !matches!(self.state, TailState::Closed)
    }

    /// Its connection breaks.
    pub(super) fn close(&mut self) {
        self.state = TailState::Closed;
    }
}
