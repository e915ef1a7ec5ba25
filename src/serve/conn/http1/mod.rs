//! HTTP/1.1: a fast path for plain requests, and hyper for all others.
//!
//! A connection moves between these states:
//!
//! ```text
//!           ┌────────────────── next request ◄──────────────────┐
//!           ▼                                                   │
//! accepted ─► fast path ── stream's head written ─► stream ─────┤
//!               │   │ └─── nothing to answer yet ─► long poll ──┘
//!               │   └───── not plain ─► hyper ──► stream, long poll or duplex session
//!               └───────── closed, or the server shuts down ─► end
//! ```

pub mod answers;
pub mod connection;
pub mod decided_by_head;
pub mod fast;
pub mod handover;
pub mod head_input;
pub mod hyper_adapter;
pub mod long_polls;
pub mod parse;
pub mod publish_template;
