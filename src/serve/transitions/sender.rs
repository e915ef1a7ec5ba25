//! The task that tells transitions, on the node that has the lease.

use super::backlog::{Backlog, Consumers};
use super::gathering::Gathering;
use super::members::Members;
use super::metrics::TransitionMetrics;
use super::occupancy::Occupancy;
use super::told::Told;
use super::{Transition, TransitionKind};
use crate::hub::Hub;
use crate::log::presence::PresenceStore;
use crate::log::subscriber_counts::SubscriberCounts;
use crate::log::told::{CHUNK, HeldLease, LIFE, Lease, LeaseRequest, ToldStore, ToldWrite};
use crate::message::Channel;
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

/// How often the task looks for something new, and how often it renews the lease, or tries to get it.
const TURN: Duration = Duration::from_millis(200);
const RENEW: Duration = Duration::from_secs(1);

/// The sender stops this long before its lease may have run out.
const MARGIN: Duration = Duration::from_millis(500);

/// What the task needs.
pub struct TransitionSource {
    /// The hub.
    pub hub: Arc<Hub>,
    /// The counts of all nodes; `None` if there is only this node.
    pub counts: Option<Arc<dyn SubscriberCounts>>,
    /// The members of channels; `None` if no channel has presence.
    pub presence: Option<Arc<dyn PresenceStore>>,
    /// The record of what was told.
    pub store: Arc<dyn ToldStore>,
    /// The consumers. A transition was told when each of them was told.
    pub consumers: Consumers,
    /// The metrics.
    pub metrics: TransitionMetrics,
}

/// Tells transitions while this node has the lease. It does not return.
pub async fn run(source: TransitionSource) {
    source.hub.ready().await;
    let takes = |kinds: [TransitionKind; 2]| {
        kinds.into_iter().any(|kind| source.consumers.iter().any(|consumer| consumer.takes(kind)))
    };
    let occupancy = takes([TransitionKind::Occupied, TransitionKind::Vacated])
        .then(|| Occupancy::new(source.hub.clone(), source.counts.clone()));
    let presence =
        source.presence.clone().filter(|_| takes([TransitionKind::MemberAdded, TransitionKind::MemberRemoved]));
    let members = presence.map(|store| Members::new(source.hub.clone(), store));
    let mut sender = Sender {
        source,
        occupancy,
        members,
        lease: LeaseState::default(),
        told: Told::default(),
        backlog: Backlog::default(),
        calls: JoinSet::new(),
        saved_position: String::new(),
        replaces: false,
    };
    let mut tick = tokio::time::interval(TURN);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => sender.turn().await,
            Some(Ok(ended)) = sender.calls.join_next() => sender.end(ended),
        }
        sender.go_on().await;
    }
}

/// The lease as this node knows it.
#[derive(Default)]
struct LeaseState {
    /// Its number, if this node has it; otherwise 0.
    number: u64,
    version: u64,
    asked: Option<Instant>,
    renewed: Option<Instant>,
    /// Whether some node has had the lease, as far as this node knows.
    was_held: bool,
    missing_since: Option<Instant>,
}

struct Sender {
    source: TransitionSource,
    occupancy: Option<Occupancy>,
    members: Option<Members>,
    lease: LeaseState,
    told: Told,
    backlog: Backlog,
    /// The calls that run: each returns its channel and the consumers that have to be told again.
    calls: JoinSet<(Channel, Consumers)>,
    saved_position: String,
    /// Whether the next write takes the place of all that the store has.
    replaces: bool,
}

impl Sender {
    /// Whether this node may tell transitions now.
    fn is_active(&self) -> bool {
        self.lease.number > 0 && self.lease.renewed.is_some_and(|at| at.elapsed() < LIFE - MARGIN)
    }

    /// Renews the lease, and looks for what is new.
    async fn turn(&mut self) {
        if self.lease.asked.is_none_or(|asked| asked.elapsed() >= RENEW) {
            self.renew().await;
        }
        self.source.metrics.is_sender.set(i64::from(self.lease.number > 0));
        if !self.is_active() {
            return;
        }
        let TransitionSource { consumers, metrics, .. } = &self.source;
        let mut gathering = Gathering { told: &self.told, backlog: &mut self.backlog, consumers, metrics };
        // While the log or the counts are away, the next turn tries again.
        if let Some(members) = &mut self.members {
            let _ = members.look(&mut gathering).await;
        }
        if let Some(occupancy) = &mut self.occupancy {
            let _ = occupancy.look(&mut gathering).await;
        }
    }

    async fn renew(&mut self) {
        let now = Instant::now();
        let lease = &mut self.lease;
        lease.asked = Some(now);
        // After Redis has lost the record, the last sender has some time to write it again.
        let has_waited = lease.missing_since.is_some_and(|at| at.elapsed() >= LIFE);
        let may_begin = lease.number > 0 || !lease.was_held || has_waited;
        let Ok(answer) = self.source.store.lease(LeaseRequest { number: lease.number, may_begin }).await else {
            return;
        };
        lease.missing_since = match answer {
            Lease::Missing => lease.missing_since.or(Some(now)),
            Lease::Other | Lease::Held(_) => None,
        };
        lease.was_held |= answer != Lease::Missing;
        match answer {
            Lease::Held(held) => {
                lease.renewed = Some(now);
                self.note_held(held).await;
            }
            Lease::Other | Lease::Missing => self.step_down(),
        }
    }

