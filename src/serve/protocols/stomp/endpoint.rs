//! The paths of `--stomp`.

use super::open;
use super::settings::StompSettings;
use super::transport::TRANSPORTS;
use crate::serve::http::peer::Peer;
use crate::serve::http::request::Request;
use crate::serve::routes::protocol::Protocol;
use crate::serve::routes::response::{self, Response};
use crate::serve::routes::route::Route;
use crate::serve::state::ServerState;
use crate::wire::stomp::version::Version;
use futures_util::future::BoxFuture;
use hyper::header::{self, HeaderValue};
use std::sync::Arc;

/// STOMP, at the paths of the flags.
pub struct Stomp {
    settings: StompSettings,
    applications: Arc<[String]>,
}

impl Stomp {
    /// Makes the protocol.
    pub fn new(settings: StompSettings) -> Stomp {
        Stomp { applications: settings.applications.clone().into(), settings }
    }
}

impl Protocol for Stomp {
    fn route(&self, path: &str) -> Option<Route> {
        self.settings.path(path)?;
        Some(Route { methods: "GET, OPTIONS", transport: Some(TRANSPORTS[0]), ..Route::PAGE })
    }

    fn answer<'a>(&'a self, state: &'a Arc<ServerState>, peer: &'a Peer, request: Request) -> BoxFuture<'a, Response> {
        Box::pin(async move {
            let path = self.settings.path(request.uri().path()).unwrap_or("/").to_owned();
            open::open(self.applications.clone(), &path, state, peer, request).await.unwrap_or_else(|refusal| {
                let mut response = response::refused(&refusal);
                response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
                response
            })
        })
    }

    fn info(&self) -> (&'static str, serde_json::Value) {
        let versions = Version::ALL.map(Version::as_str);
        ("stomp", serde_json::json!({ "paths": self.settings.paths, "versions": versions }))
    }
}
