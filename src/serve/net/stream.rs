//! A client's byte stream: TCP, or a layer on top of TCP (TLS or an HTTP/2 stream). Sessions do not have to know which
//! of these it is.
//!
//! Writes have a deadline. A stream that waits for input does not hold a buffer. The stream distinguishes a client that
//! has vanished from a client that has only shut its sending side.

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

/// The maximum number of bytes in one read by [`ClientStream::poll_input`]. The buffer is on the stack, so that an idle
/// connection does not hold one.
const READ: usize = 8 << 10;

/// The time that a client has to read the last bytes before the socket is closed.
const LINGER: Duration = Duration::from_secs(2);

/// A layer between a client's bytes and its TCP connection.
///
/// When a write is ready, its bytes have left the layer. The bytes do not wait in the layer for another write or a
/// flush.
pub trait Layer: AsyncRead + AsyncWrite + Send + Unpin {
    /// Ready when the client has reset the layer; `None` if only the TCP connection shows this.
    fn poll_reset(&mut self, _cx: &mut Context<'_>) -> Option<Poll<()>> {
        None
    }

    /// Tells the layer that a write has timed out.
    fn timed_out(&mut self) {}

    /// Whether the last bytes may be lost unless the server waits for the client to close its side.
    fn lingers(&self) -> bool {
        true
    }
}

/// A client's byte stream.
pub struct ClientStream {
    socket: Socket,
    layer: Option<Box<dyn Layer>>,
    /// The state of a busy connection; `None` for a parked connection.
    busy: Option<Box<Busy>>,
    write_timeout: u32,
}

/// The state of a busy connection.
#[derive(Default)]
struct Busy {
    /// Bytes that were read and given back. The next read returns them.
    unread: Bytes,
    /// The deadline of a write that waits for the client. A connection without such a write does not have a timer here.
    deadline: Option<WriteDeadline>,
    /// Whether a write waits for the client. The flag is shared with the task that drives hyper, because hyper owns
    /// this stream during that time.
    blocked: Option<Arc<AtomicBool>>,
}

impl Busy {
    fn is_empty(&self) -> bool {
        self.unread.is_empty() && self.deadline.is_none() && self.blocked.is_none()
    }
}

impl ClientStream {
    /// The stream of a socket, or of a layer on top of it.
    pub fn new(socket: Socket, layer: Option<Box<dyn Layer>>, write_timeout: Duration) -> ClientStream {
        let write_timeout = u32::try_from(write_timeout.as_millis()).unwrap_or(u32::MAX);
        ClientStream { socket, layer, busy: None, write_timeout }
    }

    fn busy(&mut self) -> &mut Busy {
        self.busy.get_or_insert_default()
    }

    /// Frees the state of a busy connection if the state is empty.
    fn settle(&mut self) {
        if self.busy.as_ref().is_some_and(|busy| busy.is_empty()) {
            self.busy = None;
        }
    }

    /// Returns the TCP connection below the layers.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Returns the socket if no layer (such as TLS) wraps it, so that the caller can write bytes to it directly.
    pub fn plain(&self) -> Option<Socket> {
        self.layer.is_none().then(|| self.socket.clone())
    }

