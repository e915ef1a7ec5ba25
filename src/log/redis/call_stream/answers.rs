//! Reads the answers to this node's calls, with one blocking connection.

use super::stream::{CallStream, FIRST_PAUSE, rest};
use crate::cursor::Id;
use crate::log::redis::entry::array;
use crate::log::redis::{Connection, ScriptError, text};
use redis::Value;
use std::sync::Weak;
use std::time::Duration;

/// How many answers are read at a time. Each has at most 1 MiB.
const COUNT: usize = 16;

/// How long an `XREAD` blocks. After this time, the node notices that the log has moved to another server.
const BLOCK: Duration = Duration::from_millis(500);

/// If an `XREAD` has not returned after its own time and this additional time, the connection counts as lost.
const GRACE: Duration = Duration::from_millis(1500);

/// The task that reads answers. It ends with the last user of the stream.
pub(super) async fn run(stream: Weak<CallStream>) {
    let mut reader = None;
    let mut pause = FIRST_PAUSE;
    while let Some(stream) = stream.upgrade() {
        match round(&stream, &mut reader).await {
            Ok(()) => pause = FIRST_PAUSE,
            Err(error) => {
                tracing::debug!(%error, "the answers of workers cannot be read from Redis");
                if reader.take().is_some() {
                    stream.log.metrics().lost("hook");
                }
                rest(&mut pause).await;
            }
        }
    }
}

/// A connection, and the position up to which its answers are read.
struct Reader {
    connection: Connection,
    position: Id,
}

/// Reads the answers that are in the stream, or waits for some.
async fn round(stream: &CallStream, reader: &mut Option<Reader>) -> Result<(), ScriptError> {
    reader.take_if(|reader| stream.log.has_moved(reader.connection.server().1));
    let reader = match reader {
        Some(reader) => reader,
        empty => {
            let connection = stream.log.connect(BLOCK + GRACE).await?;
            // An answer that came while there was no connection is still in the stream. If an answer was read but not
            // removed, it comes again, and its attempt is no longer in the list.
            empty.insert(Reader { connection, position: Id::ZERO })
        }
    };
    let key = stream.answers();
    let mut pipeline = redis::pipe();
    // Removes the entries that were read, which are all entries before the next possible id.
    let next = Id { ms: reader.position.ms, seq: reader.position.seq.saturating_add(1) };
    pipeline.cmd("XTRIM").arg(&key).arg("MINID").arg(next.to_string());
    pipeline.cmd("HMGET").arg(stream.log.keys().beside("answers")).arg(&["late", "refused"]);
    let read = pipeline.cmd("XREAD").arg("COUNT").arg(COUNT).arg("BLOCK").arg(BLOCK.as_millis() as u64);
    read.arg("STREAMS").arg(&key).arg(reader.position.to_string());
    let replies = reader.connection.send_pipeline(&pipeline, 3).await?;
    let [trimmed, counts, read] = <[Value; 3]>::try_from(replies).map_err(|_| ScriptError::Unexpected)?;
    trimmed.extract_error().map_err(ScriptError::of)?;
    stream.note_counts(&counts.extract_error().map_err(ScriptError::of)?);
    let read = read.extract_error().map_err(ScriptError::of)?;
    let Value::Array(streams) = read else {
        // All entries that were read are now removed. The key may expire, and a new stream would begin with the time of
        // Redis's clock, which may have been set back.
        reader.position = Id::ZERO;
        return Ok(());
    };
    let entries = streams.into_iter().next().and_then(items).and_then(|[_, entries]| match entries {
        Value::Array(entries) => Some(entries),
        _ => None,
    });
    for entry in entries.ok_or(ScriptError::Unexpected)? {
        let [id, fields] = items(entry).ok_or(ScriptError::Unexpected)?;
        reader.position = text(&id).and_then(|id| id.parse().ok()).ok_or(ScriptError::Unexpected)?;
        // Any client of Redis may write to this key. An entry that is not an answer has no effect.
        if let Some([_, attempt, _, Value::BulkString(answer)]) = items(fields)
            && let Some(attempt) = text(&attempt).and_then(|attempt| attempt.parse().ok())
        {
            stream.answer(attempt, Ok(answer));
        }
    }
    Ok(())
}

/// The items of an array, if it has this number of them.
fn items<const N: usize>(value: Value) -> Option<[Value; N]> {
    match value {
        Value::Array(items) => items.try_into().ok(),
        _ => None,
    }
}

impl CallStream {
    /// Records the counts of all answers that longtail_answer did not accept.
    fn note_counts(&self, counts: &Value) {
        let counts = array(counts).unwrap_or_default().iter();
        for (gauge, count) in [&self.metrics.late, &self.metrics.refused].into_iter().zip(counts) {
            gauge.set(text(count).and_then(|count| count.parse().ok()).unwrap_or(0));
        }
    }
}
