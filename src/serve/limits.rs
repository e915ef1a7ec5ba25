//! How many connections there are, in all and of an address.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Connections beyond the limit that may be told so at a time; more are closed without a word.
const TOLD: usize = 256;

/// Connections to the keepers' door, which has places of its own: a server that is full can be looked at.
pub const KEEPERS: usize = 256;

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
    most: usize,
    most_per_ip: usize,
    admitted: AtomicUsize,
    told: AtomicUsize,
    by_ip: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection that is counted for as long as this lives.
pub struct Admission {
    connections: Arc<Connections>,
    _place: Option<Place>,
    /// Whether it is one too many, which is only to be told so.
    pub is_over: bool,
}

/// One of those that an address may have, for as long as this lives.
pub struct Place {
    connections: Arc<Connections>,
    ip: IpAddr,
}

impl Connections {
    /// Limits; `most_per_ip` 0 is none.
    pub fn new(most: usize, most_per_ip: usize) -> Arc<Connections> {
        Arc::new(Connections {
            most,
            most_per_ip,
            admitted: AtomicUsize::new(0),
            told: AtomicUsize::new(0),
            by_ip: Mutex::new(HashMap::new()),
        })
    }

    /// Counts a connection in; `None`: it is to be closed at once. `ip` is left out for a proxy's connection,
    /// whose requests come from many addresses: they take their [`Place`]s one by one.
    pub fn admit(self: &Arc<Connections>, ip: Option<IpAddr>) -> Option<Admission> {
        let place = ip.map(|ip| self.place(ip));
        let is_over = matches!(place, Some(Err(Full))) || self.admitted.fetch_add(1, Ordering::Relaxed) >= self.most;
        if !is_over {
            let place = place.and_then(Result::ok).flatten();
            return Some(Admission { connections: self.clone(), _place: place, is_over });
        }
        if !matches!(place, Some(Err(Full))) {
            self.admitted.fetch_sub(1, Ordering::Relaxed);
        }
        let admission = Admission { connections: self.clone(), _place: None, is_over };
        (self.told.fetch_add(1, Ordering::Relaxed) < TOLD).then_some(admission)
    }

    /// A place among those of an address; `None` where they are not counted.
    ///
    /// # Errors
    ///
    /// It has as many as it may have.
    pub fn place(self: &Arc<Connections>, ip: IpAddr) -> Result<Option<Place>, Full> {
        if self.most_per_ip == 0 {
            return Ok(None);
        }
        let ip = network(ip);
        let mut by_ip = self.by_ip.lock();
        let count = by_ip.entry(ip).or_default();
        if *count >= self.most_per_ip {
            return Err(Full);
        }
        *count += 1;
        Ok(Some(Place { connections: self.clone(), ip }))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.admitted.load(Ordering::Relaxed)
    }
}

/// An address has as many connections as it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Drop for Admission {
    fn drop(&mut self) {
        let count = if self.is_over { &self.connections.told } else { &self.connections.admitted };
        count.fetch_sub(1, Ordering::Relaxed);
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

    #[test]
    fn connections_are_counted_in_all_and_by_address() {
        let (a, b) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let connections = Connections::new(3, 2);
        let first = connections.admit(Some(a)).expect("room");
        let second = connections.admit(Some(a)).expect("room");
        assert!(!first.is_over && !second.is_over);
        assert!(connections.admit(Some(a)).expect("told so").is_over);
        let third = connections.admit(Some(b)).expect("room");
        assert!(!third.is_over);
        assert!(connections.admit(Some(b)).expect("told so").is_over);
        drop(first);
        assert_eq!(connections.count(), 2);
        assert!(!connections.admit(Some(a)).expect("room").is_over);
    }

    #[test]
    fn a_proxy_is_counted_by_those_behind_it() {
        let connections = Connections::new(3, 1);
        let proxy = [connections.admit(None), connections.admit(None)];
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
        let connections = Connections::new(0, 0);
        let ip = IpAddr::from([127, 0, 0, 1]);
        let told: Vec<_> = (0..TOLD).map(|_| connections.admit(Some(ip))).collect();
        assert!(told.iter().all(|admission| admission.as_ref().is_some_and(|admission| admission.is_over)));
        assert!(connections.admit(Some(ip)).is_none());
        drop(told);
        assert!(connections.admit(Some(ip)).is_some());
    }
}
