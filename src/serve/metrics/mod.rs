//! What a node counts, and how `/metrics` shows it.

pub mod delivery;
pub mod exporter;
pub mod http2;
pub mod process;
pub mod rejections;
