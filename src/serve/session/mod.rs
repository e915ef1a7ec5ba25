//! Sessions: responses that continue over many messages after their head.

pub mod attached;
pub mod batch;
pub mod commands;
pub mod duplex;
pub mod duplex_event;
pub mod entry_filter;
pub mod frames;
mod hixie_handshake;
pub mod long_poll;
pub mod open;
pub mod opening;
pub mod outlet;
mod own_frames;
pub mod pending;
pub mod poll_answer;
pub mod poll_cache;
pub mod poll_template;
pub mod protocol_commands;
pub mod protocol_stream;
pub mod pump;
pub mod record;
#[expect(clippy::module_inception, reason = "the folder is named after its main type")]
pub mod session;
pub mod stream;
pub mod stream_settings;
pub mod task;
