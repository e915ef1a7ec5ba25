//! How many connections there are, in all and of an address.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Connections beyond the limit that may be told so at a time; more are closed without a word.
const TOLD: usize = 256;

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
    ip: IpAddr,
    /// Whether it is one too many, which is only to be told so.
    pub is_over: bool,
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

    /// Counts a connection in; `None`: it is to be closed at once.
    pub fn admit(self: &Arc<Connections>, ip: IpAddr) -> Option<Admission> {
        let is_over = self.admitted.fetch_add(1, Ordering::Relaxed) >= self.most || !self.admit_ip(ip);
        let admission = Admission { connections: self.clone(), ip, is_over };
        if is_over {
            self.admitted.fetch_sub(1, Ordering::Relaxed);
            if self.told.fetch_add(1, Ordering::Relaxed) >= TOLD {
                return None;
            }
        }
        Some(admission)
    }

    fn admit_ip(&self, ip: IpAddr) -> bool {
        if self.most_per_ip == 0 {
            return true;
        }
        let mut by_ip = self.by_ip.lock();
        let count = by_ip.entry(ip).or_default();
        let free = *count < self.most_per_ip;
        if free {
            *count += 1;
        }
        free
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.admitted.load(Ordering::Relaxed)
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let connections = &self.connections;
        if self.is_over {
            connections.told.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        connections.admitted.fetch_sub(1, Ordering::Relaxed);
        if connections.most_per_ip > 0 {
            let mut by_ip = connections.by_ip.lock();
            if let Some(count) = by_ip.get_mut(&self.ip) {
                *count -= 1;
                if *count == 0 {
                    by_ip.remove(&self.ip);
                }
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
        let first = connections.admit(a).expect("room");
        let second = connections.admit(a).expect("room");
        assert!(!first.is_over && !second.is_over);
        assert!(connections.admit(a).expect("told so").is_over);
        let third = connections.admit(b).expect("room");
        assert!(!third.is_over);
        assert!(connections.admit(b).expect("told so").is_over);
        drop(first);
        assert_eq!(connections.count(), 2);
        assert!(!connections.admit(a).expect("room").is_over);
    }

    #[test]
    fn only_so_many_are_told() {
        let connections = Connections::new(0, 0);
        let ip = IpAddr::from([127, 0, 0, 1]);
        let told: Vec<_> = (0..TOLD).map(|_| connections.admit(ip)).collect();
        assert!(told.iter().all(|admission| admission.as_ref().is_some_and(|admission| admission.is_over)));
        assert!(connections.admit(ip).is_none());
        drop(told);
        assert!(connections.admit(ip).is_some());
    }
}
