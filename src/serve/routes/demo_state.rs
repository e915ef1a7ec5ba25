//! The state of `longtail demo`.

use crate::demo::proxy::FaultProxy;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Limit on pages that watch at the same time, and on applets.
const MAX_WATCHERS: usize = 32;

/// The name of the port for the reader that changes its transport. Other ports have the name of a transport.
pub const HOP: &str = "hop";

/// The demo's state.
pub struct Demo {
    /// The proxy in front of the server.
    pub proxy: Arc<FaultProxy>,
    /// The proxy's ports, each with the name of its lane.
    pub ports: Vec<(&'static str, SocketAddr)>,
    /// The addresses of raw TCP: the first is for the applet, the second for the reader that changes its transport.
    pub tcp: Option<[SocketAddr; 2]>,
    /// The permits of pages that watch.
    pub watchers: Arc<Semaphore>,
    /// The permits of applets.
    pub applets: Arc<Semaphore>,
}

impl Demo {
    /// The state of a demo with a proxy on these ports.
    pub fn new(proxy: Arc<FaultProxy>, ports: Vec<(&'static str, SocketAddr)>, tcp: Option<[SocketAddr; 2]>) -> Demo {
        let permits = || Arc::new(Semaphore::new(MAX_WATCHERS));
        Demo { proxy, ports, tcp, watchers: permits(), applets: permits() }
    }

    /// The numbers of the ports.
    pub fn port_numbers(&self) -> Vec<u16> {
        self.ports.iter().map(|(_, address)| address.port()).collect()
    }

    /// The part of `/info` that describes the demo.
    pub fn info(&self) -> serde_json::Value {
        let ports = self.ports.iter().map(|(lane, address)| (lane.to_string(), address.to_string().into()));
        serde_json::json!({ "ports": ports.collect::<serde_json::Map<_, _>>(), "applet": self.tcp.is_some() })
    }
}
