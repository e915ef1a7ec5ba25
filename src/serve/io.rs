//! The socket as hyper and the duplex loop see it: writes have a deadline, and a client that is gone
//! is noticed although it may also only have shut its sending side.

use socket2::SockRef;
use std::future::{Future, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// A client's socket.
pub struct ClientIo {
    stream: Arc<TcpStream>,
    write_timeout: Duration,
    /// Runs while a write waits for the client; `None` at other times, so that a parked connection
    /// has no timer of its own here.
    deadline: Option<Pin<Box<Sleep>>>,
    half_closed: Arc<AtomicBool>,
}

/// What is left to know of a socket that was given away.
#[derive(Clone)]
pub struct Watch {
    stream: Arc<TcpStream>,
    half_closed: Arc<AtomicBool>,
    /// How many responses under way are streams, which nobody else reads for.
    streams: Arc<AtomicUsize>,
}

impl ClientIo {
    /// Takes a socket.
    pub fn new(stream: TcpStream, write_timeout: Duration) -> (ClientIo, Watch) {
        let (stream, half_closed) = (Arc::new(stream), Arc::new(AtomicBool::new(false)));
        let (half, streams) = (half_closed.clone(), Arc::new(AtomicUsize::new(0)));
        let watch = Watch { stream: stream.clone(), half_closed: half, streams };
        (ClientIo { stream, write_timeout, deadline: None, half_closed }, watch)
    }

    /// Bounds how long a client may take nothing: any byte it takes begins the time anew.
    fn in_time<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.deadline = None;
            return written;
        }
        let timeout = self.write_timeout;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        ready!(deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll_write_with(
        &mut self,
        cx: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let written = loop {
            match self.stream.poll_write_ready(cx) {
                Poll::Pending => break Poll::Pending,
                Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) => {}
            }
            match write(&self.stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => break Poll::Ready(written),
            }
        };
        self.in_time(cx, written)
    }
}

impl Watch {
    /// Runs a connection, and cuts it when a client that had shut its sending side turns out to be
    /// gone: a write was answered with a reset. `None`: it was cut.
    pub async fn until_reset<F: Future>(&self, connection: F) -> Option<F::Output> {
        let mut connection = pin!(connection);
        let mut shut: Option<Pin<Box<dyn Future<Output = ()> + Send + '_>>> = None;
        let mut reset = pin!(self.stream.ready(Interest::ERROR));
        poll_fn(|cx| {
            if let Poll::Ready(output) = connection.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            if self.half_closed.load(Ordering::Relaxed) {
                return reset.as_mut().poll(cx).map(|_| None);
            }
            if self.streams.load(Ordering::Relaxed) == 0 {
                shut = None;
            } else if shut.get_or_insert_with(|| Box::pin(self.shut())).as_mut().poll(cx).is_ready() {
                self.half_closed.store(true, Ordering::Relaxed);
                // The stream is to look at it.
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        })
        .await
    }

    /// Resolves when the client has shut its sending side. While a response goes on hyper does not
    /// read, so nobody else would notice. Bytes of a next request are left where they are, and what
    /// comes behind them is not seen.
    async fn shut(&self) {
        loop {
            if self.stream.ready(Interest::READABLE).await.is_err() {
                return;
            }
            let peek = || SockRef::from(&*self.stream).peek(&mut [MaybeUninit::uninit()]);
            match self.stream.try_io(Interest::READABLE, peek) {
                Ok(0) => return,
                Ok(_) => return std::future::pending().await,
                // Said to be readable and is not: `try_io` has noted it.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }

    /// A response that is a stream begins.
    pub fn stream_begins(&self) {
        self.streams.fetch_add(1, Ordering::Relaxed);
    }

    /// It ends.
    pub fn stream_ends(&self) {
        self.streams.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether the client has shut its sending side, or is gone; only writing to it can tell.
    pub fn is_half_closed(&self) -> bool {
        self.half_closed.load(Ordering::Relaxed)
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            match self.stream.try_read(buf.initialize_unfilled()) {
                Ok(0) => {
                    self.half_closed.store(true, Ordering::Relaxed);
                    return Poll::Ready(Ok(()));
                }
                Ok(n) => {
                    buf.advance(n);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, |stream| stream.try_write(buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, |stream| stream.try_write_vectored(bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(
            SockRef::from(&*self.stream)
                .shutdown(std::net::Shutdown::Write)
                .or_else(|error| if error.kind() == io::ErrorKind::NotConnected { Ok(()) } else { Err(error) }),
        )
    }
}
