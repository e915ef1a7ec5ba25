//! Opens the log: finds its epoch, and the part of the previous epoch that is proven to be in the log.

use super::entry::{self, Counters, text};
use super::read_history::{self, Read, ReadHistory};
use super::{Connection, RedisLog, ScriptError, connection};
use crate::cursor::{Epoch, Id};
use crate::log::Extent;
use std::sync::Arc;

/// The number of entries that are read at a time to compare histories.
const RANGE: usize = 256;

/// The approximate number of bytes of entries that are read at a time.
const RANGE_BYTES: usize = 1 << 20;

impl RedisLog {
    /// Finds the log's extent, and ends an epoch if some of its entries may be missing: see `lua/open.lua`.
    pub(super) async fn open(&self, connection: &mut Connection) -> Result<(Extent, Counters), ScriptError> {
        // This is a copy, because the tail may read on during the comparison.
        let seen = self.seen.lock().clone();
        let (wanted, extent) = self.ask_to_open(connection, seen.as_ref(), String::new()).await?;
        let (Some(seen), false) = (seen, wanted.is_empty()) else { return Ok(extent) };
        let start = match wanted.as_str() {
            "all" => seen.from().max(extent.0.floor),
            // Entries before the floor were dropped, and a node that started later has not read them.
            mark => mark.parse::<Id>().map_err(|_| ScriptError::Unexpected)?.max(extent.0.floor),
        };
        let there = self.entries_between(connection, start, seen.at().id, extent.0.lineage.epoch).await?;
        let proven = seen.agree(start, &there, extent.0.floor, extent.0.deleted, extent.0.end);
        let (wanted, extent) = self.ask_to_open(connection, Some(&seen), proven.to_string()).await?;
        if wanted.is_empty() { Ok(extent) } else { Err(ScriptError::Unexpected) }
    }

    async fn ask_to_open(
        &self,
        connection: &mut Connection,
        seen: Option<&ReadHistory>,
        proven: String,
    ) -> Result<(String, (Extent, Counters)), ScriptError> {
        let or_empty = |text: Option<String>| text.unwrap_or_default();
        let args = [
            connection.candidate(),
            or_empty(seen.map(|seen| seen.epoch().to_string())),
            match seen.filter(|seen| seen.is_refuted()) {
                Some(_) => "refuted".to_owned(),
                None => or_empty(seen.and_then(|seen| seen.at().added).map(|added| added.to_string())),
            },
            or_empty(seen.map(|seen| seen.last().to_string())),
            proven,
        ];
        let reply = connection.run(&connection::OPEN, &[&self.keys.log], &args).await?;
        let Some([wanted, extent]) = entry::array(&reply) else { return Err(ScriptError::Unexpected) };
        let wanted = text(wanted).ok_or(ScriptError::Unexpected)?.to_owned();
        Ok((wanted, entry::extent(extent).ok_or(ScriptError::Unexpected)?))
    }

    /// Reads the entries after one position and up to another. It stops when it has read more entries than the node
    /// remembers.
    async fn entries_between(
        &self,
        connection: &mut Connection,
        mut after: Id,
        upto: Id,
        epoch: Epoch,
    ) -> Result<Vec<Read>, ScriptError> {
        let mut found = Vec::new();
        while after < upto && found.len() <= read_history::ENTRIES {
            let (reply, is_cut) =
                connection.range(&self.keys.log, after, upto, RANGE, self.reply_limits(RANGE_BYTES)).await?;
            let entries = entry::entries(&reply).ok_or(ScriptError::Unexpected)?;
            let Some(last) = entries.last().map(|entry| entry.id) else { break };
            let is_full = is_cut || entries.len() >= RANGE;
            let message = |entry: &entry::Entry<'_>| entry.message(epoch, self.config.max_payload).ok().map(Arc::new);
            found.extend(entries.iter().map(|entry| (entry.id, message(entry))));
            if !is_full {
                break;
            }
            after = last;
        }
        Ok(found)
    }
}
