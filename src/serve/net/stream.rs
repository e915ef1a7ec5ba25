//! A client's connection: writes have a deadline, reads cost nothing while there is nothing to read, and a
//! client that is gone is told apart from one that has only shut its sending side.
//!
//! It is a TCP connection, or what lies over one: TLS, or a stream of HTTP/2. Who writes to it need not
//! know.

use super::cork::Cork;
use super::deadline::WriteDeadline;
use super::socket::Socket;
use bytes::{Buf, Bytes, BytesMut};
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

/// Bytes read at a time by [`ClientIo::poll_input`]. They lie on the stack, so that an idle connection
/// holds no read buffer.
const READ: usize = 8 << 10;

/// How long a client that was told why has to take it before the socket is closed.
const LINGER: Duration = Duration::from_secs(2);

/// What lies between a client's bytes and its TCP connection.
///
/// A write that is ready has left the layer: nothing waits in it for another write or a flush.
pub trait Layer: AsyncRead + AsyncWrite + Send + Unpin {
    /// Ready when the client has ended it; `None` where only the TCP connection can tell.
    fn poll_reset(&mut self, _cx: &mut Context<'_>) -> Option<Poll<()>> {
        None
    }

    /// The client has taken nothing for as long as it may.
    fn timed_out(&mut self) {}

    /// Whether what the client was told last may be lost if the end is not waited for.
    fn lingers(&self) -> bool {
        true
    }
}

/// A client's connection.
pub struct ClientIo {
    socket: Socket,
    layer: Option<Box<dyn Layer>>,
    /// What a connection has that is busy. A parked one has none of it.
    busy: Option<Box<Busy>>,
    write_timeout: u32,
}

/// What a busy connection has.
#[derive(Default)]
struct Busy {
    /// Bytes that somebody read too many; they are read first.
    unread: Bytes,
    /// A write that waits for the client; without one a parked connection has no timer of its own here.
    patience: Option<WriteDeadline>,
    /// Whether a write waits, for who cannot ask this while hyper has the socket.
    blocked: Option<Arc<AtomicBool>>,
    /// Gathers what hyper writes, while it has the socket.
    cork: Option<Cork>,
}

impl Busy {
    fn is_over(&self) -> bool {
        self.unread.is_empty() && self.patience.is_none() && self.blocked.is_none() && self.cork.is_none()
    }
}

impl ClientIo {
    /// A socket, or what lies over it.
    pub fn new(socket: Socket, layer: Option<Box<dyn Layer>>, write_timeout: Duration) -> ClientIo {
        let write_timeout = u32::try_from(write_timeout.as_millis()).unwrap_or(u32::MAX);
        ClientIo { socket, layer, busy: None, write_timeout }
    }

    fn busy(&mut self) -> &mut Busy {
        self.busy.get_or_insert_default()
    }

    /// Gives back what is needed no longer.
    fn settle(&mut self) {
        if self.busy.as_ref().is_some_and(|busy| busy.is_over()) {
            self.busy = None;
        }
    }

    /// The TCP connection beneath.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// The socket itself, where bytes go to it as they are.
    pub fn plain(&self) -> Option<Socket> {
        self.layer.is_none().then(|| self.socket.clone())
    }

