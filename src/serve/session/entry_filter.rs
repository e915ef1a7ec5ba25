//! What a connection of another protocol passes on to its client, of the entries that it reads.

use crate::cursor::Cursor;
use crate::message::{Channel, Message, User};
use crate::serve::client_sessions::change::ControlEntry;
use std::sync::Arc;

/// The entries to leave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// Entries about members: the client has got a list that contains them.
    Members,
    /// Messages: the client has got the newest of them.
    Messages,
}

/// Leaves out entries that the client already has, handles control entries, and may repeat a message of several channels for
/// each channel that the client reads.
#[derive(Default)]
pub struct EntryFilter {
    skipped: Vec<Skipped>,
    /// The client's own user in channels with members. The client knows that it is there itself.
    own: Vec<(Channel, Arc<User>)>,
    /// The reserved channel whose events the client gets.
    events: Option<Channel>,
    /// Whether the client gets a message of several channels once for each of them.
    is_per_channel: bool,
    has_ended: bool,
}

struct Skipped {
    channel: Channel,
    upto: Cursor,
    what: Skip,
}

/// The name of the control entry that ends the connections of a user.
pub const TERMINATE: &str = "terminate";

impl EntryFilter {
    /// Leaves out entries of a channel up to a position.
    pub fn skip(&mut self, channel: Channel, upto: Cursor, what: Skip) {
        self.skipped.retain(|skipped| skipped.channel != channel || skipped.what != what);
        self.skipped.push(Skipped { channel, upto, what });
    }

    /// Leaves out entries about the client's own user in a channel.
    pub fn skip_own(&mut self, channel: Channel, user: Arc<User>) {
        self.forget(&channel);
        self.own.push((channel, user));
    }

    /// Repeats a message of several channels for each channel that the client reads.
    pub fn repeat_per_channel(&mut self) {
        self.is_per_channel = true;
    }

    /// Passes on the events of this reserved channel, which is that of one connection.
    pub fn pass_events(&mut self, channel: Channel) {
        self.events = Some(channel);
    }

    /// Forgets a channel that the client does not read any more.
    pub fn forget(&mut self, channel: &Channel) {
        self.own.retain(|(own, _)| own != channel);
        self.skipped.retain(|skipped| skipped.channel != *channel);
    }

    /// Whether a control entry has ended the connection.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Changes a batch to what the client gets. `at` is the position after the batch, and `reads` tells which channels the
    /// client reads.
    pub fn take(&mut self, batch: &mut Vec<Arc<Message>>, at: Cursor, reads: impl Fn(&Channel) -> bool) {
        if self.is_per_channel && batch.iter().any(|message| is_of_several(message)) {
            *batch = batch.drain(..).flat_map(|message| variants(message, &reads)).collect();
        }
        batch.retain_mut(|message| {
            if message.is_control() {
                self.has_ended |= message.event().as_str() == TERMINATE;
                let event = self.event(message).map(Arc::new);
                return event.map(|event| *message = event).is_some();
            }
            !self.skipped.iter().any(|skipped| skipped.covers(message)) && !self.is_own(message)
        });
        self.skipped.retain(|skipped| skipped.upto.epoch == at.epoch && skipped.upto.id > at.id);
    }
}

impl EntryFilter {
    /// The event in a control entry, if the client gets it.
    fn event(&self, entry: &Message) -> Option<Message> {
        if self.events.as_ref() != Some(entry.channel()) {
            return None;
        }
        match ControlEntry::read(entry)? {
            ControlEntry::Send(send) => send.message(entry),
            ControlEntry::Change(_) => None,
        }
    }

    /// Whether an entry is about the client's own user.
    fn is_own(&self, message: &Message) -> bool {
        let is_of = |user: &User| User::parse(message.payload()).is_ok_and(|named| named.id() == user.id());
        message.kind().is_of_members()
            && self.own.iter().any(|(channel, user)| channel == message.channel() && is_of(user))
    }
}

impl Skipped {
    fn covers(&self, message: &Message) -> bool {
        let Some(cursor) = message.cursor() else { return false };
        let is_of_kind = match self.what {
            Skip::Members => message.kind().is_of_members(),
            Skip::Messages => message.is_for_readers(),
        };
        is_of_kind && cursor.epoch == self.upto.epoch && cursor.id <= self.upto.id && message.channel() == &self.channel
    }
}

fn is_of_several(message: &Message) -> bool {
    message.channels().len() > 1 && message.is_for_readers()
}

