//! The reactor of the clients' sockets: it learns which sockets are ready, and wakes their tasks.
//!
//! All other I/O uses tokio's reactor. Tokio's reactor keeps 256 bytes for each socket, so that any number of tasks can
//! wait for the socket. These 256 bytes would be a sixth of the memory of a parked reader. Only one task at a time
//! waits for a client's socket, so these sockets have an epoll (or kqueue) of their own. Tokio watches this epoll as if
//! it were one socket. A turn of the event loop costs one more system call if sockets of clients are ready, however
//! many they are.
//!
//! The epoll is edge-triggered. A [socket](super::socket::Socket) clears a mark *before* an attempt to read or write,
//! and an event during the attempt sets the mark again. So no edge is lost.

use atomic_waker::AtomicWaker;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry, Token};
use parking_lot::Mutex;
use slab::Slab;
use smallvec::SmallVec;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// The socket may have bytes to read.
pub const READ: u8 = 1;
/// The socket may accept a write.
pub const WRITE: u8 = 2;
/// The end of the connection follows after the available bytes. Never cleared.
pub const READ_CLOSED: u8 = 4;
/// The connection is reset. Never cleared.
pub const RESET: u8 = 8;

/// The maximum number of events in a turn.
const EVENTS: usize = 1024;

/// The reactor.
pub struct Reactor {
    registry: Registry,
    sockets: Arc<Mutex<Sockets>>,
    catch_ups: mpsc::Sender<oneshot::Sender<()>>,
}

/// The bits of an event's token that hold the socket's number. The other bits distinguish the sockets that have had
/// this number.
const NUMBER: u32 = usize::BITS / 8 * 5;

/// The sockets by their number. A number is reused at once, although an event of its previous socket may still be under
/// way. The new socket must not get that event.
#[derive(Default)]
struct Sockets {
    slots: Slab<(u32, Weak<Registration>)>,
    /// The number of sockets that were ever added.
    added: u32,
}

impl Sockets {
    fn get(&self, token: Token) -> Option<Arc<Registration>> {
        let (number, nth) = (token.0 & ((1 << NUMBER) - 1), token.0 >> NUMBER);
        let (_, socket) = self.slots.get(number).filter(|(added, _)| *added as usize == nth)?;
        // The caller must drop the result after it has released the lock: dropping the last reference takes the same
        // lock.
        socket.upgrade()
    }
}

impl Reactor {
    /// Starts a reactor in tokio's runtime, and returns it with its task. The task ends when the reactor and all its
    /// sockets are dropped. If it ends earlier, I/O with clients is no longer possible, so the server must watch the
    /// task.
    ///
    /// # Errors
    ///
    /// The system's error, usually that no file descriptors are left.
    pub fn start() -> io::Result<(Arc<Reactor>, JoinHandle<io::Result<()>>)> {
        let no_poll = |error: io::Error| io::Error::new(error.kind(), format!("cannot watch sockets: {error}"));
        let poll = Poll::new().map_err(no_poll)?;
        let (catch_ups, requests) = mpsc::channel(1);
        let registry = poll.registry().try_clone().map_err(no_poll)?;
        let sockets = Arc::<Mutex<Sockets>>::default();
        // The task holds the table but not the reactor, because it ends when the reactor is dropped.
        let (poll, table) = (watched(poll)?, sockets.clone());
        let task = tokio::spawn(async move { run(&table, poll, requests).await });
        Ok((Arc::new(Reactor { registry, sockets, catch_ups }), task))
    }

    /// Registers a non-blocking connection. Returns `None` and closes the connection if there are already `most`
    /// connections.
    ///
    /// # Errors
    ///
    /// The system's error.
    pub fn add(self: &Arc<Reactor>, mut stream: TcpStream, most: usize) -> io::Result<Option<Arc<Registration>>> {
        let mut sockets = self.sockets.lock();
        if sockets.slots.len() >= most {
            return Ok(None);
        }
        sockets.added = sockets.added.wrapping_add(1) & (u32::MAX >> (NUMBER + u32::BITS).saturating_sub(usize::BITS));
        let nth = sockets.added;
        let entry = sockets.slots.vacant_entry();
        let token = Token(entry.key() | (nth as usize) << NUMBER);
        self.registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let socket = Arc::new(Registration::new(self.clone(), entry.key(), stream));
        entry.insert((nth, Arc::downgrade(&socket)));
        Ok(Some(socket))
    }

