//! The deadline of a write to a client that does not read.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::Sleep;

/// Bounds how long a write may wait for the client.
pub struct WriteDeadline {
    timeout: Duration,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl WriteDeadline {
    /// Makes a deadline for writes that may stay pending for `timeout`.
    pub fn new(timeout: Duration) -> WriteDeadline {
        WriteDeadline { timeout, deadline: None }
    }

    /// Turns `Pending` into a timeout error after it has lasted for the whole timeout. The time starts again when a
    /// write has a result.
    pub fn bound<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.deadline = None;
            return polled;
        }
        let timeout = self.timeout;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        ready!(deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}
