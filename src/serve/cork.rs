//! Answers of one turn go out in one write.
//!
//! hyper flushes each response by itself. A publisher that has many requests under way gets many answers in
//! one turn of its task, and a `write` for each would cost more than all the rest. So while hyper has the socket,
//! what it writes is gathered here, and whoever polls hyper flushes once when it has nothing more to do.

use super::socket::Socket;
use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::Sleep;

/// Bytes that are gathered; more is written at once.
const ROOM: usize = 16 << 10;

/// Gathers what is written to a socket.
#[derive(Clone)]
pub struct Cork {
    socket: Socket,
    gathered: Arc<Mutex<BytesMut>>,
}

impl Cork {
    /// Over a plain socket.
    pub fn new(socket: Socket) -> Cork {
        Cork { socket, gathered: Arc::default() }
    }

    /// Takes bytes in, if there is room for them.
    pub fn gather(&self, parts: &[io::IoSlice<'_>]) -> bool {
        let mut gathered = self.gathered.lock();
        let fits = gathered.len() + parts.iter().map(|part| part.len()).sum::<usize>() <= ROOM;
        if fits {
            parts.iter().for_each(|part| gathered.extend_from_slice(part));
        }
        fits
    }

    /// Whether nothing waits to be written.
    pub fn is_empty(&self) -> bool {
        self.gathered.lock().is_empty()
    }

    /// Writes what was gathered. Pending while the socket takes nothing.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut gathered = self.gathered.lock();
        while !gathered.is_empty() {
            let written = ready!(self.socket.poll_write_some(cx, &gathered))?;
            gathered.advance(written);
        }
        if gathered.capacity() > 0 {
            // An idle connection holds no buffer.
            *gathered = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

/// Bounds how long a client may take nothing.
pub struct Patience {
    timeout: Duration,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    /// For so long.
    pub fn new(timeout: Duration) -> Patience {
        Patience { timeout, deadline: None }
    }

    /// An error instead of `Pending` when it has been so for too long. Anything else begins the time anew.
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
