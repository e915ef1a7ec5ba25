//! Tells the streams and polls of a session that the store does not have it any more.

use futures_util::task::AtomicWaker;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Context;

/// A flag of one stream or poll, which wakes its task.
#[derive(Default)]
pub struct Loss {
    is_noted: AtomicBool,
    waker: AtomicWaker,
}

impl Loss {
    /// Notes that the session was lost.
    pub fn note(&self) {
        self.is_noted.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Whether the session was lost.
    pub fn is_noted(&self) -> bool {
        self.is_noted.load(Ordering::Acquire)
    }

    /// Whether the session was lost. If not, the task is woken when it is.
    pub fn poll(&self, cx: &Context<'_>) -> bool {
        // The waker is there before the flag is read: otherwise a loss between the two would not wake the task.
        self.waker.register(cx.waker());
        self.is_noted()
    }
}
