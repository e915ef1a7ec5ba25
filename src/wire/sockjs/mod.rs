//! SockJS: its frames, the messages of its clients, its paths and its pages.
//!
//! A frame is a letter and an optional JSON array: `o` opens a session, `h` is a heartbeat, `a["x"]` has messages, and
//! `c[3000,"Go away!"]` closes. Each transport puts its own bytes around a frame. All messages are texts.

pub mod frame;
pub mod messages;
pub mod page;
pub mod path;
pub mod transport;

#[cfg(test)]
mod tests;
