//! Ports for programs that have to be told one.

use std::collections::{BTreeSet, VecDeque};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::Mutex;

/// Where ports are taken from: below those that the kernel gives to outgoing connections (from 32768 on), of which one
/// would otherwise be taken between being found free and being bound, or while a server that comes back is away.
const RANGE: std::ops::Range<u16> = 10_000..16_000;

/// The ports that this process has handed out. It hands none out twice.
static HANDED_OUT: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A UDP socket on each of the last ports that this process has handed out. Nobody here speaks UDP, so it is a reservation
/// that other processes of the tests see, and that the kernel gives up with the process.
static RESERVED: Mutex<VecDeque<UdpSocket>> = Mutex::new(VecDeque::new());

/// How many are held. All tests run in one process, which may have as few as 1024 descriptors; the test that took a port so
/// many ports ago is over.
const MOST_RESERVED: usize = 400;

/// A port that nobody listens on now, and that no other test is given.
pub fn free_port() -> u16 {
    for _ in 0..1000 {
        let port = fastrand::u16(RANGE);
        if HANDED_OUT.lock().expect("no panic within").contains(&port) {
            continue;
        }
        let Ok(reserved) = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)) else { continue };
        // On all addresses: a server may be asked to listen there.
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
