//! How many control entries the stream holds. The stream keeps so many entries more than the retention says, so that
//! control entries do not take the place of messages. Their own limit bounds how many that are.

use crate::cursor::Id;
use crate::log::Retention;
use crate::message::Message;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;

/// The control entries that this node's tail has read and that are not too old, by their times.
#[derive(Default)]
pub(super) struct ControlEntries(Mutex<VecDeque<u64>>);

impl ControlEntries {
    /// Notes entries that the tail has read, oldest first.
    pub(super) fn note(&self, read: &[(Id, Option<Arc<Message>>)], retention: &Retention) {
        let is_control = |message: &Option<Arc<Message>>| message.as_ref().is_some_and(|message| message.is_control());
        let mut news = read.iter().filter(|(_, message)| is_control(message)).map(|(id, _)| id.ms).peekable();
        if news.peek().is_none() {
            return;
        }
        let mut times = self.0.lock();
        times.extend(news);
        let over = times.len().saturating_sub(retention.of_control().messages);
        times.drain(..over);
    }

    /// The retention of the stream: that of messages, and room for its control entries.
    pub(super) fn retention(&self, retention: Retention, now_ms: u64) -> Retention {
        let oldest_ms = now_ms.saturating_sub(retention.age.as_millis() as u64);
        let mut times = self.0.lock();
        while times.front().is_some_and(|time| *time < oldest_ms) {
            times.pop_front();
        }
        let bytes = if times.is_empty() { 0 } else { retention.of_control().bytes };
        Retention { messages: retention.messages + times.len(), bytes: retention.bytes + bytes, ..retention }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::{Cursor, Epoch};
    use crate::message::{Channel, Draft, Payload};
    use std::time::Duration;

    #[test]
    fn the_stream_has_room_for_its_control_entries_within_their_limit() {
        let epoch = Epoch::random();
        let entry = |ms: u64, is_control: bool| {
            let id = Id { ms, seq: 0 };
            let draft = match is_control {
                true => Draft::control(Channel::reserved("~s/1").expect("reserved"), "change", "{}"),
                false => Draft::new("a".parse().expect("a channel"), Payload::from_any("1")),
            };
            (id, Some(Arc::new(draft.into_message(Some(Cursor { id, epoch })))))
        };
        let retention = Retention { age: Duration::from_secs(10), messages: 1000, bytes: 1 << 20, control: 10 };
        let (control, most) = (ControlEntries::default(), retention.of_control());
        assert_eq!((most.messages, most.bytes), (100, 104_857));
        let room = |now_ms| {
            let Retention { messages, bytes, .. } = control.retention(retention, now_ms);
            (messages - 1000, bytes - (1 << 20))
        };
        control.note(&[entry(5000, false)], &retention);
        assert_eq!(room(5000), (0, 0), "messages need no more room");
        control.note(&[entry(6000, true), entry(6001, false), entry(7000, true)], &retention);
        assert_eq!(room(7000), (2, most.bytes));
        assert_eq!(room(16_500), (1, most.bytes), "one is too old");
        control.note(&(0..500).map(|n| entry(17_000 + n, true)).collect::<Vec<_>>(), &retention);
        assert_eq!(room(17_500), (100, most.bytes));
        assert_eq!(room(40_000), (0, 0));
    }
}
