//! A stream over HTTP: the session writes the body to the connection itself.
//!
//! A parked reader does not keep the state of its request, and does not keep buffers. Each message is sent in one
//! write, from bytes that all readers share.

use super::pump::Pump;
use super::task::spawn_parked;
use crate::serve::http::chunked::{Framing, LAST_CHUNK, Piece};
use crate::serve::http::peer::Peer;
use crate::serve::limits::memory::{BufferBudget, BufferId};
use crate::serve::net::stream::{ClientStream, Unread};
use crate::serve::state::ServerState;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::AsyncWriteExt;

/// The number of bytes of the next request that are read while the stream runs.
const READ_AHEAD: usize = 16 << 10;

/// What a protocol does at the end of a response. If the client goes away before, the value is dropped.
pub trait StreamEnd: Send {
    /// Ends the response. Its last bytes are not written yet, so the client sends its next request after this.
    fn end<'a>(self: Box<Self>, pump: &'a mut Pump) -> BoxFuture<'a, ()>
    where
        Self: 'a;
}

/// A stream whose head is about to be written.
pub struct StreamSession {
    /// The messages.
    pub pump: Pump,
    /// The framing that the head announces.
    pub framing: Framing,
    /// Whether another request may follow on the connection.
    pub may_reuse: bool,
    /// What happens at the end of the response.
    pub at_end: Option<Box<dyn StreamEnd>>,
}

impl StreamSession {
    /// Runs the stream in a separate task. `next` gets the connection when the stream has ended and another request
    /// may follow.
    ///
    /// The functions of the task borrow their data, because a future stores an argument twice if the argument moves
    /// into it. The size of a parked reader is the size of its task.
    pub fn spawn(
        self,
        state: Arc<ServerState>,
        io: ClientStream,
        peer: Peer,
        next: impl FnOnce(ClientStream, Peer) + Send + 'static,
    ) {
        let StreamSession { mut pump, framing, may_reuse, at_end } = self;
        if let Some(socket) = io.plain().filter(|_| state.settings.direct_writes) {
            pump.allow_direct_writes(socket, Some(framing));
        }
        let mut stream =
            RunningStream { io, pump, input: Unread::default(), framing, is_open: true, at_end: at_end.map(Box::new) };
        spawn_parked(async move {
            if let Err(error) = stream.run(&state.budget).await {
                return state.rejections.write_failed(&error);
            }
            let io = stream.end();
            if may_reuse && !state.drain.has_begun() {
                next(io, peer);
            } else {
                io.spawn_linger(peer.counted);
            }
        });
    }
}

/// A stream whose head was written.
struct RunningStream {
    io: ClientStream,
    pump: Pump,
    /// Bytes that the client has sent during the stream, for the next request.
    input: Unread,
    framing: Framing,
    is_open: bool,
    /// Boxed twice, so that the streams without one pay for one word.
    at_end: Option<Box<Box<dyn StreamEnd>>>,
}

impl RunningStream {
    /// Writes until the end of the stream.
    ///
    /// # Errors
    ///
    /// The client has disconnected, or does not read.
    async fn run(&mut self, budget: &Arc<BufferBudget>) -> io::Result<()> {
        while let Some(blocked) = poll_fn(|cx| self.poll_write(cx)).await? {
            // The future is boxed, and is created only when a write blocks, so that a parked stream does not keep space
            // for it.
            Box::pin(self.finish(budget, blocked)).await?;
        }
        if let Some(at_end) = self.at_end.take() {
            Box::pin(at_end.end(&mut self.pump)).await;
        }
        if self.framing == Framing::Chunked {
            Box::pin(self.io.write_all(LAST_CHUNK)).await?;
        }
        Ok(())
    }

    /// Returns the connection. Bytes that the client has sent during the stream become its unread input.
    fn end(self) -> ClientStream {
        let RunningStream { mut io, mut input, .. } = self;
        io.unread(input.take().freeze());
        io
    }

    /// Waits until the socket has accepted the rest of a write.
    async fn finish(&mut self, budget: &Arc<BufferBudget>, mut blocked: Box<Blocked>) -> io::Result<()> {
        let outcome = budget.write(blocked.buffer, self.io.write_all_buf(blocked.piece.rest())).await?;
        self.pump.wrote(outcome);
        Ok(())
    }

    /// Writes available bytes while the socket accepts them without waiting, and then parks. Ready with the bytes that
    /// the socket did not accept, or with `None` at the end of the stream.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Box<Blocked>>>> {
        loop {
            // First, the task takes the socket back. From this line on, the hub does not write to it, and the session
            // sends the rest of the hub's last write next.
            let rest = self.pump.unpark();
            if !rest.is_empty() {
                let buffer = BufferId::of(rest.whole());
                let rest = rest.whole().slice_ref(rest.bytes());
                return Poll::Ready(Ok(Blocked::new(Piece::new(Framing::Close, rest), buffer)));
            }
            let Poll::Ready(next) = self.poll_next(cx)? else {
                self.pump.park();
                return Poll::Pending;
            };
            let Some(bytes) = next else { return Poll::Ready(Ok(None)) };
            let buffer = BufferId::of(&bytes);
            let mut piece = Piece::new(self.framing, bytes);
            piece.write_now(&self.io)?;
            if !piece.is_written() {
                return Poll::Ready(Ok(Blocked::new(piece, buffer)));
            }
        }
    }

    /// The next bytes of the body; `None` at the end.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        loop {
            if let Poll::Ready(bytes) = self.pump.poll_next(cx) {
                return Poll::Ready(Ok(bytes));
            }
            if !self.is_open {
                return self.io.poll_reset(cx).map(|()| Err(io::ErrorKind::ConnectionReset.into()));
            }
            if self.input.len() >= READ_AHEAD {
                return Poll::Pending;
            }
            if std::task::ready!(self.io.poll_input(cx, &mut self.input))? == 0 {
                // The client has disconnected, or it has shut its sending side and still reads. A write shows which of
                // the two is true.
                self.is_open = false;
                self.pump.heartbeat();
            }
        }
    }
}

/// The bytes that the socket did not accept at once.
struct Blocked {
    piece: Piece,
    buffer: BufferId,
}

impl Blocked {
    fn new(piece: Piece, buffer: BufferId) -> Option<Box<Blocked>> {
        Some(Box::new(Blocked { piece, buffer }))
    }
}
