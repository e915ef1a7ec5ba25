//! The trait of an endpoint, which answers the requests to a subtree of paths.

pub use super::route::{Audience, Limits, Origins, OtherMethods, Route};

use super::context::Context;
use super::response::{self, Response};
use crate::serve::http::peer::Peer;
use crate::serve::http::request::Request;
use crate::transport::{ApiError, Transport};
use futures_util::future::BoxFuture;

/// A future of a response, or of the error that refuses the request.
pub type Answer<'a> = BoxFuture<'a, Result<Response, ApiError>>;

/// Answers the requests to its paths.
pub trait Endpoint: Sync {
    /// The rules for a path, which apply before the endpoint answers; `None` if the path does not belong to this
    /// endpoint. Paths are compared byte for byte.
    fn route(&self, context: &Context, path: &str) -> Option<Route>;

    /// Answers a request with one of the route's methods. The router has already checked the limits, the listener and
    /// the method. If the path is for operators, it has also checked that the request is from an operator.
    fn call<'a>(&'a self, call: Call<'a>) -> Answer<'a>;

    /// Refuses a request over a limit, in a form that the path's clients can read.
    fn refuse(&self, _route: &Route, _query: &[u8], refusal: &ApiError) -> Response {
        response::refused(refusal)
    }

    /// The transports for which readers are counted.
    fn transports(&self) -> &'static [&'static dyn Transport] {
        &[]
    }
}

/// A request to an endpoint.
pub struct Call<'a> {
    /// The state.
    pub context: &'a Context,
    /// The client.
    pub peer: &'a Peer,
    /// The route of the request's path.
    pub route: Route,
    /// The request.
    pub request: Request,
}

impl Call<'_> {
    /// The path of the request.
    pub fn path(&self) -> &str {
        self.request.uri().path()
    }

    /// The query of the request, or an empty one.
    pub fn query(&self) -> &str {
        self.request.uri().query().unwrap_or_default()
    }
}

/// A future whose answer is ready at once.
pub fn ready<'a>(answer: Result<Response, ApiError>) -> Answer<'a> {
    Box::pin(std::future::ready(answer))
}
