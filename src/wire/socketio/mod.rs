//! Packets of Socket.IO 1 to 4, which Engine.IO carries as messages.
//!
//! [`packet`] and [`event`] read them, [`encode`] writes them, [`assembler`] joins a packet with its binary parts, and
//! [`placeholders`] finds the places of these parts in the JSON. Facts were read from the documents of the protocol
//! (versions 4 and 5) and from `socket.io-parser`. [`binary`] is the form of binary parts outside of Socket.IO.

pub mod assembler;
pub mod binary;
pub mod encode;
pub mod error;
pub mod event;
pub mod packet;
pub mod placeholders;

#[cfg(test)]
mod tests;
