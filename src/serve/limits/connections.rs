//! How many connections there are, in all and of an address.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Connections beyond the limit that may be told so at a time; more are closed without a word.
const TOLD: usize = 256;

/// Connections to the keepers' door, which has places of its own: a server that is full can be looked at.
const KEEPERS: usize = 256;

/// Descriptors that clients may take. What else the server needs is not among them: a node whose clients hold all that
/// there are could neither reach Redis again nor ask the application, nor tell anybody that it is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Connections that are served.
    pub places: usize,
    /// Connections beyond that which are told so.
    pub told: usize,
    /// Connections to the keepers' door.
    pub keepers: usize,
}

impl Room {
    /// Of so many descriptors; `None`: too few for anybody.
    pub fn of(descriptors: u64, has_keepers: bool) -> Option<Room> {
        // A bound that no system has, so that sums of it stay within bounds.
        let all = usize::try_from(descriptors).unwrap_or(usize::MAX).min(1 << 30);
        let told = (all / 8).clamp(1, TOLD);
        let keepers = if has_keepers { (all / 8).clamp(2, KEEPERS) } else { 0 };
        let places = all.checked_sub(told + keepers).filter(|places| *places > 0)?;
        Some(Room { places, told, keepers })
    }

    /// Sockets that there may be when one comes to everybody's door. It is held whatever they are at: one whose proxy has
    /// not said for whom it is yet is not counted as a connection.
    pub fn public_sockets(&self) -> usize {
        self.places + self.told
    }

    /// The same, for the keepers' door.
    pub fn all_sockets(&self) -> usize {
        self.public_sockets() + self.keepers
    }
}

/// What is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A connection, which holds a descriptor.
    Socket,
    /// A stream of HTTP/2, which does not.
    Stream,
}

/// How many there may be.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections and streams.
    pub most: usize,
    /// Of them that hold a descriptor.
    pub sockets: usize,
    /// Of one address; 0 is no limit.
    pub per_ip: usize,
    /// Beyond these, that are told so.
    pub told: usize,
}

/// What counts as one address: with IPv6 the network of 64 bits that a subscriber is given, in which he can
/// take another address for each connection.
pub fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
        ip => ip,
    }
}

/// Counts connections.
pub struct Connections {
    bounds: Bounds,
    admitted: AtomicUsize,
    sockets: AtomicUsize,
    told: AtomicUsize,
    by_ip: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection that is counted for as long as this lives.
pub struct Admission {
    connections: Arc<Connections>,
    _place: Option<Place>,
    kind: Kind,
    /// Whether it is one too many, which is only to be told so.
    pub is_over: bool,
}

/// One of those that an address may have, for as long as this lives.
pub struct Place {
    connections: Arc<Connections>,
    ip: IpAddr,
}

impl Connections {
    /// Within these.
    pub fn new(bounds: Bounds) -> Arc<Connections> {
        Arc::new(Connections {
            bounds,
            admitted: AtomicUsize::new(0),
            sockets: AtomicUsize::new(0),
            told: AtomicUsize::new(0),
            by_ip: Mutex::new(HashMap::new()),
        })
    }

    /// At the keepers' door, where nobody is told that there is no room.
    pub fn of_keepers(places: usize) -> Arc<Connections> {
        Connections::new(Bounds { most: places, sockets: places, per_ip: 0, told: 0 })
    }

    /// Counts a connection or a stream in; `None`: it is to be closed at once. `ip` is left out for a proxy's connection,
    /// whose requests come from many addresses: they take their [`Place`]s one by one.
    pub fn admit(self: &Arc<Connections>, ip: Option<IpAddr>, kind: Kind) -> Option<Admission> {
        let place = ip.map(|ip| self.place(ip));
        let is_over = matches!(place, Some(Err(Full))) || !self.take(kind);
        if !is_over {
            let place = place.and_then(Result::ok).flatten();
            return Some(Admission { connections: self.clone(), _place: place, kind, is_over });
        }
        let admission = Admission { connections: self.clone(), _place: None, kind, is_over };
        (self.told.fetch_add(1, Ordering::Relaxed) < self.bounds.told).then_some(admission)
    }

