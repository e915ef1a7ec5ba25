//! Readers that are not always connected: polling clients, by client id. The module also records the channels whose
//! counts have changed, for reports to the other nodes.

use super::memory::by_transport;
use crate::log::subscriber_counts::{CountChange, Counts};
use crate::message::{Channel, ClientId};
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use tokio::time::Instant;

/// The maximum number of polling clients that are counted. If there are more clients, the counts are too low.
const MAX_CLIENTS: usize = 100_000;

/// The intervals at which clients that no longer poll are removed: normally, and when there is no room for more
/// clients. The removal looks at all clients under the lock that every poll takes, so it must not run often.
const SWEEP: Duration = Duration::from_secs(10);
const SWEEP_FULL: Duration = Duration::from_secs(1);

/// The clients that poll at this node, and the changes that were not reported to the other nodes yet.
pub(super) struct PollingClients {
    /// The time for which a polling client counts as a reader after its request has ended.
    away: Duration,
    clients: HashMap<Channel, HashMap<ClientId, PollingClient>>,
    count: usize,
    swept: Instant,
    /// The changes that were not reported yet; `None` if there are no other nodes.
    unreported: Option<Unreported>,
}

struct PollingClient {
    transport: &'static str,
    until: Instant,
}

#[derive(Default)]
struct Unreported {
    channels: HashSet<Channel>,
    /// Clients that have polled, or have changed to a stream.
    clients: HashMap<(Channel, ClientId), Option<(&'static str, Instant)>>,
}

impl PollingClients {
    pub(super) fn new(away: Duration) -> PollingClients {
        PollingClients { away, clients: HashMap::new(), count: 0, swept: Instant::now(), unreported: None }
    }

    /// Begins to record changes, for [`take_changes`](PollingClients::take_changes).
    pub(super) fn track(&mut self) {
        self.unreported.get_or_insert_default();
    }

    pub(super) fn is_tracking(&self) -> bool {
        self.unreported.is_some()
    }

    /// Records that the channel's connected readers have changed.
    pub(super) fn touch(&mut self, channel: &Channel) {
        if let Some(unreported) = &mut self.unreported
            && !unreported.channels.contains(channel)
        {
            unreported.channels.insert(channel.clone());
        }
    }

    /// Records that a client polls. The request may take up to `time`.
    pub(super) fn polled<'a>(
        &mut self,
        transport: &'static str,
        channels: impl IntoIterator<Item = &'a Channel>,
        client: &ClientId,
        time: Duration,
    ) {
        let now = Instant::now();
        if now - self.swept > if self.count >= MAX_CLIENTS { SWEEP_FULL } else { SWEEP } {
            self.sweep(now);
        }
        let until = now + time + self.away;
        for channel in channels {
            let known = self.clients.get(channel);
            if !known.is_some_and(|clients| clients.contains_key(client)) {
                if self.count >= MAX_CLIENTS {
                    continue;
                }
                self.count += 1;
            }
            if known.is_none() {
                self.touch(channel);
            }
            let clients = self.clients.entry(channel.clone()).or_default();
            clients.insert(client.clone(), PollingClient { transport, until });
            if let Some(unreported) = &mut self.unreported {
                unreported.clients.insert((channel.clone(), client.clone()), Some((transport, until)));
            }
        }
    }

    /// Records that a client now reads by a stream or a socket.
    pub(super) fn left(&mut self, channels: &[Channel], client: &ClientId) {
        for channel in channels {
            let removed = self.clients.get_mut(channel).is_some_and(|clients| clients.remove(client).is_some());
            if removed {
                self.count -= 1;
                self.touch(channel);
            }
            // The client may have polled at another node.
            if let Some(unreported) =
                self.unreported.as_mut().filter(|unreported| unreported.clients.len() < MAX_CLIENTS)
            {
                unreported.clients.insert((channel.clone(), client.clone()), None);
            }
        }
    }

    fn sweep(&mut self, now: Instant) {
        self.swept = now;
        let mut emptied = Vec::new();
        self.clients.retain(|channel, clients| {
            clients.retain(|_, poller| poller.until > now);
            if clients.is_empty() {
                emptied.push(channel.clone());
            }
            !clients.is_empty()
        });
        self.count = self.clients.values().map(HashMap::len).sum();
        for channel in emptied {
            self.touch(&channel);
        }
    }

    /// The polling clients of a channel at this node, by transport.
    pub(super) fn counts(&self, channel: &Channel) -> Counts {
        let now = Instant::now();
        let clients = self.clients.get(channel).into_iter().flat_map(HashMap::values);
        by_transport(clients.filter(|poller| poller.until > now).map(|poller| poller.transport))
    }

    /// The channels that polling clients read.
    pub(super) fn channels(&self) -> impl Iterator<Item = &Channel> {
        let now = Instant::now();
        let is_read = move |(channel, clients): (_, &HashMap<_, PollingClient>)| {
            clients.values().any(|poller| poller.until > now).then_some(channel)
        };
        self.clients.iter().filter_map(is_read)
    }

