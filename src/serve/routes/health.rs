//! Health checks: `/healthz` and `/readyz`.

use super::context::Context;
use super::endpoint::{Answer, Audience, Call, Endpoint, Limits, Route, ready};
use super::response::{self, Response};
use hyper::StatusCode;
use hyper::header::{self, HeaderValue};

/// The endpoint.
pub struct Health;

impl Endpoint for Health {
    fn route(&self, _: &Context, path: &str) -> Option<Route> {
        let route = Route { audience: Audience::Monitoring, limits: Limits::Unlimited, ..Route::PAGE };
        matches!(path, LIVE | "/readyz").then_some(route)
    }

    fn call<'a>(&'a self, call: Call<'a>) -> Answer<'a> {
        ready(Ok(if call.path() == LIVE { live() } else { ready_to_serve(call.context) }))
    }
}

/// The path of [`live`].
const LIVE: &str = "/healthz";

/// Answers `/healthz`: the process runs.
fn live() -> Response {
    response::whole(StatusCode::OK, "text/plain; charset=utf-8", "ok\n")
}

/// Answers `/readyz`: whether clients should connect to this node.
fn ready_to_serve(context: &Context) -> Response {
    if context.state.drain.is_announced() {
        return not_ready("draining\n");
    }
    // If clients connected before the bridge is subscribed, they would miss a PUBLISH in Redis.
    if !*context.is_listening.borrow() {
        return not_ready("not subscribed to Redis yet: a PUBLISH would be missed\n");
    }
    if !context.state.hub.is_ready() {
        return not_ready("the log cannot be reached, or is not read yet\n");
    }
    response::whole(StatusCode::OK, "text/plain; charset=utf-8", "ready\n")
}

fn not_ready(why: &'static str) -> Response {
    let mut response = response::whole(StatusCode::SERVICE_UNAVAILABLE, "text/plain; charset=utf-8", why);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}
