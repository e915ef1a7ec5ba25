//! A client's socket: writes have a deadline, reads cost nothing while there is nothing to read, and a
//! client that is gone is told apart from one that has only shut its sending side.

use super::cork::{Cork, Patience};
use bytes::{Buf, Bytes};
use socket2::SockRef;
use std::future::{Future, poll_fn};
use std::io::{self, Read as _};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::TcpStream;

/// Bytes read at a time by [`ClientIo::poll_input`]. They lie on the stack, so that an idle connection
/// holds no read buffer.
const READ: usize = 8 << 10;

/// How long a client that was told why has to take it before the socket is closed.
const LINGER: Duration = Duration::from_secs(2);

/// A client's socket.
pub struct ClientIo {
    stream: Arc<TcpStream>,
    /// Bytes that somebody read too many; they are read first.
    unread: Bytes,
    /// A write that waits for the client; without one a parked connection has no timer of its own here.
    patience: Patience,
    /// Whether a write waits, for who cannot ask this while hyper has the socket.
    blocked: Arc<AtomicBool>,
    /// Gathers what hyper writes, while it has the socket.
    cork: Option<Cork>,
    reset: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl ClientIo {
    /// Takes a socket.
    pub fn new(stream: TcpStream, write_timeout: Duration) -> ClientIo {
        ClientIo {
            stream: Arc::new(stream),
            unread: Bytes::new(),
            patience: Patience::new(write_timeout),
            blocked: Arc::default(),
            cork: None,
            reset: None,
        }
    }

    /// The socket itself, where bytes go to it as they are.
    pub fn plain(&self) -> Option<Arc<TcpStream>> {
        Some(self.stream.clone())
    }

    /// Writes what the socket takes at once, and says how much that was.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        match self.stream.try_write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            written => written,
        }
    }

    /// Gives bytes back that were read too many.
    pub fn unread(&mut self, bytes: Bytes) {
        debug_assert!(self.unread.is_empty());
        // No bytes may still hold a whole buffer of hyper's.
        self.unread = if bytes.is_empty() { Bytes::new() } else { bytes };
    }

    /// Whether a write waits for the client.
    pub fn blocked(&self) -> Arc<AtomicBool> {
        self.blocked.clone()
    }

    /// Reads what there is into `input`; 0: the client will send no more.
    pub fn poll_input(&mut self, cx: &mut Context<'_>, input: &mut impl Extend<u8>) -> Poll<io::Result<usize>> {
        let mut bytes = [MaybeUninit::uninit(); READ];
        let mut buf = ReadBuf::uninit(&mut bytes);
        ready!(Pin::new(self).poll_read(cx, &mut buf))?;
        input.extend(buf.filled().iter().copied());
        Poll::Ready(Ok(buf.filled().len()))
    }

    /// Resolves when the connection was reset. A client that has shut its sending side may still
    /// listen or be gone; only a write can tell, and this is what it is told.
    pub fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.reset.is_none() {
            self.reset = Some(self.reset());
        }
        self.reset.as_mut().map_or(Poll::Pending, |reset| reset.as_mut().poll(cx))
    }

    /// The same, for who watches while hyper has the socket.
    pub fn reset(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let stream = self.stream.clone();
        Box::pin(async move {
            let _ = stream.ready(Interest::ERROR).await;
        })
    }

    /// Shuts our side and reads what is still under way for a moment: a socket that is closed with
    /// unread bytes is reset, and the client may lose what it was told last.
    pub async fn linger(&mut self) {
        let _ = self.shutdown().await;
        let _ = tokio::time::timeout(LINGER, async {
            let mut nothing = Nowhere;
            while poll_fn(|cx| self.poll_input(cx, &mut nothing)).await.is_ok_and(|n| n > 0) {}
        })
        .await;
    }

    /// Bounds how long a client may take nothing: any byte it takes begins the time anew.
    fn in_time<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let was_tried = self.patience.is_tried();
        let written = self.patience.bound(cx, written);
        if was_tried != self.patience.is_tried() {
            self.blocked.store(!was_tried, Ordering::Relaxed);
        }
        written
    }

    /// Gathers what is written from here on until [`uncork`](ClientIo::uncork); who holds the answer has to flush it.
    pub fn cork(&mut self) -> Option<Cork> {
        self.cork = self.plain().map(Cork::new);
        self.cork.clone()
    }

    /// Writes what was gathered, and gathers no more.
    pub async fn uncork(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_uncorked(cx)).await?;
        self.cork = None;
        Ok(())
    }

    fn poll_uncorked(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(cork) = &self.cork else { return Poll::Ready(Ok(())) };
        let flushed = cork.poll_flush(cx);
        self.in_time(cx, flushed)
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

/// Takes bytes that nobody wants.
struct Nowhere;

impl Extend<u8> for Nowhere {
    fn extend<T: IntoIterator<Item = u8>>(&mut self, _bytes: T) {}
}

impl AsyncRead for ClientIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.unread.is_empty() {
            let n = self.unread.len().min(buf.remaining());
            buf.put_slice(&self.unread[..n]);
            self.unread.advance(n);
            if self.unread.is_empty() {
                self.unread = Bytes::new();
            }
            return Poll::Ready(Ok(()));
        }
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            let mut taken = 0;
            let read = self.stream.try_io(Interest::READABLE, || {
                let room = buf.initialize_unfilled();
                taken = (&*SockRef::from(&*self.stream)).read(room)?;
                // Less than there is room for: the socket is drained, and to ask it again would be one system call
                // in vain a request. The end (0) is not asked for twice in any case.
                if (1..room.len()).contains(&taken) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && taken == 0 => {}
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Poll::Ready(Err(error)),
                _ => {
                    buf.advance(taken);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.cork.as_ref().is_some_and(|cork| cork.gather(&[io::IoSlice::new(buf)])) {
            return Poll::Ready(Ok(buf.len()));
        }
        ready!(self.poll_uncorked(cx))?;
        self.poll_write_with(cx, |stream| stream.try_write(buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.cork.as_ref().is_some_and(|cork| cork.gather(bufs)) {
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        ready!(self.poll_uncorked(cx))?;
        self.poll_write_with(cx, |stream| stream.try_write_vectored(bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_uncorked(cx))?;
        Poll::Ready(
            SockRef::from(&*self.stream)
                .shutdown(std::net::Shutdown::Write)
                .or_else(|error| if error.kind() == io::ErrorKind::NotConnected { Ok(()) } else { Err(error) }),
        )
    }
}