    /// Takes the changes that were not reported yet: channels, and changes of polling clients.
    pub(super) fn take_changes(&mut self) -> (HashSet<Channel>, Vec<CountChange>) {
        let now = Instant::now();
        self.sweep(now);
        let Some(unreported) = &mut self.unreported else { return Default::default() };
        let Unreported { channels, clients } = std::mem::take(unreported);
        let change = |((channel, client), poll): ((Channel, ClientId), Option<(&'static str, Instant)>)| match poll {
            Some((transport, until)) => {
                CountChange::Polled(channel, client, transport, until.saturating_duration_since(now))
            }
            None => CountChange::Left(channel, client),
        };
        (channels, clients.into_iter().map(change).collect())
    }

    /// Makes the next report contain all counts.
    pub(super) fn report_all(&mut self) {
        let Some(unreported) = &mut self.unreported else { return };
        for (channel, clients) in &self.clients {
            for (client, poller) in clients {
                unreported.clients.insert((channel.clone(), client.clone()), Some((poller.transport, poller.until)));
            }
            unreported.channels.insert(channel.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<Channel> {
        names.iter().map(|name| name.parse().expect("a channel")).collect()
    }

    fn count(polling: &PollingClients, channel: &str) -> Vec<(String, usize)> {
        polling.counts(&names(&[channel])[0]).into_iter().collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_polling_client_counts_once_and_for_a_while() {
        let mut polling = PollingClients::new(Duration::from_secs(30));
        let (ann, bob) = ("ann".parse().expect("an id"), "bob".parse().expect("an id"));
        polling.polled("poll", &names(&["a", "b"]), &ann, Duration::ZERO);
        polling.polled("poll", &names(&["a"]), &ann, Duration::ZERO);
        polling.polled("long-poll", &names(&["a"]), &bob, Duration::from_secs(25));
        assert_eq!(count(&polling, "a"), [("long-poll".into(), 1), ("poll".into(), 1)]);
        // A client counts by the transport of its newest poll.
        polling.polled("long-poll", &names(&["a"]), &ann, Duration::from_secs(25));
        assert_eq!(count(&polling, "a"), [("long-poll".into(), 2)]);
        tokio::time::advance(Duration::from_secs(31)).await;
        assert_eq!((count(&polling, "a").len(), count(&polling, "b").len()), (1, 0));
        polling.left(&names(&["a"]), &bob);
        assert_eq!(count(&polling, "a"), [("long-poll".into(), 1)]);
        tokio::time::advance(Duration::from_secs(25)).await;
        assert_eq!(polling.channels().count(), 0);
        polling.polled("poll", &names(&["c"]), &ann, Duration::ZERO);
        assert_eq!((polling.count, polling.clients.len()), (1, 1), "a client that is gone is forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_reported_once() {
        let mut polling = PollingClients::new(Duration::from_secs(30));
        let ann: ClientId = "ann".parse().expect("an id");
        polling.touch(&names(&["x"])[0]);
        assert!(polling.take_changes().0.is_empty(), "there are no other nodes");
        polling.track();
        polling.touch(&names(&["x"])[0]);
        polling.polled("poll", &names(&["a"]), &ann, Duration::ZERO);
        let (channels, changes) = polling.take_changes();
        assert_eq!(channels, names(&["x", "a"]).into_iter().collect());
        let polled = CountChange::Polled(names(&["a"])[0].clone(), ann.clone(), "poll", Duration::from_secs(30));
        assert_eq!(changes, std::slice::from_ref(&polled));
        assert_eq!(polling.take_changes(), Default::default());
        polling.report_all();
        assert_eq!(polling.take_changes().1, [polled]);
        tokio::time::advance(Duration::from_secs(31)).await;
        assert_eq!(polling.take_changes(), (names(&["a"]).into_iter().collect(), Vec::new()));
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_clients_are_counted() {
        let mut polling = PollingClients::new(Duration::from_secs(30));
        for _ in 0..MAX_CLIENTS + 5 {
            polling.polled("poll", &names(&["a"]), &ClientId::random(), Duration::ZERO);
        }
        polling.polled("poll", &names(&["b"]), &ClientId::random(), Duration::ZERO);
        assert_eq!((count(&polling, "a"), polling.clients.len()), (vec![("poll".into(), MAX_CLIENTS)], 1));
        // When there is no room, the server does not look for clients to remove at each new client.
        let swept = polling.swept;
        tokio::time::advance(Duration::from_millis(900)).await;
        polling.polled("poll", &names(&["b"]), &ClientId::random(), Duration::ZERO);
        assert_eq!(polling.swept, swept);
        tokio::time::advance(Duration::from_millis(200)).await;
        polling.polled("poll", &names(&["b"]), &ClientId::random(), Duration::ZERO);
        assert_eq!(polling.swept, Instant::now());
        tokio::time::advance(Duration::from_secs(30)).await;
        polling.polled("poll", &names(&["b"]), &ClientId::random(), Duration::ZERO);
        assert_eq!((polling.count, polling.clients.len()), (1, 1), "there is room again");
    }
}
