//! Sockets that listen, and what is set on those that they give.

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;
use tokio::net::TcpListener;

/// Connections that may wait to be accepted: a page full of readers comes back at once after a drain.
const BACKLOG: i32 = 4096;

/// Binds an address.
///
/// # Errors
///
/// The system's.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // Else [::]:80 would take 0.0.0.0:80, too, which may be listened on besides.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Sets what every connection has.
pub fn prepare(stream: &impl AsFd, send_buffer: usize) {
    let stream = SockRef::from(stream);
    if send_buffer > 0 {
        // Left to itself it grows to 4 MiB for a client that takes nothing: memory of the system's, which no
        // budget of ours sees.
        let _ = stream.set_send_buffer_size(send_buffer);
    }
    // A message waits for nothing.
    let _ = stream.set_tcp_nodelay(true);
    // Clients that vanish without a word are found although nothing is written to them.
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));
    let _ = stream.set_tcp_keepalive(&keepalive);
}
