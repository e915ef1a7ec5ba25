//! A stream as a connection: bytes in, bytes out, an end on either side.

use super::abuse::Guard;
use crate::serve::net::stream::Layer;
use bytes::{Buf, Bytes};
use h2::{RecvStream, SendStream};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// A stream whose answer has begun. Dropped before its end, it is reset.
pub struct StreamIo {
    send: SendStream<Bytes>,
    /// What the client sends after its request: a WebSocket's. `None` where it has nothing to send; its end of the stream
    /// is shut from the beginning then, and tells nothing.
    receive: Option<RecvStream>,
    unread: Bytes,
    guard: Guard,
    /// Since when the client takes nothing.
    waiting: Option<Instant>,
    is_shut: bool,
}

impl StreamIo {
    /// A stream, counted for as long as this lives.
    pub fn new(send: SendStream<Bytes>, receive: Option<RecvStream>, guard: Guard) -> StreamIo {
        StreamIo { send, receive, unread: Bytes::new(), guard, waiting: None, is_shut: false }
    }

    /// How much the client's windows take now.
    fn poll_room(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        self.send.reserve_capacity(wanted);
        loop {
            // Asked first: a wait is for news, and what is there already is none.
            let room = self.send.capacity();
            if room > 0 {
                return Poll::Ready(Ok(room.min(wanted)));
            }
            match ready!(self.send.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(to_io(error))),
                None => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            }
        }
    }
}

fn to_io(error: h2::Error) -> io::Error {
    if error.is_io() {
        return error.into_io().unwrap_or_else(|| io::ErrorKind::ConnectionReset.into());
    }
    io::ErrorKind::ConnectionReset.into()
}

impl Layer for StreamIo {
    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Option<Poll<()>> {
        // Also where the connection has failed.
        Some(self.send.poll_reset(cx).map(drop))
    }

    fn timed_out(&mut self) {
        if let Some(since) = self.waiting {
            self.guard.share().stalled(since);
        }
    }

    /// The connection stays, and what was handed over for this stream goes out.
    fn lingers(&self) -> bool {
        false
    }
}

impl AsyncRead for StreamIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let Some(receive) = &mut this.receive else {
            ready!(this.send.poll_reset(cx)).map_err(to_io)?;
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        while this.unread.is_empty() {
            match ready!(receive.poll_data(cx)) {
                Some(Ok(bytes)) => this.unread = bytes,
                Some(Err(error)) => return Poll::Ready(Err(to_io(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let n = this.unread.len().min(buf.remaining());
        buf.put_slice(&this.unread[..n]);
        this.unread.advance(n);
        // More may come for what was taken, and not before.
        receive.flow_control().release_capacity(n).map_err(to_io)?;
        this.guard.share().was_of_use(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for StreamIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let Poll::Ready(room) = self.poll_room(cx, buf.len()) else {
            self.waiting.get_or_insert_with(Instant::now);
            return Poll::Pending;
        };
        let room = room?;
        self.waiting = None;
        self.guard.share().took();
        self.send.send_data(Bytes::copy_from_slice(&buf[..room]), false).map_err(to_io)?;
        Poll::Ready(Ok(room))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What a window has room for is the connection's.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.is_shut, true) {
            self.send.send_data(Bytes::new(), true).map_err(to_io)?;
            self.guard.ended();
        }
        Poll::Ready(Ok(()))
    }
}
