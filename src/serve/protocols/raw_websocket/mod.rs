//! Plain WebSocket for pages that do not have a library, such as pages for Ratchet or Wrench: bare texts both ways.
//!
//! Such a page knows only its path. The flag says which channels the path reads, and what a text does that a page sends.

mod endpoint;
mod page;
mod transport;

pub use endpoint::{RawWebSocket, TRANSPORTS};
pub use page::RawWebSocketPage;
