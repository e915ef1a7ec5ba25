//! Wire codecs: bytes in, bytes out.
//!
//! Nothing here does I/O, knows a connection or imports anything of this crate from outside `wire`, so every
//! codec can be tested and fuzzed alone. Encoders append to the caller's buffer. Decoders take bytes from
//! the front of a buffer, and their result does not depend on how the input was cut into reads. No codec panics on any
//! input.

pub mod json;
pub mod lines;
pub mod multipart;
pub mod script;
pub mod sse;
pub mod timestamp;
pub mod websocket;
