//! Protocols of other libraries. Each protocol is a folder with an endpoint, its transports and its dialect, and one
//! entry in the table of endpoints in `src/serve/router/endpoints.rs`.

pub mod pusher;
pub mod socketio;
#[cfg(test)]
pub mod toy;