/// A message under the name of each of its channels that the client reads, in the message's order of channels.
fn variants(message: Arc<Message>, reads: impl Fn(&Channel) -> bool) -> Vec<Arc<Message>> {
    if !is_of_several(&message) {
        return vec![message];
    }
    let read = message.channels().iter().filter(|channel| reads(channel));
    read.map(|channel| if channel == message.channel() { message.clone() } else { Arc::new(message.variant(channel)) })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::{Epoch, Id};
    use crate::message::{Draft, Extras, Kind, Payload};

    fn channel(name: &str) -> Channel {
        name.parse().expect("a channel")
    }

    #[test]
    fn entries_that_the_client_has_are_left_out_until_the_position_is_reached() {
        let epoch = Epoch::random();
        let at = |ms| Cursor { id: Id { ms, seq: 0 }, epoch };
        let message =
            |name: &str, ms| Arc::new(Draft::new(channel(name), Payload::from_any("1")).into_message(Some(at(ms))));
        let member =
            |name: &str, ms| Arc::new(Draft::member(Kind::MemberAdded, channel(name), "{}").into_message(Some(at(ms))));
        let mut filter = EntryFilter::default();
        filter.skip(channel("a"), at(5), Skip::Members);
        filter.skip(channel("b"), at(3), Skip::Messages);
        let mut batch = vec![
            message("a", 1),
            member("a", 2),
            message("b", 3),
            message("b", 4),
            member("b", 4),
            member("a", 5),
            member("a", 6),
        ];
        filter.take(&mut batch, at(4), |_| true);
        let left: Vec<_> = batch.iter().map(|message| (message.channel().as_str(), message.kind())).collect();
        let (plain, added) = (Kind::Message, Kind::MemberAdded);
        assert_eq!(left, [("a", plain), ("b", plain), ("b", added), ("a", added)]);
        assert_eq!(filter.skipped.len(), 1, "the position of b is reached");
        filter.take(&mut Vec::new(), at(6), |_| true);
        assert!(filter.skipped.is_empty() && !filter.has_ended());
    }

    /// Clients distinguish events by their channels, so an event for two channels of a client is two events.
    #[test]
    fn a_message_of_several_channels_comes_once_for_each() {
        let epoch = Epoch::random();
        let cursor = |ms| Cursor { id: Id { ms, seq: 0 }, epoch };
        let of = |names: &[&str], ms| {
            let extras = Extras { channels: names.iter().map(|name| channel(name)).collect(), ..Extras::default() };
            let draft = Draft::new(channel(names[0]), Payload::from_any("1")).with_extras(extras);
            Arc::new(draft.into_message(Some(cursor(ms))))
        };
        let mut filter = EntryFilter::default();
        filter.repeat_per_channel();
        filter.skip(channel("c"), cursor(2), Skip::Messages);
        // The hub gives a message under the first of its channels that the client reads.
        let mut batch =
            vec![Arc::new(of(&["x", "b", "c"], 1).variant(&channel("b"))), of(&["a", "b"], 2), of(&["c", "x", "a"], 3)];
        filter.take(&mut batch, cursor(3), |channel| channel.as_str() != "x");
        let left: Vec<_> =
            batch.iter().map(|message| (message.channel().as_str(), message.cursor().map(|at| at.id.ms))).collect();
        assert_eq!(left, [("b", Some(1)), ("a", Some(2)), ("b", Some(2)), ("c", Some(3)), ("a", Some(3))]);
    }

    #[test]
    fn a_client_is_not_told_about_its_own_user() {
        let cursor = Cursor { id: Id { ms: 1, seq: 0 }, epoch: Epoch::random() };
        let entry = |name: &str, user: &str| {
            let data = User::new(user, None).expect("a user").data().to_owned();
            Arc::new(Draft::member(Kind::MemberAdded, channel(name), &data).into_message(Some(cursor)))
        };
        let mut filter = EntryFilter::default();
        filter.skip_own(channel("a"), Arc::new(User::new("7", Some("{}")).expect("a user")));
        let mut batch = vec![entry("a", "7"), entry("a", "8"), entry("b", "7")];
        filter.take(&mut batch, cursor, |_| true);
        assert_eq!(batch.len(), 2);
        filter.forget(&channel("a"));
        filter.take(&mut vec![entry("a", "7")], cursor, |_| true);
        assert!(filter.own.is_empty());
    }

    #[test]
    fn a_control_entry_ends_the_connection() {
        let cursor = Cursor { id: Id { ms: 1, seq: 0 }, epoch: Epoch::random() };
        let reserved = || Channel::reserved("~u/1/7").expect("reserved");
        let entry = |event: &str| Arc::new(Draft::control(reserved(), event, "{}").into_message(Some(cursor)));
        let mut filter = EntryFilter::default();
        let mut batch = vec![entry("other")];
        filter.take(&mut batch, cursor, |_| true);
        assert!(batch.is_empty() && !filter.has_ended());
        filter.take(&mut vec![entry(TERMINATE)], cursor, |_| true);
        assert!(filter.has_ended());
    }

    #[test]
    fn events_of_one_reserved_channel_are_passed_on() {
        let cursor = Cursor { id: Id { ms: 1, seq: 0 }, epoch: Epoch::random() };
        let reserved = |name: &str| Channel::reserved(name).expect("reserved");
        let entry = |name: &str| {
            let draft = Draft::control(reserved(name), "send", "{\"event\":\"message\",\"args\":[\"x\"]}");
            Arc::new(draft.into_message(Some(cursor)))
        };
        let mut filter = EntryFilter::default();
        filter.take(&mut vec![entry("~s/1")], cursor, |_| true);
        filter.pass_events(reserved("~s/1"));
        let mut batch = vec![entry("~s/2"), entry("~s/1")];
        filter.take(&mut batch, cursor, |_| true);
        assert_eq!(batch.iter().map(|message| message.payload()).collect::<Vec<_>>(), ["\"x\""]);
    }
}