    /// Forgets a socket that is about to be closed. Closing the socket also removes it from the epoll.
    fn remove(&self, number: usize) {
        self.sockets.lock().slots.try_remove(number);
    }

    /// Waits until all events up to now are handled. After that the server knows all bytes that clients have sent.
    /// Cancel safe.
    pub async fn catch_up(&self) {
        let (done, caught_up) = oneshot::channel();
        if self.catch_ups.send(done).await.is_ok() {
            let _ = caught_up.await;
        }
    }
}

/// A socket as the reactor knows it. The type is small, because there is one for each connection.
pub struct Registration {
    reactor: Arc<Reactor>,
    waker: AtomicWaker,
    stream: TcpStream,
    number: u32,
    ready: AtomicU8,
}

impl Registration {
    fn new(reactor: Arc<Reactor>, number: usize, stream: TcpStream) -> Registration {
        // A process cannot have this many descriptors.
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        // The request may have arrived with the connection, so the socket counts as ready before any event.
        Registration { reactor, waker: AtomicWaker::new(), stream, number, ready: AtomicU8::new(READ | WRITE) }
    }

    /// The connection.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Whether any of these marks is set.
    pub fn is(&self, marks: u8) -> bool {
        self.ready.load(Ordering::Acquire) & marks != 0
    }

    /// Sets marks again after an attempt.
    pub fn set(&self, marks: u8) {
        self.ready.fetch_or(marks, Ordering::AcqRel);
    }

    /// Clears marks before an attempt.
    pub fn clear(&self, marks: u8) {
        self.ready.fetch_and(!marks, Ordering::AcqRel);
    }

    /// Registers the task to wake. The caller must do this before it looks at the marks: otherwise an event in between
    /// would not wake the task.
    pub fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// Sets marks for an event, and wakes the task.
    fn notify(&self, marks: u8) {
        self.set(marks);
        self.waker.wake();
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.reactor.remove(self.number as usize);
    }
}

/// Handles events until the reactor and all its sockets are dropped.
async fn run(
    sockets: &Mutex<Sockets>,
    mut poll: AsyncFd<Poll>,
    mut catch_ups: mpsc::Receiver<oneshot::Sender<()>>,
) -> io::Result<()> {
    let mut events = Events::with_capacity(EVENTS);
    loop {
        tokio::select! {
            found = poll.readable_mut() => {
                let mut found = found?;
                if turn(sockets, found.get_inner_mut(), &mut events)? {
                    // There may be more events. The woken tasks run first.
                    tokio::task::yield_now().await;
                } else {
                    found.clear_ready();
                }
            }
            done = catch_ups.recv() => {
                let Some(done) = done else { return Ok(()) };
                while turn(sockets, poll.get_mut(), &mut events)? {}
                let _ = done.send(());
            }
        }
    }
}

/// Marks the sockets that are ready and wakes their tasks. Returns whether there may be more events.
fn turn(sockets: &Mutex<Sockets>, poll: &mut Poll, events: &mut Events) -> io::Result<bool> {
    match poll.poll(events, Some(Duration::ZERO)) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(true),
        polled => polled?,
    }
    // The sockets are looked up under the lock. The sockets are notified and dropped after the lock is released,
    // because dropping the last reference takes the lock.
    let known = sockets.lock();
    let found: SmallVec<[_; 16]> = events
        .iter()
        .filter_map(|event| {
            let marks = [
                (event.is_readable(), READ),
                (event.is_writable(), WRITE),
                (event.is_read_closed(), READ_CLOSED),
                (event.is_error() || event.is_write_closed(), RESET),
            ];
            let marks = marks.iter().filter(|(is_so, _)| *is_so).fold(0, |marks, (_, mark)| marks | mark);
            Some((known.get(event.token())?, marks))
        })
        .collect();
    drop(known);
    for (socket, marks) in found {
        socket.notify(marks);
    }
    Ok(events.iter().count() >= EVENTS)
}

