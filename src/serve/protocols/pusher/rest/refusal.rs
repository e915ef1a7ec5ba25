//! The refusal of a request. SDKs show its text, so the body is plain text.

use crate::serve::routes::response::{self, Response};
use hyper::StatusCode;
use hyper::header::{self, HeaderValue};
use std::time::Duration;

/// The refusal of a request.
#[derive(Debug)]
pub struct Refusal {
    status: u16,
    text: String,
    /// The time after which the client should try again, if that helps.
    pub retry: Option<Duration>,
}

impl Refusal {
    /// A refusal with this status and this text.
    pub fn new(status: u16, text: impl Into<String>) -> Refusal {
        Refusal { status, text: text.into(), retry: None }
    }

    /// The response.
    pub fn response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = response::whole(status, "text/plain; charset=utf-8", self.text);
        if status == StatusCode::SERVICE_UNAVAILABLE || self.retry.is_some() {
            let seconds = self.retry.map_or(1, |retry| retry.as_secs() + 1);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
