//! Sockets as the hub sees them: it writes to them while their tasks are parked.

use super::batch::Batch;
use super::frames::{frames_size, write_frames};
use super::poll_answer::PollAnswer;
use crate::cursor::Cursor;
use crate::hub::{Encoded, Kind, Outlet};
use crate::message::Message;
use crate::serve::http::chunked::{self, Framing};
use crate::serve::net::socket::Socket;
use crate::transport::Envelope;
use std::io;
use std::sync::Arc;

/// The socket of a stream, without TLS or HTTP/2 on it.
pub struct StreamOutlet {
    socket: Socket,
    envelope: Arc<dyn Envelope>,
    is_chunked: bool,
    /// Encoding and framing as a number. Stored here, because asking the envelope would touch one more piece of memory for
    /// each delivery.
    form: u32,
    lane: usize,
    is_bare: bool,
}

impl StreamOutlet {
    /// An outlet to this socket. `framing`: the framing of the body; `None` without HTTP. `lane`: the index of the transport,
    /// for the metrics.
    pub fn new(socket: Socket, envelope: Arc<dyn Envelope>, framing: Option<Framing>, lane: usize) -> StreamOutlet {
        let is_chunked = framing == Some(Framing::Chunked);
        let (before, after) = envelope.around();
        let is_bare = before.is_empty() && after.is_empty();
        let form = envelope.encoding() as u32 * 2 + u32::from(is_chunked);
        StreamOutlet { socket, envelope, is_chunked, form, lane, is_bare }
    }
}

impl Outlet for StreamOutlet {
    fn kind(&self) -> Kind<'_> {
        let before = if self.is_bare { b"" } else { self.envelope.around().0 };
        Kind { form: self.form, before, lane: self.lane }
    }

    fn encode(&self, messages: &[Arc<Message>], _upto: Cursor) -> Encoded {
        let size = frames_size(&*self.envelope, messages);
        let write = |out: &mut Vec<u8>| match self.is_bare {
            true => messages.iter().for_each(|message| self.envelope.encoding().write(message, out)),
            // The client chooses what is around a message; the frame within is the same for many clients.
            false => write_frames(&*self.envelope, messages, out),
        };
        if self.is_chunked {
            let (bytes, weight) = chunked::chunk(size, write);
            return Encoded { bytes, weight };
        }
        let mut frames = Vec::with_capacity(size);
        write(&mut frames);
        Encoded { weight: frames.len(), bytes: frames.into() }
    }

    fn prefetch(&self) -> i32 {
        self.socket.prefetch()
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.write_now(bytes)
    }
}

/// The socket of a client that waits for the response to a long poll, without TLS or HTTP/2 on it.
pub struct PollOutlet {
    socket: Socket,
    envelope: Arc<dyn Envelope>,
    head: Arc<[u8]>,
    lane: usize,
}

impl PollOutlet {
    /// An outlet to this socket. `head`: the head of each response; the same bytes for all clients that get the same response.
    /// `None` if the envelope has a part of its own for each client.
    pub fn new(socket: Socket, envelope: &Arc<dyn Envelope>, head: &Arc<[u8]>, lane: usize) -> Option<PollOutlet> {
        let is_bare = envelope.around() == (b"", b"");
        is_bare.then(|| PollOutlet { socket, envelope: envelope.clone(), head: head.clone(), lane })
    }
}

impl Outlet for PollOutlet {
    fn kind(&self) -> Kind<'_> {
        Kind { form: ANSWERS + self.envelope.encoding() as u32, before: &self.head, lane: self.lane }
    }

    fn encode(&self, messages: &[Arc<Message>], upto: Cursor) -> Encoded {
        let batch = Batch { gap: None, messages: messages.to_vec(), cursor: upto, is_complete: true };
        let PollAnswer { bytes, body } = PollAnswer::new(&self.head, &*self.envelope, &batch, false);
        Encoded { bytes, weight: body }
    }

    fn prefetch(&self) -> i32 {
        self.socket.prefetch()
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.write_now(bytes)
    }
}

/// Forms from here on are responses to polls; smaller ones are streams.
const ANSWERS: u32 = 1 << 16;
