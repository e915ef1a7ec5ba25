//! What requests and responses have in common.

pub mod access_log;
pub mod peer;
pub mod request;
