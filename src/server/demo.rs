//! The ports of `longtail demo`: one in front of the server for each transport.

use super::listen::bind;
use crate::serve::{self, Demo, HOP, Listeners};
use crate::transport;
use crate::weather::{Port, Speaks, Weather};
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use tracing::info;

/// Binds the demo's ports, the first of them at this address, and the listener behind them.
pub fn open(first: SocketAddr, listeners: &mut Listeners) -> io::Result<(Demo, Vec<Port>)> {
    let behind = serve::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let tcp = listeners.tcp.as_ref().map(|tcp| tcp.local_addr()).transpose()?;
    let ports = bind_ports(first, behind.local_addr()?, tcp)?;
    listeners.behind_weather = Some(behind);
    let addresses = ports.iter().map(|port| Ok((port.lane, port.listener.local_addr()?)));
    let addresses = addresses.collect::<io::Result<Vec<_>>>()?;
    info!("weather on the ports of {}, one for each transport: see /info", first.ip());
    let raw = ports.iter().filter(|port| port.speaks == Speaks::Bytes);
    let raw: Vec<_> = raw.map(|port| port.listener.local_addr()).collect::<Result<_, _>>()?;
    Ok((Demo::new(Arc::new(Weather::default()), addresses, raw.try_into().ok()), ports))
}

/// A port for each transport of browsers and for raw TCP, and two for the reader that changes its transport:
/// each is an origin of its own, since a browser opens six connections to one. `first`: port 0 is any.
fn bind_ports(first: SocketAddr, http: SocketAddr, tcp: Option<SocketAddr>) -> io::Result<Vec<Port>> {
    let browsers = transport::ALL.iter().filter(|transport| transport.in_browsers()).map(|transport| transport.name());
    let lanes = browsers.chain([HOP]).map(|lane| (lane, Speaks::Http, http));
    let raw = tcp.into_iter().flat_map(|mut tcp| {
        if tcp.ip().is_unspecified() {
            let loopback = if tcp.is_ipv4() { [127, 0, 0, 1].into() } else { Ipv6Addr::LOCALHOST.into() };
            tcp.set_ip(loopback);
        }
        ["tcp", "hop-tcp"].map(|lane| (lane, Speaks::Bytes, tcp))
    });
    let bind = |(offset, (lane, speaks, upstream))| {
        let mut address = first;
        if first.port() != 0 {
            let port = first.port().checked_add(offset).ok_or_else(|| {
                io::Error::other(format!(
                    "--weather-listen {first}: port range would exceed 65535; choose a lower port"
                ))
            })?;
            address.set_port(port);
        }
        Ok(Port { lane, speaks, listener: bind("--weather-listen", address, false)?, upstream })
    };
    (0u16..).zip(lanes.chain(raw)).map(bind).collect()
}
