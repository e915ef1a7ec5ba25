//! Sockets, timers and TLS. This module does not depend on HTTP.

pub mod deadline;
pub mod drain;
pub mod listen;
pub mod proxy_protocol;
pub mod reactor;
pub mod socket;
pub mod stream;
pub mod timers;
pub mod tls;
pub mod write_through;
