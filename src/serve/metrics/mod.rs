//! The counters of a node, and their export for `/metrics`.

pub mod delivery;
pub mod exporter;
pub mod http2;
pub mod process;
pub mod rejections;
