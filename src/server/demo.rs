//! The ports of `longtail demo`: the fault proxy has one port in front of the server for each transport.

use super::listen::bind;
use crate::demo::proxy::{FaultProxy, MAX_CONNECTIONS, Port, Protocol};
use crate::serve::{self, Demo, HOP, Listeners};
use crate::transport;
use futures_util::future::FutureExt;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use tracing::info;

/// Binds the proxy's ports and the listener behind the proxy. `first` is the address of the first port.
pub fn open(first: SocketAddr, listeners: &mut Listeners) -> io::Result<super::OpenDemo> {
    let behind = serve::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let tcp = listeners.tcp.as_ref().map(|tcp| tcp.local_addr()).transpose()?;
    let ports = bind_ports(first, behind.local_addr()?, tcp)?;
    listeners.behind_proxy = Some(behind);
    let addresses = ports.iter().map(|port| Ok((port.lane, port.listener.local_addr()?)));
    let addresses = addresses.collect::<io::Result<Vec<_>>>()?;
    info!("ports with faults on {}, one for each transport: see /info", first.ip());
    let tcp = ports.iter().filter(|port| port.protocol == Protocol::Tcp);
    let tcp: Vec<_> = tcp.map(|port| port.listener.local_addr()).collect::<Result<_, _>>()?;
    let proxy = Arc::<FaultProxy>::default();
    let tasks = ports.into_iter().map(|port| proxy.clone().accept(port).boxed()).collect();
    let api = Demo::new(proxy, addresses, tcp.try_into().ok());
    // The proxy needs two descriptors for each of its connections.
    Ok(super::OpenDemo { api: Some(api), tasks, descriptors: 2 * MAX_CONNECTIONS as u64 })
}

/// Binds a port for each transport of browsers and for raw TCP, and two ports for the reader that changes its
/// transport. Each port is a separate origin, because a browser opens only six connections to an origin. If `first` has
/// port 0, the system picks free ports.
fn bind_ports(first: SocketAddr, http: SocketAddr, tcp: Option<SocketAddr>) -> io::Result<Vec<Port>> {
    let browsers = transport::ALL.iter().filter(|transport| transport.in_browsers()).map(|transport| transport.name());
    let lanes = browsers.chain([HOP]).map(|lane| (lane, Protocol::Http, http));
    let tcp = tcp.into_iter().flat_map(|mut tcp| {
        if tcp.ip().is_unspecified() {
            let loopback = if tcp.is_ipv4() { [127, 0, 0, 1].into() } else { Ipv6Addr::LOCALHOST.into() };
            tcp.set_ip(loopback);
        }
        ["tcp", "hop-tcp"].map(|lane| (lane, Protocol::Tcp, tcp))
    });
    let bind = |(offset, (lane, protocol, upstream))| {
        let mut address = first;
        if first.port() != 0 {
            let port = first.port().checked_add(offset).ok_or_else(|| {
                let fix = "port range would exceed 65535; choose a lower port";
                io::Error::other(format!("--weather-listen {first}: {fix}"))
            })?;
            address.set_port(port);
        }
        Ok(Port { lane, protocol, listener: bind("--weather-listen", address, false)?, upstream })
    };
    (0u16..).zip(lanes.chain(tcp)).map(bind).collect()
}
