//! The part of a reader that its channels use: one waker, the waiting volatile messages, and the state that a parked
//! reader leaves with the hub.
//!
//! The functions that run for each reader of each message are `#[inline]`. Otherwise the compiler inlines them or not,
//! depending on how it divides the program (tests/instructions.mjs counts their instructions).

use super::news::{FanOutShare, News};
use super::outlet::Outlet;
use super::parking::{Offered, Parking};
use crate::message::Message;
use atomic_waker::AtomicWaker;
use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use tokio::time::Instant;

/// The maximum number of volatile messages that may wait for a reader, and the maximum number of their bytes (the first
/// message may be longer). A message beyond these limits is dropped for this reader only.
const VOLATILE_WAITING: usize = 32;
const VOLATILE_BYTES: usize = 64 << 10;

/// A reader, shared by its subscription and the channels that it reads.
pub(super) struct Reader {
    /// The transport's name, for counts; `None` if the reader is counted by its client id.
    pub(super) transport: Option<&'static str>,
    waker: AtomicWaker,
    /// The waiting volatile messages. The messages are boxed, because most readers have none.
    volatile: Mutex<Option<Box<Volatile>>>,
    /// The outlet to the reader's socket. This field is outside `parking`, so that the hub can read it without the
    /// lock.
    outlet: OnceLock<Box<dyn Outlet>>,
    parking: Mutex<Parking>,
}

type Volatile = SmallVec<[Arc<Message>; 4]>;

// There is one reader for each connection. With the two counts of its `Arc` it fills a block of 224 bytes. The
// allocator's next size is 256 bytes.
const _: () = assert!(size_of::<Reader>() <= 208);

impl Reader {
    pub(super) fn new(transport: Option<&'static str>) -> Arc<Reader> {
        Arc::new(Reader {
            transport,
            waker: AtomicWaker::new(),
            volatile: Mutex::new(None),
            outlet: OnceLock::new(),
            parking: Mutex::default(),
        })
    }

    /// Sets the waker. The caller must do this *before* the reader looks for messages. Then a message that arrives
    /// after the search and before the parking wakes the reader, and no wake-up is lost.
    #[inline]
    pub(super) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// Sets the outlet through which the hub writes. Only the first call has an effect.
    pub(super) fn set_outlet(&self, outlet: Box<dyn Outlet>) {
        let _ = self.outlet.set(outlet);
    }

    #[inline]
    pub(super) fn outlet(&self) -> Option<&dyn Outlet> {
        self.outlet.get().map(|outlet| &**outlet)
    }

    /// Reads a word of each piece of memory that an offer reads, without a lock. If it is called for many readers in a
    /// row, the processor fetches the memory of all of them at once. Without this call, each offer would wait for its
    /// own memory, because there are locks and system calls between two offers.
    #[inline]
    pub(super) fn touch(&self) {
        std::hint::black_box((self.parking.is_locked(), self.transport.is_some()));
        if let Some(outlet) = self.outlet() {
            outlet.touch();
        }
    }

    /// Locks the state that the reader has left with the hub.
    #[inline]
    pub(super) fn parking(&self) -> MutexGuard<'_, Parking> {
        self.parking.lock()
    }

    /// Wakes the reader's task, and forbids the hub to write for it until it has parked again: the cause of the wake-up
    /// has to be handled first.
    pub(super) fn wake(&self) {
        self.parking.lock().close();
        self.waker.wake();
    }

    /// Writes new messages for the reader in the plain case, and wakes its task in any other case.
    #[inline]
    pub(super) fn offer(&self, news: &News, share: &mut FanOutShare, now: Instant) {
        let mut parking = self.parking.lock();
        let offered = parking.offer(self.outlet(), news, share, now);
        if offered == Offered::LeftToTask {
            parking.close();
            drop(parking);
            share.counts.left_to_tasks += 1;
            self.waker.wake();
        }
    }

    /// Whether the reader still waits and therefore counts as a reader. A poll that has received its answer does not
    /// wait.
    pub(super) fn is_waiting(&self) -> bool {
        !self.parking.lock().is_answered()
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
        drop(volatile);
        self.wake();
    }

    #[inline]
    pub(super) fn take_volatile(&self) -> impl Iterator<Item = Arc<Message>> + use<> {
        let volatile = self.volatile.lock().take();
        volatile.into_iter().flat_map(|volatile| *volatile)
    }
}
