//! The memory budget: data that clients have not read yet, and input from clients that is not complete or not handled
//! yet.
//!
//! A reader is a cursor and does not have a queue. But while its socket does not accept bytes, a reader holds one
//! batch: ten thousand clients that never read make the server hold ten thousand batches. So a write that *blocks* is
//! counted here until it ends. Beyond the limit, the server disconnects the readers that have been blocked for the
//! longest time. A write that does not block is not counted and costs nothing.

use crate::transport::{ApiError, Code};
use atomic_waker::AtomicWaker;
use bytes::Bytes;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::collections::{BTreeMap, HashMap};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::task::{Context, Poll};

/// Identifies a buffer by its address, so that a frame that many readers share is counted once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BufferId {
    address: usize,
    bytes: usize,
}

impl BufferId {
    /// The identity of these bytes.
    pub fn of(bytes: &Bytes) -> BufferId {
        BufferId { address: bytes.as_ptr() as usize, bytes: bytes.len() }
    }
}

/// The memory budget for all clients together.
pub struct BufferBudget {
    limit: usize,
    state: Mutex<State>,
    used: Gauge,
    /// The part of the budget that is reserved for input. It is changed under the lock of `state`.
    reserved: AtomicUsize,
    /// The part of `reserved` that is for publications that are complete. It is changed under the same lock.
    publications: AtomicUsize,
    rejections: Counter,
}

#[derive(Default)]
struct State {
    used: usize,
    buffers: HashMap<BufferId, Holders>,
    /// The writes that block, in the order in which they began to block.
    blocked: BTreeMap<u64, Arc<Blocked>>,
    next: u64,
    /// The first write that was not asked to leave.
    first_unasked: u64,
    /// The number of bytes that become free when all writes that were asked to leave have ended. A buffer counts only
    /// when *all* its holders were asked. If it counted for each holder, a thousand readers of one frame would seem to
    /// free much more than they do, and too few readers would be asked.
    leaving: usize,
}

/// The blocked writes that hold a buffer.
#[derive(Default)]
struct Holders {
    all: usize,
    /// The number of these writes that were asked to leave.
    asked: usize,
}

struct Blocked {
    buffer: BufferId,
    verdict: AtomicU8,
    waker: AtomicWaker,
}

/// The write may continue.
const STAY: u8 = 0;
/// The write may finish; then the server disconnects the client.
const LEAVE: u8 = 1;
/// The write ends at once.
const CUT: u8 = 2;

/// The outcome of a write, which shows whether the reader is fast enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// The socket accepted all bytes.
    Complete,
    /// The write has finished, but this reader is among the slowest while memory is short. The server should disconnect
    /// this reader.
    Slow,
}

impl BufferBudget {
    /// A budget of `limit` bytes. `rejections` counts disconnected readers and rejected input.
    pub fn new(limit: usize, rejections: Counter, registry: &mut Registry) -> Arc<BufferBudget> {
        let used = Gauge::default();
        let help = "Bytes in memory that clients have not read, or have not finished sending";
        registry.register("buffered_bytes", help, used.clone());
        Arc::new(BufferBudget {
            limit,
            state: Mutex::default(),
            used,
            reserved: AtomicUsize::new(0),
            publications: AtomicUsize::new(0),
            rejections,
        })
    }

    /// Runs a write, and counts its buffer while the write blocks.
    ///
    /// # Errors
    ///
    /// Returns the error of the write, or `OutOfMemory` if memory is short and this write has been blocked for the
    /// longest time.
    pub async fn write(
        self: &Arc<BufferBudget>,
        buffer: BufferId,
        write: impl Future<Output = io::Result<()>>,
    ) -> io::Result<WriteOutcome> {
        let mut write = pin!(write);
        let mut blocked: Option<BlockedWrite> = None;
        poll_fn(|cx| {
            if let Poll::Ready(written) = write.as_mut().poll(cx) {
                let outcome = || blocked.as_ref().map_or(WriteOutcome::Complete, BlockedWrite::outcome);
                return Poll::Ready(written.map(|()| outcome()));
            }
            let blocked = blocked.get_or_insert_with(|| self.block(buffer));
            blocked.poll_cut(cx).map(|()| Err(io::ErrorKind::OutOfMemory.into()))
        })
        .await
    }

