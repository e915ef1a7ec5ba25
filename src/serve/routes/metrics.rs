//! Answers `/metrics`.

use super::context::Context;
use super::response::{self, Response};
use hyper::StatusCode;

/// The media type of OpenMetrics, which `prometheus-client` writes and Prometheus asks for.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The metrics of this node.
pub fn answer(context: &Context) -> Response {
    let mut text = String::new();
    // Writing into a string cannot fail.
    let _ = prometheus_client::encoding::text::encode(&mut text, &context.registry);
    response::whole(StatusCode::OK, OPEN_METRICS, text)
}
