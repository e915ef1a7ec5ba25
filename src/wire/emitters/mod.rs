//! What the emitters of Socket.IO `PUBLISH` in Redis, which applications use to reach the clients of a Socket.IO server.
//!
//! [`broadcast`] reads events of the emitters for Node and PHP, [`request`] their commands, and [`python`] both of
//! `python-socketio`. The result is a [`Publication`] in each case.

pub mod broadcast;
mod channel;
mod publication;
pub mod python;
pub mod request;
#[cfg(test)]
mod tests;

pub use publication::{Action, Error, Publication};
