//! The paths of Pusher.

use super::apps::{Apps, PusherAppSettings};
use super::metrics::PusherMetrics;
use super::state::PusherState;
use super::{open, rest, stats, transport};
use crate::serve::http::peer::Peer;
use crate::serve::http::request::Request;
use crate::serve::routes::protocol::Protocol;
use crate::serve::routes::response::{self, Response};
use crate::serve::routes::route::{Origins, Route};
use crate::serve::state::ServerState;
use crate::transport::Transport;
use crate::wire::pusher::close::VERSIONS;
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// The transports of Pusher clients.
pub static TRANSPORTS: [&dyn Transport; 1] = [&transport::PusherSocket];

/// The beginning of the path of a WebSocket. The key of an app follows.
const SOCKET: &str = "/app/";

/// The protocol with its apps.
pub struct Pusher(PusherState);

impl Pusher {
    /// Makes the protocol for these apps.
    pub fn new(apps: impl Iterator<Item = PusherAppSettings>, metrics: PusherMetrics) -> Pusher {
        let apps = Apps::new(apps);
        apps.iter().for_each(|app| drop(metrics.connections(&app.id)));
        Pusher(PusherState { apps, metrics })
    }
}

/// The key in the path of a WebSocket.
fn key(path: &str) -> Option<&str> {
    path.strip_prefix(SOCKET).filter(|key| !key.is_empty() && !key.contains('/'))
}

impl Protocol for Pusher {
    fn route(&self, path: &str) -> Option<Route> {
        if let Some(methods) = rest::methods(path) {
            return Some(Route { methods, ..Route::PAGE });
        }
        if stats::has_path(path) {
            return Some(Route { methods: "GET, HEAD, POST, OPTIONS", origins: Origins::Any, ..Route::PAGE });
        }
        key(path)?;
        // The key and the signatures decide, and cookies do not count. So the pages of every origin may connect.
        let origins = Origins::Any;
        Some(Route { methods: "GET, OPTIONS", transport: Some(TRANSPORTS[0]), origins, ..Route::PAGE })
    }

    fn answer<'a>(&'a self, state: &'a Arc<ServerState>, peer: &'a Peer, request: Request) -> BoxFuture<'a, Response> {
        Box::pin(async move {
            match key(request.uri().path()).map(str::to_owned) {
                Some(key) => {
                    let opened = open::open(&self.0, state, peer, request, &key).await;
                    opened.unwrap_or_else(|refusal| response::refused(&refusal))
                }
                None if stats::has_path(request.uri().path()) => stats::answer(&request),
                None => rest::answer(&self.0, state, request).await,
            }
        })
    }

    fn info(&self) -> (&'static str, serde_json::Value) {
        ("pusher", serde_json::json!({ "path": "/app", "protocols": VERSIONS.collect::<Vec<_>>() }))
    }
}