    /// Writes what the socket takes at once, and says how much that was. Nothing, through a layer.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        if self.layer.is_some() {
            return Ok(0);
        }
        match self.socket.write_now(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            written => written,
        }
    }

    /// Gives bytes back that were read too many. They came before those that were given back and are there still.
    pub fn unread(&mut self, bytes: Bytes) {
        // No bytes may still hold a whole buffer of hyper's.
        if bytes.is_empty() {
            return;
        }
        let unread = &mut self.busy().unread;
        *unread = if unread.is_empty() { bytes } else { [&bytes[..], &unread[..]].concat().into() };
    }

    /// Whether a write waits for the client.
    pub fn blocked(&mut self) -> Arc<AtomicBool> {
        self.busy().blocked.get_or_insert_default().clone()
    }

    /// Reads what there is into `input`; 0: the client will send no more.
    pub fn poll_input(&mut self, cx: &mut Context<'_>, input: &mut impl Input) -> Poll<io::Result<usize>> {
        let mut bytes = [MaybeUninit::uninit(); READ];
        let mut buf = ReadBuf::uninit(&mut bytes);
        ready!(Pin::new(self).poll_read(cx, &mut buf))?;
        input.take(buf.filled());
        Poll::Ready(Ok(buf.filled().len()))
    }

    /// Whether there is input now; reads what there is.
    pub async fn has_input(&mut self, input: &mut Unread) -> bool {
        if input.is_empty() {
            poll_fn(|cx| {
                // The end, or an error, is for who reads on.
                let _ = self.poll_input(cx, input);
                Poll::Ready(())
            })
            .await;
        }
        !input.is_empty()
    }

    /// Resolves when the connection was reset. A client that has shut its sending side may still
    /// listen or be gone; only a write can tell, and this is what it is told.
    pub fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(reset) = self.layer.as_mut().and_then(|layer| layer.poll_reset(cx)) {
            return reset;
        }
        self.socket.poll_reset(cx)
    }

    /// Shuts our side and reads what is still under way for a moment: a socket that is closed with
    /// unread bytes is reset, and the client may lose what it was told last.
    pub async fn linger(&mut self) {
        self.linger_for(LINGER).await;
    }

    /// The same, for as long as this.
    pub async fn linger_for(&mut self, time: Duration) {
        let lingers = self.layer.as_ref().is_none_or(|layer| layer.lingers());
        let _ = tokio::time::timeout(time, async {
            let _ = self.shutdown().await;
            let mut nothing = Nowhere;
            while lingers && poll_fn(|cx| self.poll_input(cx, &mut nothing)).await.is_ok_and(|n| n > 0) {}
        })
        .await;
    }

    /// Bounds how long a client may take nothing: any byte it takes begins the time anew.
    fn in_time<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let was_blocked = self.busy.as_ref().is_some_and(|busy| busy.patience.is_some());
        if written.is_ready() && !was_blocked {
            return written;
        }
        let write_timeout = Duration::from_millis(u64::from(self.write_timeout));
        let busy = self.busy();
        if written.is_ready() {
            busy.patience = None;
        }
        if let Some(blocked) = busy.blocked.as_ref().filter(|_| was_blocked == written.is_ready()) {
            blocked.store(!was_blocked, Ordering::Relaxed);
        }
        if written.is_ready() {
            self.settle();
            return written;
        }
        let patience = busy.patience.get_or_insert_with(|| WriteDeadline::new(write_timeout));
        let written = patience.bound(cx, written);
        if let (true, Some(layer)) = (written.is_ready(), &mut self.layer) {
            layer.timed_out();
        }
        written
    }

    /// Gathers what is written from here on until [`uncork`](ClientIo::uncork); who holds the answer has to flush it.
    pub fn cork(&mut self) -> Option<Cork> {
        let cork = self.plain().map(Cork::new);
        self.busy().cork = cork.clone();
        cork
    }

    /// Writes what was gathered, and gathers no more: nobody else has the socket from here on.
    pub async fn uncork(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_uncorked(cx)).await?;
        if let Some(busy) = &mut self.busy {
            (busy.cork, busy.blocked) = (None, None);
        }
        self.settle();
        Ok(())
    }

    /// Takes bytes in that are to be written with others.
    fn gather(&self, parts: &[io::IoSlice<'_>]) -> bool {
        self.busy.as_ref().and_then(|busy| busy.cork.as_ref()).is_some_and(|cork| cork.gather(parts))
    }

    fn poll_uncorked(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(cork) = self.busy.as_ref().and_then(|busy| busy.cork.as_ref()) else { return Poll::Ready(Ok(())) };
        let flushed = cork.poll_flush(cx);
        self.in_time(cx, flushed)
    }
}

/// Where bytes go that were read.
pub trait Input {
    /// These are the next.
    fn take(&mut self, bytes: &[u8]);
}

/// What a client has sent and nobody has looked at: one word as long as there is nothing.
#[derive(Default)]
pub struct Unread(Option<Box<BytesMut>>);

impl Unread {
    /// As a buffer, from which things may be taken; [`settle`](Unread::settle) behind that.
    pub fn buffer(&mut self) -> &mut BytesMut {
        self.0.get_or_insert_default()
    }

    /// Gives back what is needed no longer.
    pub fn settle(&mut self) {
        if self.is_empty() {
            self.0 = None;
        }
    }

    /// All of it.
    pub fn take(&mut self) -> BytesMut {
        self.0.take().map(|bytes| *bytes).unwrap_or_default()
    }
}

impl From<BytesMut> for Unread {
    fn from(bytes: BytesMut) -> Unread {
        Unread((!bytes.is_empty()).then(|| Box::new(bytes)))
    }
}

impl Deref for Unread {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |bytes| bytes)
    }
}

impl Input for Unread {
    fn take(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.buffer().extend_from_slice(bytes);
        }
    }
}

impl Input for BytesMut {
    fn take(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Takes bytes that nobody wants.
struct Nowhere;

impl Input for Nowhere {
    fn take(&mut self, _bytes: &[u8]) {}
}

impl AsyncRead for ClientIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(unread) = self.busy.as_mut().map(|busy| &mut busy.unread).filter(|unread| !unread.is_empty()) {
            let n = unread.len().min(buf.remaining());
            buf.put_slice(&unread[..n]);
            unread.advance(n);
            self.settle();
            return Poll::Ready(Ok(()));
        }
        match &mut self.layer {
            Some(layer) => Pin::new(layer).poll_read(cx, buf),
            None => Pin::new(&mut self.socket).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.gather(&[io::IoSlice::new(buf)]) {
            return Poll::Ready(Ok(buf.len()));
        }
        ready!(self.poll_uncorked(cx))?;
        let written = match &mut self.layer {
            Some(layer) => Pin::new(layer).poll_write(cx, buf),
            None => Pin::new(&mut self.socket).poll_write(cx, buf),
        };
        self.in_time(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.gather(bufs) {
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        ready!(self.poll_uncorked(cx))?;
        let written = match &mut self.layer {
            Some(layer) => Pin::new(layer).poll_write_vectored(cx, bufs),
            None => Pin::new(&mut self.socket).poll_write_vectored(cx, bufs),
        };
        self.in_time(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.layer.is_none()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(layer) = &mut self.layer else { return Poll::Ready(Ok(())) };
        let flushed = Pin::new(layer).poll_flush(cx);
        self.in_time(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_uncorked(cx))?;
        match &mut self.layer {
            Some(layer) => Pin::new(layer).poll_shutdown(cx),
            None => Pin::new(&mut self.socket).poll_shutdown(cx),
        }
    }
}
