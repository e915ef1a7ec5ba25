//! An HTTP/2 stream as a layer of a client stream. It can be read and written, and each side can be closed.

use super::abuse::StreamGuard;
use crate::serve::net::stream::Layer;
use bytes::{Buf, Bytes};
use h2::{RecvStream, SendStream};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// A stream whose response has begun. If this value is dropped before the stream has ended, the stream is reset.
pub struct StreamIo {
    send: SendStream<Bytes>,
    /// The bytes that a WebSocket client sends after its request. `None` for other requests: their clients have shut
    /// the sending side already, so the end of the input does not mean that the client has vanished.
    receive: Option<RecvStream>,
    unread: Bytes,
    guard: StreamGuard,
    /// The time since which the client has not accepted any bytes.
    stalled_since: Option<Instant>,
    is_shut: bool,
}

impl StreamIo {
    /// Wraps a stream. The stream counts as open while this value exists.
    pub fn new(send: SendStream<Bytes>, receive: Option<RecvStream>, guard: StreamGuard) -> StreamIo {
        StreamIo { send, receive, unread: Bytes::new(), guard, stalled_since: None, is_shut: false }
    }

    /// The number of bytes that the client's flow control windows accept now.
    fn poll_window(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        self.send.reserve_capacity(wanted);
        loop {
            // The capacity is checked first: `poll_capacity` waits for a change and does not report capacity that is
            // already available.
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
        // `poll_reset` is also ready if the connection has failed.
        Some(self.send.poll_reset(cx).map(drop))
    }

    fn timed_out(&mut self) {
        if let Some(since) = self.stalled_since {
            self.guard.connection().stalled(since);
        }
    }

    /// The connection stays open, and will send the bytes that this stream has handed over.
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
        // The flow control window opens again only for bytes that were read.
        receive.flow_control().release_capacity(n).map_err(to_io)?;
        this.guard.connection().was_useful(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for StreamIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let Poll::Ready(room) = self.poll_window(cx, buf.len()) else {
            self.stalled_since.get_or_insert_with(Instant::now);
            return Poll::Pending;
        };
        let room = room?;
        self.stalled_since = None;
        self.guard.connection().accepted();
        self.send.send_data(Bytes::copy_from_slice(&buf[..room]), false).map_err(to_io)?;
        Poll::Ready(Ok(room))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection sends the bytes that the window allows.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.is_shut, true) {
            self.send.send_data(Bytes::new(), true).map_err(to_io)?;
            self.guard.completed();
        }
        Poll::Ready(Ok(()))
    }
}
