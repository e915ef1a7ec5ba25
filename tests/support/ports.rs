//! Ports for programs that need one as an argument.

use std::collections::{BTreeSet, VecDeque};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::Mutex;

/// The range of the ports, below those that the kernel gives to outgoing connections (from 32768 on). The kernel could
/// otherwise take a port between the check and the bind, or while a server restarts.
const RANGE: std::ops::Range<u16> = 10_000..16_000;

/// The ports that this process has handed out. It does not hand out a port twice.
static HANDED_OUT: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A UDP socket on each of the last ports that this process has handed out. No test uses UDP, so the socket is a
/// reservation that other processes of the tests see, and that ends with the process.
static RESERVED: Mutex<VecDeque<UdpSocket>> = Mutex::new(VecDeque::new());

/// The number of reservations that are held. All tests run in one process, which may have as few as 1024 descriptors.
/// The test whose port is this many ports old is over.
const MOST_RESERVED: usize = 400;

/// A port that no program listens on now, and that no other test gets.
pub fn free_port() -> u16 {
    for _ in 0..1000 {
        let port = fastrand::u16(RANGE);
        if HANDED_OUT.lock().expect("no panic within").contains(&port) {
            continue;
        }
        let Ok(reserved) = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)) else { continue };
        // The check covers all addresses, because a server may have to listen on any of them.
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            HANDED_OUT.lock().expect("no panic within").insert(port);
            let mut held = RESERVED.lock().expect("no panic within");
            held.push_back(reserved);
            if held.len() > MOST_RESERVED {
                held.pop_front();
            }
            return port;
        }
    }
    panic!("no free port among 1,000 of {RANGE:?}")
}
