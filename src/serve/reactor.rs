//! The reactor: which of the clients' sockets are ready, and whom that wakes.
//!
//! Tokio has one, and all else is left to it. But it keeps 256 bytes for each socket, room for any number of tasks
//! that wait for anything of it, and that was a sixth of what a parked reader took. A client's socket is waited for by one
//! task at a time. So clients' sockets have an epoll (or kqueue) of their own, which tokio watches as if it were one
//! socket: a turn in which any of them is ready costs one more system call, however many they are.
//!
//! It is edge-triggered. [`Socket::poll_io`] takes a mark away *before* it tries, and whatever comes
//! meanwhile sets it again, so that no edge is lost.

use super::socket::{READ, READ_CLOSED, RESET, Socket, State, WRITE};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry, Token};
use parking_lot::Mutex;
use slab::Slab;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tracing::error;

/// Events that are heard at a time.
const EVENTS: usize = 1024;

/// Where clients' sockets are registered.
pub struct Reactor {
    registry: Registry,
    sockets: Mutex<Slab<Weak<State>>>,
}

impl Reactor {
    /// Starts one, for as long as tokio's runtime runs, within which it is called.
    ///
    /// # Errors
    ///
    /// The system's: mostly that there are no descriptors left.
    pub fn start() -> io::Result<Arc<Reactor>> {
        let no_poll = |error: io::Error| io::Error::new(error.kind(), format!("cannot watch sockets: {error}"));
        let poll = Poll::new().map_err(no_poll)?;
        let reactor = Arc::new(Reactor { registry: poll.registry().try_clone()?, sockets: Mutex::default() });
        let poll = watched(poll)?;
        let hearing = reactor.clone();
        tokio::spawn(async move {
            if let Err(error) = hearing.hear(poll).await {
                error!(%error, "nothing more is heard of any client");
            }
        });
        Ok(reactor)
    }

    /// Registers a connection, which does not block.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn add(self: &Arc<Reactor>, mut stream: TcpStream) -> io::Result<Socket> {
        let mut sockets = self.sockets.lock();
        let entry = sockets.vacant_entry();
        self.registry.register(&mut stream, Token(entry.key()), Interest::READABLE | Interest::WRITABLE)?;
        let socket = Arc::new(State::new(self.clone(), entry.key(), stream));
        entry.insert(Arc::downgrade(&socket));
        Ok(Socket(socket))
    }

    /// Forgets one that is about to be closed, which takes it out of the epoll, too. An event of it may be under way:
    /// whoever gets its number wakes once in vain.
    pub fn remove(&self, key: usize) {
        self.sockets.lock().try_remove(key);
    }

    /// Those that this turn has something for. The lock ends with this: the last one to hold a socket takes it out of
    /// the table, and that may be who is told.
    fn find(&self, events: &Events, found: &mut Vec<(Arc<State>, u8)>) {
        let sockets = self.sockets.lock();
        found.extend(events.iter().filter_map(|event| {
            let marks = [
                (event.is_readable(), READ),
                (event.is_writable(), WRITE),
                (event.is_read_closed(), READ_CLOSED),
                (event.is_error() || event.is_write_closed(), RESET),
            ];
            let marks = marks.iter().filter(|(is_so, _)| *is_so).fold(0, |marks, (_, mark)| marks | mark);
            Some((sockets.get(event.token().0)?.upgrade()?, marks))
        }));
    }

    async fn hear(&self, mut poll: AsyncFd<Poll>) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let mut ready = Vec::new();
        loop {
            let mut turn = poll.readable_mut().await?;
            match turn.get_inner_mut().poll(&mut events, Some(Duration::ZERO)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            self.find(&events, &mut ready);
            let is_full = events.iter().count() >= EVENTS;
            for (socket, marks) in ready.drain(..) {
                socket.set_ready(marks);
            }
            if is_full {
                // There may be more; those who were woken first.
                tokio::task::yield_now().await;
            } else {
                turn.clear_ready();
            }
        }
    }
}

/// What tokio watches for whether it may be read.
///
/// # Errors
///
/// The system's.
#[expect(
    deprecated,
    reason = "its heir is unsafe for things that may close their descriptor or change it; these are owned, and have one"
)]
pub fn watched<T: AsRawFd>(source: T) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(source, tokio::io::Interest::READABLE)
}
