//! Passes the entries that this node has appended directly to the node's tail ("read your own writes").
//!
//! An append tells Redis how many entries were ever added up to the tail's position. The script compares this with its
//! own count in the same step. If they are equal, the log does not have entries after the tail's position, and no
//! entries were removed from there. Then an `XREAD` would return exactly the entries of this batch, and the node
//! already has their bytes: an [`AppendedRun`]. The run says "in this epoch, the log has exactly these entries between
//! these two positions". This remains true at any later time. A tail takes the entries that follow its own position and
//! ignores the others. If a run is missing or too old, `XREAD` returns the same entries.

use crate::cursor::{Cursor, Epoch, Id};
use crate::message::Message;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::Notify;

/// The maximum number of bytes, by [`Message::weight`], that may wait for the tail. Beyond this limit, the tail reads
/// the entries with `XREAD`.
const WAITING: usize = 8 << 20;

/// All entries that the log has between two positions.
#[derive(Debug)]
pub(super) struct AppendedRun {
    pub(super) epoch: Epoch,
    pub(super) after: Id,
    pub(super) messages: Vec<Arc<Message>>,
}

impl AppendedRun {
    fn upto(&self) -> Id {
        self.messages.last().and_then(|message| message.cursor()).map_or(self.after, |cursor| cursor.id)
    }

    fn weight(&self) -> usize {
        self.messages.iter().map(|message| message.weight()).sum()
    }

    /// Returns the part after a position, if the position lies within the run.
    pub(super) fn beyond(mut self, at: Cursor) -> Option<(Vec<Arc<Message>>, Id)> {
        let upto = self.upto();
        if self.epoch != at.epoch || self.after > at.id || upto <= at.id {
            return None;
        }
        if self.after < at.id {
            self.messages.retain(|message| message.cursor().is_some_and(|cursor| cursor.id > at.id));
        }
        Some((self.messages, upto))
    }
}

/// The runs that the appender passes to the tail.
#[derive(Default)]
pub(super) struct LocalAppends {
    waiting: Mutex<Waiting>,
    news: Notify,
}

#[derive(Default)]
struct Waiting {
    /// The position that the tail has after it takes the waiting runs; `None` while the tail does not follow the log.
    at: Option<Cursor>,
    /// The number of entries that were ever added up to that position, if it is known.
    added: Option<u64>,
    runs: VecDeque<AppendedRun>,
    bytes: usize,
    /// Whether the tail has to read with `XREAD`, because the log has entries that are not in a run.
    is_behind: bool,
}

impl LocalAppends {
    /// Sets the position of the tail, which takes runs from now on.
    pub(super) fn set_position(&self, at: Cursor, added: Option<u64>) {
        let mut waiting = self.waiting.lock();
        if waiting.at.is_none_or(|known| known.epoch != at.epoch || known.id < at.id) {
            waiting.at = Some(at);
            waiting.added = added;
        } else if waiting.at == Some(at) && waiting.added.is_none() {
            waiting.added = added;
        }
    }

    /// Records that the tail does not follow the log for now.
    pub(super) fn stop_following(&self) {
        *self.waiting.lock() = Waiting::default();
    }

    /// The position that an append sends to the script, and how many entries were ever added up to that position.
    pub(super) fn position(&self) -> Option<(Cursor, u64)> {
        let waiting = self.waiting.lock();
        waiting.at.zip(waiting.added)
    }

    /// Passes the result of an append: a run, or `None` if the log has other entries after the position.
    pub(super) fn push(&self, run: Option<AppendedRun>) {
        let mut waiting = self.waiting.lock();
        let fits = |run: &AppendedRun| {
            let end = Cursor { id: run.after, epoch: run.epoch };
            waiting.at == Some(end) && waiting.bytes + run.weight() <= WAITING
        };
        match run.filter(fits) {
            Some(run) => {
                waiting.at = Some(Cursor { id: run.upto(), epoch: run.epoch });
                waiting.added = waiting.added.map(|added| added + run.messages.len() as u64);
                waiting.bytes += run.weight();
                waiting.runs.push_back(run);
            }
            None if waiting.at.is_none() => return,
            None => waiting.is_behind = true,
        }
        drop(waiting);
        self.news.notify_one();
    }

    /// Returns the next run; `None` if the tail must read with `XREAD`. Cancel safe.
    pub(super) async fn next(&self) -> Option<AppendedRun> {
        loop {
            {
                let mut waiting = self.waiting.lock();
                if let Some(run) = waiting.runs.pop_front() {
                    waiting.bytes -= run.weight();
                    return Some(run);
                }
                if std::mem::take(&mut waiting.is_behind) {
                    return None;
                }
            }
            self.news.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Event, Payload};
    use proptest::prelude::*;

    fn epoch(name: &str) -> Epoch {
        name.parse().expect("an epoch")
    }

    fn at(ms: u64) -> Cursor {
        Cursor { id: Id { ms, seq: 0 }, epoch: epoch("a") }
    }

    fn run(after: u64, upto: u64) -> AppendedRun {
        let message = |ms| {
            let channel = "todo".parse().expect("a channel");
            Arc::new(Message::new(Some(at(ms)), channel, Event::default(), &Payload::from_any("1"), None))
        };
        AppendedRun { epoch: epoch("a"), after: at(after).id, messages: (after + 1..=upto).map(message).collect() }
    }

    fn ids(messages: &[Arc<Message>]) -> Vec<u64> {
        messages.iter().filter_map(|message| Some(message.cursor()?.id.ms)).collect()
    }

    proptest! {
        /// The part that the tail takes from a run continues the tail's position without a hole, even if the tail has
        /// read entries in other ways.
        #[test]
        fn a_run_continues_where_the_tail_stands_or_is_left(after in 0..20u64, len in 1..20u64, stands in 0..50u64) {
            let upto = after + len;
            match run(after, upto).beyond(at(stands)) {
                Some((messages, end)) => {
                    prop_assert_eq!(ids(&messages), (stands + 1..=upto).collect::<Vec<_>>());
                    prop_assert_eq!(end, at(upto).id);
                }
                None => prop_assert!(stands < after || stands >= upto),
            }
        }
    }

    #[test]
    fn a_run_of_another_life_of_the_log_is_left() {
        assert!(run(1, 2).beyond(Cursor { epoch: epoch("b"), ..at(1) }).is_none());
    }

    #[tokio::test]
    async fn only_what_continues_is_kept_and_the_rest_is_told() {
        let appends = LocalAppends::default();
        appends.push(Some(run(1, 2)));
        assert_eq!(appends.position(), None);
        appends.set_position(at(1), Some(1));
        appends.push(Some(run(1, 3)));
        assert_eq!(appends.position(), Some((at(3), 3)));
        // This is true even if the tail now reports the position that it had before it took that run.
        appends.set_position(at(2), Some(2));
        assert_eq!(appends.position(), Some((at(3), 3)));
        appends.push(Some(run(4, 5)));
        assert_eq!(ids(&appends.next().await.expect("a run").messages), [2, 3]);
        assert!(appends.next().await.is_none());
        let most = 3 + (WAITING / run(3, 4).weight()) as u64 / 2;
        appends.push(Some(run(3, most)));
        appends.push(Some(run(most, 3 * most)));
        assert_eq!(appends.position(), Some((at(most), most)), "what does not fit is left out");
        appends.stop_following();
        assert_eq!(appends.position(), None);
    }
}
