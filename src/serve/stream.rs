//! Streams over HTTP/1: the pump writes to the socket itself.
//!
//! hyper reads the request and writes the head. Then the connection is taken from it: a parked reader
//! keeps no hyper state and no buffers, and a message goes out in one write from the bytes that all
//! readers share.

use super::budget::{Budget, Buffer, Pace};
use super::io::ClientIo;
use super::pump::Pump;
use bytes::{Buf, Bytes, BytesMut};
use hyper::Version;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use tokio::io::AsyncWriteExt;

/// Bytes of a next request that may wait for the end of a stream. More is not read.
const WAITING: usize = 16 << 10;

/// How a body's end is told (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// By a chunk of no bytes.
    Chunked,
    /// By the end of the connection (HTTP/1.0).
    Close,
}

impl Framing {
    /// What hyper's head has promised.
    pub fn of(version: Version) -> Framing {
        if version >= Version::HTTP_11 { Framing::Chunked } else { Framing::Close }
    }
}

/// Carries a stream to its end, within the memory there is. Answers what the client has sent meanwhile, for the next request.
///
/// # Errors
///
/// The client is gone, or takes nothing.
pub async fn run(io: &mut ClientIo, mut pump: Pump, framing: Framing, budget: &Arc<Budget>) -> io::Result<Bytes> {
    let mut input = BytesMut::new();
    let mut is_open = true;
    loop {
        let bytes = poll_fn(|cx| {
            loop {
                if let Poll::Ready(bytes) = pump.poll_next(cx) {
                    return Poll::Ready(io::Result::Ok(bytes));
                }
                if !is_open {
                    return io.poll_reset(cx).map(|()| Err(io::ErrorKind::ConnectionReset.into()));
                }
                if input.len() >= WAITING {
                    return Poll::Pending;
                }
                if std::task::ready!(io.poll_input(cx, &mut input))? == 0 {
                    // Gone, or listening on with its sending side shut: a write will tell.
                    is_open = false;
                    pump.heartbeat();
                }
            }
        });
        match (bytes.await?, framing) {
            (Some(bytes), _) => {
                let buffer = Buffer::of(&bytes);
                if budget.write(buffer, write(io, framing, bytes)).await? == Pace::Slow {
                    pump.send_away();
                }
            }
            (None, Framing::Close) => return Ok(input.freeze()),
            (None, Framing::Chunked) => {
                io.write_all(b"0\r\n\r\n").await?;
                return Ok(input.freeze());
            }
        }
    }
}

async fn write(io: &mut ClientIo, framing: Framing, bytes: Bytes) -> io::Result<()> {
    match framing {
        Framing::Close => io.write_all(&bytes).await,
        Framing::Chunked => write_chunk(io, bytes).await,
    }
}

/// One chunk (RFC 9112 §7.1).
async fn write_chunk(io: &mut ClientIo, bytes: Bytes) -> io::Result<()> {
    if bytes.is_empty() {
        // A chunk of no bytes would end the body.
        return Ok(());
    }
    let (head, at) = chunk_head(bytes.len());
    let written = write_flat(io, &head[at..], &bytes)?;
    let mut chunk = (&head[at..]).chain(bytes).chain(END);
    chunk.advance(written);
    if chunk.has_remaining() { io.write_all_buf(&mut chunk).await } else { Ok(()) }
}

const END: &[u8] = b"\r\n";

/// The longest chunk that is copied together.
const FLAT: usize = 2048;

/// Tries a small chunk as one flat write, which costs the kernel less than gathering three parts. A
/// function of its own, so that its buffer lies on the stack and not in every parked stream.
fn write_flat(io: &ClientIo, head: &[u8], bytes: &[u8]) -> io::Result<usize> {
    let mut flat = [0u8; FLAT];
    let whole = head.len() + bytes.len() + END.len();
    let Some(flat) = flat.get_mut(..whole) else { return Ok(0) };
    flat[..head.len()].copy_from_slice(head);
    flat[head.len()..whole - END.len()].copy_from_slice(bytes);
    flat[whole - END.len()..].copy_from_slice(END);
    io.write_now(flat)
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
