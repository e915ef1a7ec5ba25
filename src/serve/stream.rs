//! Streams over HTTP/1: the pump writes to the socket itself.
//!
//! hyper reads the request and writes the head. Then the connection is taken from it: a parked reader
//! keeps no hyper state and no buffers, and a message goes out in one write from the bytes that all
//! readers share.

use super::budget::{Budget, Buffer};
use super::io::ClientIo;
use super::pump::Pump;
use crate::hub::Rest;
use bytes::buf::Chain;
use bytes::{Buf, Bytes, BytesMut};
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

/// Carries a stream to its end, within the memory there is. Answers what the client has sent meanwhile, for the next request.
///
/// # Errors
///
/// The client is gone, or takes nothing.
pub async fn run(io: &mut ClientIo, pump: &mut Pump, framing: Framing, budget: &Arc<Budget>) -> io::Result<Bytes> {
    let mut input = BytesMut::new();
    let mut is_open = true;
    loop {
        let next = poll_fn(|cx| {
            let rest = pump.unpark();
            if !rest.is_empty() {
                return Poll::Ready(Ok(Next::Rest(rest)));
            }
            let next = poll_next(cx, io, pump, &mut input, &mut is_open);
            if next.is_pending() {
                pump.park();
            }
            next
        });
        // A write that has to wait is a future of its own, made when there is one: a parked stream does not keep
        // room for it.
        match next.await? {
            Next::Rest(rest) => {
                pump.wrote(Box::pin(budget.write(Buffer::of(rest.whole()), io.write_all(rest.bytes()))).await?);
            }
            Next::Piece(bytes) => {
                let buffer = Buffer::of(&bytes);
                let mut piece = Piece::new(framing, bytes);
                piece.write_now(io)?;
                if piece.0.has_remaining() {
                    pump.wrote(Box::pin(budget.write(buffer, io.write_all_buf(&mut piece.0))).await?);
                }
            }
            Next::End => {
                if framing == Framing::Chunked {
                    Box::pin(io.write_all(b"0\r\n\r\n")).await?;
                }
                return Ok(input.freeze());
            }
        }
    }
}

/// What is to be written.
enum Next {
    /// As it stands.
    Rest(Rest),
    /// As a chunk, where there are chunks.
    Piece(Bytes),
    End,
}

fn poll_next(
    cx: &mut Context<'_>,
    io: &mut ClientIo,
    pump: &mut Pump,
    input: &mut BytesMut,
    is_open: &mut bool,
) -> Poll<io::Result<Next>> {
    loop {
        if let Poll::Ready(bytes) = pump.poll_next(cx) {
            return Poll::Ready(Ok(bytes.map_or(Next::End, Next::Piece)));
        }
        if !*is_open {
            return io.poll_reset(cx).map(|()| Err(io::ErrorKind::ConnectionReset.into()));
        }
        if input.len() >= WAITING {
            return Poll::Pending;
        }
        if std::task::ready!(io.poll_input(cx, input))? == 0 {
            // Gone, or listening on with its sending side shut: a write will tell.
            *is_open = false;
            pump.heartbeat();
        }
    }
}

/// A whole chunk (RFC 9112 §7.1); of no bytes it is none, since that would end the body.
pub fn chunk(bytes: &[u8]) -> Vec<u8> {
    if bytes.is_empty() {
        return Vec::new();
    }
    let (head, at) = chunk_head(bytes.len());
    [&head[at..], bytes, END].concat()
}

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
fn chunk_head(size: usize) -> ([u8; 18], usize) {
    let mut head = [0u8; 18];
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
}
