//! A client's TCP connection. The type can be cloned: the task of a session and the hub both write to the connection,
//! but never at the same time.
//!
//! One task at a time waits for the socket. The task that has polled it last is woken.

use super::reactor::{READ, READ_CLOSED, RESET, Registration, WRITE};
use mio::net::TcpStream;
use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop;

/// The maximum number of bytes in one read.
const READ_SIZE: usize = 16 << 10;

/// A connection.
#[derive(Clone)]
pub struct Socket(Arc<Registration>);

/// Whether the socket may still be ready after an attempt.
#[derive(PartialEq)]
enum Readiness {
    Maybe,
    Exhausted,
}

impl Socket {
    /// A connection that the reactor watches.
    pub fn new(registration: Arc<Registration>) -> Socket {
        Socket(registration)
    }

    /// Makes an attempt when the reactor has reported `want`, or the end of the connection.
    fn poll_io<T>(
        &self,
        cx: &mut Context<'_>,
        want: u8,
        mut attempt: impl FnMut(&TcpStream) -> io::Result<(T, Readiness)>,
    ) -> Poll<io::Result<T>> {
        // From time to time, a task with a busy client yields to other tasks.
        let turn = ready!(coop::poll_proceed(cx));
        let registration = &*self.0;
        let end = if want == READ { READ_CLOSED | RESET } else { RESET };
        loop {
            if !registration.is(want | end) {
                registration.register(cx.waker());
                // An event may have come before the waker was registered. Such an event has not woken the task, so the
                // marks are checked again.
                if !registration.is(want | end) {
                    return Poll::Pending;
                }
            }
            // The mark is cleared before the attempt: an event that comes during it sets the mark again.
            registration.clear(want);
            match attempt(registration.stream()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    registration.set(want);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    registration.register(cx.waker());
                    if !registration.is(want) {
                        return Poll::Pending;
                    }
                }
                tried => {
                    turn.made_progress();
                    return Poll::Ready(tried.map(|(value, readiness)| {
                        if readiness == Readiness::Maybe {
                            registration.set(want);
                        }
                        value
                    }));
                }
            }
        }
    }

    /// Writes. If the socket accepts only a part of the bytes, it is full.
    fn poll_write_with(
        &self,
        cx: &mut Context<'_>,
        size: usize,
        mut write: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        self.poll_io(cx, WRITE, |stream| {
            let written = write(stream)?;
            Ok((written, if written < size { Readiness::Exhausted } else { Readiness::Maybe }))
        })
    }

    /// Reads a word of the memory that a later write will read.
    pub fn touch(&self) {
        std::hint::black_box(self.0.stream().as_raw_fd());
    }

    /// Writes as many bytes as the socket accepts at once, whatever the reactor has reported.
    ///
    /// # Errors
    ///
    /// The system's error; `WouldBlock` if the socket does not accept any bytes.
    pub fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        self.0.stream().write(bytes)
    }

    /// Returns the next byte without consuming it; `None` at the end of the connection. Cancel safe.
    ///
    /// # Errors
    ///
    /// The system's error.
    pub async fn peek(&self) -> io::Result<Option<u8>> {
        let mut first = [0];
        let peeked =
            poll_fn(|cx| self.poll_io(cx, READ, |stream| Ok((stream.peek(&mut first)?, Readiness::Maybe)))).await?;
        Ok((peeked > 0).then_some(first[0]))
    }

    /// Whether the client has shut its sending side. Bytes that the client sent earlier may still be unread.
    pub fn is_read_closed(&self) -> bool {
        self.0.is(READ_CLOSED)
    }

    /// Ready when the connection was reset. A client that has shut its sending side may still read, or may have
    /// vanished. Only a write can show which is true. If a write makes the client reset the connection, this function
    /// reports it.
    pub fn poll_reset(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.register(cx.waker());
        if self.0.is(RESET) { Poll::Ready(()) } else { Poll::Pending }
    }
}

thread_local! {
    /// The buffer into which the system writes the bytes of a read. The bytes are then copied from this buffer. Reading
    /// into uninitialised memory needs unsafe code, and initialising it first costs more than the copy.
    static READING: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_SIZE].into());
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
                // A short read means that the socket is empty. Reading again would be one useless system call for each
                // request. The end of the connection (0) stays ready.
                Ok(((), if (1..room).contains(&read) { Readiness::Exhausted } else { Readiness::Maybe }))
            })
        })
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, buf.len(), |mut stream| stream.write(buf))
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
                .stream()
                .shutdown(Shutdown::Write)
                .or_else(|error| if error.kind() == io::ErrorKind::NotConnected { Ok(()) } else { Err(error) }),
        )
    }
}
