//! Stands in for the demo's API in a build without the feature `demo`.

use super::response::Response;
use crate::serve::http::request::Request;
use crate::serve::state::ServerState;
use crate::transport::{ApiError, Code};

/// The demo, which cannot exist in this build.
pub enum Demo {}

impl Demo {
    /// What `/info` says of the demo.
    pub fn info(&self) -> serde_json::Value {
        match *self {}
    }
}

/// The methods of a path of the demo: there is no such path.
pub fn methods(_: Option<&Demo>, _: &str) -> Option<&'static str> {
    None
}

/// Refuses a request.
///
/// # Errors
///
/// `not_found`.
pub async fn answer(_: &ServerState, _: Option<&Demo>, _: Request) -> Result<Response, ApiError> {
    Err(ApiError::new(Code::NotFound, "this build does not include the demo"))
}
