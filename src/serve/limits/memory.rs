//! The memory that clients may hold all together: what waits to be taken by them, and what of theirs is not whole.
//!
//! A reader is a cursor and costs no queue. What it can hold is one batch, while its socket takes nothing; ten
//! thousand that never read hold ten thousand batches. So a write that *blocks* is counted here until it is done,
//! and past the limit those go that have been at it for longest. A write that does not block is not counted and
//! costs nothing.

use crate::serve::metrics::rejections::Refused;
use crate::transport::{ApiError, Code};
use atomic_waker::AtomicWaker;
use bytes::Bytes;
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::collections::{BTreeMap, HashMap};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::task::{Context, Poll};

/// A buffer, by where it lies: a frame that many readers share is counted once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Buffer {
    address: usize,
    bytes: usize,
}

impl Buffer {
    /// This one.
    pub fn of(bytes: &Bytes) -> Buffer {
        Buffer { address: bytes.as_ptr() as usize, bytes: bytes.len() }
    }
}

/// The memory there is for clients.
pub struct Budget {
    limit: usize,
    state: Mutex<State>,
    held: Gauge,
    /// How much of it is what clients have sent. Changed under the lock of `state`.
    lent: AtomicUsize,
    refused: Refused,
}

#[derive(Default)]
struct State {
    held: usize,
    buffers: HashMap<Buffer, Holders>,
    /// Writes that block, in the order in which they began to.
    waiting: BTreeMap<u64, Arc<Waiter>>,
    next: u64,
    /// From here on nobody was asked to leave.
    unasked: u64,
    /// How much is free when those have left who were asked. A buffer is, when *all* who hold it have: counted once
    /// for each of them, a thousand readers of one frame would seem to free what they never do, and too few be asked.
    asked: usize,
}

/// Who hold a buffer.
#[derive(Default)]
struct Holders {
    all: usize,
    /// Those of them who were asked to leave.
    asked: usize,
}

struct Waiter {
    buffer: Buffer,
    verdict: AtomicU8,
    waker: AtomicWaker,
}

/// What becomes of a write that blocks.
const STAY: u8 = 0;
/// It may finish, and is told to come back then.
const LEAVE: u8 = 1;
/// It ends here.
const CUT: u8 = 2;

/// Whether a reader keeps up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// It does: its socket took all at once.
    Good,
    /// It does, and was waited for.
    Waited,
    /// It is among the slowest while memory is short, and has just finished: it can still be told.
    Slow,
}

impl Budget {
    /// So many bytes.
    pub fn new(limit: usize, refused: Refused, registry: &mut Registry) -> Arc<Budget> {
        let held = Gauge::default();
        let help = "Bytes in memory that wait for clients to take them, or to send the rest";
        registry.register("buffered_bytes", help, held.clone());
        Arc::new(Budget { limit, state: Mutex::default(), held, lent: AtomicUsize::new(0), refused })
    }

    /// Writes, and counts the buffer for as long as the socket does not take it.
    ///
    /// # Errors
    ///
    /// The write's own; `OutOfMemory` where memory is short and this one has waited for longest.
    pub async fn write(
        self: &Arc<Budget>,
        buffer: Buffer,
        write: impl Future<Output = io::Result<()>>,
    ) -> io::Result<Pace> {
        let mut write = pin!(write);
        let mut ticket: Option<Ticket> = None;
        poll_fn(|cx| {
            if let Poll::Ready(written) = write.as_mut().poll(cx) {
                return Poll::Ready(written.map(|()| ticket.as_ref().map_or(Pace::Good, Ticket::pace)));
            }
            let ticket = ticket.get_or_insert_with(|| self.wait(buffer));
            ticket.poll_cut(cx).map(|()| Err(io::ErrorKind::OutOfMemory.into()))
        })
        .await
    }

    /// Counts a write that blocks, until the ticket is dropped.
    pub fn wait(self: &Arc<Budget>, buffer: Buffer) -> Ticket {
        let waiter = Arc::new(Waiter { buffer, verdict: AtomicU8::new(STAY), waker: AtomicWaker::new() });
        let mut state = self.state.lock();
        let order = state.next;
        state.next += 1;
        state.hold(buffer);
        state.waiting.insert(order, waiter.clone());
        self.enforce(&mut state);
        Ticket { budget: self.clone(), order, waiter }
    }

