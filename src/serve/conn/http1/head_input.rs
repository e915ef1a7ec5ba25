//! A connection as hyper reads it: it counts the head that hyper holds while the rest of it does not come.
//!
//! hyper does not tell what it holds. It asks for more input when it needs more, so what it has read of a head by then is
//! in its buffer.

use crate::serve::limits::memory::{BufferBudget, Reservation};
use crate::serve::net::stream::ClientStream;
use crate::transport::ApiError;
use hyper::Request;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The least that hyper allocates to read into.
const LEAST_BUFFER: usize = 8 << 10;

/// More than a request line has besides its target. A head must not be taken for longer than the estimate of its length:
/// the rest would count for as long as the connection is idle.
const LINE: usize = 128;

/// What hyper has parsed on a connection.
#[derive(Default)]
pub struct Heads {
    /// Whether a request is being answered. Otherwise hyper waits for a head, or for the rest of one.
    is_answering: AtomicBool,
    parsed: AtomicUsize,
    /// The length of the last head, or a little more.
    length: AtomicUsize,
}

impl Heads {
    /// Whether a request is being answered.
    pub fn is_answering(&self) -> bool {
        self.is_answering.load(Ordering::Relaxed)
    }

    /// Marks a request as being answered for as long as the result lives.
    pub fn begin<B>(self: &Arc<Heads>, request: &Request<B>) -> Answering {
        let fields = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
        let uri = request.uri();
        let target = uri.path_and_query().map_or(0, |target| target.as_str().len());
        let line = target + uri.authority().map_or(0, |authority| authority.as_str().len()) + LINE;
        self.length.store(line + fields.sum::<usize>(), Ordering::Relaxed);
        self.parsed.fetch_add(1, Ordering::Relaxed);
        self.is_answering.store(true, Ordering::Relaxed);
        Answering(self.clone())
    }
}

/// Marks a request as being answered for as long as this lives.
pub struct Answering(Arc<Heads>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.is_answering.store(false, Ordering::Relaxed);
    }
}

/// A connection that counts heads.
pub struct HeadInput {
    io: ClientStream,
    heads: Arc<Heads>,
    /// How many heads were parsed at the last read.
    parsed: usize,
    last_read: usize,
    /// Bytes of an incomplete head.
    bytes: usize,
    held: Reservation,
    refusal: Option<ApiError>,
}

impl HeadInput {
    /// Counts the heads of a connection against a budget.
    pub fn new(io: ClientStream, heads: Arc<Heads>, budget: &Arc<BufferBudget>) -> HeadInput {
        HeadInput { io, heads, parsed: 0, last_read: 0, bytes: 0, held: budget.reservation(), refusal: None }
    }

    /// The connection, and why no more of a head could be held, if that was so.
    pub fn into_inner(self) -> (ClientStream, Option<ApiError>) {
        (self.io, self.refusal)
    }

    /// Notes which of the bytes belong to heads that are complete.
    fn look(&mut self) {
        let parsed = self.heads.parsed.load(Ordering::Relaxed);
        if self.heads.is_answering() {
            // These bytes are of a body. A handler that holds it counts it.
            self.bytes = 0;
        } else if parsed != self.parsed {
            // A client may have sent the beginning of the next head together with the end of the last one.
            self.bytes = self.last_read.saturating_sub(self.heads.length.load(Ordering::Relaxed));
        }
        self.parsed = parsed;
    }
}

impl AsyncRead for HeadInput {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.look();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.io).poll_read(cx, buf);
        if read.is_pending() {
            let buffer = if this.bytes > 0 { this.bytes.next_power_of_two().max(LEAST_BUFFER) } else { 0 };
            if let Err(refusal) = this.held.resize(buffer) {
                this.refusal = Some(refusal);
                return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()));
            }
        }
        ready!(read)?;
        this.last_read = buf.filled().len() - before;
        this.bytes += this.last_read;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for HeadInput {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
