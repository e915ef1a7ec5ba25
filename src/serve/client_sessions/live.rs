//! A session with an open stream: it applies control entries at their place in the log.

use super::id::SessionId;
use super::loss::Loss;
use super::protocol::Bookmarks;
use super::registry::{CLOSED, ClientSessions, RENEW_EVERY};
use super::state::{MAX_CHANNELS, SessionState, Stored};
use crate::cursor::{Cursor, Id};
use crate::hub::{Gap, Hub, Subscription};
use crate::message::{Channel, Message, User};
use crate::serve::presence::service::Presence;
use crate::serve::presence::stay::Stay;
use crate::transport::params::too_many_channels;
use crate::transport::{ApiError, Code};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

/// A session with an open stream, or in a request.
pub struct LiveSession {
    sessions: Arc<ClientSessions>,
    hub: Arc<Hub>,
    state: SessionState,
    /// Whether another stream or poll of the session is ahead of this one, and this state has not been noted.
    is_behind: bool,
    /// The position of the state when the stream began. A message up to there is checked against the state.
    began: Id,
    /// Whether the stream also reads the channels that the session has left before the stream began.
    reads_left: bool,
    loss: Arc<Loss>,
    /// How long the session lives after the end of the stream or poll.
    stays: Duration,
    /// Whether the store knows that, and has a young bookmark.
    is_brief: bool,
    /// Whether the session ends with the stream, because its client cannot come back to it.
    ends_with_stream: bool,
    presence: Option<Arc<Presence>>,
    stay: Option<Stay>,
    /// The channels in which the session's user is a member.
    present: BTreeSet<Channel>,
}

impl LiveSession {
    /// The session of a stream, for as long as the result exists.
    pub fn of_stream(sessions: &Arc<ClientSessions>, hub: &Arc<Hub>, state: SessionState) -> LiveSession {
        LiveSession::new(sessions, hub, state, CLOSED)
    }

    /// The session of a poll. After its answer, the client may be away for the usual time.
    pub fn of_poll(sessions: &Arc<ClientSessions>, hub: &Arc<Hub>, state: SessionState) -> LiveSession {
        LiveSession::new(sessions, hub, state, sessions.settings().away)
    }

    fn new(sessions: &Arc<ClientSessions>, hub: &Arc<Hub>, mut state: SessionState, stays: Duration) -> LiveSession {
        let loss = Arc::<Loss>::default();
        let is_behind = is_recorded(&state) && !sessions.connect(hub, &mut state, &loss);
        LiveSession {
            sessions: sessions.clone(),
            hub: hub.clone(),
            is_behind,
            began: state.cursor.id,
            state,
            reads_left: false,
            loss,
            stays,
            is_brief: false,
            ends_with_stream: false,
            presence: None,
            stay: None,
            present: BTreeSet::new(),
        }
    }

    /// Ends the session with its stream, because its client cannot come back to it.
    pub fn end_with_stream(&mut self) {
        self.ends_with_stream = true;
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
        let from = if self.reads_left { subscription.cursor().id } else { Id::MAX };
        let wanted = self.state.channels_from(from);
        let known: BTreeSet<Channel> = subscription.names().cloned().collect();
        known.difference(&wanted).for_each(|channel| subscription.remove(channel));
        wanted.difference(&known).for_each(|channel| subscription.add(channel));
    }

    /// Takes the entries that a subscription has returned: applies control entries, and puts their events in their place.
    pub fn take(&mut self, batch: &mut Vec<Arc<Message>>, subscription: &mut Subscription) {
        let is_checked = |message: &Arc<Message>, it: &LiveSession| it.reads_left || id_of(message) <= it.began;
        if batch.iter().any(|message| message.is_control() || is_checked(message, self)) {
            let (mut has_changed, mut reads_others, at) = (false, false, self.state.cursor);
            for message in std::mem::take(batch) {
                if !message.is_control() {
                    if !is_checked(&message, self) || self.state.gets(&message) {
                        batch.push(message);
                    }
                    continue;
                }
                if id_of(&message) > self.state.cursor.id {
                    let effects = self.state.apply(&message);
                    has_changed |= effects.has_changed;
                    reads_others |= effects.reads_others;
                    self.sessions.metrics.refused_joins.inc_by(effects.refused_joins as u64);
                    batch.extend(effects.event.map(Arc::new));
                } else {
                    batch.extend(self.state.event_again(&message).map(Arc::new));
                }
            }
            if reads_others {
                self.attach(subscription);
                self.update_stay();
            }
            if has_changed || self.is_behind {
                self.note();
            } else if at != self.state.cursor {
                self.note_move();
            }
            if self.state.has_ended {
                self.end();
            }
        }
        // A reader that waits must not get messages of channels that the session has left.
        if self.reads_left && subscription.cursor().id >= self.began {
            self.reads_left = false;
            self.attach(subscription);
        }
    }

    /// Whether the application has ended the session.
    pub fn has_ended(&self) -> bool {
        self.state.has_ended
    }

    /// Whether the store does not have the session any more. If it has, the task is woken when that changes.
    pub fn poll_lost(&self, cx: &Context<'_>) -> bool {
        self.loss.poll(cx)
    }