    /// Counts a write that blocks, until the returned value is dropped.
    pub fn block(self: &Arc<BufferBudget>, buffer: BufferId) -> BlockedWrite {
        let blocked = Arc::new(Blocked { buffer, verdict: AtomicU8::new(STAY), waker: AtomicWaker::new() });
        let mut state = self.state.lock();
        let order = state.next;
        state.next += 1;
        state.hold(buffer);
        state.blocked.insert(order, blocked.clone());
        self.enforce(&mut state);
        BlockedWrite { budget: self.clone(), order, blocked }
    }

    /// Ends the slowest writes until the remaining ones fit into the budget. Asks the next slowest writes to leave
    /// while a quarter of the memory is still free, because the server can then still send them a farewell.
    fn enforce(&self, state: &mut State) {
        while state.used > self.limit
            && let Some((order, blocked)) = state.blocked.pop_first()
        {
            state.release(order, &blocked);
            blocked.verdict.store(CUT, Ordering::Relaxed);
            blocked.waker.wake();
            self.rejections.inc();
        }
        let comfortable = self.limit - self.limit / 4;
        while state.used.saturating_sub(state.leaving) > comfortable
            && let Some((order, blocked)) = state.blocked.range(state.first_unasked..).next()
        {
            blocked.verdict.store(LEAVE, Ordering::Relaxed);
            let (order, buffer) = (*order, blocked.buffer);
            state.first_unasked = order + 1;
            state.change(buffer, |holders| holders.asked += 1);
        }
        self.used.set(state.used as i64);
    }

    /// Whether memory is short, or nearly all of the memory that may be reserved is reserved. If so, a caller that
    /// reads input should wait, if it can.
    pub fn is_short(&self) -> bool {
        let (used, reserved) = (self.used.get() as usize, self.reserved.load(Ordering::Relaxed));
        used > self.limit - self.limit / 4 || reserved > self.limit / 8 * 3
    }

    /// A reservation that has no bytes yet, for input that is not complete.
    pub fn reservation(self: &Arc<BufferBudget>) -> Reservation {
        Reservation { budget: self.clone(), bytes: 0, is_publication: false }
    }

    /// A reservation that has no bytes yet, for a publication that is complete and waits for the application or the
    /// log. Incomplete input of clients cannot keep publications out: an eighth of the memory is left to publications.
    pub fn publication(self: &Arc<BufferBudget>) -> Reservation {
        Reservation { budget: self.clone(), bytes: 0, is_publication: true }
    }
}

impl State {
    fn hold(&mut self, buffer: BufferId) {
        self.change(buffer, |holders| holders.all += 1);
    }

    /// Stops counting a write that is no longer in `blocked`.
    fn release(&mut self, order: u64, blocked: &Blocked) {
        let was_asked = order < self.first_unasked;
        self.change(blocked.buffer, |holders| {
            holders.all -= 1;
            holders.asked -= usize::from(was_asked);
        });
    }

    /// Changes the holders of a buffer, and keeps `used` and `leaving` right.
    fn change(&mut self, buffer: BufferId, change: impl FnOnce(&mut Holders)) {
        let holders = self.buffers.entry(buffer).or_default();
        let bytes = |holders: &Holders| {
            let is_held = holders.all > 0;
            let is_leaving = is_held && holders.asked == holders.all;
            (buffer.bytes * usize::from(is_held), buffer.bytes * usize::from(is_leaving))
        };
        let before = bytes(holders);
        change(holders);
        let after = bytes(holders);
        if holders.all == 0 {
            self.buffers.remove(&buffer);
        }
        self.used = self.used - before.0 + after.0;
        self.leaving = self.leaving - before.1 + after.1;
    }
}

