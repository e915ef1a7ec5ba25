//! The parts of HTTP that all handlers and sessions need: requests, heads, framing, the peer and the access log.

pub mod access_log;
pub mod body;
pub mod chunked;
pub mod date;
pub mod head;
pub mod head_template;
pub mod headers;
pub mod peer;
pub mod request;
pub mod upgrade;
