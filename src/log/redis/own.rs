//! What this node has appended itself, on its shortest way to the node's tail.
//!
//! An append tells Redis how many entries were ever added up to where the tail has read. The script looks, in the same
//! step, whether that is all: then nothing is behind the tail's position, and nothing was that is gone. The
//! batch's entries are all that an `XREAD` could bring, and the node has their bytes: a [`Stretch`]. It
//! says "in this epoch all between these two positions is this", which is true whoever reads it and
//! whenever; a tail takes what lies behind its own position and leaves the rest. Where a stretch is missing, too old or
//! not to be had, `XREAD` brings the same entries.

use crate::cursor::{Cursor, Epoch, Id};
use crate::message::Message;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::Notify;

/// Bytes, by [`Message::weight`], that may wait for the tail. What comes when there are more is left to `XREAD`.
const WAITING: usize = 8 << 20;

/// All that the log has between two positions.
#[derive(Debug)]
pub(super) struct Stretch {
    pub(super) epoch: Epoch,
    pub(super) after: Id,
    pub(super) messages: Vec<Arc<Message>>,
}

impl Stretch {
    fn upto(&self) -> Id {
        self.messages.last().and_then(|message| message.cursor()).map_or(self.after, |cursor| cursor.id)
    }

    fn weight(&self) -> usize {
        self.messages.iter().map(|message| message.weight()).sum()
    }

    /// The part behind a position, where the stretch has that position and more.
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

/// Between the appender and the tail.
#[derive(Default)]
pub(super) struct Own {
    state: Mutex<State>,
    news: Notify,
}

#[derive(Default)]
struct State {
    /// Where the tail stands once it has taken what waits; `None` while it does not follow.
    at: Option<Cursor>,
    /// How many entries were ever added up to there; `None` where that is not known.
    added: Option<u64>,
    stretches: VecDeque<Stretch>,
    bytes: usize,
    /// Something was appended that is in no stretch.
    is_behind: bool,
}

impl Own {
    /// The tail stands here, and takes stretches.
    pub(super) fn stand(&self, at: Cursor, added: Option<u64>) {
        let mut state = self.state.lock();
        if state.at.is_none_or(|known| known.epoch != at.epoch || known.id < at.id) {
            state.at = Some(at);
            state.added = added;
        } else if state.at == Some(at) && state.added.is_none() {
            state.added = added;
        }
    }

    /// The tail does not follow for now.
    pub(super) fn leave(&self) {
        *self.state.lock() = State::default();
    }

    /// The position that an append is to look behind, and how many entries were ever added up to there.
    pub(super) fn position(&self) -> Option<(Cursor, u64)> {
        let state = self.state.lock();
        state.at.zip(state.added)
    }

    /// What an append has found out: a stretch, or that there is more behind the position than its own.
    pub(super) fn push(&self, stretch: Option<Stretch>) {
        let mut state = self.state.lock();
        let fits = |stretch: &Stretch| {
            let end = Cursor { id: stretch.after, epoch: stretch.epoch };
            state.at == Some(end) && state.bytes + stretch.weight() <= WAITING
        };
        match stretch.filter(fits) {
            Some(stretch) => {
                state.at = Some(Cursor { id: stretch.upto(), epoch: stretch.epoch });
                state.added = state.added.map(|added| added + stretch.messages.len() as u64);
                state.bytes += stretch.weight();
                state.stretches.push_back(stretch);
            }
            None if state.at.is_none() => return,
            None => state.is_behind = true,
        }
        drop(state);
        self.news.notify_one();
    }

    /// The next stretch; `None` where only an `XREAD` can tell. Cancel safe.
    pub(super) async fn next(&self) -> Option<Stretch> {
        loop {
            {
                let mut state = self.state.lock();
                if let Some(stretch) = state.stretches.pop_front() {
                    state.bytes -= stretch.weight();
                    return Some(stretch);
                }
                if std::mem::take(&mut state.is_behind) {
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

    fn stretch(after: u64, upto: u64) -> Stretch {
        let message = |ms| {
            let channel = "todo".parse().expect("a channel");
            Arc::new(Message::new(Some(at(ms)), channel, Event::default(), &Payload::from_any("1"), None))
        };
        Stretch { epoch: epoch("a"), after: at(after).id, messages: (after + 1..=upto).map(message).collect() }
    }

    fn ids(messages: &[Arc<Message>]) -> Vec<u64> {
        messages.iter().filter_map(|message| Some(message.cursor()?.id.ms)).collect()
    }

    proptest! {
        /// Whatever the tail has read by other ways: what it takes continues that without a hole.
        #[test]
        fn a_stretch_continues_where_the_tail_stands_or_is_left(after in 0..20u64, len in 1..20u64, stands in 0..50u64) {
            let upto = after + len;
            match stretch(after, upto).beyond(at(stands)) {
                Some((messages, end)) => {
                    prop_assert_eq!(ids(&messages), (stands + 1..=upto).collect::<Vec<_>>());
                    prop_assert_eq!(end, at(upto).id);
                }
                None => prop_assert!(stands < after || stands >= upto),
            }
        }
    }

    #[test]
    fn a_stretch_of_another_life_of_the_log_is_left() {
        assert!(stretch(1, 2).beyond(Cursor { epoch: epoch("b"), ..at(1) }).is_none());
    }

    #[tokio::test]
    async fn only_what_continues_is_kept_and_the_rest_is_told() {
        let own = Own::default();
        own.push(Some(stretch(1, 2)));
        assert_eq!(own.position(), None);
        own.stand(at(1), Some(1));
        own.push(Some(stretch(1, 3)));
        assert_eq!(own.position(), Some((at(3), 3)));
        // Also where the tail says meanwhile where it stood before it took that.
        own.stand(at(2), Some(2));
        assert_eq!(own.position(), Some((at(3), 3)));
        own.push(Some(stretch(4, 5)));
        assert_eq!(ids(&own.next().await.expect("a stretch").messages), [2, 3]);
        assert!(own.next().await.is_none());
        let most = 3 + (WAITING / stretch(3, 4).weight()) as u64 / 2;
        own.push(Some(stretch(3, most)));
        own.push(Some(stretch(most, 3 * most)));
        assert_eq!(own.position(), Some((at(most), most)), "what does not fit is left out");
        own.leave();
        assert_eq!(own.position(), None);
    }
}