/// Lets tokio watch whether a source is readable.
///
/// # Errors
///
/// The system's error.
#[expect(
    deprecated,
    reason = "its successor is unsafe, since sources may change their descriptor; these sources own one descriptor each"
)]
pub fn watched<T: AsRawFd>(source: T) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(source, tokio::io::Interest::READABLE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::net::socket::Socket;
    use std::future::poll_fn;
    use std::io::Write as _;
    use std::time::Instant;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpSocket};

    const SOON: Duration = Duration::from_millis(50);
    const PATIENCE: Duration = Duration::from_secs(10);

    /// Returns a client with a small receive window, and the server's end of its connection.
    async fn pair(reactor: &Arc<Reactor>) -> (tokio::net::TcpStream, Socket) {
        let (client, registration) = registered(reactor).await;
        (client, Socket::new(registration))
    }

    async fn registered(reactor: &Arc<Reactor>) -> (tokio::net::TcpStream, Arc<Registration>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let client = TcpSocket::new_v4().expect("a socket");
        client.set_recv_buffer_size(4096).expect("a small buffer");
        let (client, accepted) =
            tokio::join!(client.connect(listener.local_addr().expect("an address")), listener.accept());
        let stream = accepted.expect("a connection").0.into_std().expect("its socket");
        (
            client.expect("a connection"),
            reactor.add(TcpStream::from_std(stream), usize::MAX).expect("added").expect("room"),
        )
    }

    async fn in_time<T>(what: &str, waited: impl Future<Output = T>) -> T {
        tokio::time::timeout(PATIENCE, waited).await.unwrap_or_else(|_| panic!("waited too long for {what}"))
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_byte_and_no_end_is_lost_however_it_is_cut() {
        let (reactor, _) = Reactor::start().expect("a reactor");
        let mut all = tokio::task::JoinSet::new();
        for seed in 0..200 {
            let (mut client, mut socket) = pair(&reactor).await;
            all.spawn(async move {
                let mut random = fastrand::Rng::with_seed(seed);
                let sent: Vec<u8> = (0..random.usize(0..40_000)).map(|_| random.u8(..)).collect();
                let (mut write_random, bytes) = (fastrand::Rng::with_seed(!seed), sent.clone());
                let writing = async {
                    let mut rest = &bytes[..];
                    while !rest.is_empty() {
                        let (part, behind) = rest.split_at(write_random.usize(1..=rest.len().min(9000)));
                        client.write_all(part).await.expect("taken");
                        rest = behind;
                        if write_random.bool() {
                            tokio::time::sleep(Duration::from_micros(write_random.u64(0..500))).await;
                        }
                    }
                    client.shutdown().await.expect("shut");
                };
                let reading = async {
                    let mut read = Vec::new();
                    loop {
                        // Some reads ask for exactly as many bytes as are available.
                        let mut part = vec![0; random.usize(1..20_000)];
                        match socket.read(&mut part).await.expect("read") {
                            0 => return read,
                            n => read.extend_from_slice(&part[..n]),
                        }
                    }
                };
                let ((), read) = in_time("the end", async { tokio::join!(writing, reading) }).await;
                assert_eq!(read, sent, "seed {seed}");
                // Later reads also return the end.
                assert_eq!(socket.read(&mut [0; 9]).await.expect("the end"), 0);
            });
        }
        while let Some(done) = all.join_next().await {
            done.expect("as it should be");
        }
        assert!(reactor.sockets.lock().slots.is_empty(), "those that are closed are forgotten");
    }

    #[tokio::test]
    async fn a_full_socket_takes_the_rest_when_there_is_room() {
        let (reactor, _) = Reactor::start().expect("a reactor");
        let (mut client, mut socket) = pair(&reactor).await;
        let bytes: Vec<u8> = (0..8_000_000_u32).map(|n| n as u8).collect();
        let reading = async {
            tokio::time::sleep(SOON).await;
            let mut read = vec![0; bytes.len()];
            client.read_exact(&mut read).await.map(|_| read)
        };
        let (written, read) = in_time("all of it", async { tokio::join!(socket.write_all(&bytes), reading) }).await;
        written.expect("written");
        assert!(read.expect("read") == bytes);
        let full = loop {
            match socket.write_now(&bytes) {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
    }

    #[tokio::test]
    async fn a_client_that_shuts_its_side_is_not_gone_and_one_that_resets_is() {
        let (reactor, _) = Reactor::start().expect("a reactor");
        let (mut client, mut socket) = pair(&reactor).await;
        client.write_all(b"last").await.expect("written");
        client.shutdown().await.expect("shut");
        assert_eq!(in_time("a byte", socket.peek()).await.expect("a byte"), Some(b'l'));
        let mut read = Vec::new();
        in_time("the end", socket.read_to_end(&mut read)).await.expect("read");
        assert_eq!(read, b"last", "what was only looked at is there");
        assert_eq!(in_time("the end", socket.peek()).await.expect("the end"), None);
        let reset = poll_fn(|cx| socket.poll_reset(cx));
        assert!(tokio::time::timeout(SOON, reset).await.is_err(), "it may still listen");
        socket.write_all(b"heard").await.expect("it does");
        // These bytes have not been read, so closing resets the connection.
        drop(client);
        in_time("the reset", poll_fn(|cx| socket.poll_reset(cx))).await;
        in_time("an error", async { while socket.write_all(b"gone").await.is_ok() {} }).await;
    }

    #[tokio::test]
    async fn an_event_of_a_closed_socket_does_not_reach_the_next_one_with_its_number() {
        let (reactor, _) = Reactor::start().expect("a reactor");
        let (_client, socket) = registered(&reactor).await;
        let token = |socket: &Registration| {
            let number = socket.number as usize;
            Token(number | (reactor.sockets.lock().slots[number].0 as usize) << NUMBER)
        };
        let gone = token(&socket);
        assert!(reactor.sockets.lock().get(gone).is_some());
        drop(socket);
        let (_client, socket) = registered(&reactor).await;
        let next = token(&socket);
        assert_eq!(gone.0 & ((1 << NUMBER) - 1), next.0 & ((1 << NUMBER) - 1), "the number is reused");
        let sockets = reactor.sockets.lock();
        assert!(sockets.get(gone).is_none() && sockets.get(next).is_some());
    }

    #[tokio::test]
    async fn its_task_ends_with_its_last_reference() {
        let others = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let before = others();
        let (reactor, _) = Reactor::start().expect("a reactor");
        let (mut client, mut socket) = pair(&reactor).await;
        drop(reactor);
        client.write_all(b"!").await.expect("written");
        assert_eq!(in_time("a byte", socket.read_u8()).await.expect("a byte"), b'!', "its sockets hold it");
        assert_eq!(others(), before + 1);
        drop(socket);
        in_time("its end", async {
            while others() > before {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    #[tokio::test]
    async fn a_busy_client_lets_others_run() {
        let (reactor, _) = Reactor::start().expect("a reactor");
        let (client, mut socket) = pair(&reactor).await;
        let mut client = client.into_std().expect("its socket");
        client.set_nonblocking(false).expect("a blocking one");
        // Another thread writes the bytes, so that the reader never reaches the end.
        let flood = std::thread::spawn(move || while client.write_all(&[0; 4096]).is_ok() {});
        let swallow = tokio::spawn(async move {
            for _ in 0..3_000_000 {
                socket.read_u8().await.expect("a byte");
            }
        });
        let begun = Instant::now();
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
        swallow.abort();
        let _ = swallow.await;
        flood.join().expect("it ends with the connection");
    }
}
