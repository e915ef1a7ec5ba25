//! The trait of an endpoint, which answers the requests to a subtree of paths.

use super::context::Context;
use super::response::{self, Response};
use crate::serve::http::peer::Peer;
use crate::serve::http::request::Request;
use crate::transport::{ApiError, Transport};
use futures_util::future::BoxFuture;

/// A future of a response, or of the error that refuses the request.
pub type Answer<'a> = BoxFuture<'a, Result<Response, ApiError>>;

/// Answers the requests to its paths.
pub trait Endpoint: Send + Sync {
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

    /// What `/info` says about the endpoint, under a name; `None` if it says nothing.
    fn info(&self) -> Option<(&'static str, serde_json::Value)> {
        None
    }

    /// The transports for which readers are counted.
    fn transports(&self) -> &'static [&'static dyn Transport] {
        &[]
    }
}

/// The rules for a path, which apply before its endpoint answers.
#[derive(Clone, Copy)]
pub struct Route {
    /// The methods, as `Allow` lists them. The router answers `OPTIONS`.
    pub methods: &'static str,
    /// The clients that may request the path, and the listeners that serve it.
    pub audience: Audience,
    /// The limits that apply.
    pub limits: Limits,
    /// The transport, if a request to the path subscribes.
    pub transport: Option<&'static dyn Transport>,
    /// The pages that may request the path.
    pub origins: Origins,
}

impl Route {
    /// A page for all clients, to which all limits apply.
    pub const PAGE: Route = Route {
        methods: "GET, HEAD, OPTIONS",
        audience: Audience::Clients,
        limits: Limits::All,
        transport: None,
        origins: Origins::Known,
    };
}

/// The pages that may request a path on the public listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origins {
    /// Pages of this server, and of the origins that the operator allows.
    Known,
    /// All pages: the path has its own keys and does not read cookies.
    Any,
}

/// The clients that may request a path, and the listeners that serve it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Every client, on the public listeners.
    Clients,
    /// Every client, on all listeners.
    Monitoring,
    /// Operators, on all listeners: the path shows data of other clients. The public listeners require a server key.
    Operators,
}

/// The limits for requests of a path on the public listeners. The admin listener does not have limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limits {
    /// The rate limit and the limit on connections apply.
    All,
    /// The rate limit. The limit on connections does not apply: the server also answers when it is full.
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

/// A future whose answer is ready at once.
pub fn ready<'a>(answer: Result<Response, ApiError>) -> Answer<'a> {
    Box::pin(std::future::ready(answer))
}
