//! The peer of a connection: its address, its listener and its permits.

use crate::serve::access::forwarded::Proxies;
use crate::serve::access::origin::{self, ListenerKind};
use crate::serve::limits::connections::{AddressPermit, ConnectionPermit, Connections};
use hyper::HeaderMap;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::mpsc;

/// The client at the other end of a connection, or of an HTTP/2 stream.
#[derive(Clone)]
pub struct Peer {
    /// Whether the connection exceeds a connection limit. The client gets an error response and nothing else.
    pub is_over_limit: bool,
    /// The client's address. Behind a trusted proxy it is the address that the proxy names.
    pub ip: IpAddr,
    /// Whether the client should have used HTTPS and did not.
    pub must_use_tls: bool,
    /// Whether a trusted proxy has named the client's address with the PROXY protocol.
    pub has_proxy_header: bool,
    /// The listener that accepted the connection.
    pub listener: ListenerKind,
    /// The host that the request was sent to before a trusted proxy changed it.
    forwarded_host: Option<Arc<String>>,
    /// The permit for this request's address, if a trusted proxy multiplexes many clients over one connection.
    pub address_permit: Option<Arc<AddressPermit>>,
    /// Counts the connection.
    pub counted: Counted,
}

/// Counts a connection, and keeps the server running, as long as a clone of this value exists.
#[derive(Clone)]
pub struct Counted {
    _permit: Arc<ConnectionPermit>,
    _alive: mpsc::Sender<()>,
}

impl Peer {
    /// The peer of an accepted connection. `alive` keeps the server running until all its clones are dropped.
    pub fn new(ip: IpAddr, listener: ListenerKind, permit: ConnectionPermit, alive: &mpsc::Sender<()>) -> Peer {
        Peer {
            is_over_limit: permit.is_over_limit,
            ip,
            must_use_tls: false,
            has_proxy_header: false,
            listener,
            forwarded_host: None,
            address_permit: None,
            counted: Counted { _permit: Arc::new(permit), _alive: alive.clone() },
        }
    }

    /// Returns a copy of the peer for one HTTP/2 stream of its connection. A stream needs a permit like a connection
    /// does: without one, one connection would bypass the limits.
    pub fn of_stream(&self, permit: ConnectionPermit) -> Peer {
        let is_over_limit = self.is_over_limit || permit.is_over_limit;
        let counted = Counted { _permit: Arc::new(permit), ..self.counted.clone() };
        Peer { is_over_limit, counted, ..self.clone() }
    }

    /// The client that a request comes from if this peer is a trusted proxy; `None` if it is not.
    pub fn behind_proxies(
        &self,
        proxies: &Proxies,
        connections: &Arc<Connections>,
        headers: &HeaderMap,
    ) -> Option<Peer> {
        if !proxies.trusts(self.ip) || self.listener != ListenerKind::Public {
            return None;
        }
        let forwarded_host = proxies.host(self.ip, headers).map(|host| Arc::new(host.into()));
        let ip = proxies.client(self.ip, headers);
        let permit = connections.admit_address(ip);
        let is_over_limit = self.is_over_limit || permit.is_err();
        let address_permit = permit.ok().flatten().map(Arc::new);
        Some(Peer { ip, forwarded_host, is_over_limit, address_permit, ..self.clone() })
    }

    /// The host that the request was sent to before a trusted proxy changed it.
    pub fn forwarded_host(&self) -> Option<&str> {
        self.forwarded_host.as_ref().map(|host| host.as_str())
    }

    /// The host that a request was sent to, without its port.
    pub fn host<'a>(&'a self, headers: &'a HeaderMap) -> &'a str {
        origin::host(headers, self.forwarded_host())
    }
}
