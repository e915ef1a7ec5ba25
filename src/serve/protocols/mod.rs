//! Protocols of other libraries. Each is a folder with an endpoint, its transports and its dialect, and a word in the
//! table of endpoints in `src/serve/router/endpoints.rs`.

#[cfg(test)]
pub mod toy;
