//! Listening sockets, and the options of accepted sockets.

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;
use tokio::net::TcpListener;

/// Connections that may wait to be accepted. All readers of a page reconnect at once after a drain.
const BACKLOG: i32 = 4096;

/// Listens on an address.
///
/// # Errors
///
/// The system's.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // Otherwise [::]:80 would also take 0.0.0.0:80, on which another listener may listen.
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
        // By default the buffer grows to 4 MiB for a client that reads nothing. That is memory of the kernel, which no budget
        // of this server counts.
        let _ = stream.set_send_buffer_size(send_buffer);
    }
    // A message is sent at once.
    let _ = stream.set_tcp_nodelay(true);
    // Finds clients that have vanished although nothing is written to them.
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));
    let _ = stream.set_tcp_keepalive(&keepalive);
}
