//! A TCP connection under a TLS layer. It counts the bytes of an incomplete handshake or record, which TLS holds until
//! the rest arrives.

use crate::serve::limits::memory::{BufferBudget, Reservation};
use crate::serve::net::socket::Socket;
use crate::serve::net::tls::BelowTls;
use crate::serve::net::write_through::write_through;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, ReadBuf};

/// The length of a record's head (RFC 8446 §5.1).
const HEAD: usize = 5;

/// A TCP connection that counts the bytes that TLS holds.
pub struct TlsInput {
    socket: Socket,
    input: Input,
    held: Reservation,
}

/// The bytes that TLS may hold, by phase.
enum Input {
    /// The phase of the handshake. TLS may hold all bytes of the handshake, since its messages may span any number of
    /// records.
    Handshake(usize),
    /// The phase after the handshake. TLS holds at most one incomplete record.
    Records(Records),
}

/// Reads the heads of the records of a connection.
#[derive(Default)]
struct Records {
    head: [u8; HEAD],
    /// The number of bytes of the head that were read.
    begun: u8,
    /// The number of bytes of the record that have not arrived.
    rest: u16,
}

impl Records {
    fn read(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let begun = usize::from(self.begun);
            if begun < HEAD {
                let taken = (HEAD - begun).min(bytes.len());
                self.head[begun..begun + taken].copy_from_slice(&bytes[..taken]);
                self.begun += taken as u8;
                self.rest = self.length();
                bytes = &bytes[taken..];
            } else {
                let taken = bytes.len().min(self.rest.into());
                self.rest -= taken as u16;
                bytes = &bytes[taken..];
            }
            if usize::from(self.begun) == HEAD && self.rest == 0 {
                self.begun = 0;
            }
        }
    }

    /// The length of the record without its head, once the head is complete.
    fn length(&self) -> u16 {
        if usize::from(self.begun) < HEAD { 0 } else { u16::from_be_bytes([self.head[3], self.head[4]]) }
    }

    fn held(&self) -> usize {
        usize::from(self.begun) + usize::from(self.length() - self.rest)
    }
}

impl TlsInput {
    /// Makes a connection whose bytes in the TLS layer count against a budget.
    pub fn new(socket: Socket, budget: &Arc<BufferBudget>) -> TlsInput {
        TlsInput { socket, input: Input::Handshake(0), held: budget.reservation() }
    }

    /// Counts the held bytes when there are no more bytes to read now.
    fn hold(&mut self) -> io::Result<()> {
        let bytes = match &self.input {
            // TLS holds these bytes twice: as they arrived, and joined into a message.
            Input::Handshake(read) => 2 * read,
            Input::Records(records) => records.held(),
        };
        self.held.resize(bytes).map_err(|_| io::ErrorKind::OutOfMemory.into())
    }
}

impl BelowTls for TlsInput {
    fn handshake_done(&mut self) {
        self.input = Input::Records(Records::default());
        // A smaller reservation always succeeds.
        let _ = self.held.resize(0);
    }
}

impl AsyncRead for TlsInput {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.socket).poll_read(cx, buf);
        if read.is_pending() {
            this.hold()?;
        }
        ready!(read)?;
        let new = &buf.filled()[before..];
        match &mut this.input {
            Input::Handshake(read) => *read += new.len(),
            Input::Records(records) => records.read(new),
        }
        Poll::Ready(Ok(()))
    }
}

write_through!(TlsInput, socket);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_incomplete_record_is_held() {
        let record = |length: u16| [&[23, 3, 3][..], &length.to_be_bytes(), &vec![0; length.into()]].concat();
        let whole = [record(0), record(16_400), record(3)].concat();
        for piece in [1, 4, 5, 4096, 100_000] {
            let mut records = Records::default();
            whole.chunks(piece).for_each(|part| records.read(part));
            assert_eq!(records.held(), 0, "pieces of {piece}");
            let next = record(1000);
            for (read, byte) in next.iter().enumerate() {
                assert_eq!(records.held(), read, "pieces of {piece}");
                records.read(&[*byte]);
            }
            assert_eq!(records.held(), 0, "pieces of {piece}");
        }
    }
}
