//! Streams over HTTP/1: the pump writes to the socket itself.
//!
//! hyper reads the request and writes the head. Then the connection is taken from it: a parked reader
//! keeps no hyper state and no buffers, and a message goes out in one write from the bytes that all
//! readers share.

use super::pump::Pump;
use crate::serve::limits::memory::{Budget, Buffer};
use crate::serve::net::stream::{ClientIo, Unread};
use bytes::buf::Chain;
use bytes::{Buf, Bytes};
use hyper::Version;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::AsyncWriteExt;

/// Bytes of a next request that may wait for the end of a stream. More is not read.
const WAITING: usize = 16 << 10;

/// How a body's end is told (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// By a chunk of no bytes.
    Chunked,
    /// By the end of the connection (HTTP/1.0), or of the stream (HTTP/2).
    Close,
}

impl Framing {
    /// What hyper's head has promised.
    pub fn of(version: Version) -> Framing {
        if version == Version::HTTP_11 { Framing::Chunked } else { Framing::Close }
    }
}

/// A stream on its way to its client.
pub struct Streaming {
    io: ClientIo,
    pump: Pump,
    /// What the client has sent meanwhile, for the next request.
    input: Unread,
    framing: Framing,
    is_open: bool,
}

impl Streaming {
    /// Behind its head, which has promised this framing.
    pub fn new(io: ClientIo, pump: Pump, framing: Framing) -> Streaming {
        Streaming { io, pump, input: Unread::default(), framing, is_open: true }
    }

    /// Carries it to its end, within the memory there is.
    ///
    /// # Errors
    ///
    /// The client is gone, or takes nothing.
    pub async fn run(&mut self, budget: &Arc<Budget>) -> io::Result<()> {
        while let Some(blocked) = poll_fn(|cx| self.poll_write(cx)).await? {
            // What has to wait is a future of its own, made when there is one: a parked stream does not keep
            // room for it.
            Box::pin(self.finish(budget, blocked)).await?;
        }
        if self.framing == Framing::Chunked {
            Box::pin(self.io.write_all(b"0\r\n\r\n")).await?;
        }
        Ok(())
    }

    /// The connection behind its end, with what the client has sent meanwhile.
    pub fn end(self) -> ClientIo {
        let Streaming { mut io, mut input, .. } = self;
        io.unread(input.take().freeze());
        io
    }

    /// Waits until the socket has taken it.
    async fn finish(&mut self, budget: &Arc<Budget>, mut blocked: Box<Blocked>) -> io::Result<()> {
        let written = budget.write(blocked.buffer, self.io.write_all_buf(&mut blocked.piece.0)).await?;
        self.pump.wrote(written);
        Ok(())
    }

    /// Writes what there is, as far as the socket takes it at once, and parks behind that. Ready with what it does not
    /// take, or with nothing at the end.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Box<Blocked>>>> {
        loop {
            let rest = self.pump.unpark();
            if !rest.is_empty() {
                let buffer = Buffer::of(rest.whole());
                let rest = rest.whole().slice_ref(rest.bytes());
                return Poll::Ready(Ok(Blocked::new(Piece::new(Framing::Close, rest), buffer)));
            }
            let Poll::Ready(next) = self.poll_next(cx)? else {
                self.pump.park();
                return Poll::Pending;
            };
            let Some(bytes) = next else { return Poll::Ready(Ok(None)) };
            let buffer = Buffer::of(&bytes);
            let mut piece = Piece::new(self.framing, bytes);
            piece.write_now(&self.io)?;
            if piece.0.has_remaining() {
                return Poll::Ready(Ok(Blocked::new(piece, buffer)));
            }
        }
    }

    /// What is to be written next; nothing at the end.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        loop {
            if let Poll::Ready(bytes) = self.pump.poll_next(cx) {
                return Poll::Ready(Ok(bytes));
            }
            if !self.is_open {
                return self.io.poll_reset(cx).map(|()| Err(io::ErrorKind::ConnectionReset.into()));
            }
            if self.input.len() >= WAITING {
                return Poll::Pending;
            }
            if std::task::ready!(self.io.poll_input(cx, &mut self.input))? == 0 {
                // Gone, or listening on with its sending side shut: a write will tell.
                self.is_open = false;
                self.pump.heartbeat();
            }
        }
    }
}

