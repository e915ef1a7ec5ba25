//! Handles the answer to an `XREAD`: checks that it is complete, and finds the position at which the tail continues.

use super::state::{COUNT, FIRST_PAUSE, LONGEST_PAUSE, QUIET, Tail, TailState};
use crate::cursor::{Cursor, Id};
use crate::log::TailEvent;
use crate::log::redis::connection::TailRead;
use crate::log::redis::decode::Decoded;
use crate::log::redis::entry::{self, Identity};
use crate::log::redis::verify::{Position, Verdict, judge};
use crate::log::redis::{Connection, ScriptError, connection};
use tokio::time::Instant;
use tracing::warn;

impl Tail {
    /// Handles the entries that a read has returned.
    pub(super) async fn take(&mut self, connection: Connection, read: Result<TailRead, ScriptError>) -> TailState {
        let TailRead { entries: read, identity, is_cut } = match read {
            Ok(replies) => replies,
            Err(error) => {
                warn!(%error, "the connection to the log is lost");
                self.log.note_tail_error(&error);
                self.log.metrics.lost("tail");
                self.is_slow |= error.is_timeout();
                return TailState::Closed;
            }
        };
        // The identity is checked after each blocking read, and before the entries of the read count: a stream that was
        // lost and started again answers as if nothing had happened.
        let Some(identity) = entry::identity(&identity).filter(|now| Some(&now.lineage) == self.lineage.as_ref())
        else {
            return TailState::Closed;
        };
        let Some((epoch, at)) = self.at else { return TailState::Closed };
        let entries = read.and_then(|read| {
            let entries = entry::entries(&read).ok_or(ScriptError::Unexpected)?;
            let is_full = is_cut || entries.len() >= COUNT;
            let entries = entries.into_iter().filter(|entry| entry.id > at.id).collect();
            Ok((self.log.decode(entries, epoch), is_full))
        });
        let (taken, is_full) = match entries {
            // Readers were told that the node cannot reach the log. Opening the log again tells them that the node can
            // reach it.
            Ok(_) if self.unread.take().is_some() => return TailState::Closed,
            Ok(entries) => entries,
            Err(error) => return self.cannot_read(connection, &error).await,
        };
        self.is_slow &= is_full;
        let is_full = is_full || taken.is_cut;
        match self.check(connection, taken, is_full, &identity).await {
            Ok(connection) => self.settle(connection),
            Err(Some(error)) => {
                warn!(%error, "the connection to the log is lost");
                self.log.note_tail_error(&error);
                self.log.metrics.lost("tail");
                TailState::Closed
            }
            Err(None) => TailState::Closed,
        }
    }

    /// The connection works, but entries cannot be read. The tail keeps the connection, because a new connection would
    /// make the node report that the log can be reached.
    pub(super) async fn cannot_read(&mut self, connection: Connection, error: &ScriptError) -> TailState {
        if self.unread.replace(error.to_string()) != self.unread {
            warn!(%error, "the log cannot be read");
        }
        if self.is_lost {
            tokio::time::sleep(LONGEST_PAUSE).await;
        }
        self.lose();
        TailState::Idle(connection)
    }

    pub(super) fn settle(&mut self, connection: Connection) -> TailState {
        self.catch_up();
        if !self.has_own {
            return TailState::Idle(connection);
        }
        let last = Instant::now();
        TailState::Following { connection, last, quiet: Box::pin(tokio::time::sleep(QUIET)) }
    }

    /// Checks that these entries are all that the log had, and continues after them.
    ///
    /// # Errors
    ///
    /// The log has to be opened again. If the connection has failed, this is its error.
    pub(super) async fn check(
        &mut self,
        mut connection: Connection,
        taken: Decoded,
        is_full: bool,
        identity: &Identity,
    ) -> Result<Connection, Option<ScriptError>> {
        let Some((epoch, at)) = self.at else { return Err(None) };
        self.log.note_mark(Cursor { id: identity.mark, epoch });
        let (read, hole) = (taken.read, taken.hole);
        let mut upto = read.last().map_or(at.id, |(id, _)| *id);
        if !is_full && !self.caught_up {
            // A read that is not full has reached the end that the log had before the read began.
            upto = upto.max(self.end);
        }
        let numbered = at.added.map(|added| added + read.len() as u64);
        // If the end is not an entry of this read, the log may no longer have that entry.
        let is_read = read.last().is_none_or(|(id, _)| *id == upto) && (upto == at.id || !read.is_empty());
        if is_read && numbered.is_some() && identity.added == numbered {
            self.go_on_behind(hole, at.id, read, Position { id: upto, added: numbered });
            return Ok(connection);
        }
        // Either others have appended entries since the read, or entries are missing. The script returns all counters
        // as they are at one moment.
        let args = [connection.candidate()];
        let reply = connection.run(&connection::CHECK, &[&self.log.keys.log], &args).await.map_err(Some)?;
        let (extent, counters) = entry::extent(&reply).ok_or(None)?;
        if Some(&extent.lineage) != self.lineage.as_ref() {
            return Err(None);
        }
        self.log.clock.set(extent.now_ms);
        let ids: Vec<Id> = read.iter().map(|(id, _)| *id).collect();
        match judge(at, &ids, upto, &extent, counters) {
            Verdict::Whole(to) => self.go_on_behind(hole, at.id, read, to),
            Verdict::Hole { after, upto } => {
                // The event has the log's present floor. The floor shows whether all entries before the hole were also
                // dropped. The event is omitted if the hole is at the log's end and no entry was added since. Without
                // this exception, each read would wake all readers.
                if upto.id > at.id {
                    self.events.push_back(TailEvent::Opened(extent));
                }
                self.go_on_behind(Some(after).max(hole), at.id, read, upto);
            }
            Verdict::Shrunk => {
                warn!("the log has fewer entries than this node has read: it was put back to an earlier state");
                // A later open may not notice the loss: by then the log may have more entries than this node has read.
                if let Some(seen) = self.log.seen.lock().as_mut().filter(|seen| seen.epoch() == epoch) {
                    seen.refute();
                }
                // Because of the pause, a server that miscounts is not asked in a busy loop.
                tokio::time::sleep(FIRST_PAUSE).await;
                return Err(None);
            }
        }
        Ok(connection)
    }
}
