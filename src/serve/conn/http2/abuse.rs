//! What the streams of a connection share: how it is doing, and whether it is to be let go.

use crate::serve::net::stream::ClientIo;
use atomic_waker::AtomicWaker;
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tracing::debug;

/// Bytes that a connection may send without asking for anything: PING, SETTINGS, WINDOW_UPDATE, PRIORITY, empty DATA.
/// nginx counts in the same way. Pongs and the like of a connection that is only kept come from what a second gives.
const USELESS: Budget = Budget::of(256e3, 2e3);

/// Requests that the client takes back in no time. A page that is left takes back all it has under way, once.
const TAKEN_BACK: Budget = Budget::of(100.0, 10.0);

/// A request that was taken back so soon was never wanted. (Streams of an hour end by a reset, too.)
const NO_TIME: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

/// What is counted of all connections.
#[derive(Default)]
pub struct Metrics {
    let_go: Family<Reason, Counter>,
    streams: Family<Kind, Counter>,
}

impl Metrics {
    /// Registered.
    pub fn new(registry: &mut Registry) -> Arc<Metrics> {
        let metrics = Metrics::default();
        registry.register(
            "http2_let_go",
            "Connections of HTTP/2 that were ended for what their clients did, by reason",
            metrics.let_go.clone(),
        );
        registry.register("http2_streams", "Streams of HTTP/2 that were opened, by what for", metrics.streams.clone());
        Arc::new(metrics)
    }
}

/// What may be spent, and comes back with time.
#[derive(Clone, Copy, Debug)]
struct Budget {
    left: f64,
    most: f64,
    a_second: f64,
    at: Option<Instant>,
}

impl Budget {
    const fn of(most: f64, a_second: f64) -> Budget {
        Budget { left: most, most, a_second, at: None }
    }

    /// Whether there was so much left.
    fn spend(&mut self, amount: f64, now: Instant) -> bool {
        let passed = self.at.replace(now).map_or(0.0, |at| now.duration_since(at).as_secs_f64());
        self.left = (self.left + passed * self.a_second).min(self.most) - amount;
        self.left >= 0.0
    }
}

struct State {
    streams: usize,
    /// Since when there is no stream.
    idle_since: Option<Instant>,
    /// When the client said something last, of whatever kind.
    heard: Instant,
    /// When it took something last.
    took: Instant,
    useless: Budget,
    taken_back: Budget,
    let_go: bool,
}

/// Shared by a connection and its streams.
#[derive(Clone)]
pub struct Share(Arc<(Mutex<State>, AtomicWaker, Arc<Metrics>)>);

impl Share {
    /// Of a new connection.
    pub fn new(metrics: Arc<Metrics>) -> Share {
        let now = Instant::now();
        let state = State {
            streams: 0,
            idle_since: Some(now),
            heard: now,
            took: now,
            useless: USELESS,
            taken_back: TAKEN_BACK,
            let_go: false,
        };
        Share(Arc::new((Mutex::new(state), AtomicWaker::new(), metrics)))
    }

