//! Presence on this node: which users read which channels, and who else does.

pub mod connections;
pub mod metrics;
pub mod service;
pub mod stay;
