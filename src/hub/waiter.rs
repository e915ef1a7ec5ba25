//! A parked reader: one waker, the volatile messages that it can still take, and what it leaves with
//! the hub while it is parked, so that the hub may write for it.

use super::direct::{Desk, News, Outcome, Shared};
use super::outlet::Outlet;
use crate::message::Message;
use atomic_waker::AtomicWaker;
use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use tokio::time::Instant;

/// Volatile messages that a reader may have waiting, and bytes of theirs, but for a first one; past that it "cannot take it"
/// and they are dropped for this reader alone.
const VOLATILE_WAITING: usize = 32;
const VOLATILE_BYTES: usize = 64 << 10;

/// Shared by a subscription and the channels it reads.
pub(super) struct Waiter {
    /// The transport's name, for counts; `None` where the reader is counted by its client id.
    pub(super) transport: Option<&'static str>,
    waker: AtomicWaker,
    has_volatile: AtomicBool,
    /// Boxed: most readers have none.
    volatile: Mutex<Option<Box<Volatile>>>,
    /// Beside the desk and not on it, where it would take the lock to look at it.
    outlet: OnceLock<Box<dyn Outlet>>,
    desk: Mutex<Desk>,
}

type Volatile = SmallVec<[Arc<Message>; 4]>;

// One for each connection: with its two counts it fills a piece of 224 bytes, and the allocator's next are of 256.
const _: () = assert!(size_of::<Waiter>() <= 208);

impl Waiter {
    pub(super) fn new(transport: Option<&'static str>) -> Arc<Waiter> {
        Arc::new(Waiter {
            transport,
            waker: AtomicWaker::new(),
            has_volatile: AtomicBool::new(false),
            volatile: Mutex::new(None),
            outlet: OnceLock::new(),
            desk: Mutex::default(),
        })
    }

    /// To be called *before* the reader looks for messages: one that comes between the look and the
    /// parking then wakes it, and no wake-up is lost.
    pub(super) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// What the hub may write with: once for all.
    pub(super) fn set_outlet(&self, outlet: Box<dyn Outlet>) {
        let _ = self.outlet.set(outlet);
    }

    pub(super) fn outlet(&self) -> Option<&dyn Outlet> {
        self.outlet.get().map(|outlet| &**outlet)
    }

    /// Reads a word of each piece of memory that an offer reads, without a lock. Called for many readers in a row, the
    /// processor fetches for all of them at once; their offers, between which there are locks and system calls, would have each wait
    /// for its own.
    pub(super) fn prefetch(&self) -> usize {
        let flags = usize::from(self.has_volatile.load(Ordering::Relaxed)) + self.transport.map_or(0, str::len);
        flags + self.outlet().map_or(0, |outlet| outlet.prefetch() as usize)
    }

    /// Where the reader stands.
    pub(super) fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock()
    }

    /// Wakes the reader's task, and writes nothing for it until it has parked again: whatever it is woken
    /// for comes first.
    pub(super) fn wake(&self) {
        self.desk.lock().close();
        self.waker.wake();
    }

    /// Writes news for the reader, where nothing stands against it; else wakes its task.
    pub(super) fn offer(&self, news: &News, shared: &mut Shared, now: Instant) {
        let mut desk = self.desk.lock();
        let outcome = desk.offer(self.outlet(), news, shared, now);
        if outcome == Outcome::ForTheTask {
            desk.close();
            drop(desk);
            shared.left_to_a_task();
            self.waker.wake();
        }
    }

    /// Whether it counts as a reader: a poll that was answered does not wait.
    pub(super) fn is_waiting(&self) -> bool {
        !self.desk.lock().is_answered()
    }

    pub(super) fn push_volatile(&self, message: &Arc<Message>) {
        let mut volatile = self.volatile.lock();
        let waiting = volatile.get_or_insert_default();
        if waiting.len() >= VOLATILE_WAITING {
            return;
        }
        let bytes: usize = waiting.iter().chain([message]).map(|message| message.object().len()).sum();
        if bytes > VOLATILE_BYTES && !waiting.is_empty() {
            return;
        }
        waiting.push(message.clone());
        self.has_volatile.store(true, Ordering::Release);
        drop(volatile);
        self.wake();
    }

    pub(super) fn take_volatile(&self) -> impl Iterator<Item = Arc<Message>> + use<> {
        // A flag, so that the common delivery takes no second lock.
        let is_there = self.has_volatile.swap(false, Ordering::AcqRel);
        let volatile = if is_there { self.volatile.lock().take() } else { None };
        volatile.into_iter().flat_map(|volatile| *volatile)
    }
}