    /// Counts one in, where there is room.
    fn take(&self, kind: Kind) -> bool {
        let is_within = |count: &AtomicUsize, most| {
            let is_within = count.fetch_add(1, Ordering::Relaxed) < most;
            if !is_within {
                count.fetch_sub(1, Ordering::Relaxed);
            }
            is_within
        };
        if !is_within(&self.admitted, self.bounds.most) {
            return false;
        }
        if kind == Kind::Socket && !is_within(&self.sockets, self.bounds.sockets) {
            self.admitted.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        true
    }

    /// A place among those of an address; `None` where they are not counted.
    ///
    /// # Errors
    ///
    /// It has as many as it may have.
    pub fn place(self: &Arc<Connections>, ip: IpAddr) -> Result<Option<Place>, Full> {
        if self.bounds.per_ip == 0 {
            return Ok(None);
        }
        let ip = network(ip);
        let mut by_ip = self.by_ip.lock();
        let count = by_ip.entry(ip).or_default();
        if *count >= self.bounds.per_ip {
            return Err(Full);
        }
        *count += 1;
        Ok(Some(Place { connections: self.clone(), ip }))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.admitted.load(Ordering::Relaxed)
    }

    /// How many connections there may be.
    pub fn most(&self) -> usize {
        self.bounds.most.min(self.bounds.sockets)
    }
}

/// An address has as many connections as it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Drop for Admission {
    fn drop(&mut self) {
        let connections = &self.connections;
        if self.is_over {
            connections.told.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        connections.admitted.fetch_sub(1, Ordering::Relaxed);
        if self.kind == Kind::Socket {
            connections.sockets.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_ip = self.connections.by_ip.lock();
        if let Some(count) = by_ip.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                by_ip.remove(&self.ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(most: usize, sockets: usize, per_ip: usize) -> Arc<Connections> {
        Connections::new(Bounds { most, sockets, per_ip, told: TOLD })
    }

    #[test]
    fn connections_are_counted_in_all_and_by_address() {
        let (a, b) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let connections = connections(3, 9, 2);
        let first = connections.admit(Some(a), Kind::Socket).expect("room");
        let second = connections.admit(Some(a), Kind::Socket).expect("room");
        assert!(!first.is_over && !second.is_over);
        assert!(connections.admit(Some(a), Kind::Socket).expect("told so").is_over);
        let third = connections.admit(Some(b), Kind::Socket).expect("room");
        assert!(!third.is_over);
        assert!(connections.admit(Some(b), Kind::Socket).expect("told so").is_over);
        drop(first);
        assert_eq!(connections.count(), 2);
        assert!(!connections.admit(Some(a), Kind::Socket).expect("room").is_over);
    }

    #[test]
    fn a_proxy_is_counted_by_those_behind_it() {
        let connections = connections(3, 9, 1);
        let proxy = [connections.admit(None, Kind::Socket), connections.admit(None, Kind::Socket)];
        assert!(proxy.iter().all(|admission| admission.as_ref().is_some_and(|admission| !admission.is_over)));
        let user = IpAddr::from([192, 0, 2, 1]);
        let place = connections.place(user).expect("room");
        assert_eq!(connections.place(user).err(), Some(Full));
        drop(place);
        assert!(connections.place(user).is_ok());
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert_eq!(network(ip("2001:db8:1:2::1")), network(ip("2001:db8:1:2:ffff::9")));
        assert_ne!(network(ip("2001:db8:1:2::1")), network(ip("2001:db8:1:3::1")));
        assert_eq!(network(ip("::ffff:192.0.2.1")), ip("192.0.2.1"));
    }

    #[test]
    fn only_so_many_are_told() {
        let connections = connections(0, 9, 0);
        let ip = IpAddr::from([127, 0, 0, 1]);
        let told: Vec<_> = (0..TOLD).map(|_| connections.admit(Some(ip), Kind::Socket)).collect();
        assert!(told.iter().all(|admission| admission.as_ref().is_some_and(|admission| admission.is_over)));
        assert!(connections.admit(Some(ip), Kind::Socket).is_none());
        drop(told);
        assert!(connections.admit(Some(ip), Kind::Socket).is_some());
    }

    /// A stream of HTTP/2 takes a place, and no descriptor.
    #[test]
    fn descriptors_bound_connections_and_no_streams() {
        let connections = connections(5, 2, 0);
        let is_admitted = |kind| connections.admit(None, kind).filter(|admission| !admission.is_over);
        let sockets = [is_admitted(Kind::Socket), is_admitted(Kind::Socket)];
        assert!(sockets.iter().all(Option::is_some), "two descriptors");
        assert!(is_admitted(Kind::Socket).is_none(), "a third descriptor");
        let streams = [is_admitted(Kind::Stream), is_admitted(Kind::Stream), is_admitted(Kind::Stream)];
        assert!(streams.iter().all(Option::is_some), "three streams");
        assert!(is_admitted(Kind::Stream).is_none(), "a sixth of five");
        drop(sockets);
        assert!(is_admitted(Kind::Socket).is_some(), "a descriptor that is free again");
        drop(streams);
        assert_eq!((connections.count(), connections.sockets.load(Ordering::Relaxed)), (0, 0), "all are gone");
        assert_eq!(connections.most(), 2, "the lesser of the two bounds");
    }

    #[test]
    fn descriptors_are_divided() {
        for (descriptors, has_keepers, expected) in [
            (0, false, None),
            (1, false, None),
            (2, false, Some((1, 1, 0))),
            (3, true, None),
            (4, true, Some((1, 1, 2))),
            (80, false, Some((70, 10, 0))),
            (80, true, Some((60, 10, 10))),
            (100_000, true, Some((99_488, 256, 256))),
            (u64::MAX, true, Some(((1 << 30) - 512, 256, 256))),
        ] {
            let room = Room::of(descriptors, has_keepers);
            let divided = room.map(|room| (room.places, room.told, room.keepers));
            assert_eq!(divided, expected, "{descriptors} descriptors, a keepers' door: {has_keepers}");
            assert!(room.is_none_or(|room| room.all_sockets() as u64 <= descriptors), "{room:?} of {descriptors}");
        }
    }
}
