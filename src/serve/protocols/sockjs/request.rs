//! A request of a SockJS client, and what is known about the client.

use super::settings::Prefix;
use super::shared::Shared;
use crate::serve::access::credentials::Credentials;
use crate::serve::hook::call::Connect;
use crate::serve::http::headers::{last_field, text};
use crate::serve::http::peer::Peer;
use crate::serve::routes::route::Origins;
use crate::serve::state::ServerState;
use crate::transport::Transport;
use crate::transport::params::fields;
use hyper::http::request::Parts;
use std::sync::Arc;

/// A request.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// What all sessions share.
    pub shared: &'a Arc<Shared>,
    /// The state of the server.
    pub state: &'a Arc<ServerState>,
    /// The client.
    pub peer: &'a Peer,
    /// The prefix.
    pub prefix: &'a Arc<Prefix>,
    /// The head.
    pub head: &'a Parts,
}

impl Asked<'_> {
    /// The query.
    pub fn query(&self) -> &str {
        self.head.uri.query().unwrap_or_default()
    }

    /// The credentials. The pages of a path for all origins have no cookies that count.
    pub fn credentials(&self, transport: &'static dyn Transport) -> Arc<Credentials> {
        let (headers, host) = (&self.head.headers, self.peer.forwarded_host());
        let by_cookie = match self.prefix.origins {
            Origins::Any => false,
            Origins::Known => self.state.origins.trusts_cookies(headers, host),
            Origins::Listed(list) => self.state.origins.with_list(list).trusts_cookies(headers, host),
        };
        // A script or a frame of any page sends cookies, and has no origin.
        let by_cookie = by_cookie && !transport.calls_back();
        let credentials = Credentials::new(self.peer.ip, transport.name(), headers, by_cookie);
        Arc::new(credentials.with_token(last_field(self.query().as_bytes(), None, "token").as_deref()))
    }

    /// What the application is told about the request.
    pub fn connect(&self, transport: &'static dyn Transport, credentials: &Credentials) -> Connect {
        let is_own = |name: &str| matches!(name, "token" | "c" | "callback" | "t");
        let fields = fields(self.query().as_bytes(), None).filter(|(name, _)| !is_own(name));
        Connect {
            ip: Some(self.peer.ip),
            origin: text(&self.head.headers, "origin").map(str::to_owned),
            transport: transport.name().to_owned(),
            query: fields.map(|(name, value)| (name.into_owned(), value.into_owned())).collect(),
            auth: credentials.token().and_then(Connect::token),
            number: 0,
        }
    }
}
