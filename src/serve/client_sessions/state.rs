//! The state of a session, and the rule by which a control entry changes it.
//!
//! The state at a position follows from the state at any earlier position and the control entries between them. So it
//! does not matter which node has written a bookmark, and which node reads on from there.

use super::address::{Addressee, own_channel};
use super::change::{Change, ControlEntry, Filter, Json, room_channel};
use super::id::SessionId;
use super::protocol::Bookmarks;
use crate::cursor::{Cursor, Id};
use crate::message::{Channel, ClientId, Message, User};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The most channels that a session reads.
pub const MAX_CHANNELS: usize = 1000;

/// The most channels that a session may not name again. Beyond it, the first by name is forgotten.
pub const MAX_LEFT: usize = 100;

/// The most answers that a session owes. Beyond it, the oldest one is not awaited any more.
pub const MAX_AWAITED: usize = 100;

/// The most departures that a session remembers, and for how long, by the log's clock. The client
/// may still have to read the messages before the leave.
pub(super) const MAX_DEPARTURES: usize = 100;
const DEPARTURE_MS: u64 = 300_000;

/// How a session reads a channel: because of the application, because of the client, or both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// The position from which it reads the channel because the application has made it join.
    pub joined: Option<Cursor>,
    /// Whether the client itself has named the channel, and may read it from any position.
    pub is_named: bool,
}

impl Membership {
    /// Whether the session gets a message at this position.
    fn reads(&self, id: Id) -> bool {
        self.is_named || self.joined.is_some_and(|at| at.id < id)
    }
}

/// The time in which a session has read a channel that it has left.
#[derive(Clone, Debug, PartialEq)]
pub struct Departure {
    /// The channel.
    pub channel: Channel,
    /// The position from which it read the channel; `None` for any position.
    pub since: Option<Cursor>,
    /// The position at which it left.
    pub until: Cursor,
}

impl Departure {
    fn reads(&self, channel: &Channel, id: Id) -> bool {
        self.channel == *channel && self.since.is_none_or(|at| at.id < id) && id <= self.until.id
    }
}

/// An answer that the application waits for.
#[derive(Clone, Debug, PartialEq)]
pub struct Awaited {
    /// The name that the application has given to it.
    pub name: String,
    /// The position of the event that asks for it. It distinguishes answers with one name.
    pub at: Cursor,
}

/// What the store has of a session.
#[derive(Clone, Copy, Debug)]
pub struct Stored {
    /// The digest of the bookmark.
    pub digest: u64,
    /// The position.
    pub cursor: Cursor,
}

/// The state of a session at a position of the log.
#[derive(Clone, Debug)]
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
    /// The channels that the application has made it leave a short time ago, in the order of the leaves.
    pub departures: Vec<Departure>,
    /// The answers that the application waits for, oldest first.
    pub awaited: Vec<Awaited>,
    /// The time at which the application is asked again, in milliseconds of the log's clock.
    pub asks_again_ms: Option<u64>,
    /// The position.
    pub cursor: Cursor,
    /// Whether the session was ended.
    pub has_ended: bool,
    /// Whether its connection has to end, too. It is known where the session has ended.
    pub closes: bool,
    /// What the store has of the session; `None` if that is not known.
    pub stored: Option<Stored>,
    /// Where its bookmark is between two requests.
    pub bookmarks: Bookmarks,
}

impl PartialEq for SessionState {
    /// Whether the states are the same, whatever the store has.
    fn eq(&self, other: &SessionState) -> bool {
        let parts =
            |it: &SessionState| (it.id.clone(), it.client.clone(), it.user.clone(), it.asks_again_ms, it.cursor);
        parts(self) == parts(other)
            && (&self.dialect, &self.endpoint, &self.data) == (&other.dialect, &other.endpoint, &other.data)
            && (&self.channels, &self.left) == (&other.channels, &other.left)
            && (&self.departures, &self.awaited) == (&other.departures, &other.awaited)
            && self.has_ended == other.has_ended
    }
}

/// A session would read more than [`MAX_CHANNELS`] channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyChannels;

/// The effects of an entry on a session.
#[derive(Debug, Default)]
pub struct Effects {
    /// Whether the state is another one now.
    pub has_changed: bool,
    /// Whether the session reads other channels now, or is that of another user.
    pub reads_others: bool,
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
            departures: Vec::new(),
            awaited: Vec::new(),
            asks_again_ms: None,
            cursor,
            has_ended: false,
            closes: false,
            stored: None,
            bookmarks: Bookmarks::Record,
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

