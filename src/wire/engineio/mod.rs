//! Engine.IO, the layer below Socket.IO: packets in poll answers, in posts and in WebSocket frames.
//!
//! Version 4 is the version of Socket.IO 3 and 4, version 3 that of Socket.IO 1 and 2. The browser bundles of
//! Socket.IO 1.0.0 to 1.0.6 say `EIO=2` and speak version 3. Facts were read from the protocol's documents and from
//! `engine.io-parser`.
//!
//! The encoders write single packets, so that a message is encoded once and all its readers share the bytes. The packets
//! of a payload stand one after the other: in version 4 with [`v4::SEPARATOR`] between them, in version 3 without bytes
//! between them. [`jsonp::escape`] of a payload is the sum of the escapes of its packets.

pub mod handshake;
pub mod jsonp;
pub mod octets;
mod packet;
#[cfg(test)]
mod tests;
pub mod utf8;
pub mod v3;
pub mod v4;

pub use packet::{Data, Error, Packet, PacketType};
