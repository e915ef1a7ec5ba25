//! Socket.IO 0.9 (protocol 1), which does not have Engine.IO below it.
//!
//! A packet is `type:[id[+]]:[endpoint][:data]`. A WebSocket frame holds one packet. The bodies of polls and posts hold
//! packets one after the other, each in [a frame of U+FFFD](framing). Facts were read from `socket.io` 0.9.19 and its
//! specification.

pub mod encode;
pub mod error;
pub mod framing;
pub mod handshake;
pub mod packet;
pub mod pages;

#[cfg(test)]
mod tests;
