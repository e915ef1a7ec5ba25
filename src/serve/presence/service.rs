//! The presence of this node's users: it tells the store who comes and goes, and asks it who is there.

use super::connections::Connections;
use super::metrics::PresenceMetrics;
use super::stay::{PollingStay, Stay};
use crate::log::presence::node::{Outcome, Place};
use crate::log::presence::{Joined, Members, PERIOD, PresenceStore};
use crate::message::{Channel, ClientId, Pattern, User};
use crate::transport::{ApiError, Code};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{info, warn};

/// How long a subscription waits for its user to be a member. After that, the user becomes a member later.
const JOIN_WAIT: Duration = Duration::from_secs(2);

/// How long a join waits for a node that has just started.
const START_WAIT: Duration = Duration::from_secs(6);

/// How long a request waits for a list.
const LIST_WAIT: Duration = Duration::from_secs(8);

/// The time after which a client should ask again for a list that cannot be read.
const RETRY: Duration = Duration::from_secs(2);

/// The settings of presence.
#[derive(Clone, Debug)]
pub struct PresenceSettings {
    /// The channels whose members are known.
    pub channels: Vec<Pattern>,
    /// The limit on the members of a channel.
    pub members: usize,
    /// The limit on a user's info.
    pub info_bytes: usize,
    /// How long a polling client is not away after its last answer.
    pub away: Duration,
}

/// The presence of this node's users.
pub struct Presence {
    /// The settings.
    pub settings: PresenceSettings,
    store: Arc<dyn PresenceStore>,
    connections: Arc<Connections>,
    /// Whether the store did not answer the last call, or could not write an entry.
    is_store_away: AtomicBool,
    metrics: PresenceMetrics,
}

impl Presence {
    /// Presence in this store. [`Presence::run`] has to run.
    pub fn new(settings: PresenceSettings, store: Arc<dyn PresenceStore>, metrics: PresenceMetrics) -> Arc<Presence> {
        let connections = Connections::new(settings.info_bytes, settings.away);
        Arc::new(Presence { settings, store, connections, is_store_away: AtomicBool::new(false), metrics })
    }

    /// Whether the members of this channel are known.
    pub fn covers(&self, channel: &Channel) -> bool {
        self.settings.channels.iter().any(|pattern| pattern.matches(channel))
    }

    /// Makes a user a member of those of the channels that have presence, for as long as the stay exists. `None` if
    /// none of them has presence.
    ///
    /// # Errors
    ///
    /// `too_many_members`, or `forbidden` if the user's info is too long.
    ///
    /// # Cancel safety
    ///
    /// If this is dropped, the user does not become a member, or is removed again.
    pub async fn join(
        self: &Arc<Presence>,
        channels: &[Channel],
        user: &Arc<User>,
        client: Option<&ClientId>,
    ) -> Result<Option<Stay>, ApiError> {
        let channels: Vec<&Channel> = channels.iter().filter(|channel| self.covers(channel)).collect();
        if channels.is_empty() {
            return Ok(None);
        }
        self.check(user)?;
        let (mut stay, mut outcomes) = (Stay::new(self.connections.clone()), Vec::new());
        {
            let (mut node, now) = (self.connections.node(), Instant::now());
            for channel in channels {
                let (place, outcome) = node.open(channel, user, client, now);
                stay.add(place);
                outcomes.push(outcome);
            }
        }
        self.connections.notify();
        self.wait(outcomes).await?;
        Ok(Some(stay))
    }

    /// Waits until users can become members at once: a node that has just started needs some seconds. Gives up after a
    /// while, because the store may be away. Cancel safe.
    pub async fn writable(&self) {
        let _ = tokio::time::timeout(START_WAIT, self.store.writable()).await;
    }

    /// Makes a user a member of channels with presence, without waiting. A channel that is full stays without the user.
    /// `None` if there are no channels.
    pub fn join_later(
        self: &Arc<Presence>,
        channels: &[Channel],
        user: &Arc<User>,
        client: Option<&ClientId>,
    ) -> Option<Stay> {
        if channels.is_empty() || self.check(user).is_err() {
            return None;
        }
        let mut stay = Stay::new(self.connections.clone());
        let (mut node, now) = (self.connections.node(), Instant::now());
        channels.iter().for_each(|channel| stay.add(node.open(channel, user, client, now).0));
        drop(node);
        self.connections.notify();
        Some(stay)
    }