    /// Lets the slowest go until the rest fits. Those that may be the next are asked to leave while there is
    /// still some room: they can be told.
    fn enforce(&self, state: &mut State) {
        while state.held > self.limit
            && let Some((order, waiter)) = state.waiting.pop_first()
        {
            state.release(order, &waiter);
            waiter.verdict.store(CUT, Ordering::Relaxed);
            waiter.waker.wake();
            self.refused.because("memory");
        }
        let comfortable = self.limit - self.limit / 4;
        while state.held.saturating_sub(state.asked) > comfortable
            && let Some((order, waiter)) = state.waiting.range(state.unasked..).next()
        {
            waiter.verdict.store(LEAVE, Ordering::Relaxed);
            let (order, buffer) = (*order, waiter.buffer);
            state.unasked = order + 1;
            state.change(buffer, |holders| holders.asked += 1);
        }
        self.held.set(state.held as i64);
    }

    /// Whether memory is short, or nearly all is lent that may be: who can wait before he sends more should.
    pub fn is_short(&self) -> bool {
        let (held, lent) = (self.held.get() as usize, self.lent.load(Ordering::Relaxed));
        held > self.limit - self.limit / 4 || lent > self.limit / 8 * 3
    }

    /// Nothing yet of what somebody sends.
    pub fn loan(self: &Arc<Budget>) -> Loan {
        Loan { budget: self.clone(), bytes: 0 }
    }
}

impl State {
    fn hold(&mut self, buffer: Buffer) {
        self.change(buffer, |holders| holders.all += 1);
    }

    /// Takes one off the account that is no longer among those who wait.
    fn release(&mut self, order: u64, waiter: &Waiter) {
        let was_asked = order < self.unasked;
        self.change(waiter.buffer, |holders| {
            holders.all -= 1;
            holders.asked -= usize::from(was_asked);
        });
    }

    /// Changes who hold a buffer, and with it what is held and what those hold who were asked.
    fn change(&mut self, buffer: Buffer, change: impl FnOnce(&mut Holders)) {
        let holders = self.buffers.entry(buffer).or_default();
        let bytes = |holders: &Holders| {
            let is_held = holders.all > 0;
            let is_asked = is_held && holders.asked == holders.all;
            (buffer.bytes * usize::from(is_held), buffer.bytes * usize::from(is_asked))
        };
        let before = bytes(holders);
        change(holders);
        let after = bytes(holders);
        if holders.all == 0 {
            self.buffers.remove(&buffer);
        }
        self.held = self.held - before.0 + after.0;
        self.asked = self.asked - before.1 + after.1;
    }
}

/// A write that blocks. Counted while it lives.
pub struct Ticket {
    budget: Arc<Budget>,
    order: u64,
    waiter: Arc<Waiter>,
}

impl Ticket {
    /// Ready when it has to end. The task that polls last is woken.
    pub fn poll_cut(&self, cx: &Context<'_>) -> Poll<()> {
        self.waiter.waker.register(cx.waker());
        if self.waiter.verdict.load(Ordering::Relaxed) == CUT { Poll::Ready(()) } else { Poll::Pending }
    }

    fn pace(&self) -> Pace {
        if self.waiter.verdict.load(Ordering::Relaxed) == STAY { Pace::Waited } else { Pace::Slow }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.budget.state.lock();
        // Who was cut is off the account already.
        if let Some(waiter) = state.waiting.remove(&self.order) {
            state.release(self.order, &waiter);
            self.budget.held.set(state.held as i64);
        }
    }
}

