//! Opens the log for the tail, and finds the position at which the tail continues.

use super::state::{BLOCK, FIRST_PAUSE, LONGEST_PAUSE, Tail, TailState};
use crate::cursor::Cursor;
use crate::log::redis::ScriptError;
use crate::log::redis::entry::Counters;
use crate::log::redis::verify::Position;
use crate::log::{Descent, Extent, Resolved, TailEvent};
use std::time::Duration;
use tracing::{info, warn};

/// If a blocking `XREAD` has not returned after its own time and this additional time, the node treats Redis as
/// unreachable.
const GRACE: Duration = Duration::from_secs(2);

/// The number of earlier epochs in which this node remembers its position: a log may be moved away and put back.
const PAST: usize = 64;

impl Tail {
    pub(super) async fn open(&mut self) -> TailState {
        self.log.local_appends.stop_following();
        let opened = async {
            let mut connection = self.log.connect(BLOCK + GRACE).await?;
            let opened = self.log.open(&mut connection).await?;
            // The script is also loaded here after a SCRIPT FLUSH: a read that does not get an identity leads here.
            connection.know_identity().await?;
            Ok::<_, ScriptError>((connection, opened))
        };
        let (connection, (extent, counters)) = match opened.await {
            Ok(opened) => opened,
            Err(error) => {
                if self.reported != error.to_string() {
                    self.reported = error.to_string();
                    warn!(%error, "the log cannot be reached; readers stay connected, and the node retries");
                }
                self.lose();
                if !self.events.is_empty() {
                    return TailState::Closed;
                }
                // Because of the jitter, the nodes do not all reconnect at the same moment.
                tokio::time::sleep(self.pause.mul_f64(0.5 + fastrand::f64())).await;
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                return TailState::Closed;
            }
        };
        if std::mem::take(&mut self.is_lost) {
            self.reported.clear();
            info!(epoch = %extent.lineage.epoch, end = %extent.end, "the log is reached again");
        }
        self.pause = FIRST_PAUSE;
        self.log.metrics.reachable.set(1);
        self.resume(extent, counters);
        TailState::Idle(connection)
    }

    /// Reports the loss of the log, but only once.
    pub(super) fn lose(&mut self) {
        if !std::mem::replace(&mut self.is_lost, true) {
            self.log.metrics.reachable.set(0);
            self.events.push_back(TailEvent::Lost);
        }
    }

    /// Goes on from this node's position, if the log still has that position.
    pub(super) fn resume(&mut self, extent: Extent, counters: Counters) {
        let epoch = extent.lineage.epoch;
        let from = self.position_in(&extent, counters);
        if let Some(before) = self.at.filter(|(before, _)| *before != epoch) {
            self.past.push_back(before);
            if self.past.len() > PAST {
                self.past.pop_front();
            }
        }
        self.past.retain(|(of, _)| *of != epoch);
        self.at = Some((epoch, from));
        self.end = extent.end;
        self.lineage = Some(extent.lineage.clone());
        self.log.clock.set(extent.now_ms);
        self.log.begin_history(Cursor { id: from.id, epoch }, from.added);
        self.events.push_back(TailEvent::Opened(extent));
        self.events.push_back(TailEvent::Entries { after: from.id, messages: Vec::new(), upto: from.id });
        self.catch_up();
    }

    pub(super) fn position_in(&self, extent: &Extent, counters: Counters) -> Position {
        let whole = |id| {
            // Exactly the entries up to the floor were dropped.
            let gone = (id == extent.floor && extent.deleted == extent.floor).then(|| counters.added - counters.length);
            Position { id, added: if id == extent.end { Some(counters.added) } else { gone } }
        };
        let known = self.at.iter().chain(self.past.iter().rev());
        let known =
            known.filter(|(epoch, at)| extent.lineage.locate(Cursor { id: at.id, epoch: *epoch }) != Descent::Unknown);
        let Some((epoch, at)) = known.into_iter().next() else { return whole(extent.floor) };
        match extent.resolve(Cursor { id: at.id, epoch: *epoch }) {
            // The position keeps its count, because the entries up to it are the same.
            Resolved::At(id) => Position { id, added: at.added },
            // Readers detect the gap after that position by their own cursors. A log that was put back has its own
            // counts.
            Resolved::Until(_) => whole(at.id),
            Resolved::Gap(id) if id == at.id && *epoch == extent.lineage.epoch => Position { id, added: at.added },
            Resolved::Gap(id) => whole(id),
        }
    }

    pub(super) fn catch_up(&mut self) {
        let Some((epoch, at)) = self.at else { return };
        if !self.caught_up && at.id >= self.end {
            self.caught_up = true;
            self.events.push_back(TailEvent::CaughtUp);
        }
        if self.caught_up {
            self.log.local_appends.set_position(Cursor { id: at.id, epoch }, at.added);
        }
    }
}
