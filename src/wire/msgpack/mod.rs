//! Reads MessagePack, as the emitters of Socket.IO write it.

mod json;
mod reader;
#[cfg(test)]
mod tests;
mod value;

pub use json::write_json;
pub use reader::{Dialect, Error, MAX_DEPTH, MAX_ITEMS, decode};
pub use value::Value;
