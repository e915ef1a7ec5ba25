//! The state of a session, and the rule by which a control entry changes it.
//!
//! The state at a position follows from the state at any earlier position and the control entries between them. So it
//! does not matter which node has written a bookmark, and which node reads on from there.

use super::address::{Addressee, own_channel};
use super::change::{Change, ControlEntry, Json, room_channel};
use super::id::SessionId;
use crate::cursor::Cursor;
use crate::message::{Channel, ClientId, Message, User};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The most channels that a session reads.
pub const MAX_CHANNELS: usize = 1000;

/// The most channels that a session may not name again. Beyond it, the first by name is forgotten.
pub const MAX_LEFT: usize = 100;

/// The most answers that a session owes. Beyond it, the oldest one is not awaited any more.
pub const MAX_AWAITED: usize = 100;

/// How a session reads a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The position from which it reads the channel.
    pub at: Cursor,
    /// Whether the client itself has named the channel, and may read it from any position.
    pub is_named: bool,
}

/// The state of a session at a position of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionState {
    /// Its id.
    pub id: SessionId,
    /// The protocol that the client speaks, as the application sees it.
    pub dialect: String,
    /// The namespace or path.
    pub endpoint: String,
    /// The client id.
    pub client: ClientId,
    /// The user, if the application or a token has named one.
    pub user: Option<Arc<User>>,
    /// What the application gets with each call.
    pub data: Option<Json>,
    /// The channels that it reads.
    pub channels: BTreeMap<Channel, Membership>,
    /// The channels that the application has made it leave. The client cannot read them by naming them again.
    pub left: BTreeSet<Channel>,
    /// The names of answers that the application waits for, oldest first.
    pub awaited: Vec<String>,
    /// The time at which the application is asked again, in milliseconds of the log's clock.
    pub asks_again_ms: Option<u64>,
    /// The position.
    pub cursor: Cursor,
    /// Whether the session was ended.
    pub has_ended: bool,
}

/// The effects of an entry on a session.
#[derive(Debug, Default)]
pub struct Effects {
    /// Whether the state is another one now.
    pub has_changed: bool,
    /// An event for the client.
    pub event: Option<Message>,
    /// Joins that had no effect, because their channels have no usable names or the session reads too many.
    pub refused_joins: usize,
}

impl SessionState {
    /// A session that has just begun, at this position.
    pub fn new(id: SessionId, dialect: &str, endpoint: &str, client: ClientId, cursor: Cursor) -> SessionState {
        SessionState {
            id,
            dialect: dialect.to_owned(),
            endpoint: endpoint.to_owned(),
            client,
            user: None,
            data: None,
            channels: BTreeMap::new(),
            left: BTreeSet::new(),
            awaited: Vec::new(),
            asks_again_ms: None,
            cursor,
            has_ended: false,
        }
    }

    /// The channels of the control entries that concern the session.
    pub fn control_channels(&self) -> BTreeSet<Channel> {
        let client = Addressee::Client(self.client.to_string());
        let user = self.user.as_ref().map(|user| Addressee::User(user.id().to_owned()));
        let channels = self.channels.keys().map(|channel| Addressee::Channel(channel.to_string()));
        let shared = channels.chain([client]).chain(user).filter_map(|addressee| addressee.channel());
        shared.chain(own_channel(&self.id)).collect()
    }

    /// Applies the entry at the next position. Entries for other sessions have no effect.
    pub fn apply(&mut self, message: &Message) -> Effects {
        let mut effects = Effects::default();
        if let Some(cursor) = message.cursor() {
            self.cursor = cursor;
        }
        if self.has_ended {
            return effects;
        }
        match self.entry_for_this(message) {
            Some(ControlEntry::Change(change)) => {
                let before = self.clone();
                effects.refused_joins = self.change(&change);
                effects.has_changed = *self != before;
            }
            Some(ControlEntry::Send(send)) => {
                if let Some(ack) = send.ack.clone().filter(|ack| !self.awaited.contains(ack)) {
                    if self.awaited.len() >= MAX_AWAITED {
                        self.awaited.remove(0);
                    }
                    self.awaited.push(ack);
                    effects.has_changed = true;
                }
                effects.event = event(message, &send);
            }
            None => {}
        }
        effects
    }

