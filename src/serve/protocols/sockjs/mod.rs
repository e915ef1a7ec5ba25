//! SockJS: pages that use `sockjs-client`, without a change.
//!
//! A prefix is a path that stands for channels: its clients read them. A session over HTTP is the [record](record) of a
//! connection, which every node reads: the position up to which its client has read, and the request that reads at the
//! moment. So each request may reach another node. A session over a WebSocket needs no record.
//!
//! The transports over HTTP ([`framing`], [`receivers`]) do not depend on the messages, so another protocol can put its
//! own ones into the same frames.

mod admission;
mod encodings;
mod endpoint;
mod envelope;
mod framing;
mod headers;
mod messages;
mod metrics;
mod pages;
mod receive;
mod receivers;
mod record;
mod request;
mod send;
pub mod settings;
mod shared;
mod socket;
mod transports;

pub use endpoint::SockJs;
pub use transports::TRANSPORTS;
