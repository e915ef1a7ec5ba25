//! A parked reader: one waker, and the volatile messages that it can still take.

use crate::message::Message;
use atomic_waker::AtomicWaker;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

/// Volatile messages that a reader may have waiting; past that it "cannot take it" and they are
/// dropped for this reader alone.
const VOLATILE_WAITING: usize = 32;

/// Shared by a subscription and the channels it reads.
#[derive(Debug)]
pub(super) struct Waiter {
    /// The transport's name, for counts; `None` where the reader is counted by its client id.
    pub(super) transport: Option<&'static str>,
    waker: AtomicWaker,
    has_volatile: AtomicBool,
    volatile: Mutex<Vec<Arc<Message>>>,
}

impl Waiter {
    pub(super) fn new(transport: Option<&'static str>) -> Arc<Waiter> {
        Arc::new(Waiter {
            transport,
            waker: AtomicWaker::new(),
            has_volatile: AtomicBool::new(false),
            volatile: Mutex::new(Vec::new()),
        })
    }

    /// To be called *before* the reader looks for messages: one that comes between the look and the
    /// parking then wakes it, and no wake-up is lost.
    pub(super) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    pub(super) fn wake(&self) {
        self.waker.wake();
    }

    pub(super) fn push_volatile(&self, message: &Arc<Message>) {
        let mut waiting = self.volatile.lock();
        if waiting.len() < VOLATILE_WAITING {
            waiting.push(message.clone());
            self.has_volatile.store(true, Ordering::Release);
        }
        drop(waiting);
        self.wake();
    }

    pub(super) fn take_volatile(&self) -> Vec<Arc<Message>> {
        // A flag, so that the common delivery takes no second lock.
        if !self.has_volatile.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        std::mem::take(&mut *self.volatile.lock())
    }
}
