//! What this node has appended itself, handed directly to the node's tail ("read your own writes").
//!
//! An append tells Redis how many entries were ever added up to where the tail has read. The script looks, in the same
//! step, whether that is all: then there is nothing after the tail's position, and nothing was removed from there. The
//! batch's entries are all that an `XREAD` could bring, and the node has their bytes: an [`AppendedRun`]. It says "in
//! this epoch, everything between these two positions is this", which stays true whenever it is read. A tail takes what
//! follows its own position and leaves the rest. If a run is missing or too old, `XREAD` brings the same entries.

use crate::cursor::{Cursor, Epoch, Id};
use crate::message::Message;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::Notify;

/// Bytes, by [`Message::weight`], that may wait for the tail. Beyond that entries are left to `XREAD`.
const WAITING: usize = 8 << 20;

/// Everything that the log has between two positions.
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

    /// The part after a position, if the run has that position and more.
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

/// What the appender hands to the tail.
#[derive(Default)]
pub(super) struct LocalAppends {
    waiting: Mutex<Waiting>,
    news: Notify,
}

#[derive(Default)]
struct Waiting {
    /// The tail's position once it has taken what waits; `None` while it does not follow.
    at: Option<Cursor>,
    /// How many entries were ever added up to there, if that is known.
    added: Option<u64>,
    runs: VecDeque<AppendedRun>,
    bytes: usize,
    /// Whether an append was not made into a run.
    is_behind: bool,
}

impl LocalAppends {
    /// The tail stands here, and takes runs.
    pub(super) fn set_position(&self, at: Cursor, added: Option<u64>) {
        let mut waiting = self.waiting.lock();
        if waiting.at.is_none_or(|known| known.epoch != at.epoch || known.id < at.id) {
            waiting.at = Some(at);
            waiting.added = added;
        } else if waiting.at == Some(at) && waiting.added.is_none() {
            waiting.added = added;
        }
    }

    /// Notes that the tail does not follow for now.
    pub(super) fn stop_following(&self) {
        *self.waiting.lock() = Waiting::default();
    }

    /// The position after which an append is to look, and how many entries were ever added up to there.
    pub(super) fn position(&self) -> Option<(Cursor, u64)> {
        let waiting = self.waiting.lock();
        waiting.at.zip(waiting.added)
    }

    /// What an append has found out: a run, or that there is more after the position than its appends.
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

    /// The next run; `None` if only an `XREAD` can tell. Cancel safe.
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
        /// Whatever the tail has read in other ways, the part that it takes from a run continues that without a hole.
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
        // This holds even if the tail meanwhile reports the position from before it took that run.
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
