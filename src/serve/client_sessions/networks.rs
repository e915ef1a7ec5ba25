//! The sessions that clients of one network have begun at this node (`--max-sessions-per-ip`).

use super::id::SessionId;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use tokio::time::Instant;

/// A network may begin sessions until this many places are in use before all networks are swept.
const SWEEP_FROM: usize = 1024;

/// The places that sessions take.
pub(super) struct Networks {
    /// How many sessions a network may have; 0: any number, and nothing is recorded.
    most: usize,
    places: Mutex<Places>,
}

#[derive(Default)]
struct Places {
    /// The network of each session, and how long the session lives at least.
    sessions: HashMap<SessionId, (IpAddr, Instant)>,
    /// The sessions of each network.
    of: HashMap<IpAddr, HashSet<SessionId>>,
    /// How many places there were after the last sweep.
    kept: usize,
}

impl Places {
    fn remove(&mut self, id: &SessionId) {
        let Some((network, _)) = self.sessions.remove(id) else { return };
        let Some(sessions) = self.of.get_mut(&network) else { return };
        sessions.remove(id);
        if sessions.is_empty() {
            self.of.remove(&network);
        }
    }
}

impl Networks {
    pub(super) fn new(most: usize) -> Networks {
        Networks { most, places: Mutex::default() }
    }

    /// Takes a place for a session that lives until a time at least, and longer while it is connected here. Returns false
    /// if its network has no place left.
    pub(super) fn admit(
        &self,
        network: IpAddr,
        id: &SessionId,
        until: Instant,
        is_connected: impl Fn(&SessionId) -> bool,
    ) -> bool {
        if self.most == 0 {
            return true;
        }
        let (now, mut places) = (Instant::now(), self.places.lock());
        let is_over = |places: &Places, id: &SessionId| {
            places.sessions.get(id).is_none_or(|(_, until)| *until <= now) && !is_connected(id)
        };
        if places.sessions.len() >= 2 * places.kept + SWEEP_FROM {
            let over: Vec<SessionId> = places.sessions.keys().filter(|id| is_over(&places, id)).cloned().collect();
            over.iter().for_each(|id| places.remove(id));
            places.kept = places.sessions.len();
        }
        let is_full = |places: &Places| places.of.get(&network).is_some_and(|sessions| sessions.len() >= self.most);
        if is_full(&places) {
            let sessions = places.of.get(&network).into_iter().flatten();
            let over: Vec<SessionId> = sessions.filter(|id| is_over(&places, id)).cloned().collect();
            over.iter().for_each(|id| places.remove(id));
        }
        if is_full(&places) {
            return false;
        }
        places.sessions.insert(id.clone(), (network, until));
        places.of.entry(network).or_default().insert(id.clone());
        true
    }

    /// Notes how long a session lives after its last stream or poll here.
    pub(super) fn lives_until(&self, id: &SessionId, until: Instant) {
        if self.most > 0
            && let Some((_, at)) = self.places.lock().sessions.get_mut(id)
        {
            *at = until;
        }
    }

    /// Gives back the place of a session that has ended, or could not begin.
    pub(super) fn leave(&self, id: &SessionId) {
        if self.most > 0 {
            self.places.lock().remove(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn id() -> SessionId {
        SessionId::random().expect("random numbers")
    }

    #[tokio::test(start_paused = true)]
    async fn a_network_has_so_many_places() {
        let networks = Networks::new(2);
        let (one, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let (first, connected) = (id(), id());
        let admit = |network, id: &SessionId| {
            networks.admit(network, id, Instant::now() + Duration::from_secs(10), |id| *id == connected)
        };
        assert!(admit(one, &first) && admit(one, &connected) && !admit(one, &id()) && admit(other, &id()));
        networks.leave(&first);
        assert!(admit(one, &id()) && !admit(one, &id()));
        tokio::time::advance(Duration::from_secs(11)).await;
        assert!(admit(one, &id()) && !admit(one, &id()), "the connected one keeps its place");
        assert_eq!(networks.places.lock().sessions.len(), 3);
        networks.lives_until(&connected, Instant::now() + Duration::from_secs(20));
        tokio::time::advance(Duration::from_secs(11)).await;
        let again = id();
        assert!(networks.admit(one, &again, Instant::now(), |_| false), "the session of the second round is over");
        let newcomer = id();
        assert!(networks.admit(one, &newcomer, Instant::now(), |_| false), "so is this one");
        assert_eq!(networks.places.lock().of[&one].len(), 2, "a session that has polled since then keeps its place");
        assert!(Networks::new(0).admit(one, &first, Instant::now(), |_| false));
    }

    #[tokio::test(start_paused = true)]
    async fn places_of_many_networks_are_swept() {
        let networks = Networks::new(1);
        for n in 0..10_000u32 {
            let until = Instant::now() + Duration::from_millis(100);
            assert!(networks.admit(IpAddr::from(n.to_be_bytes()), &id(), until, |_| false));
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        let places = networks.places.lock();
        assert!(places.sessions.len() < 2000 && places.of.len() == places.sessions.len(), "{}", places.sessions.len());
    }
}