    /// The channels that a reader at a position has to read: those of the state, and those that the session has left
    /// after the position.
    pub fn channels_from(&self, id: Id) -> BTreeSet<Channel> {
        let mut wanted = self.control_channels();
        wanted.extend(self.channels.keys().cloned());
        for channel in self.left_after(id) {
            wanted.extend(Addressee::Channel(channel.to_string()).channel());
            wanted.insert(channel.clone());
        }
        wanted
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
            Some(ControlEntry::Change(change)) => effects = self.change(&change),
            Some(ControlEntry::Send(send)) => {
                if let Some(name) = send.ack.clone() {
                    self.awaited.retain(|awaited| awaited.name != name);
                    if self.awaited.len() >= MAX_AWAITED {
                        self.awaited.remove(0);
                    }
                    self.awaited.push(Awaited { name, at: self.cursor });
                    effects.has_changed = true;
                }
                effects.event = send.message(message);
            }
            None => {}
        }
        effects
    }

    /// The answer with this name, if the application waits for it.
    pub fn awaited(&self, name: &str) -> Option<&Awaited> {
        self.awaited.iter().find(|awaited| awaited.name == name)
    }

    /// The event for the client in an entry that was applied before. A client that comes back with an earlier position
    /// gets it again.
    pub fn event_again(&self, message: &Message) -> Option<Message> {
        match self.entry_for_this(message)? {
            ControlEntry::Send(send) => send.message(message),
            ControlEntry::Change(_) => None,
        }
    }

    /// The control entry, if it is for this session.
    fn entry_for_this(&self, message: &Message) -> Option<ControlEntry> {
        // A shared channel has the entries of many sessions, so the addressee is read before the rest.
        let id = message.cursor().map_or(Id::MAX, |cursor| cursor.id);
        let is_for_this = match ControlEntry::addressee(message)? {
            None => own_channel(&self.id).as_ref() == Some(message.channel()),
            Some(addressee) => self.is_among(&addressee, id),
        };
        let entry = if is_for_this { ControlEntry::read(message) } else { None }?;
        let passes = |filter: &Filter| {
            filter.endpoint == self.endpoint && !filter.except.iter().any(|not| self.is_among(not, id))
        };
        entry.filter().is_none_or(passes).then_some(entry)
    }

    /// Whether the session is one of these at a position.
    fn is_among(&self, sessions: &Addressee, id: Id) -> bool {
        match sessions {
            Addressee::Client(client) => self.client.to_string() == *client,
            Addressee::User(user) => self.user.as_ref().is_some_and(|known| known.id() == user),
            Addressee::Channel(name) => Channel::of_server(name).is_ok_and(|channel| self.reads_at(&channel, id)),
        }
    }

    /// Changes the state at its position.
    pub fn change(&mut self, change: &Change) -> Effects {
        let channel = |name: &String| Channel::of_server(name).ok().filter(|channel| !channel.is_reserved());
        let endpoint = self.endpoint.clone();
        let room = |name: &String| room_channel(&endpoint, name);
        let (mut effects, mut has_changed) = (Effects::default(), false);
        for channel in change.leave.iter().map(channel).chain(change.leave_rooms.iter().map(room)).flatten() {
            let (is_read, is_new) = self.leave(channel);
            effects.reads_others |= is_read;
            has_changed |= is_new;
        }
        for channel in change.join.iter().map(channel).chain(change.rooms.iter().map(room)) {
            match channel.and_then(|channel| self.join(channel)) {
                Some(is_new) => effects.reads_others |= is_new,
                None => effects.refused_joins += 1,
            }
        }
        if let Some(user) = change.user.as_ref().and_then(|user| User::parse(user.as_str()).ok()).map(Arc::new) {
            effects.reads_others |= self.user.as_ref() != Some(&user);
            self.user = Some(user);
        }
        if let Some(data) = &change.data {
            let data = Some(data.clone()).filter(|data| data.as_str() != "null");
            has_changed |= self.data != data;
            self.data = data;
        }
        if let Some(ttl) = change.ttl {
            self.ask_again_after(ttl, self.cursor.id.ms);
            has_changed = true;
        }
        let before = self.awaited.len();
        self.awaited.retain(|awaited| !change.acked.contains(&(awaited.name.clone(), awaited.at.to_string())));
        has_changed |= self.awaited.len() != before || change.disconnect;
        self.has_ended |= change.disconnect;
        self.closes |= change.disconnect && change.closes;
        effects.has_changed = has_changed || effects.reads_others;
        effects
    }

    /// Makes the application be asked again so many seconds after this time of the log's clock.
    pub fn ask_again_after(&mut self, ttl: u64, now_ms: u64) {
        self.asks_again_ms = Some(now_ms.saturating_add(ttl.saturating_mul(1000)));
    }

    fn has_room_for(&self, channel: &Channel) -> bool {
        self.channels.len() < MAX_CHANNELS || self.channels.contains_key(channel)
    }

    /// Returns whether the channel was not joined before; `None` if there are too many channels.
    fn join(&mut self, channel: Channel) -> Option<bool> {
        if !self.has_room_for(&channel) {
            return None;
        }
        self.left.remove(&channel);
        let at = self.cursor;
        let membership = self.channels.entry(channel).or_default();
        let is_new = membership.joined.is_none();
        membership.joined.get_or_insert(at);
        Some(is_new)
    }

    /// Returns whether the channel was read, and whether anything has changed.
    fn leave(&mut self, channel: Channel) -> (bool, bool) {
        let membership = self.channels.remove(&channel);
        if let Some(membership) = membership {
            let since = membership.joined.filter(|_| !membership.is_named);
            let oldest_ms = self.cursor.id.ms.saturating_sub(DEPARTURE_MS);
            self.departures.retain(|departure| departure.until.id.ms >= oldest_ms);
            if self.departures.len() >= MAX_DEPARTURES {
                self.departures.remove(0);
            }
            self.departures.push(Departure { channel: channel.clone(), since, until: self.cursor });
        }
        if self.left.len() >= MAX_LEFT && !self.left.contains(&channel) {
            self.left.pop_first();
        }
        (membership.is_some(), self.left.insert(channel) || membership.is_some())
    }

    /// Reads the channels that the client names in a request, and no others that it has named before.
    ///
    /// # Errors
    ///
    /// There are too many channels.
    pub fn name_all(&mut self, channels: &[Channel]) -> Result<(), TooManyChannels> {
        self.unname_if(|channel| !channels.contains(channel));
        self.name(channels)
    }

    /// Reads more channels, which the client names. It cannot name those that the application has made it leave.
    ///
    /// # Errors
    ///
    /// There are too many channels. Then none of them is read.
    pub fn name(&mut self, channels: &[Channel]) -> Result<(), TooManyChannels> {
        self.check_room(channels)?;
        for channel in channels.iter().filter(|channel| !self.left.contains(channel)).cloned().collect::<Vec<_>>() {
            self.channels.entry(channel).or_default().is_named = true;
        }
        Ok(())
    }

    /// Checks that the client may name these channels besides those that the session reads.
    ///
    /// # Errors
    ///
    /// There are too many channels.
    pub fn check_room(&self, channels: &[Channel]) -> Result<(), TooManyChannels> {
        let is_new = |channel: &&Channel| !self.channels.contains_key(channel) && !self.left.contains(channel);
        let new: BTreeSet<&Channel> = channels.iter().filter(is_new).collect();
        if self.channels.len() + new.len() > MAX_CHANNELS { Err(TooManyChannels) } else { Ok(()) }
    }

    /// Stops reading channels, because the client does not want them any more. The application's joins stay.
    pub fn unname(&mut self, channels: &[Channel]) {
        self.unname_if(|channel| channels.contains(channel));
    }

    fn unname_if(&mut self, is_unwanted: impl Fn(&Channel) -> bool) {
        self.channels.retain(|channel, membership| {
            membership.is_named &= !is_unwanted(channel);
            membership.is_named || membership.joined.is_some()
        });
    }

    /// Whether the session gets a message that is at or before its position, or the next one after it: whether it reads
    /// one of the message's channels at that place.
    pub fn gets(&self, message: &Message) -> bool {
        // A volatile message has no place.
        let reads = |channel: &Channel| match message.cursor() {
            Some(cursor) => self.reads_at(channel, cursor.id),
            None => self.channels.contains_key(channel),
        };
        // A message to the session itself stands on its own channel.
        message.channels().iter().any(|channel| channel.is_reserved() || reads(channel))
    }

    /// Positions of all epochs that a session lives through have one order.
    fn reads_at(&self, channel: &Channel, id: Id) -> bool {
        self.channels.get(channel).is_some_and(|membership| membership.reads(id))
            || self.departures.iter().any(|departure| departure.reads(channel, id))
    }

    /// The channels that the session has left after a position.
    pub fn left_after(&self, id: Id) -> impl Iterator<Item = &Channel> {
        self.departures.iter().filter(move |departure| departure.until.id > id).map(|departure| &departure.channel)
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