    /// The event for the client in an entry that was applied before. A client that comes back with an earlier position
    /// gets it again.
    pub fn event_again(&self, message: &Message) -> Option<Message> {
        match self.entry_for_this(message)? {
            ControlEntry::Send(send) => event(message, &send),
            ControlEntry::Change(_) => None,
        }
    }

    /// The control entry, if it is for this session.
    fn entry_for_this(&self, message: &Message) -> Option<ControlEntry> {
        let entry = ControlEntry::read(message)?;
        let is_for_this = match entry.to() {
            None => own_channel(&self.id).as_ref() == Some(message.channel()),
            Some(Addressee::Client(client)) => self.client.to_string() == *client,
            Some(Addressee::User(user)) => self.user.as_ref().is_some_and(|known| known.id() == user),
            Some(Addressee::Channel(name)) => self.channels.keys().any(|channel| channel.as_str() == name),
        };
        is_for_this.then_some(entry)
    }

    /// Changes the state at its position. Returns how many joins were refused.
    pub fn change(&mut self, change: &Change) -> usize {
        let channel = |name: &String| Channel::of_server(name).ok().filter(|channel| !channel.is_reserved());
        let endpoint = self.endpoint.clone();
        let room = |name: &String| room_channel(&endpoint, name);
        let mut refused = 0;
        for channel in change.leave.iter().map(channel).chain(change.leave_rooms.iter().map(room)).flatten() {
            self.leave(channel);
        }
        for channel in change.join.iter().map(channel).chain(change.rooms.iter().map(room)) {
            refused += usize::from(!channel.is_some_and(|channel| self.join(channel, false)));
        }
        if let Some(user) = change.user.as_ref().and_then(|user| User::parse(user.as_str()).ok()) {
            self.user = Some(Arc::new(user));
        }
        if let Some(data) = &change.data {
            self.data = Some(data.clone()).filter(|data| data.as_str() != "null");
        }
        if let Some(ttl) = change.ttl {
            self.asks_again_ms = Some(self.cursor.id.ms.saturating_add(ttl.saturating_mul(1000)));
        }
        self.awaited.retain(|name| !change.acked.contains(name));
        self.has_ended |= change.disconnect;
        refused
    }

    fn join(&mut self, channel: Channel, is_named: bool) -> bool {
        if self.channels.len() >= MAX_CHANNELS && !self.channels.contains_key(&channel) {
            return false;
        }
        self.left.remove(&channel);
        let membership = Membership { at: self.cursor, is_named };
        self.channels.entry(channel).or_insert(membership);
        true
    }

    fn leave(&mut self, channel: Channel) {
        self.channels.remove(&channel);
        if self.left.len() >= MAX_LEFT {
            self.left.pop_first();
        }
        self.left.insert(channel);
    }

    /// Reads the channels that the client names in a request, and no others that it has named before.
    pub fn name_all(&mut self, channels: &[Channel]) {
        self.channels.retain(|channel, membership| !membership.is_named || channels.contains(channel));
        self.name(channels);
    }

    /// Reads more channels, which the client names. It cannot name those that the application has made it leave.
    pub fn name(&mut self, channels: &[Channel]) {
        for channel in channels.iter().filter(|channel| !self.left.contains(channel)).cloned().collect::<Vec<_>>() {
            self.join(channel, true);
        }
    }

    /// Stops reading channels, because the client does not want them any more.
    pub fn unname(&mut self, channels: &[Channel]) {
        self.channels.retain(|channel, _| !channels.contains(channel));
    }

    /// Whether the session gets a message at or before its position: whether it read one of the message's channels at
    /// that time.
    pub fn gets(&self, message: &Message) -> bool {
        let Some(cursor) = message.cursor() else { return true };
        let read = |channel: &Channel| {
            self.channels
                .get(channel)
                .is_some_and(|it| it.is_named || it.at.epoch != cursor.epoch || it.at.id < cursor.id)
        };
        // A message to the session itself stands on its own channel.
        message.channels().iter().any(|channel| channel.is_reserved() || read(channel))
    }
}

fn event(message: &Message, send: &super::change::Send) -> Option<Message> {
    let (cursor, name) = (message.cursor()?, send.name()?);
    Some(Message::session_event(cursor, message.channel().clone(), name, send.args.as_str(), send.ack.as_deref()))
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
