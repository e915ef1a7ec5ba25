//! A client's TCP connection, which several hands may hold: whoever writes to it, and whoever watches it.
//!
//! One task at a time waits for it, for whatever of it: the last one that has asked is woken.

use super::reactor::Reactor;
use atomic_waker::AtomicWaker;
use mio::net::TcpStream;
use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop;

/// It may have something to read.
pub const READ: u8 = 1;
/// It may take something.
pub const WRITE: u8 = 2;
/// Behind what there is to read comes the end. Never taken back.
pub const READ_CLOSED: u8 = 4;
/// The client is gone. Never taken back.
pub const RESET: u8 = 8;

/// Bytes that are read at a time.
const ROOM: usize = 16 << 10;

/// A connection.
#[derive(Clone)]
pub struct Socket(pub Arc<State>);

/// What is known of a connection: small, since it is kept for each.
pub struct State {
    reactor: Arc<Reactor>,
    waker: AtomicWaker,
    stream: TcpStream,
    number: u32,
    ready: AtomicU8,
}

impl State {
    /// Of a connection that was just accepted.
    pub fn new(reactor: Arc<Reactor>, number: usize, stream: TcpStream) -> State {
        // There are never so many descriptors.
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        // The request may have come with the connection: it is looked for without being told.
        State { reactor, waker: AtomicWaker::new(), stream, number, ready: AtomicU8::new(READ | WRITE) }
    }

    /// The reactor has heard this.
    pub fn set_ready(&self, marks: u8) {
        self.ready.fetch_or(marks, Ordering::AcqRel);
        self.waker.wake();
    }

    /// Under which the reactor knows it.
    pub fn number(&self) -> usize {
        self.number as usize
    }

    fn is(&self, marks: u8) -> bool {
        self.ready.load(Ordering::Acquire) & marks != 0
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.reactor.remove(self.number());
    }
}

/// Whether there may be more behind what a try came to.
#[derive(PartialEq)]
enum Rest {
    Maybe,
    Nothing,
}

impl Socket {
    /// Tries, when it may be worth it: `want`, or the end of it, was heard of.
    fn poll_io<T>(
        &self,
        cx: &mut Context<'_>,
        want: u8,
        mut attempt: impl FnMut(&TcpStream) -> io::Result<(T, Rest)>,
    ) -> Poll<io::Result<T>> {
        // Whoever has a busy client lets others run now and then.
        let turn = ready!(coop::poll_proceed(cx));
        let state = &*self.0;
        let end = if want == READ { READ_CLOSED | RESET } else { RESET };
        loop {
            if !state.is(want | end) {
                state.waker.register(cx.waker());
                // What came before that has woken nobody.
                if !state.is(want | end) {
                    return Poll::Pending;
                }
            }
            // Before the try: what comes behind it is not to be taken away with what came before.
            state.ready.fetch_and(!want, Ordering::AcqRel);
            match attempt(&state.stream) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    state.ready.fetch_or(want, Ordering::AcqRel);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    state.waker.register(cx.waker());
                    if !state.is(want) {
                        return Poll::Pending;
                    }
                }
                tried => {
                    turn.made_progress();
                    return Poll::Ready(tried.map(|(value, rest)| {
                        if rest == Rest::Maybe {
                            state.ready.fetch_or(want, Ordering::AcqRel);
                        }
                        value
                    }));
                }
            }
        }
    }

    /// What it takes is all of it or fills it.
    fn poll_write_with(
        &self,
        cx: &mut Context<'_>,
        size: usize,
        mut write: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        self.poll_io(cx, WRITE, |stream| {
            let written = write(stream)?;
            Ok((written, if written < size { Rest::Nothing } else { Rest::Maybe }))
        })
    }

    /// Reads what a write reads.
    pub fn prefetch(&self) -> i32 {
        self.0.stream.as_raw_fd()
    }

    /// Writes what it takes at once, without a look at what is known of it.
    ///
    /// # Errors
    ///
    /// The system's; `WouldBlock` where it takes nothing.
    pub fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        (&self.0.stream).write(bytes)
    }

    /// The same, when it may take something.
    pub fn poll_write_some(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, bytes.len(), |mut stream| stream.write(bytes))
    }

    /// The first byte, which stays to be read; `None` at the end. Cancel safe.
    ///
    /// # Errors
    ///
    /// The system's.
    pub async fn peek(&self) -> io::Result<Option<u8>> {
        let mut first = [0];
        let peeked = poll_fn(|cx| self.poll_io(cx, READ, |stream| Ok((stream.peek(&mut first)?, Rest::Maybe)))).await?;
        Ok((peeked > 0).then_some(first[0]))
    }

    /// Ready when the connection was reset. A client that has shut its sending side may still listen or be gone; only a
    /// write can tell, and this is what it is told.
    pub fn poll_reset(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.waker.register(cx.waker());
        if self.0.is(RESET) { Poll::Ready(()) } else { Poll::Pending }
    }
}

thread_local! {
    /// Where bytes are read to, from where they are copied: to read into room that was never written needs unsafe code, and
    /// to write it first costs more than the copy.
    static READING: RefCell<Box<[u8]>> = RefCell::new(vec![0; ROOM].into());
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        self.poll_io(cx, READ, |mut stream| {
            READING.with_borrow_mut(|bytes| {
                let room = buf.remaining().min(bytes.len());
                let read = stream.read(&mut bytes[..room])?;
                buf.put_slice(&bytes[..read]);
                // Less than there is room for: the socket is drained, and to ask it again would be one system call
                // in vain a request. The end (0) stays.
                Ok(((), if (1..room).contains(&read) { Rest::Nothing } else { Rest::Maybe }))
            })
        })
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_some(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let size = bufs.iter().map(|buf| buf.len()).sum();
        self.poll_write_with(cx, size, |mut stream| stream.write_vectored(bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(
            self.0
                .stream
                .shutdown(Shutdown::Write)
                .or_else(|error| if error.kind() == io::ErrorKind::NotConnected { Ok(()) } else { Err(error) }),
        )
    }
}
