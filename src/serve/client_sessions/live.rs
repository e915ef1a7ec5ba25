//! A session with an open stream: it applies control entries at their place in the log.

use super::id::SessionId;
use super::registry::ClientSessions;
use super::state::SessionState;
use crate::cursor::{Cursor, Id};
use crate::hub::{Gap, Subscription};
use crate::message::{Channel, Message, User};
use crate::serve::presence::service::Presence;
use crate::serve::presence::stay::Stay;
use crate::transport::{ApiError, Code};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// A session with an open stream, or in a request.
pub struct LiveSession {
    sessions: Arc<ClientSessions>,
    /// Whether the session is that of a stream, and not of a poll.
    is_stream: bool,
    state: SessionState,
    /// The position of the state when the stream began. A message up to there is checked against the channels' joins.
    began: Cursor,
    presence: Option<Arc<Presence>>,
    stay: Option<Stay>,
    /// The channels in which the session's user is a member.
    present: BTreeSet<Channel>,
}

impl LiveSession {
    /// The session of a stream, for as long as the result exists.
    pub fn of_stream(sessions: &Arc<ClientSessions>, state: SessionState) -> LiveSession {
        sessions.connect(&state);
        LiveSession::new(sessions, state, true)
    }

    /// The session of a poll.
    pub fn of_poll(sessions: &Arc<ClientSessions>, state: SessionState) -> LiveSession {
        LiveSession::new(sessions, state, false)
    }

    fn new(sessions: &Arc<ClientSessions>, state: SessionState, is_stream: bool) -> LiveSession {
        let (sessions, began) = (sessions.clone(), state.cursor);
        LiveSession { sessions, is_stream, state, began, presence: None, stay: None, present: BTreeSet::new() }
    }

    /// The id.
    pub fn id(&self) -> &SessionId {
        &self.state.id
    }

    /// The state at its position.
    pub fn state(&self) -> &SessionState {
        &self.state
    }

    /// Makes the session's user a member of the channels with presence that it joins.
    pub fn set_presence(&mut self, presence: Option<Arc<Presence>>) {
        self.presence = presence;
        self.update_stay();
    }

    /// Makes a subscription read the session's channels, from its position on.
    pub fn attach(&self, subscription: &mut Subscription) {
        let mut wanted = self.state.control_channels();
        wanted.extend(self.state.channels.keys().cloned());
        let known: Vec<Channel> = subscription.names().cloned().collect();
        for channel in known.iter().filter(|channel| !wanted.contains(*channel)) {
            subscription.remove(channel);
        }
        wanted.iter().filter(|channel| !known.contains(channel)).for_each(|channel| subscription.add(channel));
    }

    /// Takes the entries that a subscription has returned: applies control entries, and puts their events in their place.
    pub fn take(&mut self, batch: &mut Vec<Arc<Message>>, subscription: &mut Subscription) {
        let is_plain = |message: &Arc<Message>| !message.is_control() && id_of(message) > self.began.id;
        if batch.iter().all(is_plain) {
            return;
        }
        let before = self.state.channels.clone();
        let (user, mut has_changed) = (self.state.user.clone(), false);
        for message in std::mem::take(batch) {
            if !message.is_control() {
                if id_of(&message) > self.began.id || self.state.gets(&message) {
                    batch.push(message);
                }
                continue;
            }
            if id_of(&message) > self.state.cursor.id {
                let effects = self.state.apply(&message);
                has_changed |= effects.has_changed;
                self.sessions.metrics.refused_joins.inc_by(effects.refused_joins as u64);
                batch.extend(effects.event.map(Arc::new));
            } else {
                batch.extend(self.state.event_again(&message).map(Arc::new));
            }
        }
        if before != self.state.channels || user != self.state.user {
            self.attach(subscription);
            self.update_stay();
        }
        if has_changed {
            self.note();
        }
        if self.state.has_ended {
            self.sessions.end_soon(&self.state.id, "disconnected");
        }
    }

    /// Whether the application has ended the session.
    pub fn has_ended(&self) -> bool {
        self.state.has_ended
    }

    /// Notes a gap. Returns whether changes of the session may have been in it: then the session ends.
    pub fn is_lost_by(&mut self, gap: &Gap) -> bool {
        let at = self.state.cursor;
        let is_lost = gap.cursor.epoch != at.epoch || gap.cursor.id > at.id;
        if is_lost {
            self.state.has_ended = true;
            self.sessions.end_soon(&self.state.id, "gap");
        }
        is_lost
    }

    /// How many channels it reads because the application has made it join them.
    pub fn joined(&self) -> usize {
        self.state.channels.values().filter(|membership| !membership.is_named).count()
    }

    /// Checks channels that the client names in a command.
    ///
    /// # Errors
    ///
    /// `forbidden`: the application has made the session leave one of them.
    pub fn check_named(&self, channels: &[Channel]) -> Result<(), ApiError> {
        if channels.iter().any(|channel| self.state.left.contains(channel)) {
            return Err(ApiError::new(Code::Forbidden, "the application has removed you from one of these channels"));
        }
        Ok(())
    }

    /// Reads more channels, which the client names in a command.
    pub fn name(&mut self, channels: &[Channel]) {
        self.state.name(channels);
        self.note();
    }

    /// Stops reading channels, because of a command of the client.
    pub fn unname(&mut self, channels: &[Channel]) {
        self.state.unname(channels);
        self.update_stay();
        self.note();
    }

    fn note(&self) {
        if self.is_stream {
            self.sessions.note(&self.state);
        }
    }

    /// Stores the state of the session of a poll, which may take this time.
    pub async fn save(&self, time: Duration) {
        self.sessions.save(&self.state, time).await;
    }

    /// Notes that the poll is over: from now on the client may be away for the usual time.
    pub async fn stay(&self) {
        self.sessions.stay(&self.state.id, self.began).await;
    }

    /// Moves a subscription that would begin after the session's position back to it: the changes between them count.
    pub fn begin(&self, subscription: &mut Subscription) {
        self.attach(subscription);
        let (at, state) = (subscription.cursor(), self.state.cursor);
        if at.epoch != state.epoch || at.id > state.id {
            subscription.go_back(state);
        }
    }

    /// The present user in the channels with presence: of the joins of the application, since the permission to read
    /// covers the others.
    fn update_stay(&mut self) {
        let Some(presence) = &self.presence else { return };
        let Some(user) = self.state.user.clone() else { return };
        let covered = self.state.channels.iter().filter(|(channel, it)| !it.is_named && presence.covers(channel));
        let wanted: BTreeSet<Channel> = covered.map(|(channel, _)| channel.clone()).collect();
        if let Some(stay) = &mut self.stay {
            self.present.difference(&wanted).for_each(|channel| stay.leave(channel));
            stay.set_user(&user);
        }
        let new: Vec<Channel> = wanted.difference(&self.present).cloned().collect();
        if let Some(stay) = presence.join_later(&new, &user, Some(&self.state.client)) {
            match &mut self.stay {
                Some(held) => held.merge(stay),
                empty => *empty = Some(stay),
            }
        }
        self.present = wanted;
    }

    /// The user, if there is one.
    pub fn user(&self) -> Option<&Arc<User>> {
        self.state.user.as_ref()
    }
}

impl Drop for LiveSession {
    fn drop(&mut self) {
        if self.is_stream {
            self.sessions.disconnect(&self.state.id);
        }
    }
}

fn id_of(message: &Message) -> Id {
    // A volatile message has no position. It is sent to those who read its channel at this moment.
    message.cursor().map_or(Id::MAX, |cursor| cursor.id)
}
