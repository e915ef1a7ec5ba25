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
use smallvec::SmallVec;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Events that are heard at a time.
const EVENTS: usize = 1024;

/// Where clients' sockets are registered.
pub struct Reactor {
    registry: Registry,
    sockets: Arc<Mutex<Sockets>>,
    asked: mpsc::Sender<oneshot::Sender<()>>,
}

/// The bits of an event's token that are the socket's number; the others say which of those that have had it.
const NUMBER: u32 = usize::BITS / 8 * 5;

/// The sockets by their number. A number is given again at once, and an event of the last one that had it may be under way
/// still: whoever has it now is not to be told that he is gone.
#[derive(Default)]
struct Sockets {
    slots: Slab<(u32, Weak<State>)>,
    /// How many there were.
    added: u32,
}

impl Sockets {
    fn get(&self, token: Token) -> Option<Arc<State>> {
        let (number, nth) = (token.0 & ((1 << NUMBER) - 1), token.0 >> NUMBER);
        let (_, socket) = self.slots.get(number).filter(|(added, _)| *added as usize == nth)?;
        // Only where it is handed on: to let go of the last hold on one takes the lock that is held here.
        socket.upgrade()
    }
}

impl Reactor {
    /// Starts one within tokio's runtime. It ends with the last of its sockets, or with whoever may add more.
    ///
    /// The task that hears of the sockets comes with it. Should it end before, nothing is heard of any client any more,
    /// neither of those that there are nor of new ones: whoever serves has to watch it.
    ///
    /// # Errors
    ///
    /// The system's: mostly that there are no descriptors left.
    pub fn start() -> io::Result<(Arc<Reactor>, JoinHandle<io::Result<()>>)> {
        let no_poll = |error: io::Error| io::Error::new(error.kind(), format!("cannot watch sockets: {error}"));
        let poll = Poll::new().map_err(no_poll)?;
        let (asked, asking) = mpsc::channel(1);
        let registry = poll.registry().try_clone().map_err(no_poll)?;
        let sockets = Arc::<Mutex<Sockets>>::default();
        // The table and not the reactor, whose end it waits for.
        let (poll, hearing) = (watched(poll)?, sockets.clone());
        let task = tokio::spawn(async move { hear(&hearing, poll, asking).await });
        Ok((Arc::new(Reactor { registry, sockets, asked }), task))
    }

    /// Registers a connection, which does not block; `None`: it has `most` already, and this one is closed.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn add(self: &Arc<Reactor>, mut stream: TcpStream, most: usize) -> io::Result<Option<Socket>> {
        let mut sockets = self.sockets.lock();
        if sockets.slots.len() >= most {
            return Ok(None);
        }
        sockets.added = sockets.added.wrapping_add(1) & (u32::MAX >> (NUMBER + u32::BITS).saturating_sub(usize::BITS));
        let nth = sockets.added;
        let entry = sockets.slots.vacant_entry();
        let token = Token(entry.key() | (nth as usize) << NUMBER);
        self.registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let socket = Arc::new(State::new(self.clone(), entry.key(), stream));
        entry.insert((nth, Arc::downgrade(&socket)));
        Ok(Some(Socket(socket)))
    }

    /// Forgets one that is about to be closed, which takes it out of the epoll, too.
    pub fn remove(&self, number: usize) {
        self.sockets.lock().slots.try_remove(number);
    }

    /// Waits until all that clients have sent up to now is heard. Cancel safe.
    pub async fn catch_up(&self) {
        let (heard, hearing) = oneshot::channel();
        if self.asked.send(heard).await.is_ok() {
            let _ = hearing.await;
        }
    }
}

/// Hears of the sockets until there can be no more.
async fn hear(
    sockets: &Mutex<Sockets>,
    mut poll: AsyncFd<Poll>,
    mut asked: mpsc::Receiver<oneshot::Sender<()>>,
) -> io::Result<()> {
    let mut events = Events::with_capacity(EVENTS);
    loop {
        tokio::select! {
            found = poll.readable_mut() => {
                let mut found = found?;
                if turn(sockets, found.get_inner_mut(), &mut events)? {
                    // There may be more; those who were woken first.
                    tokio::task::yield_now().await;
                } else {
                    found.clear_ready();
                }
            }
            heard = asked.recv() => {
                let Some(heard) = heard else { return Ok(()) };
                while turn(sockets, poll.get_mut(), &mut events)? {}
                let _ = heard.send(());
            }
        }
    }
}

/// Marks those that are ready, and wakes who waits for them; whether there may be more.
fn turn(sockets: &Mutex<Sockets>, poll: &mut Poll, events: &mut Events) -> io::Result<bool> {
    match poll.poll(events, Some(Duration::ZERO)) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(true),
        polled => polled?,
    }
    // Found first, and told without the lock: the last one to hold a socket takes it out of the table, and that may be
    // this one.
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
        socket.set_ready(marks);
    }
    Ok(events.iter().count() >= EVENTS)
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::io::Write as _;
    use std::time::Instant;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpSocket};

    const SOON: Duration = Duration::from_millis(50);
    const PATIENCE: Duration = Duration::from_secs(10);

    /// A client, whose window is small, and our end of its connection.
    async fn pair(reactor: &Arc<Reactor>) -> (tokio::net::TcpStream, Socket) {
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
    async fn no_byte_and_no_end_is_missed_however_it_is_cut() {
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
                        // Now and then just as much as there is.
                        let mut part = vec![0; random.usize(1..20_000)];
                        match socket.read(&mut part).await.expect("read") {
                            0 => return read,
                            n => read.extend_from_slice(&part[..n]),
                        }
                    }
                };
                let ((), read) = in_time("the end", async { tokio::join!(writing, reading) }).await;
                assert_eq!(read, sent, "seed {seed}");
                // The end stays.
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
        // Bytes that nobody has read: closing resets.
        drop(client);
        in_time("the reset", poll_fn(|cx| socket.poll_reset(cx))).await;
        in_time("an error", async { while socket.write_all(b"gone").await.is_ok() {} }).await;
    }

    #[tokio::test]
    async fn what_is_heard_of_one_that_is_gone_is_not_for_who_has_its_number() {
        let (reactor, _) = Reactor::start().expect("a reactor");
        let (_client, socket) = pair(&reactor).await;
        let token = |socket: &Socket| {
            let number = socket.0.number();
            Token(number | (reactor.sockets.lock().slots[number].0 as usize) << NUMBER)
        };
        let gone = token(&socket);
        assert!(reactor.sockets.lock().get(gone).is_some());
        drop(socket);
        let (_client, socket) = pair(&reactor).await;
        let next = token(&socket);
        assert_eq!(gone.0 & ((1 << NUMBER) - 1), next.0 & ((1 << NUMBER) - 1), "the number is given again");
        let sockets = reactor.sockets.lock();
        assert!(sockets.get(gone).is_none() && sockets.get(next).is_some());
    }

    #[tokio::test]
    async fn it_ends_with_the_last_who_holds_it() {
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
        // By a thread of its own: the reader never comes to the end of it.
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