    /// Writes as many bytes as the socket accepts at once, and returns their number. If there is a layer, it does not
    /// write and returns 0.
    ///
    /// # Errors
    ///
    /// The system's error.
    pub fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        if self.layer.is_some() {
            return Ok(0);
        }
        match self.socket.write_now(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            written => written,
        }
    }

    /// Gives back bytes that were read too early. The next read returns them first, before bytes that were given back
    /// earlier.
    pub fn unread(&mut self, bytes: Bytes) {
        // Empty bytes may still hold one of hyper's buffers.
        if bytes.is_empty() {
            return;
        }
        let unread = &mut self.busy().unread;
        *unread = if unread.is_empty() { bytes } else { [&bytes[..], &unread[..]].concat().into() };
    }

    /// Returns a flag that is set while a write waits for the client.
    pub fn blocked(&mut self) -> Arc<AtomicBool> {
        self.busy().blocked.get_or_insert_default().clone()
    }

    /// Reads available bytes into `input`. 0 means that the client will not send more.
    pub fn poll_input(&mut self, cx: &mut Context<'_>, input: &mut impl Input) -> Poll<io::Result<usize>> {
        let mut bytes = [MaybeUninit::uninit(); READ];
        let mut buf = ReadBuf::uninit(&mut bytes);
        ready!(Pin::new(self).poll_read(cx, &mut buf))?;
        input.take(buf.filled());
        Poll::Ready(Ok(buf.filled().len()))
    }

    /// Reads available bytes. Returns whether there is input.
    pub async fn has_input(&mut self, input: &mut Unread) -> bool {
        if input.is_empty() {
            poll_fn(|cx| {
                // The next read reports the end, or an error.
                let _ = self.poll_input(cx, input);
                Poll::Ready(())
            })
            .await;
        }
        !input.is_empty()
    }

    /// Ready when the connection was reset. A client that has shut its sending side may still read, or may have
    /// vanished. Only a write can show which is true. If a write makes the client reset the connection, this function
    /// reports it.
    pub fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(reset) = self.layer.as_mut().and_then(|layer| layer.poll_reset(cx)) {
            return reset;
        }
        self.socket.poll_reset(cx)
    }

    /// Shuts the sending side, and for a short time reads bytes that are still under way. A socket that is closed with
    /// unread bytes is reset, and the client could then lose the last bytes of the response.
    pub async fn linger(&mut self) {
        self.linger_for(LINGER).await;
    }

    /// Works like [`linger`](ClientStream::linger), in a separate task. `counted` is dropped when the connection ends.
    ///
    /// The memory of the caller's task is freed. Otherwise, clients that do not close their connections after a refusal
    /// could hold that memory outside the budget.
    pub fn spawn_linger(mut self, counted: impl Send + 'static) {
        tokio::spawn(async move {
            let _counted = counted;
            self.linger().await;
        });
    }

    /// Works like [`linger`](ClientStream::linger), but takes at most `time`.
    pub async fn linger_for(&mut self, time: Duration) {
        let lingers = self.layer.as_ref().is_none_or(|layer| layer.lingers());
        let _ = tokio::time::timeout(time, async {
            let _ = self.shutdown().await;
            let mut nowhere = Discard;
            while lingers && poll_fn(|cx| self.poll_input(cx, &mut nowhere)).await.is_ok_and(|n| n > 0) {}
        })
        .await;
    }

    /// Applies the write timeout. Any byte that the client accepts restarts it.
    fn in_time<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let was_blocked = self.busy.as_ref().is_some_and(|busy| busy.deadline.is_some());
        if written.is_ready() && !was_blocked {
            return written;
        }
        let write_timeout = Duration::from_millis(u64::from(self.write_timeout));
        let busy = self.busy();
        if written.is_ready() {
            busy.deadline = None;
        }
        if let Some(blocked) = busy.blocked.as_ref().filter(|_| was_blocked == written.is_ready()) {
            blocked.store(!was_blocked, Ordering::Relaxed);
        }
        if written.is_ready() {
            self.settle();
            return written;
        }
        let deadline = busy.deadline.get_or_insert_with(|| WriteDeadline::new(write_timeout));
        let written = deadline.bound(cx, written);
        if let (true, Some(layer)) = (written.is_ready(), &mut self.layer) {
            layer.timed_out();
        }
        written
    }

    /// Drops the flag of [`blocked`](ClientStream::blocked). From now on, only the task that owns this stream writes to
    /// it.
    pub fn drop_blocked(&mut self) {
        if let Some(busy) = &mut self.busy {
            busy.blocked = None;
        }
        self.settle();
    }
}

/// A buffer for input.
pub trait Input {
    /// Takes the next bytes.
    fn take(&mut self, bytes: &[u8]);
}

/// Input that was not handled yet. It takes one word while it is empty.
#[derive(Default)]
pub struct Unread(Option<Box<BytesMut>>);

impl Unread {
    /// The input as a buffer. Call [`settle`](Unread::settle) after taking bytes from it.
    pub fn buffer(&mut self) -> &mut BytesMut {
        self.0.get_or_insert_default()
    }

    /// Frees the buffer if it is empty.
    pub fn settle(&mut self) {
        if self.is_empty() {
            self.0 = None;
        }
    }

    /// Takes all input.
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

/// Discards bytes.
struct Discard;

impl Input for Discard {
    fn take(&mut self, _bytes: &[u8]) {}
}

impl AsyncRead for ClientStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(unread) = self.busy.as_mut().map(|busy| &mut busy.unread).filter(|unread| !unread.is_empty()) {
            let n = unread.len().min(buf.remaining());
            buf.put_slice(&unread[..n]);
            unread.advance(n);
            if unread.is_empty() {
                // Empty bytes still hold the buffer that they are a part of.
                *unread = Bytes::new();
            }
            self.settle();
            return Poll::Ready(Ok(()));
        }
        match &mut self.layer {
            Some(layer) => Pin::new(layer).poll_read(cx, buf),
            None => Pin::new(&mut self.socket).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
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
        match &mut self.layer {
            Some(layer) => Pin::new(layer).poll_shutdown(cx),
            None => Pin::new(&mut self.socket).poll_shutdown(cx),
        }
    }
}