    fn state(&self) -> parking_lot::MutexGuard<'_, State> {
        self.0.0.lock()
    }

    fn let_go(&self, state: &mut State, reason: &'static str) {
        if !std::mem::replace(&mut state.let_go, true) {
            debug!(reason, "a connection of HTTP/2 is let go");
            self.0.2.let_go.get_or_create(&Reason { reason }).inc();
            self.0.1.wake();
        }
    }

    /// Ready when the connection is to be ended.
    pub fn poll_let_go(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.1.register(cx.waker());
        if self.state().let_go { Poll::Ready(()) } else { Poll::Pending }
    }

    /// When the client said something last.
    pub fn heard(&self) -> Instant {
        self.state().heard
    }

    /// Since when the client has asked for nothing.
    pub fn idle_since(&self) -> Option<Instant> {
        self.state().idle_since
    }

    /// So many bytes came.
    fn read(&self, bytes: usize) {
        let mut state = self.state();
        state.heard = Instant::now();
        let now = state.heard;
        if !state.useless.spend(bytes as f64, now) {
            self.let_go(&mut state, "flood");
        }
    }

    /// So many bytes of what came, and their frame, were of use. As many again may be of none.
    pub fn was_of_use(&self, bytes: usize) {
        self.state().useless.left += 2.0 * bytes as f64 + 16.0;
    }

    /// So many bytes went out: a client acknowledges them by as much as two frames for each small one.
    fn wrote(&self, bytes: usize) {
        self.state().useless.left += bytes as f64 / 2.0;
    }

    /// A stream was opened, for a request or a WebSocket.
    pub fn opened(&self, kind: &'static str) -> Guard {
        self.0.2.streams.get_or_create(&Kind { kind }).inc();
        let mut state = self.state();
        state.streams += 1;
        state.idle_since = None;
        Guard { share: self.clone(), opened: Instant::now(), is_whole: false }
    }

    /// A stream's client took something.
    pub fn took(&self) {
        self.state().took = Instant::now();
    }

    /// A stream's client has taken nothing since then, for as long as it may. Where the others stand still as well, it is the
    /// connection that is held.
    pub fn stalled(&self, since: Instant) {
        let mut state = self.state();
        if state.took <= since {
            self.let_go(&mut state, "stalled");
        }
    }
}

/// Counts a stream for as long as it lives.
pub struct Guard {
    share: Share,
    opened: Instant,
    is_whole: bool,
}

impl Guard {
    /// Its answer has been given to the end.
    pub fn ended(&mut self) {
        self.is_whole = true;
    }

    /// What the connection shares.
    pub fn share(&self) -> &Share {
        &self.share
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut state = self.share.state();
        state.streams -= 1;
        if state.streams == 0 {
            state.idle_since = Some(now);
        }
        if !self.is_whole && now < self.opened + NO_TIME && !state.taken_back.spend(1.0, now) {
            self.share.let_go(&mut state, "rapid_reset");
        }
    }
}

/// A connection whose bytes are counted.
pub struct Metered {
    io: ClientIo,
    share: Share,
}

impl Metered {
    /// Counts them there.
    pub fn new(io: ClientIo, share: Share) -> Metered {
        Metered { io, share }
    }
}

impl AsyncRead for Metered {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        self.share.read(buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, buf))?;
        self.share.wrote(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, bufs))?;
        self.share.wrote(written);
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
    fn a_budget_comes_back_with_time_and_not_beyond() {
        let begun = Instant::now();
        let mut budget = Budget::of(10.0, 2.0);
        assert!(budget.spend(10.0, begun));
        assert!(!budget.spend(1.0, begun));
        assert!(budget.spend(1.0, begun + Duration::from_secs(1)));
        assert!(budget.spend(10.0, begun + Duration::from_secs(3600)));
        assert!(!budget.spend(0.1, begun + Duration::from_secs(3600)));
    }

    #[test]
    fn only_what_is_taken_back_at_once_is_held_against_a_client() {
        let share = Share::new(Arc::default());
        for _ in 0..1000 {
            share.opened("request").ended();
            let mut guard = share.opened("request");
            guard.opened -= NO_TIME;
        }
        assert!(!share.state().let_go);
        for _ in 0..100 {
            drop(share.opened("request"));
        }
        assert!(!share.state().let_go);
        (0..10).for_each(|_| drop(share.opened("request")));
        assert!(share.state().let_go);
    }

    #[test]
    fn one_stream_that_stands_still_is_not_the_whole_connection() {
        let share = Share::new(Arc::default());
        let since = Instant::now();
        share.took();
        share.stalled(since);
        assert!(!share.state().let_go);
        share.stalled(Instant::now() + Duration::from_secs(1));
        assert!(share.state().let_go);
    }
}
