//! Wire codecs: bytes in, bytes out.
//!
//! Nothing here does I/O, knows a connection or imports anything of this crate from outside `wire`, so every
//! codec can be tested and fuzzed alone. Encoders append to a buffer of the caller's; decoders take bytes from
//! the front of one, and give the same answer however the input was cut into reads. None of them panics,
//! whatever the input.

pub mod json;
pub mod lines;
pub mod multipart;
pub mod script;
pub mod sse;
pub mod timestamp;
pub mod websocket;
