//! Body framing of HTTP/1.1: chunks (RFC 9112 §7.1), or bytes up to the end of the connection.

use crate::serve::net::stream::ClientStream;
use bytes::buf::Chain;
use bytes::{Buf, Bytes};
use hyper::Version;
use smallvec::SmallVec;
use std::io;

/// How the end of a body is marked (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// An empty chunk marks the end.
    Chunked,
    /// The end of the connection (HTTP/1.0) or of the stream (HTTP/2) marks the end.
    Close,
}

impl Framing {
    /// The framing of a stream's response to a request of this version.
    pub fn of(version: Version) -> Framing {
        if version == Version::HTTP_11 { Framing::Chunked } else { Framing::Close }
    }
}

/// The last chunk, which ends a body.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// The maximum length of a chunk's head.
const HEAD: usize = 18;

const END: &[u8] = b"\r\n";

/// Makes a chunk of the content that `write` writes, which is about `size` bytes. Returns the chunk and the size of its
/// content. If `write` writes nothing, no bytes are returned, since an empty chunk would end the body.
///
/// The buffer leaves space for the chunk's head before the content, because the length of the head depends on the
/// content. Nothing is copied.
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

/// The longest chunk that is copied into one flat buffer.
const FLAT: usize = 2048;

/// A piece of a body as it goes to the socket: a chunk, or bytes as they are.
pub struct Piece(Chain<Chain<Bytes, Bytes>, &'static [u8]>);

impl Piece {
    /// Frames bytes.
    pub fn new(framing: Framing, bytes: Bytes) -> Piece {
        // An empty chunk would end the body.
        if framing == Framing::Close || bytes.is_empty() {
            return Piece(Bytes::new().chain(bytes).chain(&[]));
        }
        let (head, at) = chunk_head(bytes.len());
        Piece(Bytes::copy_from_slice(&head[at..]).chain(bytes).chain(END))
    }

    /// Tries to write a small piece from one flat buffer: this costs the kernel less than collecting three parts. Bytes
    /// that the socket does not accept stay in the piece.
    ///
    /// This is a function of its own so that the buffer lies on the stack and not in the future of each parked stream.
    ///
    /// # Errors
    ///
    /// The system reports an error of the socket.
    pub fn write_now(&mut self, io: &ClientStream) -> io::Result<()> {
        if self.0.remaining() > FLAT {
            return Ok(());
        }
        // Unlike an array, it does not have to be filled with zeros first.
        let mut flat = SmallVec::<[u8; FLAT]>::new();
        flat.extend_from_slice(self.0.first_ref().first_ref());
        flat.extend_from_slice(self.0.first_ref().last_ref());
        flat.extend_from_slice(self.0.last_ref());
        self.0.advance(io.write_now(&flat)?);
        Ok(())
    }

    /// Whether the whole piece was written.
    pub fn is_written(&self) -> bool {
        !self.0.has_remaining()
    }

    /// The part that is not written yet.
    pub fn rest(&mut self) -> &mut impl Buf {
        &mut self.0
    }
}

/// Writes a chunk's size in hexadecimal and a line end to the end of an array.
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
