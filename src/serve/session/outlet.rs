//! A socket as the hub sees it, which writes to it while its task is parked; see `hub/direct.rs`.

use super::batch::Batch;
use super::long_poll::Answer;
use super::pump::{frames_size, write_frames};
use super::stream::{self, Framing};
use crate::cursor::Cursor;
use crate::hub::{Encoded, Kind, Outlet};
use crate::message::Message;
use crate::serve::net::socket::Socket;
use crate::transport::Envelope;
use std::io;
use std::sync::Arc;

/// A plain TCP socket behind a stream's head.
pub struct Direct {
    socket: Socket,
    envelope: Arc<dyn Envelope>,
    is_chunked: bool,
    /// Kept beside the rest: to ask the envelope would be another piece of memory a delivery.
    form: u32,
    lane: usize,
    is_bare: bool,
}

impl Direct {
    /// A way to write to this socket. `framing`: how the body is framed; `None` where there is no HTTP around it.
    /// `lane`: where its writes are counted.
    pub fn new(socket: Socket, envelope: Arc<dyn Envelope>, framing: Option<Framing>, lane: usize) -> Direct {
        let is_chunked = framing == Some(Framing::Chunked);
        let (before, after) = envelope.around();
        let is_bare = before.is_empty() && after.is_empty();
        // What stands behind a message goes with what stands before it.
        let form = envelope.encoding() as u32 * 2 + u32::from(is_chunked);
        Direct { socket, envelope, is_chunked, form, lane, is_bare }
    }
}

impl Outlet for Direct {
    fn kind(&self) -> Kind<'_> {
        let before = if self.is_bare { b"" } else { self.envelope.around().0 };
        Kind { form: self.form, before, lane: self.lane }
    }

    fn encode(&self, messages: &[Arc<Message>], _upto: Cursor) -> Encoded {
        let size = frames_size(&*self.envelope, messages);
        let write = |out: &mut Vec<u8>| match self.is_bare {
            true => messages.iter().for_each(|message| self.envelope.encoding().write(message, out)),
            // What stands around is of each client's choice, and the frame within is the same for many.
            false => write_frames(&*self.envelope, messages, out),
        };
        if self.is_chunked {
            let (bytes, weight) = stream::chunk(size, write);
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

/// A plain TCP socket whose client waits for the answer to a poll.
pub struct DirectAnswer {
    socket: Socket,
    envelope: Arc<dyn Envelope>,
    head: Arc<[u8]>,
    lane: usize,
}

impl DirectAnswer {
    /// A way to answer. `head`: what goes before each answer; the same bytes for all of whom the same is to be
    /// told. `None` where the envelope has a part of each client's own.
    pub fn new(socket: Socket, envelope: &Arc<dyn Envelope>, head: &Arc<[u8]>, lane: usize) -> Option<DirectAnswer> {
        let is_bare = envelope.around() == (b"", b"");
        is_bare.then(|| DirectAnswer { socket, envelope: envelope.clone(), head: head.clone(), lane })
    }
}

impl Outlet for DirectAnswer {
    fn kind(&self) -> Kind<'_> {
        Kind { form: ANSWERS + self.envelope.encoding() as u32, before: &self.head, lane: self.lane }
    }

    fn encode(&self, messages: &[Arc<Message>], upto: Cursor) -> Encoded {
        let batch = Batch { gap: None, messages: messages.to_vec(), cursor: upto, is_complete: true };
        let Answer { bytes, body } = Answer::new(&self.head, &*self.envelope, &batch, false);
        Encoded { bytes, weight: body }
    }

    fn prefetch(&self) -> i32 {
        self.socket.prefetch()
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.write_now(bytes)
    }
}

/// Forms from here on are answers; all others are streams'.
const ANSWERS: u32 = 1 << 16;
