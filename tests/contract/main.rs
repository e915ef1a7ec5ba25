//! The contract of every transport over both logs. A transport is found in `GET /info` and read
//! by the type of its response, so that one added later is held to all of this as it stands.

#[macro_use]
#[path = "../support/mod.rs"]
mod support;

mod cursors;
mod http;
mod messages;
mod refusals;
mod streams;
