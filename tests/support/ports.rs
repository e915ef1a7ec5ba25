//! Ports for programs that have to be told one.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::Mutex;

/// Where ports are taken from: below those that the kernel gives to outgoing connections (from 32768 on), of which one
/// would otherwise be taken between being found free and being bound, or while a server that comes back is away.
const RANGE: std::ops::Range<u16> = 10_000..16_000;

/// A UDP socket on each port that this process has handed out, held to its end. Nobody here speaks UDP, so it is a
/// reservation that other processes of the tests see, and that the kernel gives up with the process.
static RESERVED: Mutex<Vec<UdpSocket>> = Mutex::new(Vec::new());

/// A port that nobody listens on now, and that no other test is given.
pub fn free_port() -> u16 {
    for _ in 0..1000 {
        let port = fastrand::u16(RANGE);
        let Ok(reserved) = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)) else { continue };
        // On all addresses: a server may be asked to listen there.
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            RESERVED.lock().expect("no panic within").push(reserved);
            return port;
        }
    }
    panic!("no free port among 1,000 of {RANGE:?}")
}
