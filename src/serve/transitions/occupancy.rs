//! Finds the channels that have got their first reader or lost their last one, by the counts of all nodes.

use super::gathering::Gathering;
use crate::hub::Hub;
use crate::log::Unreachable;
use crate::log::subscriber_counts::{OccupiedChannels, SubscriberCounts};
use crate::message::Channel;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a channel is without readers before it is vacated: a reconnect within this time is not a transition.
const GRACE: Duration = Duration::from_secs(4);

/// A node that has not reported its counts for this time does not count. The nodes report every second; see
/// [`REPORT_PERIOD`].
const SILENCE: Duration = Duration::from_secs(3);

/// How often nodes report their counts if there are consumers.
pub const REPORT_PERIOD: Duration = Duration::from_secs(1);

/// How often the channels are looked at, at most.
const PERIOD: Duration = Duration::from_secs(1);

/// If nobody has looked for this time, the absence of readers begins anew.
const BLIND: Duration = Duration::from_secs(3);

/// How long no channel is vacated after the store has lost data: the nodes need some reports to tell everything again.
const HOLD: Duration = Duration::from_secs(6);

/// How many pages one turn reads at most. The lease is renewed between the turns.
const PAGES: usize = 20;

/// The channels that have readers.
pub struct Occupancy {
    hub: Arc<Hub>,
    counts: Option<Arc<dyn SubscriberCounts>>,
    /// The channels without readers that consumers know as occupied, and since when.
    absent: HashMap<Channel, Instant>,
    /// The name up to which the present round has come; `None` between two rounds.
    after: Option<String>,
    began: Option<Instant>,
    looked: Option<Instant>,
    hold_until: Option<Instant>,
}

impl Occupancy {
    /// The channels of all nodes of a hub's log. Without `counts`, there is only this node.
    pub fn new(hub: Arc<Hub>, counts: Option<Arc<dyn SubscriberCounts>>) -> Occupancy {
        let absent = HashMap::new();
        Occupancy { hub, counts, absent, after: None, began: None, looked: None, hold_until: None }
    }

    /// Begins anew: this node has become the sender.
    pub fn reset(&mut self) {
        self.absent.clear();
        (self.after, self.looked) = (None, None);
    }

    /// Notes that the store has lost data.
    pub fn hold(&mut self) {
        self.reset();
        self.hold_until = Some(Instant::now() + HOLD);
    }

    /// Looks at the next channels, and adds what has changed.
    ///
    /// # Errors
    ///
    /// The counts are not available.
    pub async fn look(&mut self, gathering: &mut Gathering<'_>) -> Result<(), Unreachable> {
        let now = Instant::now();
        if self.after.is_none() && self.began.is_some_and(|began| now - began < PERIOD) {
            return Ok(());
        }
        if self.looked.is_none_or(|looked| now - looked > BLIND) {
            self.absent.clear();
            self.after = None;
        }
        let mut after = match self.after.take() {
            Some(after) => after,
            None => {
                self.began = Some(now);
                String::new()
            }
        };
        for _ in 0..PAGES {
            let page = self.page(&after).await?;
            self.compare(&after, &page, gathering);
            self.looked = Some(Instant::now());
            match page.upto {
                Some(upto) => after = upto,
                None => return Ok(()),
            }
        }
        self.after = Some(after);
        Ok(())
    }

    async fn page(&self, after: &str) -> Result<OccupiedChannels, Unreachable> {
        match &self.counts {
            Some(counts) => counts.occupied(after, SILENCE).await,
            None => Ok(OccupiedChannels { channels: self.hub.occupied(), upto: None }),
        }
    }

    fn compare(&mut self, after: &str, page: &OccupiedChannels, gathering: &mut Gathering<'_>) {
        let (now, upto) = (Instant::now(), page.upto.as_deref());
        let Some(cursor) = self.hub.head() else { return };
        let present: BTreeSet<&Channel> = page.channels.iter().collect();
        for channel in &present {
            self.absent.remove(*channel);
            if gathering.has_room() && !gathering.is_occupied(channel) {
                gathering.occupied(channel, cursor);
            }
        }
        let may_vacate = self.hold_until.is_none_or(|until| now >= until);
        for channel in gathering.occupied_in(after, upto) {
            if present.contains(&channel) {
                continue;
            }
            let since = *self.absent.entry(channel.clone()).or_insert(now);
            if now - since >= GRACE && may_vacate && gathering.has_room() {
                self.absent.remove(&channel);
                gathering.vacated(&channel, cursor);
            }
        }
    }
}
