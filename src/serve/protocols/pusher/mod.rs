//! Pusher Channels: clients such as `pusher-js` and Laravel Echo, and the SDKs of applications.
//!
//! A channel of an app is a channel of the log, with the app's prefix in front of its name. So messages of the REST API,
//! of native publishers and of Redis reach the clients in one order.

mod apps;
mod channel_name;
mod client_events;
mod connection;
mod endpoint;
mod metrics;
mod open;
mod rest;
mod state;
mod subscribe;
mod transport;

pub use apps::PusherAppSettings;

pub use endpoint::{Pusher, TRANSPORTS};
