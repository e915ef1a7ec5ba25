//! STOMP 1.0, 1.1 and 1.2: frames of a command, headers and a body, in both directions.

pub mod encode;
pub mod frame;
pub mod splitter;
pub mod version;

#[cfg(test)]
mod tests;
