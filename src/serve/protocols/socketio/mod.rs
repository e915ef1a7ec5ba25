//! Socket.IO: pages that use `socket.io-client`, without a change.
//!
//! A *socket* of Socket.IO is one namespace of one connection. It is a client session: its endpoint is the namespace,
//! its client id is the public id of the socket, and its rooms are channels. Engine.IO is the layer below: a connection
//! over a WebSocket ([`connection`]), or over polls ([`poll`], [`post`]). The sockets of a WebSocket are in [`sockets`]. A
//! connection that polls has a [`record`], which every node reads, so its requests may reach any node.

mod actions;
mod answers;
mod connection;
mod encodings;
mod endpoint;
mod entries;
mod envelope;
mod framing;
mod heartbeat;
mod input;
mod metrics;
mod opening;
mod payload;
mod poll;
mod post;
mod record;
mod request;
pub mod settings;
mod shared;
mod sockets;
mod transports;
mod upgrade;

pub use endpoint::SocketIo;
pub use transports::TRANSPORTS;
