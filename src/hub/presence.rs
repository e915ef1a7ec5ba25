//! Readers that are not always connected: polling clients, by client id. And which channels' counts
//! have changed, for the other nodes.

use super::memory::by_transport;
use crate::log::census::{Change, Counts};
use crate::message::{Channel, ClientId};
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use tokio::time::Instant;

/// Polling clients that are counted. More than these are not: the counts are then too low.
const POLLERS: usize = 100_000;

/// How often clients that are gone are forgotten, at least; and at most, while there is no room. A sweep looks at all of
/// them, under the lock of everybody who polls.
const SWEEP: Duration = Duration::from_secs(10);
const SWEEP_FULL: Duration = Duration::from_secs(1);

pub(super) struct Presence {
    /// How long a polling client counts beyond its request.
    away: Duration,
    pollers: HashMap<Channel, HashMap<ClientId, Poller>>,
    count: usize,
    swept: Instant,
    /// What other nodes have not been told yet; `None` where there are none.
    untold: Option<Untold>,
}

struct Poller {
    transport: &'static str,
    until: Instant,
}

#[derive(Default)]
struct Untold {
    channels: HashSet<Channel>,
    /// Clients that have polled, or gone on to a stream.
    clients: HashMap<(Channel, ClientId), Option<(&'static str, Instant)>>,
}

impl Presence {
    pub(super) fn new(away: Duration) -> Presence {
        Presence { away, pollers: HashMap::new(), count: 0, swept: Instant::now(), untold: None }
    }

    /// Keeps what changes from now on for [`take`](Presence::take).
    pub(super) fn track(&mut self) {
        self.untold.get_or_insert_default();
    }

    pub(super) fn is_tracking(&self) -> bool {
        self.untold.is_some()
    }

    /// The channel's connected readers have changed.
    pub(super) fn touch(&mut self, channel: &Channel) {
        if let Some(untold) = &mut self.untold
            && !untold.channels.contains(channel)
        {
            untold.channels.insert(channel.clone());
        }
    }

    /// A client polls, and may take so long for it.
    pub(super) fn polled<'a>(
        &mut self,
        transport: &'static str,
        channels: impl IntoIterator<Item = &'a Channel>,
        client: &ClientId,
        time: Duration,
    ) {
        let now = Instant::now();
        if now - self.swept > if self.count >= POLLERS { SWEEP_FULL } else { SWEEP } {
            self.sweep(now);
        }
        let until = now + time + self.away;
        for channel in channels {
            let known = self.pollers.get(channel);
            if !known.is_some_and(|clients| clients.contains_key(client)) {
                if self.count >= POLLERS {
                    continue;
                }
                self.count += 1;
            }
            if known.is_none() {
                self.touch(channel);
            }
            let clients = self.pollers.entry(channel.clone()).or_default();
            clients.insert(client.clone(), Poller { transport, until });
            if let Some(untold) = &mut self.untold {
                untold.clients.insert((channel.clone(), client.clone()), Some((transport, until)));
            }
        }
    }

    /// A client reads by a stream or a socket now.
    pub(super) fn left(&mut self, channels: &[Channel], client: &ClientId) {
        for channel in channels {
            let removed = self.pollers.get_mut(channel).is_some_and(|clients| clients.remove(client).is_some());
            if removed {
                self.count -= 1;
                self.touch(channel);
            }
            // Another node may have seen it poll.
            if let Some(untold) = self.untold.as_mut().filter(|untold| untold.clients.len() < POLLERS) {
                untold.clients.insert((channel.clone(), client.clone()), None);
            }
        }
    }

    fn sweep(&mut self, now: Instant) {
        self.swept = now;
        let mut emptied = Vec::new();
        self.pollers.retain(|channel, clients| {
            clients.retain(|_, poller| poller.until > now);
            if clients.is_empty() {
                emptied.push(channel.clone());
            }
            !clients.is_empty()
        });
        self.count = self.pollers.values().map(HashMap::len).sum();
        for channel in emptied {
            self.touch(&channel);
        }
    }

    /// The polling clients of a channel that have come to this node, by transport.
    pub(super) fn counts(&self, channel: &Channel) -> Counts {
        let now = Instant::now();
        let clients = self.pollers.get(channel).into_iter().flat_map(HashMap::values);
        by_transport(clients.filter(|poller| poller.until > now).map(|poller| poller.transport))
    }

    /// The channels that polling clients read.
    pub(super) fn channels(&self) -> impl Iterator<Item = &Channel> {
        let now = Instant::now();
        let is_read = move |(channel, clients): (_, &HashMap<_, Poller>)| {
            clients.values().any(|poller| poller.until > now).then_some(channel)
        };
        self.pollers.iter().filter_map(is_read)
    }