    /// Compares the record of the store with the own copy.
    async fn note_held(&mut self, held: HeldLease) {
        let LeaseState { number, version, .. } = self.lease;
        let is_same = held.version == version && held.count == self.told.saved_count();
        if number == 0 || (held.number != number && held.version >= version) {
            self.take_over(held).await;
        } else if !is_same || held.number != number {
            tracing::info!("the record of what the application was told was lost: this node writes it again");
            self.lease.number = held.number;
            self.told.save_all();
            self.replaces = true;
            if let Some(occupancy) = &mut self.occupancy {
                occupancy.hold();
            }
        }
    }

    /// Goes on where another node has stopped.
    async fn take_over(&mut self, held: HeldLease) {
        self.step_down();
        let mut texts: Vec<String> = Vec::new();
        loop {
            let after = texts.last().cloned().unwrap_or_default();
            match self.source.store.read(held.number, &after).await {
                Ok(Some(page)) => {
                    let is_last = page.len() < CHUNK;
                    texts.extend(page);
                    if is_last {
                        break;
                    }
                }
                // The next renewal tries again.
                Ok(None) | Err(_) => return,
            }
        }
        self.told = Told::read(texts);
        (self.lease.number, self.lease.version) = (held.number, held.version);
        self.saved_position.clone_from(&held.position);
        self.replaces = false;
        if let Some(members) = &mut self.members {
            members.go_on(&held.position);
        }
        tracing::debug!(number = held.number, "this node tells the application about channels and members");
    }

    /// Forgets everything: another node is the sender.
    fn step_down(&mut self) {
        if self.lease.number == 0 && self.told.count() == 0 {
            return;
        }
        self.calls = JoinSet::new();
        (self.told, self.backlog) = (Told::default(), Backlog::default());
        self.lease.number = 0;
        self.source.metrics.waiting.set(0);
        if let Some(occupancy) = &mut self.occupancy {
            occupancy.reset();
        }
    }

    /// Notes the end of a call.
    fn end(&mut self, (channel, failed): (Channel, Consumers)) {
        if !failed.is_empty() {
            self.source.metrics.repeats.inc();
        }
        let Some(told) = self.backlog.end(&channel, failed, Instant::now()) else { return };
        self.told.apply(told.add, told.remove);
        if let (Some(step), Some(members)) = (told.step, &mut self.members) {
            members.told(step);
        }
    }

    /// Begins the calls that may begin, and writes what was told.
    async fn go_on(&mut self) {
        while let Some(Ok(ended)) = self.calls.try_join_next() {
            self.end(ended);
        }
        if !self.is_active() {
            return;
        }
        while let Some((transition, consumers)) = self.backlog.next(Instant::now()) {
            if consumers.is_empty() {
                self.end((transition.channel.clone(), consumers));
            } else {
                self.calls.spawn(tell(transition, consumers));
            }
        }
        self.source.metrics.waiting.set(i64::try_from(self.backlog.count()).unwrap_or(i64::MAX));
        self.save().await;
    }

    /// Writes what the store does not have. What fails is written later.
    async fn save(&mut self) {
        let position = |members: &Option<Members>| members.as_ref().map(|members| members.position().to_owned());
        let last = position(&self.members).unwrap_or_default();
        while self.replaces || self.told.has_unsaved() || self.saved_position != last {
            let (add, remove) = self.told.unsaved(CHUNK);
            // The position never comes before the texts that belong to it.
            let is_last = self.told.unsaved_count() <= add.len() + remove.len();
            let position = if is_last { &last } else { &self.saved_position }.clone();
            let write = ToldWrite {
                number: self.lease.number,
                version: self.lease.version + 1,
                position,
                replaces: self.replaces,
                add,
                remove,
            };
            match self.source.store.write(&write).await {
                Ok(true) => {
                    self.told.saved(&write.add, &write.remove);
                    (self.replaces, self.lease.version) = (false, write.version);
                    self.saved_position = write.position;
                }
                Ok(false) => return self.step_down(),
                Err(_) => return,
            }
        }
    }
}

/// Tells consumers a transition. Returns those that have to be told again.
async fn tell(transition: Arc<Transition>, consumers: Consumers) -> (Channel, Consumers) {
    let mut failed = Consumers::new();
    for consumer in consumers {
        // A call that panics is repeated like one that fails: the others of its channel wait for it.
        let told = AssertUnwindSafe(consumer.tell(&transition)).catch_unwind().await;
        if !told.unwrap_or(false) {
            failed.push(consumer);
        }
    }
    (transition.channel.clone(), failed)
}
