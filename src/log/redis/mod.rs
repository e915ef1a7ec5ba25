//! The log in Redis: one stream, `P:log`.
//!
//! There are three connections: the [`tail`] blocks on the first, [`append`] uses the second, and [`ranges`] are read
//! on the third. Counts and the [`call_stream`] have connections of their own. All other keys of the log have names of
//! the form `{P:log}:…`, so they are in the same Cluster slot as the stream. Each script in `lua/` makes its changes in
//! one step.

mod abort_on_drop;
mod append;
mod call_stream;
mod config;
mod connection;
mod connections;
mod control_entries;
mod decode;
mod endpoint;
mod entry;
mod entry_fields;
mod error;
mod format;
mod format_gate;
mod functions;
#[cfg(fuzzing)]
pub mod fuzzing;
#[cfg(test)]
mod histories;
mod local_append;
mod message_log;
mod opening;
mod peers;
mod presence;
mod queue;
mod range_connection;
mod ranges;
mod read_history;
mod redis_log;
mod server_info;
mod sessions;
mod settings;
mod subscriber_counts;
mod tail;
mod told;
mod verify;

pub use call_stream::{CallStream, StreamCall, Unanswered};
pub use config::{Keys, RedisConfig};
pub(in crate::log) use connection::BRIDGE;
pub use connection::Connection;
pub use endpoint::{BadUrl, Endpoint};
pub(in crate::log) use entry::text;
pub(in crate::log) use entry_fields::{draft_fields, volatile_from_json};
pub use error::ScriptError;
pub use presence::RedisPresence;
pub use redis_log::RedisLog;
pub use sessions::RedisSessions;
pub use subscriber_counts::RedisSubscriberCounts;
pub use told::RedisTold;
