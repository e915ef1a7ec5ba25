//! Limits on connections, rates and memory.

pub mod connections;
pub mod memory;
pub mod rate_limiter;
pub mod token_bucket;
