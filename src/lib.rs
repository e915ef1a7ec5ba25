//! Longtail is a real-time push server that reaches every client.
//!
//! There is one [log](log), and every [transport](transport) is a reader with a [cursor]:
//! polling, long polling, JSONP, the forever frame, XHR streaming, multipart, Server-Sent Events,
//! WebSocket and raw TCP differ in framing and in when a response ends, and in nothing else. A client
//! may stop on one and go on with another, on another node, from the same cursor.
//!
//! ```text
//! POST /publish ─┐
//! PUBLISH (Redis)├─► log ─► tail (one task a node) ─► hub: a ring a channel ─► pump ─► socket
//! XADD (Redis) ──┘                                          ▲
//!                     a poll, a resume, a slow reader: read the ring from a cursor
//! ```
//!
//! Imports point one way: `main → serve → transport → hub → log → {cursor, message}`; `wire` and
//! `demo` import nothing of ours.

pub mod cli;
pub mod config;
pub mod cursor;
#[cfg(feature = "demo")]
pub mod demo;
mod http_client;
pub mod hub;
pub mod log;
pub mod logging;
pub mod message;
pub mod serve;
pub mod service;
pub mod transport;
pub mod wire;

mod server;

pub use config::Config;
pub use server::{Reloader, RunError, Server, StartError};
