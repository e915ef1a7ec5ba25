//! Socket.IO: pages that use `socket.io-client`, without a change.
//!
//! A *socket* of Socket.IO is one namespace of one connection. It is a client session: its endpoint is the namespace,
//! its client id is the public id of the socket, and its rooms are channels. Engine.IO is the layer below: a connection
//! over a WebSocket ([`connection`]), or over polls ([`poll`], [`post`]). The sockets of a WebSocket are in [`sockets`]. A
//! connection that polls has a [`record`], which every node reads, or brings what the record would have in a [`sealed`] id. So
//! its requests may reach any node.

mod actions;
mod browser_client;
mod claim;
mod connection;
mod emitters;
mod encodings;
mod endpoint;
mod endpoint09;
mod entries;
mod envelope;
mod framing;
mod get;
mod heartbeat;
mod input;
mod input09;
mod json_bytes;
mod metrics;
mod offer;
mod opening;
mod packets;
mod payload;
mod poll;
mod post;
mod post_connect;
mod reading;
mod record;
mod recovery;
mod request;
mod requested;
mod resumed;
mod sealed;
mod sealed_get;
pub mod settings;
mod shared;
mod sockets;
mod transports;
mod upgrade;

pub use browser_client::BrowserClient;
pub use emitters::{EMITTER_PATTERNS, Intake as EmitterIntake};
pub use endpoint::SocketIo;
#[cfg(fuzzing)]
pub use sealed::connection_again;
pub use transports::TRANSPORTS;