    /// Makes the user of a poll a member of those of the channels that have presence, until the client is away after the
    /// stay. `None` if none of the channels has presence.
    ///
    /// # Errors
    ///
    /// The errors of [`Presence::join`].
    pub async fn poll(
        self: &Arc<Presence>,
        channels: &[Channel],
        user: &Arc<User>,
        client: Option<&ClientId>,
    ) -> Result<Option<PollingStay>, ApiError> {
        let channels: Vec<Channel> = channels.iter().filter(|channel| self.covers(channel)).cloned().collect();
        if channels.is_empty() {
            return Ok(None);
        }
        self.check(user)?;
        let polled = self.connections.polled(&channels, user, client);
        let (places, outcomes): (Vec<Place>, Vec<Option<Outcome>>) = polled.into_iter().unzip();
        let outcomes: Vec<Outcome> = outcomes.into_iter().flatten().collect();
        if !outcomes.is_empty() {
            self.connections.notify();
        }
        if let Err(refusal) = self.wait(outcomes).await {
            let mut node = self.connections.node();
            places.iter().for_each(|place| node.refuse_poll(place));
            return Err(refusal);
        }
        Ok(Some(PollingStay::new(self.connections.clone(), places)))
    }

    /// The members of a channel.
    ///
    /// # Errors
    ///
    /// `log_unavailable`.
    pub async fn members(&self, channel: &Channel) -> Result<Members, ApiError> {
        // Lists are read one after the other. While the store does not answer, requests must not pile up.
        match tokio::time::timeout(LIST_WAIT, self.store.members(channel)).await {
            Ok(Ok(members)) => Ok(members),
            Ok(Err(_)) | Err(_) => {
                let text = "the list of members cannot be read at the moment: the log cannot be reached";
                Err(ApiError::until(Code::LogUnavailable, text, RETRY))
            }
        }
    }

    fn check(&self, user: &User) -> Result<(), ApiError> {
        let most = self.settings.info_bytes;
        if user.info_bytes() <= most {
            return Ok(());
        }
        self.metrics.joined("info_too_large");
        let text = format!("the user's info has {} bytes, and --presence-info-bytes allows {most}", user.info_bytes());
        warn!("a user may not subscribe: {text}");
        Err(ApiError::new(Code::Forbidden, text))
    }

    /// Waits for the outcomes of joins. A store that is away is not waited for.
    async fn wait(&self, outcomes: Vec<Outcome>) -> Result<(), ApiError> {
        if self.is_store_away.load(Ordering::Relaxed) {
            return Ok(());
        }
        let deadline = Instant::now() + JOIN_WAIT;
        for outcome in outcomes {
            if let Ok(Ok(Joined::Full)) = tokio::time::timeout_at(deadline, outcome).await {
                let text = format!("the channel has {} members already (--presence-members)", self.settings.members);
                return Err(ApiError::new(Code::TooManyMembers, text));
            }
        }
        Ok(())
    }

    /// Keeps the store informed. It does not return.
    pub async fn run(self: Arc<Presence>) {
        let mut tick = tokio::time::interval(PERIOD);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => self.renew().await,
                () = self.connections.notified(), if !self.is_store_away.load(Ordering::Relaxed) => {}
            }
            self.tell_joins().await;
        }
    }

    /// Tells the store which connections were closed, at the end of the node: their users then have the whole grace to
    /// come to another node.
    pub async fn end(&self) {
        self.tell_joins().await;
        self.renew().await;
    }

    async fn renew(&self) {
        loop {
            let renewal = self.connections.node().renewal(Instant::now());
            let answer = self.store.renew(&renewal).await.ok();
            self.note(answer.is_some());
            if answer.as_ref().is_some_and(|answer| !answer.is_complete) {
                info!("members of this node were lost: all of them are told again");
                self.metrics.repairs.inc();
            }
            let mut node = self.connections.node();
            let has_more = node.renewed(renewal, answer.as_ref(), Instant::now());
            self.metrics.connections.set(node.len() as i64);
            if !has_more {
                return;
            }
        }
    }

    async fn tell_joins(&self) {
        let began = Instant::now();
        loop {
            // The guard must not live on across the call.
            let joins = self.connections.node().joins(Instant::now());
            let Some(joins) = joins else { return };
            let outcomes = self.store.join(&joins).await.ok();
            for outcome in outcomes.iter().flatten() {
                self.metrics.joined(match outcome {
                    Joined::Member => "member",
                    Joined::Full => "full",
                    Joined::Later => "later",
                    Joined::Gone => "gone",
                });
            }
            let is_answered = outcomes.is_some();
            let are_known = self.connections.node().joined(joins, outcomes);
            self.note(are_known);
            if !is_answered {
                self.metrics.failures.inc();
            }
            if !are_known {
                return;
            }
            // The lease has to be renewed in time, also while many users come.
            if began.elapsed() >= PERIOD {
                return self.connections.notify();
            }
        }
    }

    /// Notes whether the store has answered.
    fn note(&self, is_there: bool) {
        let was_away = self.is_store_away.swap(!is_there, Ordering::Relaxed);
        if was_away == is_there {
            tracing::debug!(is_there, "the record of the members");
        }
    }
}
