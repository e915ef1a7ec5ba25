//! Pusher Channels: clients such as `pusher-js` and Laravel Echo, and the SDKs of applications.
//!
//! A channel of an app is a channel of the log, with the app's prefix in front of its name. So messages of the REST API,
//! of native publishers and of Redis reach the clients in one order.

mod apps;
mod channel_name;
mod client_events;
mod connection;
mod endpoint;
mod event_data;
mod event_name;
mod last_event;
mod metrics;
mod open;
mod rest;
mod state;
mod stats;
mod subscribe;
mod transport;
mod webhook;
mod webhook_queue;

pub use crate::wire::pusher::webhook::WebhookEvent as PusherWebhookEvent;
pub use apps::PusherAppSettings;
pub use metrics::PusherMetrics;
pub use webhook::Webhook as PusherWebhook;
pub use webhook_queue::WebhookQueue as PusherWebhookQueue;

pub use endpoint::{Pusher, TRANSPORTS};
