//! Listening sockets, and the options of accepted sockets.

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;
use tokio::net::TcpListener;

/// The maximum number of connections that wait to be accepted. There may be many: all readers of a page reconnect at
/// once after a drain.
const BACKLOG: i32 = 4096;

/// Listens on an address.
///
/// # Errors
///
/// The system's error.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // Without this option, [::]:80 would also include 0.0.0.0:80, on which another listener may listen.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Sets the options of an accepted socket.
pub fn prepare(stream: &impl AsFd, send_buffer: usize) {
    let stream = SockRef::from(stream);
    if send_buffer > 0 {
        // By default the buffer grows to 4 MiB for a client that does not read. This is memory of the kernel, so the
        // server's memory budget does not count it.
        let _ = stream.set_send_buffer_size(send_buffer);
    }
    // Without Nagle's algorithm, a message is sent at once.
    let _ = stream.set_tcp_nodelay(true);
    // The keepalive finds clients that have vanished, even if the server does not write to them.
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));
    let _ = stream.set_tcp_keepalive(&keepalive);
}
