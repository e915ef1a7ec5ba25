//! The rules for a path, which apply before its endpoint answers.

use crate::serve::access::allowed_origins::AllowedOrigins;
use crate::transport::Transport;

/// The rules for a path, which apply before its endpoint answers.
#[derive(Clone, Copy)]
pub struct Route {
    /// The methods, as `Allow` lists them.
    pub methods: &'static str,
    /// Whether the router or the endpoint answers other methods.
    pub other_methods: OtherMethods,
    /// The clients that may request the path, and the listeners that serve it.
    pub audience: Audience,
    /// The limits that apply.
    pub limits: Limits,
    /// The transport, if a request to the path subscribes.
    pub transport: Option<&'static dyn Transport>,
    /// The pages that may request the path.
    pub origins: Origins,
    /// Whether every answer names the page's origin and allows credentials, also where a `*` lets every origin in: the
    /// library of the page asks with credentials. In this case the request's credentials are not read.
    pub echoes_origin: bool,
}

impl Route {
    /// A page for all clients, to which all limits apply.
    pub const PAGE: Route = Route {
        methods: "GET, HEAD, OPTIONS",
        other_methods: OtherMethods::Router,
        audience: Audience::Clients,
        limits: Limits::All,
        transport: None,
        origins: Origins::Known,
        echoes_origin: false,
    };
}

/// What answers `OPTIONS`, and refuses the methods that a path does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherMethods {
    /// The router.
    Router,
    /// The router answers `OPTIONS`. The endpoint refuses methods, in the words of its protocol.
    EndpointRefuses,
    /// The endpoint.
    Endpoint,
}

/// The pages that may request a path on the public listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origins {
    /// Pages of this server, and of the origins that the operator allows.
    Known,
    /// All pages: the path does not read cookies.
    Any,
    /// Pages of this server, and of the origins in a list of the path.
    Listed(&'static AllowedOrigins),
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