/// What the socket did not take at once.
struct Blocked {
    piece: Piece,
    buffer: Buffer,
}

impl Blocked {
    fn new(piece: Piece, buffer: Buffer) -> Option<Box<Blocked>> {
        Some(Box::new(Blocked { piece, buffer }))
    }
}

/// A whole chunk (RFC 9112 §7.1) of what is written, about `size` bytes, and how many these were; of no bytes it is none,
/// since that would end the body. They are written behind room for the head, which is known last, and not copied.
pub fn chunk(size: usize, write: impl FnOnce(&mut Vec<u8>)) -> (Bytes, usize) {
    let mut chunk = Vec::with_capacity(HEAD + size + END.len());
    chunk.resize(HEAD, 0);
    write(&mut chunk);
    let size = chunk.len() - HEAD;
    if size == 0 {
        return (Bytes::new(), 0);
    }
    let (head, at) = chunk_head(size);
    chunk[..HEAD].copy_from_slice(&head);
    chunk.extend_from_slice(END);
    (Bytes::from(chunk).slice(at..), size)
}

/// The longest head of a chunk.
const HEAD: usize = 18;

const END: &[u8] = b"\r\n";

/// The longest chunk that is copied together.
const FLAT: usize = 2048;

/// What is written of a body at a time: a chunk (RFC 9112 §7.1), or bytes as they are.
struct Piece(Chain<Chain<Bytes, Bytes>, &'static [u8]>);

impl Piece {
    fn new(framing: Framing, bytes: Bytes) -> Piece {
        // A chunk of no bytes would end the body.
        if framing == Framing::Close || bytes.is_empty() {
            return Piece(Bytes::new().chain(bytes).chain(&[]));
        }
        let (head, at) = chunk_head(bytes.len());
        Piece(Bytes::copy_from_slice(&head[at..]).chain(bytes).chain(END))
    }

    /// Tries a small one as one flat write, which costs the kernel less than gathering three parts. A
    /// function of its own, so that its buffer lies on the stack and not in every parked stream.
    fn write_now(&mut self, io: &ClientIo) -> io::Result<()> {
        let mut flat = [0u8; FLAT];
        let Some(flat) = flat.get_mut(..self.0.remaining()) else { return Ok(()) };
        let mut at = 0;
        for part in [self.0.first_ref().first_ref(), self.0.first_ref().last_ref()]
            .map(|part| &part[..])
            .into_iter()
            .chain([*self.0.last_ref()])
        {
            flat[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        self.0.advance(io.write_now(flat)?);
        Ok(())
    }
}

/// The size in hexadecimal and a line end, at the end of an array.
fn chunk_head(size: usize) -> ([u8; HEAD], usize) {
    let mut head = [0u8; HEAD];
    let mut at = head.len() - END.len();
    head[at..].copy_from_slice(END);
    let mut rest = size;
    while rest > 0 {
        at -= 1;
        head[at] = b"0123456789abcdef"[rest & 15];
        rest >>= 4;
    }
    (head, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunk_heads() {
        for size in [1, 9, 15, 16, 255, 256, 65_536, usize::MAX] {
            let (head, at) = chunk_head(size);
            assert_eq!(head[at..], *format!("{size:x}\r\n").as_bytes());
        }
    }

    #[test]
    fn a_chunk_is_made_in_place() {
        for size in [1, 15, 16, 300, 70_000] {
            let bytes = vec![b'x'; size];
            let expected = [format!("{size:x}\r\n").as_bytes(), &bytes, b"\r\n"].concat();
            assert_eq!(chunk(0, |out| out.extend_from_slice(&bytes)), (expected.into(), size));
        }
        assert_eq!(chunk(10, |_| {}), (Bytes::new(), 0));
    }
}
