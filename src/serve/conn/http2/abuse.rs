//! Protects the server from abuse of HTTP/2: the state that the streams of a connection share, and the rules for
//! closing the connection.

use super::frames::{FrameFollower, Seen};
use super::limits::{STREAMS, WINDOW};
use crate::serve::http::head::MAX_HEAD;
use crate::serve::limits::memory::{BufferBudget, Reservation};
use crate::serve::limits::token_bucket::{Refill, TokenBucket};
use crate::serve::metrics::http2::Http2Metrics;
use crate::serve::net::stream::ClientStream;
use atomic_waker::AtomicWaker;
use h2::Reason;
use parking_lot::Mutex;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tracing::debug;

/// How many bytes of control frames and heads of frames a connection may send without a request: PING, SETTINGS,
/// WINDOW_UPDATE, PRIORITY, empty DATA. nginx counts the same bytes. The refill is enough for the pongs of an idle
/// connection.
const USELESS: Refill = Refill { capacity: 256e3, per_second: 2e3 };

/// The maximum number of bytes of bodies and heads that a connection may send before the server has read them or has
/// seen the request. The number is the limit that the server has announced: a window and the largest head for each
/// stream. Streams that were reset do not have a window, so only this limit bounds their bytes.
const CONTENT: Refill = Refill { capacity: STREAMS as f64 * (WINDOW as f64 + MAX_HEAD as f64), per_second: 2e3 };

/// The control bytes that a request adds to the allowance.
const REQUEST_CREDIT: f64 = 512.0;

/// The maximum number of requests that the client may reset soon after it has sent them. When a page is closed, the
/// browser resets all its requests at the same time.
const RESETS: Refill = Refill { capacity: 100.0, per_second: 10.0 };

/// If a client resets a request within this time, the server assumes that the client never wanted the response. A later
/// reset does not count: a stream that has lasted an hour also ends by a reset.
const RAPID: Duration = Duration::from_secs(1);

/// The reason for closing a connection on which a request violates the protocol. All other reasons concern the cost of
/// a connection.
const MALFORMED: &str = "malformed";

struct State {
    streams: usize,
    has_requested: bool,
    /// The time since which the connection has had no stream.
    idle_since: Option<Instant>,
    /// The time at which the client last sent bytes.
    last_read: Instant,
    /// The last time at which the client accepted bytes.
    last_write: Instant,
    useless: TokenBucket,
    content: TokenBucket,
    resets: TokenBucket,
    closing: Option<Reason>,
}

/// The state that a connection shares with its streams.
#[derive(Clone)]
pub struct ConnectionState(Arc<(Mutex<State>, AtomicWaker, Arc<Http2Metrics>)>);

impl ConnectionState {
    /// Makes the state of a new connection.
    pub fn new(metrics: Arc<Http2Metrics>) -> ConnectionState {
        let now = Instant::now();
        let state = State {
            streams: 0,
            has_requested: false,
            idle_since: Some(now),
            last_read: now,
            last_write: now,
            useless: TokenBucket::full(&USELESS, now),
            content: TokenBucket::full(&CONTENT, now),
            resets: TokenBucket::full(&RESETS, now),
            closing: None,
        };
        ConnectionState(Arc::new((Mutex::new(state), AtomicWaker::new(), metrics)))
    }

    fn state(&self) -> parking_lot::MutexGuard<'_, State> {
        self.0.0.lock()
    }

    fn close(&self, state: &mut State, reason: &'static str) {
        let code = if reason == MALFORMED { Reason::PROTOCOL_ERROR } else { Reason::ENHANCE_YOUR_CALM };
        if state.closing.is_none() {
            state.closing = Some(code);
            debug!(reason, "closing an HTTP/2 connection for abuse");
            self.0.2.closed(reason);
            self.0.1.wake();
        }
    }

    /// Ready with the error code when the connection must be closed.
    pub fn poll_close(&self, cx: &mut Context<'_>) -> Poll<Reason> {
        self.0.1.register(cx.waker());
        self.state().closing.map_or(Poll::Pending, Poll::Ready)
    }

    /// Whether a request of the connection is malformed.
    pub fn is_malformed(&self) -> bool {
        self.state().closing == Some(Reason::PROTOCOL_ERROR)
    }

    /// The time at which the client last sent bytes.
    pub fn last_read(&self) -> Instant {
        self.state().last_read
    }

    /// The time since which the client has had no request under way.
    pub fn idle_since(&self) -> Option<Instant> {
        self.state().idle_since
    }

    /// Whether the client has ever sent a request.
    pub fn has_requested(&self) -> bool {
        self.state().has_requested
    }

    /// Counts bytes that were read.
    fn read(&self, seen: &Seen) {
        let mut state = self.state();
        let now = Instant::now();
        state.last_read = now;
        let is_within = state.useless.spend(&USELESS, seen.control as f64, now)
            & state.content.spend(&CONTENT, seen.content as f64, now);
        if !is_within {
            self.close(&mut state, "flood");
        }
        if seen.has_pseudo_trailer {
            self.close(&mut state, MALFORMED);
        }
    }

    /// Credits bytes of a body that were read, and their frame. The client may then send the same number of control
    /// bytes.
    pub fn was_useful(&self, bytes: usize) {
        let mut state = self.state();
        state.content.add(bytes as f64);
        state.useless.add(bytes as f64 + 16.0);
    }

    /// Credits a request and its head. A body that no handler reads may still fill its window.
    pub fn requested(&self, head: usize) {
        let mut state = self.state();
        state.content.add(head as f64 + f64::from(WINDOW));
        state.useless.add(REQUEST_CREDIT);
    }

    /// Credits bytes that were written: the client may acknowledge each small frame with two frames of its own.
    fn wrote(&self, bytes: usize) {
        self.state().useless.add(bytes as f64 / 2.0);
    }

    /// Counts a stream for a request or a WebSocket.
    pub fn opened(&self, kind: &'static str) -> StreamGuard {
        self.0.2.stream_opened(kind);
        let mut state = self.state();
        state.streams += 1;
        state.has_requested = true;
        state.idle_since = None;
        StreamGuard { connection: self.clone(), opened: Instant::now(), is_complete: false }
    }

    /// Records that the client accepted bytes of a stream.
    pub fn accepted(&self) {
        self.state().last_write = Instant::now();
    }

    /// Records that a stream has made no progress since `since`, which is the longest time allowed. If the other
    /// streams made no progress either, the client blocks the whole connection.
    pub fn stalled(&self, since: Instant) {
        let mut state = self.state();
        if state.last_write <= since {
            self.close(&mut state, "stalled");
        }
    }
}

