//! Adds what has changed to the backlog, if the consumers do not know it.

use super::backlog::{Backlog, Consumers, Waiting};
use super::metrics::TransitionMetrics;
use super::told::{Subject, Told, content, member_text, occupied_text};
use super::{Transition, TransitionKind, id_of};
use crate::cursor::Cursor;
use crate::message::{Channel, User};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What is known and what waits, for one look at the channels or at the log.
pub struct Gathering<'a> {
    /// What the consumers know.
    pub told: &'a Told,
    /// What they will be told.
    pub backlog: &'a mut Backlog,
    /// The consumers.
    pub consumers: &'a Consumers,
    /// The metrics.
    pub metrics: &'a TransitionMetrics,
}

/// Where a change of the members comes from.
#[derive(Clone, Copy)]
pub struct Origin {
    /// The position of the entry, or of the comparison.
    pub cursor: Cursor,
    /// The step of the log that is complete when the transition was told.
    pub step: u64,
    /// Whether all members are compared.
    pub is_comparison: bool,
}

impl Gathering<'_> {
    /// Whether there is room for more.
    pub fn has_room(&self) -> bool {
        self.backlog.has_room()
    }

    /// Whether the consumers will know that a channel is occupied.
    pub fn is_occupied(&self, channel: &Channel) -> bool {
        self.backlog.text_later(self.told, &Subject::Readers(channel.clone())).is_some()
    }

    /// The channels in a range of names that the consumers will know as occupied.
    pub fn occupied_in(&self, after: &str, upto: Option<&str>) -> BTreeSet<Channel> {
        let mut channels: BTreeSet<Channel> = self.told.occupied(after, upto).collect();
        for (subject, text) in self.backlog.later() {
            let Subject::Readers(channel) = subject else { continue };
            if text.is_none() {
                channels.remove(channel);
            } else if channel.as_str() > after && upto.is_none_or(|upto| channel.as_str() <= upto) {
                channels.insert(channel.clone());
            }
        }
        channels
    }

    /// The channels after a name, up to another one, of which the consumers will know members; at most about `most`. The
    /// second value is the name up to which these are all.
    pub fn channels_with_members(
        &self,
        after: &str,
        upto: Option<&str>,
        most: usize,
    ) -> (BTreeSet<Channel>, Option<String>) {
        let mut channels = BTreeSet::new();
        let mut upto = upto.map(ToOwned::to_owned);
        let mut at = after.to_owned();
        while let Some(channel) = self.told.next_with_members(&at)
            && upto.as_deref().is_none_or(|upto| channel.as_str() <= upto)
        {
            if channels.len() == most {
                upto = Some(at);
                break;
            }
            at = channel.to_string();
            channels.insert(channel);
        }
        for (subject, _) in self.backlog.later() {
            let Subject::Member(channel, _) = subject else { continue };
            if channel.as_str() > after && upto.as_deref().is_none_or(|upto| channel.as_str() <= upto) {
                channels.insert(channel.clone());
            }
        }
        (channels, upto)
    }

    /// The members of a channel that the consumers will know.
    pub fn members(&self, channel: &Channel) -> Vec<User> {
        let told = self.told.members(channel).into_iter().filter_map(|data| User::parse(data).ok());
        let mut members: BTreeMap<Box<str>, User> = told.map(|user| (user.id().into(), user)).collect();
        for (subject, text) in self.backlog.later() {
            let Subject::Member(of, id) = subject else { continue };
            if of == channel {
                members.remove(id);
                members.extend(text.and_then(|text| User::parse(content(text)).ok()).map(|user| (id.clone(), user)));
            }
        }
        members.into_values().collect()
    }

    /// Adds that a channel is occupied.
    pub fn occupied(&mut self, channel: &Channel, cursor: Cursor) {
        if !self.told.has_room() {
            self.metrics.omitted.inc();
            return;
        }
        let id = uuid::Uuid::new_v4().simple().to_string();
        let add = Some(occupied_text(channel, &id));
        let transition = transition(TransitionKind::Occupied, channel, None, cursor, id);
        self.push(transition, Subject::Readers(channel.clone()), add, None, None);
    }

    /// Adds that an occupied channel is vacated.
    pub fn vacated(&mut self, channel: &Channel, cursor: Cursor) {
        let subject = Subject::Readers(channel.clone());
        let Some(known) = self.backlog.text_later(self.told, &subject).map(ToOwned::to_owned) else { return };
        // The same end of the same stay has one id, whatever node tells it.
        let id = id_of(&["vacated", content(&known)]);
        let transition = transition(TransitionKind::Vacated, channel, None, cursor, id);
        self.push(transition, subject, None, Some(known), None);
    }

    /// Adds that a user is a member, with this info, or is not a member. Returns how many transitions that are.
    pub fn member(&mut self, channel: &Channel, user: &User, is_member: bool, origin: Origin) -> usize {
        let subject = Subject::Member(channel.clone(), user.id().into());
        let known = self.backlog.text_later(self.told, &subject).map(ToOwned::to_owned);
        let text = member_text(channel, user.data());
        if is_member && known.as_deref() == Some(&text) {
            return 0;
        }
        let cursor = origin.cursor.to_string();
        let from = if origin.is_comparison { "comparison" } else { "entry" };
        let member = |kind: TransitionKind, data: &str| {
            let id = id_of(&[kind.as_str(), channel.as_str(), user.id(), from, &cursor]);
            transition(kind, channel, Some(data.to_owned()), origin.cursor, id)
        };
        let mut count = 0;
        if let Some(known) = known {
            let removed = member(TransitionKind::MemberRemoved, content(&known));
            self.push(removed, subject.clone(), None, Some(known.clone()), Some(origin.step));
            count += 1;
        }
        if is_member && !self.told.has_room() {
            self.metrics.omitted.inc();
        } else if is_member {
            let added = member(TransitionKind::MemberAdded, user.data());
            self.push(added, subject, Some(text), None, Some(origin.step));
            count += 1;
        }
        count
    }

    fn push(
        &mut self,
        transition: Transition,
        subject: Subject,
        add: Option<String>,
        remove: Option<String>,
        step: Option<u64>,
    ) {
        let consumers = self.consumers.iter().filter(|consumer| consumer.takes(transition.kind)).cloned().collect();
        self.backlog.push(Waiting { transition: Arc::new(transition), consumers, subject, add, remove, step });
    }
}

fn transition(kind: TransitionKind, channel: &Channel, user: Option<String>, cursor: Cursor, id: String) -> Transition {
    Transition { kind, channel: channel.clone(), user, cursor, id }
}
