//! An endpoint: what answers a subtree of paths. Each protocol is one, and so is each kind of page.

use super::context::Context;
use super::response::{self, Response};
use crate::serve::http::peer::Peer;
use crate::serve::http::request::Request;
use crate::transport::{ApiError, Transport};
use futures_util::future::BoxFuture;

/// A response that is being made, or why the request is refused.
pub type Answer<'a> = BoxFuture<'a, Result<Response, ApiError>>;

/// Answers the requests to its paths.
pub trait Endpoint: Sync {
    /// What holds for a path before anything answers it; `None` if the path is not of this endpoint. Paths are compared
    /// byte for byte.
    fn route(&self, context: &Context, path: &str) -> Option<Route>;

    /// Answers a request with one of the route's methods. The router has checked the limits, the listener and the method,
    /// and that an operator asks where only operators may.
    fn call<'a>(&'a self, call: Call<'a>) -> Answer<'a>;

    /// Refuses a request over a limit, in a form that the path's clients can read.
    fn refuse(&self, _route: &Route, _query: &[u8], refusal: &ApiError) -> Response {
        response::refused(refusal)
    }

    /// The transports that readers are counted by.
    fn transports(&self) -> &'static [&'static dyn Transport] {
        &[]
    }
}

/// What holds for a path before anything answers it.
#[derive(Clone, Copy)]
pub struct Route {
    /// The methods, as `Allow` lists them. The router answers `OPTIONS`.
    pub methods: &'static str,
    /// Who may ask, and on which listeners.
    pub audience: Audience,
    /// The limits that hold.
    pub limits: Limits,
    /// The transport, for a path that subscribes.
    pub transport: Option<&'static dyn Transport>,
}

impl Route {
    /// A page that clients read, within all limits.
    pub const PAGE: Route =
        Route { methods: "GET, HEAD, OPTIONS", audience: Audience::Clients, limits: Limits::All, transport: None };
}

/// Who may ask for a path, and on which listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Everyone, on the public listeners.
    Clients,
    /// Everyone, on all listeners.
    Monitoring,
    /// Operators, on all listeners: the path shows data of other clients. The public listeners want a server key.
    Operators,
}

/// The limits for requests of a path on the public listeners. The admin listener has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limits {
    /// The rate limit, and the limit of connections.
    All,
    /// The rate limit. A full server answers, too.
    Rate,
    /// No limits.
    Unlimited,
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

/// An answer that is there at once.
pub fn ready<'a>(answer: Result<Response, ApiError>) -> Answer<'a> {
    Box::pin(std::future::ready(answer))
}
