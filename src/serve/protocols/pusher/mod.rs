//! Pusher Channels: clients such as `pusher-js` and Laravel Echo, and the SDKs of applications.
//!
//! A channel of an app is a channel of the log, with the app's prefix in front of its name. So messages of the REST API,
//! of native publishers and of Redis reach the clients in one order.

mod apps;
mod channel_name;
mod client_events;
mod connection;
mod metrics;
mod open;
mod rest;
mod state;
mod subscribe;
mod transport;

pub use apps::PusherAppSettings;

use crate::serve::routes::context::Context;
use crate::serve::routes::endpoint::{Answer, Call, Endpoint, Origins, Route};
use crate::transport::Transport;
use crate::wire::pusher::close::VERSIONS;
use apps::Apps;
use metrics::PusherMetrics;
use prometheus_client::registry::Registry;
use state::PusherState;

/// The transports of Pusher clients.
pub static TRANSPORTS: [&dyn Transport; 1] = [&transport::PusherSocket];

/// The beginning of the path of a WebSocket. The key of an app follows.
const SOCKET: &str = "/app/";

/// The endpoint.
pub struct PusherEndpoint(PusherState);

impl PusherEndpoint {
    /// Makes the endpoint for these apps.
    pub fn new(apps: impl Iterator<Item = PusherAppSettings>, registry: &mut Registry) -> PusherEndpoint {
        let apps = Apps::new(apps);
        let metrics = PusherMetrics::register(registry, apps.iter());
        PusherEndpoint(PusherState { apps, metrics })
    }
}

/// The key in the path of a WebSocket.
fn key(path: &str) -> Option<&str> {
    path.strip_prefix(SOCKET).filter(|key| !key.is_empty() && !key.contains('/'))
}

impl Endpoint for PusherEndpoint {
    fn route(&self, _: &Context, path: &str) -> Option<Route> {
        if let Some(methods) = rest::methods(path) {
            return Some(Route { methods, ..Route::PAGE });
        }
        key(path)?;
        // The key and the signatures decide, and cookies do not count. So the pages of every origin may connect.
        let origins = Origins::Any;
        Some(Route { methods: "GET, OPTIONS", transport: Some(TRANSPORTS[0]), origins, ..Route::PAGE })
    }

    fn call<'a>(&'a self, call: Call<'a>) -> Answer<'a> {
        Box::pin(async move {
            match key(call.path()).map(str::to_owned) {
                Some(key) => open::open(&self.0, call, &key).await,
                None => Ok(rest::answer(&self.0, call).await),
            }
        })
    }

    fn info(&self) -> Option<(&'static str, serde_json::Value)> {
        Some(("pusher", serde_json::json!({ "path": "/app", "protocols": VERSIONS.collect::<Vec<_>>() })))
    }
}
