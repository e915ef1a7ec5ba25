//! The socket as hyper and the duplex loop see it: writes have a deadline, and a client that is gone
//! is noticed although it may also only have shut its sending side.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
}

impl ClientIo {
    /// Takes a socket.
    pub fn new(stream: TcpStream, write_timeout: Duration) -> (ClientIo, Watch) {
        let (stream, half_closed) = (Arc::new(stream), Arc::new(AtomicBool::new(false)));
        let watch = Watch { stream: stream.clone(), half_closed: half_closed.clone() };
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
    /// Resolves when the connection was reset: the client is gone for good. Cancel safe.
    pub async fn reset(&self) {
        let _ = self.stream.ready(Interest::ERROR).await;
    }

    /// Whether the client has shut its sending side, or is gone; only writing to it can tell.
    pub fn half_closed(&self) -> &Arc<AtomicBool> {
        &self.half_closed
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
        Poll::Ready(socket2::SockRef::from(&*self.stream).shutdown(std::net::Shutdown::Write).or_else(|error| {
            if error.kind() == io::ErrorKind::NotConnected { Ok(()) } else { Err(error) }
        }))
    }
}
