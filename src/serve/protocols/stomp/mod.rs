//! STOMP over WebSocket, for pages that use `@stomp/stompjs` and similar libraries, as Spring applications have them.
//!
//! A destination is a channel of the log, so messages of other publishers reach the subscribers in one order. The
//! dialect translates frames to commands of the session, and knows the subscriptions. The envelope writes a message for
//! each of them.

mod decoder;
mod dialect;
mod endpoint;
mod frames;
mod open;
mod settings;
mod subscriptions;
mod transport;

pub use endpoint::Stomp;
pub use settings::StompSettings;
pub use transport::TRANSPORTS;
