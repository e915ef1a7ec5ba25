//! Limits on connections: in total, per address, and by file descriptors.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The maximum number of connections beyond the limit that get an error response at a time. Further connections are
/// closed without a response.
const REJECTED: usize = 256;

/// Connections to the admin listener. These connections have a limit of their own, so that operators can inspect a full
/// server.
const ADMIN: usize = 256;

/// The file descriptors that clients may use. The server reserves the other descriptors. If clients held all of them,
/// the node could not connect to Redis again, ask the application, or report to a client that the node is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescriptorAllowance {
    /// Connections that are served normally.
    pub connections: usize,
    /// Connections beyond the limit that get an error response.
    pub rejected: usize,
    /// Connections to the admin listener.
    pub admin: usize,
}

impl DescriptorAllowance {
    /// Divides descriptors; `None` if there are too few for even one connection.
    pub fn of(descriptors: u64, has_admin: bool) -> Option<DescriptorAllowance> {
        // This number is higher than that of any system, but low enough that sums do not overflow.
        let all = usize::try_from(descriptors).unwrap_or(usize::MAX).min(1 << 30);
        let rejected = (all / 8).clamp(1, REJECTED);
        let admin = if has_admin { (all / 8).clamp(2, ADMIN) } else { 0 };
        let connections = all.checked_sub(rejected + admin).filter(|connections| *connections > 0)?;
        Some(DescriptorAllowance { connections, rejected, admin })
    }

    /// The maximum number of open sockets of any kind at which a public listener still accepts. The limit on
    /// connections alone is not enough: a socket whose proxy has not sent its header yet does not
    /// count as a connection.
    pub fn public_sockets(&self) -> usize {
        self.connections + self.rejected
    }

    /// The maximum number of open sockets of any kind at which the admin listener still accepts.
    pub fn all_sockets(&self) -> usize {
        self.public_sockets() + self.admin
    }
}

/// The kind of connection that a permit is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionKind {
    /// A connection, which holds a file descriptor.
    Socket,
    /// An HTTP/2 stream, which does not hold a file descriptor.
    Stream,
}

/// The limits.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Connections and HTTP/2 streams.
    pub most: usize,
    /// Connections that hold a file descriptor.
    pub sockets: usize,
    /// Connections and streams of one address; 0 means no limit.
    pub per_ip: usize,
    /// The number of connections and streams beyond these limits that still get an error response.
    pub rejected: usize,
}

/// The unit that counts as one address. With IPv6 it is the 64-bit network that a provider assigns to a subscriber:
/// within it a client can use another address for each connection.
pub fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
        ip => ip,
    }
}

/// Counts connections and limits their number.
pub struct Connections {
    limits: ConnectionLimits,
    admitted: AtomicUsize,
    sockets: AtomicUsize,
    rejected: AtomicUsize,
    by_ip: Mutex<HashMap<IpAddr, usize>>,
}

/// Counts one connection or stream as long as this value exists.
pub struct ConnectionPermit {
    connections: Arc<Connections>,
    _address_permit: Option<AddressPermit>,
    kind: ConnectionKind,
    /// Whether the limit is exceeded. The client gets an error response and nothing else.
    pub is_over_limit: bool,
}

/// Counts one connection or stream of an address as long as this value exists.
pub struct AddressPermit {
    connections: Arc<Connections>,
    ip: IpAddr,
}

impl Connections {
    /// Makes a counter with these limits.
    pub fn new(limits: ConnectionLimits) -> Arc<Connections> {
        Arc::new(Connections {
            limits,
            admitted: AtomicUsize::new(0),
            sockets: AtomicUsize::new(0),
            rejected: AtomicUsize::new(0),
            by_ip: Mutex::new(HashMap::new()),
        })
    }

    /// Counts connections to the admin listener. A connection beyond the limit is closed without an error response.
    pub fn of_admin(most: usize) -> Arc<Connections> {
        Connections::new(ConnectionLimits { most, sockets: most, per_ip: 0, rejected: 0 })
    }

    /// Returns a permit for a connection or a stream; `None` if it must be closed at once. `ip` is `None` for a
    /// connection of a proxy: its requests come from many addresses, and each request takes an [`AddressPermit`].
    pub fn admit(self: &Arc<Connections>, ip: Option<IpAddr>, kind: ConnectionKind) -> Option<ConnectionPermit> {
        let of_address = ip.map(|ip| self.admit_address(ip));
        let is_over_limit = matches!(of_address, Some(Err(AddressLimitReached))) || !self.take(kind);
        if !is_over_limit {
            let of_address = of_address.and_then(Result::ok).flatten();
            return Some(ConnectionPermit {
                connections: self.clone(),
                _address_permit: of_address,
                kind,
                is_over_limit,
            });
        }
        let permit = ConnectionPermit { connections: self.clone(), _address_permit: None, kind, is_over_limit };
        (self.rejected.fetch_add(1, Ordering::Relaxed) < self.limits.rejected).then_some(permit)
    }

