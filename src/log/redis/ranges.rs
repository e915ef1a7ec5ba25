//! The connection that reads ranges of the log and publishes volatile messages.

use super::connection::ReplyLimits;
use super::range_connection::RangeConnection;
use super::{RedisLog, ScriptError, connection, decode, entry, entry_fields};
use crate::cursor::{Cursor, Epoch};
use crate::log::{AppendError, Page, Resolved};
use crate::message::Draft;
use redis::Value;
use tokio::sync::MutexGuard;
use tokio::time::Instant;

/// The approximate number of bytes in a page. It is several times the size of a usual page: between two pages, a reader
/// is told of a gap if entries after its position were deleted one by one.
const PAGE_BYTES: usize = 4 << 20;

impl RedisLog {
    /// Returns the connection, for one request.
    pub(super) async fn range_connection(&self) -> Result<MutexGuard<'_, RangeConnection>, ScriptError> {
        let mut ranges = self.ranges.lock().await;
        let is_silent = ranges.asked.is_some_and(|asked| asked.elapsed() > connection::ANSWER_TIMEOUT);
        let has_moved = ranges.connection.as_ref().is_some_and(|connection| self.has_moved(connection.server().1));
        if is_silent || has_moved || ranges.tail_breaks != self.tail_breaks() {
            *ranges = RangeConnection::default();
        }
        if ranges.connection.is_none() {
            ranges.tail_breaks = self.tail_breaks();
            let mut connection = self.connect(connection::ANSWER_TIMEOUT).await?;
            // The log is opened before anything is read: entries of another reign must not get a cursor of the earlier
            // epoch.
            self.open(&mut connection).await?;
            ranges.connection = Some(connection);
        }
        ranges.asked.get_or_insert_with(Instant::now);
        Ok(ranges)
    }

    pub(super) async fn read_page(&self, after: Cursor, limit: usize) -> Result<Page, ScriptError> {
        let mut ranges = self.range_connection().await?;
        let connection = ranges.connection.as_mut().ok_or(ScriptError::Unexpected)?;
        let [longest, total] = self.reply_limits(PAGE_BYTES).args();
        let args = [connection.candidate(), after.id.to_string(), limit.to_string(), longest, total];
        let reply = connection.run(&connection::READ, &[&self.keys.log], &args).await;
        ranges.has_answered(reply.is_ok());
        drop(ranges);
        let reply = reply.inspect_err(|_| self.metrics.lost("read"))?;
        let [extent, entries, is_cut] = entry::array(&reply).ok_or(ScriptError::Unexpected)? else {
            return Err(ScriptError::Unexpected);
        };
        let (mut extent, _) = entry::extent(extent).ok_or(ScriptError::Unexpected)?;
        self.clock.set(extent.now_ms);
        let end = match extent.resolve(after) {
            Resolved::Gap(id) if id != after.id => return Ok(Page { extent, messages: Vec::new(), upto: id }),
            Resolved::Until(end) => end,
            Resolved::Gap(_) | Resolved::At(_) => extent.end,
        };
        let mut entries = entry::entries(entries).ok_or(ScriptError::Unexpected)?;
        // A page that is not full reaches the end of the log, even if the last entries were deleted.
        entries.retain(|entry| entry.id <= end);
        let is_full = entries.len() >= limit || *is_cut != Value::Int(0);
        let last = entries.last().map_or(after.id, |entry| entry.id);
        let taken = self.decode(entries, extent.lineage.epoch);
        if let Some(hole) = taken.hole {
            // For this node, the log begins after the entries that the node cannot read.
            extent.floor = extent.floor.max(hole);
            extent.deleted = extent.deleted.max(hole);
            return Ok(Page { extent, messages: Vec::new(), upto: hole });
        }
        let upto = match taken.upto {
            Some(upto) if taken.is_cut => upto,
            _ if is_full => last,
            _ => end.max(last),
        };
        let messages = taken.read.into_iter().filter_map(|(_, message)| message).collect();
        Ok(Page { extent, messages, upto })
    }

    /// The limits of replies with entries. Each reply has at most about `total` bytes. Without the limits, a
    /// reply with a large entry, or with many of them, could arrive later than the node's time limit, at each attempt.
    pub(super) fn reply_limits(&self, total: usize) -> ReplyLimits {
        ReplyLimits::new(self.config.max_payload, total)
    }

    /// Decodes consecutive entries. It counts and logs entries that are not messages.
    pub(super) fn decode(&self, entries: Vec<entry::Entry<'_>>, epoch: Epoch) -> decode::Decoded {
        let counters = (&self.skipped, &self.unreadable, &self.metrics.ignored_excludes);
        decode::Decoded::from(entries, epoch, self.config.max_payload, counters)
    }

    pub(super) async fn append_volatile(&self, drafts: Vec<Draft>) -> Result<(), AppendError> {
        let texts: Vec<Vec<u8>> = drafts.iter().map(entry_fields::volatile_to_json).collect();
        // All earlier callers may be waiting for a Redis that does not answer.
        let ranges = tokio::time::timeout(self.config.timeout, self.range_connection()).await;
        let ranges = ranges.unwrap_or_else(|_| Err(ScriptError::Unconnected(ScriptError::timed_out())));
        let unavailable = |error: ScriptError| {
            // A publisher of volatile messages meets the same error with each of them.
            if self.volatile_error.lock().replace(error.to_string()).is_none_or(|last| last != error.to_string()) {
                tracing::warn!(%error, "a volatile message was not sent");
            }
            AppendError::Unavailable(error.public_text())
        };
        let mut ranges = ranges.map_err(unavailable)?;
        let connection = ranges.connection.as_mut().ok_or_else(|| unavailable(ScriptError::Unexpected))?;
        let sent = connection.publish(&self.keys.volatile(), &texts).await;
        ranges.has_answered(sent.is_ok());
        drop(ranges);
        if sent.is_ok() {
            *self.volatile_error.lock() = None;
        }
        // A Redis that was stopped sends its answers when it continues.
        sent.map_err(|error| if error.is_unsettled() { AppendError::OutcomeUnknown } else { unavailable(error) })
    }
}