/// Counts a stream as long as this value exists.
pub struct StreamGuard {
    connection: ConnectionState,
    opened: Instant,
    is_complete: bool,
}

impl StreamGuard {
    /// Records that the response is complete, so that a later reset does not count as abuse.
    pub fn completed(&mut self) {
        self.is_complete = true;
    }

    /// The state of the connection to which the stream belongs.
    pub fn connection(&self) -> &ConnectionState {
        &self.connection
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut state = self.connection.state();
        state.streams -= 1;
        if state.streams == 0 {
            state.idle_since = Some(now);
        }
        if !self.is_complete && now < self.opened + RAPID && !state.resets.spend(&RESETS, 1.0, now) {
            self.connection.close(&mut state, "rapid_reset");
        }
    }
}

/// A TCP connection that counts its bytes, and the memory of incomplete frames.
pub struct Metered {
    io: ClientStream,
    frames: FrameFollower,
    state: ConnectionState,
    held: Reservation,
}

impl Metered {
    /// Counts the bytes of a connection in the connection's state, and counts the memory of incomplete frames against a
    /// budget.
    pub fn new(io: ClientStream, state: ConnectionState, budget: &Arc<BufferBudget>) -> Metered {
        Metered { io, frames: FrameFollower::new(), state, held: budget.reservation() }
    }

    /// Reserves the memory of incomplete frames when there are no more bytes to read now. Closes the connection if
    /// there is not enough memory.
    fn hold(&mut self) {
        if self.held.resize(self.frames.held()).is_err() {
            self.state.close(&mut self.state.state(), "memory");
        }
    }
}

impl AsyncRead for Metered {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if read.is_pending() {
            self.hold();
        }
        ready!(read)?;
        let seen = self.frames.follow(&buf.filled()[before..]);
        self.state.read(&seen);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, buf))?;
        self.state.wrote(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, bufs))?;
        self.state.wrote(written);
        Poll::Ready(Ok(written))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rapid_resets_close_a_connection() {
        let state = ConnectionState::new(Arc::default());
        for _ in 0..1000 {
            state.opened("request").completed();
            let mut guard = state.opened("request");
            guard.opened -= RAPID;
        }
        assert!(state.state().closing.is_none());
        for _ in 0..100 {
            drop(state.opened("request"));
        }
        assert!(state.state().closing.is_none());
        (0..10).for_each(|_| drop(state.opened("request")));
        assert!(state.state().closing.is_some());
    }

    #[test]
    fn content_within_the_announced_windows_is_no_flood() {
        let state = ConnectionState::new(Arc::default());
        let content = |content| state.read(&Seen { content, ..Seen::default() });
        // The client opens all streams at once, with the largest heads and with bodies that handlers do not read, again
        // and again.
        for _ in 0..100 {
            for _ in 0..STREAMS {
                content(WINDOW as usize + MAX_HEAD);
            }
            assert!(state.state().closing.is_none());
            (0..STREAMS).for_each(|_| state.requested(MAX_HEAD));
        }
        // Bodies that handlers read are allowed, however long they are.
        for _ in 0..1000 {
            content(WINDOW as usize);
            state.was_useful(WINDOW as usize);
        }
        assert!(state.state().closing.is_none());
        // Bytes that no handler reads soon exceed the windows of all streams, and the connection is closed.
        for _ in 0..2 * STREAMS {
            content(WINDOW as usize);
        }
        assert_eq!(state.state().closing, Some(Reason::ENHANCE_YOUR_CALM));
    }

    #[test]
    fn one_stalled_stream_does_not_close_the_connection() {
        let state = ConnectionState::new(Arc::default());
        let since = Instant::now();
        state.accepted();
        state.stalled(since);
        assert!(state.state().closing.is_none());
        state.stalled(Instant::now() + Duration::from_secs(1));
        assert!(state.state().closing.is_some());
    }
}