/// A write that blocks. It is counted while this value exists.
pub struct BlockedWrite {
    budget: Arc<BufferBudget>,
    order: u64,
    blocked: Arc<Blocked>,
}

impl BlockedWrite {
    /// Ready when the write must end. Wakes the task that polled last.
    pub fn poll_cut(&self, cx: &Context<'_>) -> Poll<()> {
        self.blocked.waker.register(cx.waker());
        if self.blocked.verdict.load(Ordering::Relaxed) == CUT { Poll::Ready(()) } else { Poll::Pending }
    }

    fn outcome(&self) -> WriteOutcome {
        if self.blocked.verdict.load(Ordering::Relaxed) == STAY { WriteOutcome::Complete } else { WriteOutcome::Slow }
    }
}

impl Drop for BlockedWrite {
    fn drop(&mut self) {
        let mut state = self.budget.state.lock();
        // A write that was ended no longer counts.
        if let Some(blocked) = state.blocked.remove(&self.order) {
            state.release(self.order, &blocked);
            self.budget.used.set(state.used as i64);
        }
    }
}

/// Memory reserved for input from a client, until the input is complete or handled.
pub struct Reservation {
    budget: Arc<BufferBudget>,
    bytes: usize,
    is_publication: bool,
}

impl Reservation {
    /// Changes the reserved amount. Shrinking cannot fail.
    ///
    /// # Errors
    ///
    /// `not_ready`: senders already hold half of the memory. More would make the server disconnect readers. If there is
    /// only one sender, its reservation always succeeds within the limits on one request: otherwise the longest allowed
    /// request could never succeed.
    pub fn resize(&mut self, bytes: usize) -> Result<(), ApiError> {
        if bytes == self.bytes {
            return Ok(());
        }
        let mut state = self.budget.state.lock();
        let others = self.budget.reserved.load(Ordering::Relaxed) - self.bytes;
        let reserved = others + bytes;
        let publications = self.budget.publications.load(Ordering::Relaxed);
        let publications = if self.is_publication { publications - self.bytes + bytes } else { publications };
        let has_own_room = self.is_publication && publications <= self.budget.limit / 8;
        if bytes > self.bytes && others > 0 && reserved > self.budget.limit / 2 && !has_own_room {
            self.budget.rejections.inc();
            return Err(ApiError::new(Code::NotReady, "the server is short of memory; try again in a moment"));
        }
        state.used = state.used - self.bytes + bytes;
        self.budget.reserved.store(reserved, Ordering::Relaxed);
        self.budget.publications.store(publications, Ordering::Relaxed);
        self.bytes = bytes;
        self.budget.enforce(&mut state);
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let _ = self.resize(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    fn budget(limit: usize) -> Arc<BufferBudget> {
        BufferBudget::new(limit, Counter::default(), &mut Registry::default())
    }

    fn is_cut(write: &BlockedWrite) -> bool {
        write.poll_cut(&Context::from_waker(Waker::noop())).is_ready()
    }

    fn buffer(bytes: usize) -> (Bytes, BufferId) {
        let bytes = Bytes::from(vec![0; bytes]);
        let buffer = BufferId::of(&bytes);
        (bytes, buffer)
    }

    #[test]
    fn the_write_that_blocked_longest_is_cut_first() {
        let budget = budget(100);
        let (_a, a) = buffer(40);
        let (_b, b) = buffer(50);
        let (_c, c) = buffer(45);
        let (first, second) = (budget.block(a), budget.block(b));
        assert!(!is_cut(&first) && !is_cut(&second));
        // Beyond three quarters of the limit, the slowest write is asked to leave, and may finish.
        assert_eq!((first.outcome(), second.outcome()), (WriteOutcome::Slow, WriteOutcome::Complete));
        let third = budget.block(c);
        assert!(is_cut(&first) && !is_cut(&second) && !is_cut(&third));
        assert_eq!(budget.used.get(), 95);
        drop((first, second, third));
        assert_eq!(budget.used.get(), 0);
        let state = budget.state.lock();
        assert!(state.buffers.is_empty() && state.blocked.is_empty() && state.leaving == 0);
    }

    #[test]
    fn a_shared_frame_is_counted_once() {
        let budget = budget(100);
        let (_frame, frame) = buffer(60);
        let writes: Vec<BlockedWrite> = (0..1000).map(|_| budget.block(frame)).collect();
        assert!(!writes.iter().any(is_cut));
        assert_eq!(budget.used.get(), 60);
        drop(writes);
        assert_eq!(budget.used.get(), 0);
    }

    /// A buffer is free only when all its holders have left.
    #[test]
    fn all_holders_of_a_frame_are_asked_to_leave() {
        let budget = budget(1000);
        let (_frame, frame) = buffer(500);
        let own: Vec<(Bytes, BufferId)> = (0..4).map(|_| buffer(100)).collect();
        let is_asked = |write: &BlockedWrite| write.outcome() == WriteOutcome::Slow;
        let mut sharing: Vec<BlockedWrite> = (0..1000).map(|_| budget.block(frame)).collect();
        let mut others: Vec<BlockedWrite> = own[..3].iter().map(|(_, own)| budget.block(*own)).collect();
        assert!(sharing.iter().all(is_asked) && !others.iter().any(is_asked));
        // The result stays the same when some of the holders leave and one more write blocks.
        sharing.truncate(10);
        others.push(budget.block(own[3].1));
        assert!(!others.iter().any(is_asked));
        // Now another write holds the frame. That write was not asked to leave, so the frame would stay in use.
        sharing.push(budget.block(frame));
        assert_eq!(others.iter().filter(|other| is_asked(other)).count(), 2);
        // After that write has ended, all remaining holders have been asked.
        sharing.pop();
        assert_eq!(budget.state.lock().leaving, 700);
        drop((sharing, others));
        let state = budget.state.lock();
        assert!(state.buffers.is_empty() && (state.used, state.leaving) == (0, 0));
    }

    #[test]
    fn input_may_use_half_of_the_budget() {
        let budget = budget(100);
        let (_a, a) = buffer(60);
        let reader = budget.block(a);
        let (mut reservation, mut other) = (budget.reservation(), budget.reservation());
        assert!(other.resize(1).is_ok() && reservation.resize(50).is_err() && !is_cut(&reader));
        assert!(reservation.resize(30).is_ok() && !is_cut(&reader));
        drop(other);
        assert!(reservation.resize(50).is_ok() && is_cut(&reader));
        assert!(budget.reservation().resize(1).is_err());
        assert!(reservation.resize(70).is_ok(), "a sender that is alone");
        drop((reservation, reader));
        assert_eq!(budget.used.get(), 0);
    }

    /// A flood of incomplete input does not make the server refuse complete publications.
    #[test]
    fn publications_have_room_beside_unfinished_input() {
        let budget = budget(800);
        let (mut unfinished, mut other) = (budget.reservation(), budget.reservation());
        assert!(unfinished.resize(300).is_ok() && other.resize(100).is_ok() && other.resize(101).is_err());
        let mut publications = [budget.publication(), budget.publication()];
        assert!(publications[0].resize(60).is_ok() && publications[1].resize(40).is_ok());
        assert!(publications[1].resize(41).is_err(), "more than an eighth");
        drop((unfinished, other));
        assert!(publications[1].resize(340).is_ok() && publications[1].resize(341).is_err(), "half, if it is free");
        drop(publications);
        assert_eq!((budget.used.get(), budget.publications.load(Ordering::Relaxed)), (0, 0));
    }

    #[tokio::test]
    async fn a_write_that_does_not_block_is_not_counted() {
        let budget = budget(10);
        let (_a, a) = buffer(1000);
        assert_eq!(budget.write(a, async { Ok(()) }).await.ok(), Some(WriteOutcome::Complete));
        let error = budget.write(a, std::future::pending()).await.expect_err("more than there is");
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
    }
}