    /// Notes a gap. Returns whether changes of the session may have been in it. Then the state is not known at the
    /// position behind the gap, and the log has to be read again from the bookmark.
    pub fn is_interrupted_by(&mut self, gap: &Gap, subscription: &Subscription) -> bool {
        let is_known = |at: Cursor| at.epoch == gap.cursor.epoch && at.id >= gap.cursor.id;
        if is_known(self.state.cursor) {
            return false;
        }
        let control: Vec<Channel> = self.state.control_channels().into_iter().collect();
        if !is_known(subscription.unchanged_until(&control, self.state.cursor)) {
            return true;
        }
        self.state.cursor = gap.cursor;
        self.note_move();
        false
    }

    /// Goes on with a state of the session that was found behind a gap.
    pub fn go_on(&mut self, state: SessionState, subscription: &mut Subscription) {
        self.state = state;
        self.attach(subscription);
        self.note();
    }

    /// Ends the session, which the application has ended.
    pub fn end(&mut self) {
        self.end_for("disconnected");
    }

    /// Ends the session, whose changes were lost.
    pub fn end_lost(&mut self) {
        self.end_for("gap");
    }

    fn end_for(&mut self, reason: &'static str) {
        self.state.has_ended = true;
        match self.state.bookmarks {
            Bookmarks::Record => self.sessions.end_soon(&self.state.id, reason),
            Bookmarks::Sealed { .. } => self.sessions.metrics.ended(reason),
        }
    }

    /// Notes that a poll, which did not wait, has read up to this position. If the store has a bookmark that is not much
    /// older, it is not written again.
    pub fn ends_at(&mut self, cursor: Cursor) {
        let is_young =
            |stored: Stored| cursor.id.ms.saturating_sub(stored.cursor.id.ms) < RENEW_EVERY.as_millis() as u64;
        self.is_brief = self.state.stored.is_some_and(is_young);
    }

    /// How many channels the client has named.
    pub fn named(&self) -> usize {
        self.state.channels.values().filter(|membership| membership.is_named).count()
    }

    /// Checks channels that the client names in a command, and returns how many of them it has not named before.
    ///
    /// # Errors
    ///
    /// `forbidden`: the application has made the session leave one of them. `too_many_channels`.
    pub fn check_named(&self, channels: &[Channel]) -> Result<usize, ApiError> {
        if channels.iter().any(|channel| self.state.left.contains(channel)) {
            return Err(ApiError::new(Code::Forbidden, "the application has removed you from one of these channels"));
        }
        self.state.check_room(channels).map_err(|_| too_many_channels(MAX_CHANNELS))?;
        let is_named = |channel: &Channel| self.state.channels.get(channel).is_some_and(|it| it.is_named);
        Ok(channels.iter().filter(|channel| !is_named(channel)).count())
    }

    /// Reads more channels, which the client names in a command.
    ///
    /// # Errors
    ///
    /// `too_many_channels`.
    pub fn name(&mut self, channels: &[Channel]) -> Result<(), ApiError> {
        // Entries to the channels up to here are not for the session.
        let control: Vec<Channel> = self.state.control_channels().into_iter().collect();
        self.state.cursor = self.hub.unchanged_until(&control, self.state.cursor);
        self.state.name(channels).map_err(|_| too_many_channels(MAX_CHANNELS))?;
        self.note();
        Ok(())
    }

    /// Stops reading channels, because of a command of the client. The application's joins stay.
    pub fn unname(&mut self, channels: &[Channel]) {
        self.state.unname(channels);
        self.update_stay();
        self.note();
    }

    fn note(&mut self) {
        self.is_behind = is_recorded(&self.state) && !self.sessions.note(&self.hub, &mut self.state);
    }

    fn note_move(&self) {
        if is_recorded(&self.state) {
            self.sessions.moved(&self.state);
        }
    }

    /// Moves a subscription that would begin after the session's position back to it: the changes between them count.
    pub fn begin(&mut self, subscription: &mut Subscription) {
        subscription.go_back(self.state.cursor);
        self.reads_left = self.state.left_after(subscription.cursor().id).next().is_some();
        self.attach(subscription);
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

    /// Ends the stay of the user at once: the application has ended the session. The client may take its time to close the
    /// connection.
    pub fn end_stay(&mut self) {
        if let Some(mut stay) = self.stay.take() {
            stay.revoke(|_| true);
        }
        self.presence = None;
    }

    /// The user, if there is one.
    pub fn user(&self) -> Option<&Arc<User>> {
        self.state.user.as_ref()
    }
}

impl Drop for LiveSession {
    fn drop(&mut self) {
        if self.ends_with_stream && !self.state.has_ended {
            self.end_for("close");
        }
        if is_recorded(&self.state) {
            self.sessions.disconnect(&self.state.id, &self.loss, self.stays, self.is_brief);
        }
    }
}

/// Whether the record has the session, so that its streams and polls have to be noted there.
fn is_recorded(state: &SessionState) -> bool {
    state.bookmarks == Bookmarks::Record
}

fn id_of(message: &Message) -> Id {
    // A volatile message has no position. It is sent to those who read its channel at this moment.
    message.cursor().map_or(Id::MAX, |cursor| cursor.id)
}
