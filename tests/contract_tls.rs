//! The contract in TLS: HTTP/1.1, HTTP/1.0 and raw TCP. The rules are those of `contract/`; `support/door.rs` knows the way.

#[macro_use]
mod support;

#[path = "contract/cursors.rs"]
mod cursors;
#[path = "contract/http.rs"]
mod http;
#[path = "contract/messages.rs"]
mod messages;
#[path = "contract/refusals.rs"]
mod refusals;
#[path = "contract/streams.rs"]
mod streams;
