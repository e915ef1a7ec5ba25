//! The transports: ways to read the log. Transports differ only in framing and in the time at which a response ends, so
//! a transport is a [`Transport`] in a file of its own and an entry in [`ALL`].
//!
//! This module does not do I/O: a transport defines the bytes, and `serve` moves them.

pub mod batch;
pub mod client_event;
pub mod command;
pub mod control;
pub mod encoding;
pub mod error;
pub mod hixie;
pub mod json_commands;
pub mod page;
pub mod params;
pub mod publication;

mod decode;
mod envelope;
mod padding;
#[expect(clippy::module_inception, reason = "the folder is named after its main trait")]
mod transport;

mod forever_frame;
mod jsonp;
mod long_poll;
mod multipart;
mod ndjson;
mod poll;
mod sse;
mod tcp;
mod websocket;
mod xhr_stream;

pub use batch::{Batch, BatchSession};
pub use client_event::{ClientAck, ClientEvent, EventFields};
pub use command::{Command, Dialect, Subscribe};
pub use control::{CloseReason, Control};
pub use decode::{Decode, Input, ProtocolViolation};
pub use envelope::Envelope;
pub use error::{ApiError, Code};
pub use params::{Params, WantedSession};
pub use transport::{Accepted, Lifecycle, RequestHead, Transport};
pub use websocket::FrameDecoder;

/// All transports, sorted by age. The oldest one comes first.
pub const ALL: &[&dyn Transport] = &[
    &tcp::Tcp,
    &poll::Poll,
    &forever_frame::ForeverFrame,
    &multipart::Multipart,
    &xhr_stream::XhrStream,
    &long_poll::LongPoll,
    &jsonp::Jsonp,
    &sse::Sse,
    &websocket::WebSocket,
    &ndjson::Ndjson,
];

/// Looks up a transport by its path.
pub fn by_path(path: &str) -> Option<&'static dyn Transport> {
    let name = path.strip_prefix('/')?;
    ALL.iter().copied().find(|transport| transport.name() == name && transport.has_path())
}

/// The transport with a port of its own.
pub fn socket() -> Option<&'static dyn Transport> {
    ALL.iter().copied().find(|transport| !transport.has_path())
}