/// What somebody has sent, and we keep until it is whole or done with.
pub struct Loan {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Loan {
    /// So much it is now.
    ///
    /// # Errors
    ///
    /// `not_ready`: senders have half of the memory already. They shall not drive the readers out.
    pub fn set(&mut self, bytes: usize) -> Result<(), ApiError> {
        if bytes == self.bytes {
            return Ok(());
        }
        let mut state = self.budget.state.lock();
        let lent = self.budget.lent.load(Ordering::Relaxed) - self.bytes + bytes;
        if bytes > self.bytes && lent > self.budget.limit / 2 {
            self.budget.refused.because("memory");
            return Err(ApiError::new(Code::NotReady, "the server is short of memory; come back in a moment"));
        }
        state.held = state.held - self.bytes + bytes;
        self.budget.lent.store(lent, Ordering::Relaxed);
        self.bytes = bytes;
        self.budget.enforce(&mut state);
        Ok(())
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        // Less never fails.
        let _ = self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    fn budget(limit: usize) -> Arc<Budget> {
        Budget::new(limit, Refused::default(), &mut Registry::default())
    }

    fn is_cut(ticket: &Ticket) -> bool {
        ticket.poll_cut(&Context::from_waker(Waker::noop())).is_ready()
    }

    fn buffer(bytes: usize) -> (Bytes, Buffer) {
        let bytes = Bytes::from(vec![0; bytes]);
        let buffer = Buffer::of(&bytes);
        (bytes, buffer)
    }

    #[test]
    fn who_waits_longest_goes_first() {
        let budget = budget(100);
        let (_a, a) = buffer(40);
        let (_b, b) = buffer(50);
        let (_c, c) = buffer(45);
        let (first, second) = (budget.wait(a), budget.wait(b));
        assert!(!is_cut(&first) && !is_cut(&second));
        // Past three quarters the slowest is asked to leave, and may finish.
        assert_eq!((first.pace(), second.pace()), (Pace::Slow, Pace::Waited));
        let third = budget.wait(c);
        assert!(is_cut(&first) && !is_cut(&second) && !is_cut(&third));
        assert_eq!(budget.held.get(), 95);
        drop((first, second, third));
        assert_eq!(budget.held.get(), 0);
        let state = budget.state.lock();
        assert!(state.buffers.is_empty() && state.waiting.is_empty() && state.asked == 0);
    }

    #[test]
    fn a_frame_that_is_shared_is_counted_once() {
        let budget = budget(100);
        let (_frame, frame) = buffer(60);
        let tickets: Vec<Ticket> = (0..1000).map(|_| budget.wait(frame)).collect();
        assert!(!tickets.iter().any(is_cut));
        assert_eq!(budget.held.get(), 60);
        drop(tickets);
        assert_eq!(budget.held.get(), 0);
    }

    /// Only all of them together free anything.
    #[test]
    fn all_who_hold_a_frame_are_asked_to_leave() {
        let budget = budget(1000);
        let (_frame, frame) = buffer(500);
        let own: Vec<(Bytes, Buffer)> = (0..4).map(|_| buffer(100)).collect();
        let is_asked = |ticket: &Ticket| ticket.pace() == Pace::Slow;
        let mut sharing: Vec<Ticket> = (0..1000).map(|_| budget.wait(frame)).collect();
        let mut others: Vec<Ticket> = own[..3].iter().map(|(_, own)| budget.wait(*own)).collect();
        assert!(sharing.iter().all(is_asked) && !others.iter().any(is_asked));
        // It stays so while some of them go, and while there is a little more.
        sharing.truncate(10);
        others.push(budget.wait(own[3].1));
        assert!(!others.iter().any(is_asked));
        // Somebody joins them who was not asked: nothing would be free any more.
        sharing.push(budget.wait(frame));
        assert_eq!(others.iter().filter(|other| is_asked(other)).count(), 2);
        // He goes, and again all who hold it were asked.
        sharing.pop();
        assert_eq!(budget.state.lock().asked, 700);
        drop((sharing, others));
        let state = budget.state.lock();
        assert!(state.buffers.is_empty() && (state.held, state.asked) == (0, 0));
    }

    #[test]
    fn what_is_sent_counts_up_to_a_half() {
        let budget = budget(100);
        let (_a, a) = buffer(60);
        let reader = budget.wait(a);
        let mut loan = budget.loan();
        assert!(loan.set(51).is_err() && !is_cut(&reader));
        assert!(loan.set(30).is_ok() && !is_cut(&reader));
        assert!(loan.set(50).is_ok() && is_cut(&reader));
        assert!(budget.loan().set(1).is_err());
        drop((loan, reader));
        assert_eq!(budget.held.get(), 0);
    }

    #[tokio::test]
    async fn a_write_that_does_not_block_is_not_counted() {
        let budget = budget(10);
        let (_a, a) = buffer(1000);
        assert_eq!(budget.write(a, async { Ok(()) }).await.ok(), Some(Pace::Good));
        let error = budget.write(a, std::future::pending()).await.expect_err("more than there is");
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
    }
}
