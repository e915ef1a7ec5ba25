//! Protocols of other libraries. Each protocol is a folder with an endpoint, its transports and its dialect, and one
//! entry in the table of endpoints in `src/serve/router/endpoints.rs`.

mod close_code;
mod path_pattern;
pub mod pusher;
pub mod raw_websocket;
pub mod socketio;
pub mod sockjs;
pub mod stomp;
#[cfg(test)]
pub mod toy;
