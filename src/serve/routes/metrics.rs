//! Answers `/metrics`.

use super::context::Context;
use super::endpoint::{Answer, Audience, Call, Endpoint, Limits, Route, ready};
use super::response::{self, Response};
use hyper::StatusCode;

/// The media type of OpenMetrics, which `prometheus-client` writes and Prometheus requests.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The endpoint.
pub struct Metrics;

impl Endpoint for Metrics {
    fn route(&self, _: &Context, path: &str) -> Option<Route> {
        // The metrics show why a server is full, so a full server also answers.
        let route = Route { audience: Audience::Operators, limits: Limits::Rate, ..Route::PAGE };
        (path == "/metrics").then_some(route)
    }

    fn call<'a>(&'a self, call: Call<'a>) -> Answer<'a> {
        ready(Ok(answer(call.context)))
    }
}

/// The metrics of this node.
fn answer(context: &Context) -> Response {
    let mut text = String::new();
    // A write into a string cannot fail.
    let _ = prometheus_client::encoding::text::encode(&mut text, &context.registry);
    response::whole(StatusCode::OK, OPEN_METRICS, text)
}
