//! A toy protocol. This protocol shows that a protocol is one folder and one entry in the table of endpoints.
//!
//! `GET /toy/poll/<channel>?from=<cursor>` answers with a line for the cursor and a line for each message. With
//! `session=1` or the session of the answer before, the line also has what the client brings next time. `GET
//! /toy/ws/<channel>` is a WebSocket; see [`codec`] for its commands.

mod codec;
mod sealed_tests;
mod tests;

use crate::serve::client_sessions::protocol::{Bookmarks, SessionProtocol};
use crate::serve::routes::context::Context;
use crate::serve::routes::endpoint::{Answer, Call, Endpoint, Route};
use crate::serve::routes::response::{self, Response};
use crate::serve::routes::subscribe::{self, Subscribe};
use crate::transport::params::fields;
use crate::transport::{ApiError, Params, Transport, WantedSession};
use hyper::StatusCode;
use std::time::Duration;

/// The toy's transports.
static TRANSPORTS: [&dyn Transport; 2] = [&codec::ToyPoll, &codec::ToySocket];

/// The toy's sessions. Its clients bring their bookmarks.
const PROTOCOL: SessionProtocol = SessionProtocol {
    name: "toy",
    bookmarks: Bookmarks::Sealed { life: Duration::from_secs(45) },
    outlives_stream: true,
};

/// The endpoint.
pub struct Toy;

/// The channel of a path, and its transport.
fn parse(path: &str) -> Option<(&str, &'static dyn Transport)> {
    let path = path.strip_prefix("/toy/")?;
    let (transport, channel) = path.split_once('/')?;
    match transport {
        "poll" => Some((channel, TRANSPORTS[0])),
        "ws" => Some((channel, TRANSPORTS[1])),
        _ => None,
    }
}

impl Endpoint for Toy {
    fn route(&self, _: &Context, path: &str) -> Option<Route> {
        let (_, transport) = parse(path)?;
        Some(Route { methods: "GET, OPTIONS", transport: Some(transport), ..Route::PAGE })
    }

    fn call<'a>(&'a self, call: Call<'a>) -> Answer<'a> {
        Box::pin(async move {
            let answered = match read(&call) {
                Ok(wanted) => subscribe::answer(&call.context.state, call.peer, call.request, wanted).await,
                Err(refusal) => Err(refusal),
            };
            Ok(answered.unwrap_or_else(|refusal| self.refuse(&call.route, b"", &refusal)))
        })
    }

    fn refuse(&self, _: &Route, _: &[u8], refusal: &ApiError) -> Response {
        let mut response = response::whole(StatusCode::OK, "text/x-toy", format!("no {}", refusal.code));
        response.extensions_mut().insert(refusal.code);
        response
    }

    fn transports(&self) -> &'static [&'static dyn Transport] {
        &TRANSPORTS
    }
}

/// Reads the subscription that a request asks for.
fn read(call: &Call<'_>) -> Result<Subscribe, ApiError> {
    let (channel, transport) = parse(call.path()).unwrap_or(("", TRANSPORTS[0]));
    let field = |wanted: &str| fields(call.query().as_bytes(), None).find(|(name, _)| name == wanted);
    let mut params = Params { channels: vec![channel.parse()?], ..Params::default() };
    if let Some((_, from)) = field("from") {
        params.cursor = Some(from.parse()?);
    }
    params.session = field("session").and_then(|(_, session)| WantedSession::parse(&session));
    Ok(Subscribe::new(transport, params, PROTOCOL))
}
