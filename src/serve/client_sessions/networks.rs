//! The sessions that clients of one network have begun at this node (`--max-sessions-per-ip`).

use super::id::SessionId;
use parking_lot::Mutex;
use std::collections::HashMap;
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
    /// The sessions of each network, and how long each of them lives at least.
    of: HashMap<IpAddr, HashMap<SessionId, Instant>>,
    count: usize,
    /// How many places there were after the last sweep.
    kept: usize,
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
        let lives = |id: &SessionId, until: &mut Instant| *until > now || is_connected(id);
        if places.count >= 2 * places.kept + SWEEP_FROM {
            places.of.retain(|_, sessions| {
                sessions.retain(lives);
                !sessions.is_empty()
            });
            places.kept = places.of.values().map(HashMap::len).sum();
            places.count = places.kept;
        }
        let sessions = places.of.entry(network).or_default();
        let before = sessions.len();
        if before >= self.most {
            sessions.retain(lives);
        }
        let (after, has_room) = (sessions.len(), sessions.len() < self.most);
        if has_room {
            sessions.insert(id.clone(), until);
        }
        places.count = places.count - (before - after) + usize::from(has_room);
        has_room
    }

    /// Gives back the place of a session that could not begin.
    pub(super) fn leave(&self, network: IpAddr, id: &SessionId) {
        let mut places = self.places.lock();
        let Some(sessions) = places.of.get_mut(&network) else { return };
        let removed = usize::from(sessions.remove(id).is_some());
        if sessions.is_empty() {
            places.of.remove(&network);
        }
        places.count -= removed;
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
        networks.leave(one, &first);
        assert!(admit(one, &id()) && !admit(one, &id()));
        tokio::time::advance(Duration::from_secs(11)).await;
        assert!(admit(one, &id()) && !admit(one, &id()), "the connected one keeps its place");
        assert_eq!(networks.places.lock().count, 3);
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
        assert!(places.count < 2000 && places.of.len() == places.count, "{}", places.count);
    }
}
