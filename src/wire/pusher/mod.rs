//! The Pusher Channels protocol, versions 5 to 7, and the signatures of its REST API.
//!
//! [`frame`] reads what clients send, [`encode`] writes what the server sends, [`names`] knows the kinds of channels,
//! [`close`] has the close codes, and [`signature`] and [`rest`] verify signatures. Facts were read from the
//! documentation of Pusher Channels and from `pusher-js`.

pub mod channel_data;
pub mod close;
pub mod encode;
pub mod frame;
pub mod names;
pub mod rest;
pub mod signature;
pub mod webhook;

#[cfg(test)]
mod tests;