    /// Counts one more connection or stream if the limits allow it.
    fn take(&self, kind: ConnectionKind) -> bool {
        let is_within = |count: &AtomicUsize, most| {
            let is_within = count.fetch_add(1, Ordering::Relaxed) < most;
            if !is_within {
                count.fetch_sub(1, Ordering::Relaxed);
            }
            is_within
        };
        if !is_within(&self.admitted, self.limits.most) {
            return false;
        }
        if kind == ConnectionKind::Socket && !is_within(&self.sockets, self.limits.sockets) {
            self.admitted.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        true
    }

    /// Returns a permit for one more connection or stream of an address; `None` if there is no limit per address.
    ///
    /// # Errors
    ///
    /// The address has reached its limit on connections and streams.
    pub fn admit_address(self: &Arc<Connections>, ip: IpAddr) -> Result<Option<AddressPermit>, AddressLimitReached> {
        if self.limits.per_ip == 0 {
            return Ok(None);
        }
        let ip = network(ip);
        let mut by_ip = self.by_ip.lock();
        let count = by_ip.entry(ip).or_default();
        if *count >= self.limits.per_ip {
            return Err(AddressLimitReached);
        }
        *count += 1;
        Ok(Some(AddressPermit { connections: self.clone(), ip }))
    }

    /// The number of connections and streams.
    pub fn count(&self) -> usize {
        self.admitted.load(Ordering::Relaxed)
    }

    /// The maximum number of connections.
    pub fn most(&self) -> usize {
        self.limits.most.min(self.limits.sockets)
    }
}

/// The error that an address has reached its limit on connections and streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressLimitReached;

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let connections = &self.connections;
        if self.is_over_limit {
            connections.rejected.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        connections.admitted.fetch_sub(1, Ordering::Relaxed);
        if self.kind == ConnectionKind::Socket {
            connections.sockets.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for AddressPermit {
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
        Connections::new(ConnectionLimits { most, sockets, per_ip, rejected: REJECTED })
    }

    #[test]
    fn connections_are_counted_in_all_and_by_address() {
        let (a, b) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let connections = connections(3, 9, 2);
        let first = connections.admit(Some(a), ConnectionKind::Socket).expect("room");
        let second = connections.admit(Some(a), ConnectionKind::Socket).expect("room");
        assert!(!first.is_over_limit && !second.is_over_limit);
        assert!(connections.admit(Some(a), ConnectionKind::Socket).expect("rejected").is_over_limit);
        let third = connections.admit(Some(b), ConnectionKind::Socket).expect("room");
        assert!(!third.is_over_limit);
        assert!(connections.admit(Some(b), ConnectionKind::Socket).expect("rejected").is_over_limit);
        drop(first);
        assert_eq!(connections.count(), 2);
        assert!(!connections.admit(Some(a), ConnectionKind::Socket).expect("room").is_over_limit);
    }

    #[test]
    fn a_proxy_is_counted_by_the_clients_behind_it() {
        let connections = connections(3, 9, 1);
        let proxy = [connections.admit(None, ConnectionKind::Socket), connections.admit(None, ConnectionKind::Socket)];
        assert!(proxy.iter().all(|permit| permit.as_ref().is_some_and(|permit| !permit.is_over_limit)));
        let user = IpAddr::from([192, 0, 2, 1]);
        let permit = connections.admit_address(user).expect("room");
        assert_eq!(connections.admit_address(user).err(), Some(AddressLimitReached));
        drop(permit);
        assert!(connections.admit_address(user).is_ok());
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert_eq!(network(ip("2001:db8:1:2::1")), network(ip("2001:db8:1:2:ffff::9")));
        assert_ne!(network(ip("2001:db8:1:2::1")), network(ip("2001:db8:1:3::1")));
        assert_eq!(network(ip("::ffff:192.0.2.1")), ip("192.0.2.1"));
    }

    #[test]
    fn the_number_of_rejections_is_bounded() {
        let connections = connections(0, 9, 0);
        let ip = IpAddr::from([127, 0, 0, 1]);
        let rejected: Vec<_> = (0..REJECTED).map(|_| connections.admit(Some(ip), ConnectionKind::Socket)).collect();
        assert!(rejected.iter().all(|permit| permit.as_ref().is_some_and(|permit| permit.is_over_limit)));
        assert!(connections.admit(Some(ip), ConnectionKind::Socket).is_none());
        drop(rejected);
        assert!(connections.admit(Some(ip), ConnectionKind::Socket).is_some());
    }

    /// An HTTP/2 stream counts as a connection but holds no descriptor.
    #[test]
    fn descriptors_limit_connections_and_not_streams() {
        let connections = connections(5, 2, 0);
        let is_admitted = |kind| connections.admit(None, kind).filter(|permit| !permit.is_over_limit);
        let sockets = [is_admitted(ConnectionKind::Socket), is_admitted(ConnectionKind::Socket)];
        assert!(sockets.iter().all(Option::is_some), "two descriptors");
        assert!(is_admitted(ConnectionKind::Socket).is_none(), "a third descriptor");
        let streams = [
            is_admitted(ConnectionKind::Stream),
            is_admitted(ConnectionKind::Stream),
            is_admitted(ConnectionKind::Stream),
        ];
        assert!(streams.iter().all(Option::is_some), "three streams");
        assert!(is_admitted(ConnectionKind::Stream).is_none(), "a sixth of five");
        drop(sockets);
        assert!(is_admitted(ConnectionKind::Socket).is_some(), "a descriptor that is free again");
        drop(streams);
        assert_eq!((connections.count(), connections.sockets.load(Ordering::Relaxed)), (0, 0), "all are gone");
        assert_eq!(connections.most(), 2, "the lesser of the two bounds");
    }

    #[test]
    fn descriptors_are_divided() {
        for (descriptors, has_admin, expected) in [
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
            let allowance = DescriptorAllowance::of(descriptors, has_admin);
            let divided = allowance.map(|allowance| (allowance.connections, allowance.rejected, allowance.admin));
            assert_eq!(divided, expected, "{descriptors} descriptors, an admin listener: {has_admin}");
            assert!(
                allowance.is_none_or(|allowance| allowance.all_sockets() as u64 <= descriptors),
                "{allowance:?} of {descriptors}"
            );
        }
    }
}
