//! Answers of one turn go out in one write.
//!
//! hyper flushes each response by itself. A publisher that has many requests under way gets many answers in
//! one turn of its task, and a `write` for each would cost more than all the rest. So while hyper has the socket,
//! what it writes is gathered here, and whoever polls hyper flushes once when it has nothing more to do.

use super::socket::Socket;
use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

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
