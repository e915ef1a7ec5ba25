//! The HTTP/1.1 fast path.

pub mod fast;
pub mod poll_template;
pub mod publish_template;