    /// Takes what other nodes have not been told: channels, and what polling clients did.
    pub(super) fn take(&mut self) -> (HashSet<Channel>, Vec<Change>) {
        let now = Instant::now();
        self.sweep(now);
        let Some(untold) = &mut self.untold else { return Default::default() };
        let Untold { channels, clients } = std::mem::take(untold);
        let change = |((channel, client), poll): ((Channel, ClientId), Option<(&'static str, Instant)>)| match poll {
            Some((transport, until)) => {
                Change::Polled(channel, client, transport, until.saturating_duration_since(now))
            }
            None => Change::Left(channel, client),
        };
        (channels, clients.into_iter().map(change).collect())
    }

    /// Everything is to be told again.
    pub(super) fn forget_told(&mut self) {
        let Some(untold) = &mut self.untold else { return };
        for (channel, clients) in &self.pollers {
            for (client, poller) in clients {
                untold.clients.insert((channel.clone(), client.clone()), Some((poller.transport, poller.until)));
            }
            untold.channels.insert(channel.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<Channel> {
        names.iter().map(|name| name.parse().expect("a channel")).collect()
    }

    fn count(presence: &Presence, channel: &str) -> Vec<(String, usize)> {
        presence.counts(&names(&[channel])[0]).into_iter().collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_polling_client_counts_once_and_for_a_while() {
        let mut presence = Presence::new(Duration::from_secs(30));
        let (ann, bob) = ("ann".parse().expect("an id"), "bob".parse().expect("an id"));
        presence.polled("poll", &names(&["a", "b"]), &ann, Duration::ZERO);
        presence.polled("poll", &names(&["a"]), &ann, Duration::ZERO);
        presence.polled("long-poll", &names(&["a"]), &bob, Duration::from_secs(25));
        assert_eq!(count(&presence, "a"), [("long-poll".into(), 1), ("poll".into(), 1)]);
        // The newest transport counts.
        presence.polled("long-poll", &names(&["a"]), &ann, Duration::from_secs(25));
        assert_eq!(count(&presence, "a"), [("long-poll".into(), 2)]);
        tokio::time::advance(Duration::from_secs(31)).await;
        assert_eq!((count(&presence, "a").len(), count(&presence, "b").len()), (1, 0));
        presence.left(&names(&["a"]), &bob);
        assert_eq!(count(&presence, "a"), [("long-poll".into(), 1)]);
        tokio::time::advance(Duration::from_secs(25)).await;
        assert_eq!(presence.channels().count(), 0);
        presence.polled("poll", &names(&["c"]), &ann, Duration::ZERO);
        assert_eq!((presence.count, presence.pollers.len()), (1, 1), "who is gone is forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_changed_is_told_once() {
        let mut presence = Presence::new(Duration::from_secs(30));
        let ann: ClientId = "ann".parse().expect("an id");
        presence.touch(&names(&["x"])[0]);
        assert!(presence.take().0.is_empty(), "nobody wants to know");
        presence.track();
        presence.touch(&names(&["x"])[0]);
        presence.polled("poll", &names(&["a"]), &ann, Duration::ZERO);
        let (channels, changes) = presence.take();
        assert_eq!(channels, names(&["x", "a"]).into_iter().collect());
        let polled = Change::Polled(names(&["a"])[0].clone(), ann.clone(), "poll", Duration::from_secs(30));
        assert_eq!(changes, std::slice::from_ref(&polled));
        assert_eq!(presence.take(), Default::default());
        presence.forget_told();
        assert_eq!(presence.take().1, [polled]);
        tokio::time::advance(Duration::from_secs(31)).await;
        assert_eq!(presence.take(), (names(&["a"]).into_iter().collect(), Vec::new()));
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_and_no_more() {
        let mut presence = Presence::new(Duration::from_secs(30));
        for _ in 0..POLLERS + 5 {
            presence.polled("poll", &names(&["a"]), &ClientId::random(), Duration::ZERO);
        }
        presence.polled("poll", &names(&["b"]), &ClientId::random(), Duration::ZERO);
        assert_eq!((count(&presence, "a"), presence.pollers.len()), (vec![("poll".into(), POLLERS)], 1));
        // Who comes then does not have all of them looked at each time.
        let swept = presence.swept;
        tokio::time::advance(Duration::from_millis(900)).await;
        presence.polled("poll", &names(&["b"]), &ClientId::random(), Duration::ZERO);
        assert_eq!(presence.swept, swept);
        tokio::time::advance(Duration::from_millis(200)).await;
        presence.polled("poll", &names(&["b"]), &ClientId::random(), Duration::ZERO);
        assert_eq!(presence.swept, Instant::now());
        tokio::time::advance(Duration::from_secs(30)).await;
        presence.polled("poll", &names(&["b"]), &ClientId::random(), Duration::ZERO);
        assert_eq!((presence.count, presence.pollers.len()), (1, 1), "there is room again");
    }
}
