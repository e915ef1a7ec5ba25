//! Longtail is a real-time push server that reaches every client.
//!
//! There is one log, and every transport is a reader with a cursor: polling, long polling, JSONP, the forever frame,
//! XHR streaming, multipart, Server-Sent Events, WebSocket and raw TCP differ only in framing and in the time at which
//! a response ends. A client may change to another transport, on another node, and continue from the same cursor.
//!
//! ```text
//! POST /publish ─┐
//! PUBLISH (Redis)├─► log ─► tail (one task a node) ─► hub: a ring a channel ─► pump ─► socket
//! XADD (Redis) ──┘                                          ▲
//!                     a poll, a resume, a slow reader: read the ring from a cursor
//! ```
//!
//! This page is for a program that runs a server inside itself: build a [`Config`], [bind](Server::bind) a [`Server`]
//! and [run](Server::run) it. `examples/embed.rs` is an example.
//!
//! ```no_run
//! # async fn embed() -> Result<(), Box<dyn std::error::Error>> {
//! let config = longtail::Config { heartbeat_seconds: 5, ..Default::default() };
//! let server = longtail::Server::bind(&config).await?;
//! server.run(std::future::pending()).await?;
//! # Ok(())
//! # }
//! ```
//!
//! The server logs with `tracing`. Clients can cause many log lines. To limit them, add a [`LogRateLimit`] to the
//! subscriber of the program, and spawn its `run`.
//!
//! Inside the crate, imports point in one direction: `program → server → serve → transport → hub → log → {cursor,
//! message}`; `wire` and `demo` do not import other modules of this crate.

mod cli;
mod config;
mod cursor;
#[cfg(feature = "demo")]
mod demo;
mod http_client;
mod hub;
mod line_writer;
mod log;
mod logging;
mod message;
mod program;
mod serve;
mod server;
mod signals;
mod systemd;
mod transport;
mod wire;

pub use config::{AccessFlags, AccessLogTo, AddressOrOff, BadConfig, Config, LogFormat, Secret};
pub use logging::RateLimit as LogRateLimit;
pub use server::{Reloader, RunError, Server, StartError};
pub use systemd::Sockets;

/// The parts of the server, for the binary, tests, benchmarks and the fuzzer. They may change without notice.
#[doc(hidden)]
pub mod internals {
    macro_rules! parts {
        ($($part:ident)*) => { $(pub mod $part { pub use crate::$part::*; })* };
    }

    parts! { cli config cursor hub log logging message program serve signals systemd transport wire }
    #[cfg(feature = "demo")]
    parts! { demo }
}
