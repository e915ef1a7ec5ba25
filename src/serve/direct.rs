//! A socket as the hub sees it, which writes to it while its task is parked; see `hub/direct.rs`.

use super::pump::{frames_size, write_frames};
use super::stream::{self, Framing};
use crate::hub::{Encoded, Kind, Outlet};
use crate::message::Message;
use crate::transport::Envelope;
use std::io;
use std::sync::Arc;
use tokio::net::TcpStream;

/// A plain TCP socket behind a stream's head.
pub struct Direct {
    stream: Arc<TcpStream>,
    envelope: Arc<dyn Envelope>,
    /// How the body is framed; `None` where there is no HTTP around it.
    framing: Option<Framing>,
}

impl Direct {
    /// A way to write to this socket.
    pub fn new(stream: Arc<TcpStream>, envelope: Arc<dyn Envelope>, framing: Option<Framing>) -> Direct {
        Direct { stream, envelope, framing }
    }

    fn is_chunked(&self) -> bool {
        self.framing == Some(Framing::Chunked)
    }
}

impl Outlet for Direct {
    fn kind(&self) -> Kind<'_> {
        // What stands behind a message goes with what stands before it.
        let form = self.envelope.encoding() as u32 * 2 + u32::from(self.is_chunked());
        Kind { form, before: self.envelope.around().0 }
    }

    fn encode(&self, messages: &[Arc<Message>]) -> Encoded {
        let mut frames = Vec::with_capacity(frames_size(&*self.envelope, messages));
        write_frames(&*self.envelope, messages, &mut frames);
        let weight = frames.len();
        let bytes = if self.is_chunked() { stream::chunk(&frames) } else { frames };
        Encoded { bytes: bytes.into(), weight }
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.try_write(bytes)
    }
}
