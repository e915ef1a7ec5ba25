//! Wire codecs: bytes in, bytes out.
//!
//! The codecs do not do I/O, do not know connections and do not import other modules of this crate, so each of them can
//! be tested and fuzzed alone. Encoders append to the caller's buffer. Decoders take bytes from the front of a buffer,
//! and their result does not depend on how the input was cut into reads. A codec never panics, whatever its input is.

pub mod emitters;
pub mod engineio;
pub mod hixie76;
pub mod json;
pub mod lines;
pub mod msgpack;
pub mod multipart;
pub mod pusher;
pub mod script;
pub mod socketio;
pub mod socketio09;
pub mod sockjs;
pub mod sse;
pub mod stomp;
pub mod timestamp;
pub mod utf16;
pub mod websocket;
