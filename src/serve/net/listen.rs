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

/// Sets the options of an accepted socket. A client that does not confirm what was sent for `write_timeout` is gone.
pub fn prepare(stream: &impl AsFd, send_buffer: usize, write_timeout: Duration) {
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
    // The keepalive does not run while sent bytes are unconfirmed. Then a client that has vanished would count as a
    // reader, and its user as a member, for the 15 minutes in which the kernel repeats these bytes (RFC 5482).
    #[cfg(target_os = "linux")]
    let _ = stream.set_tcp_user_timeout(Some(write_timeout));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_that_confirms_nothing_is_given_up_after_the_time_limit_of_a_write() {
        let listener = bind(([127, 0, 0, 1], 0).into()).expect("a listener");
        let address = listener.local_addr().expect("an address");
        let (client, accepted) = tokio::join!(tokio::net::TcpStream::connect(address), listener.accept());
        let (_client, (accepted, _)) = (client.expect("connected"), accepted.expect("accepted"));
        let timeout = Duration::from_secs(7);
        prepare(&accepted, 0, timeout);
        let socket = SockRef::from(&accepted);
        assert_eq!(socket.tcp_user_timeout().expect("the option"), Some(timeout));
        assert!(socket.tcp_nodelay().expect("the option") && socket.keepalive().expect("the option"));
    }
}
