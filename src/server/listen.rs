//! Binds the addresses for clients, and announces them.

use crate::config::{AddressOrOff, Config};
use crate::serve::{self, Listeners};
use crate::systemd::Sockets;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tracing::{info, warn};

/// Returns the configuration. The addresses of inherited sockets replace `--listen` and `--tcp-listen`. The checks of a
/// configuration then apply to these addresses too: an open server may listen only on loopback.
pub fn with_inherited(config: &Config, sockets: &Sockets) -> io::Result<Config> {
    let mut config = config.clone();
    if !sockets.http.is_empty() {
        config.listen = sockets.http.iter().map(|socket| socket.local_addr()).collect::<Result<_, _>>()?;
    }
    if let Some(socket) = &sockets.tcp {
        config.tcp_listen = AddressOrOff(Some(socket.local_addr()?));
    }
    Ok(config)
}

/// Binds the addresses of the configuration. An inherited socket takes the place of an address.
pub fn listen(config: &Config, sockets: Sockets) -> io::Result<Listeners> {
    let inherited = sockets.http.len() + usize::from(sockets.tcp.is_some());
    if inherited > 0 {
        info!("the service manager has bound {inherited} sockets");
    }
    let http = match sockets.http {
        sockets if sockets.is_empty() => {
            config.listen.iter().map(|address| bind("--listen", *address, false)).collect::<Result<_, _>>()?
        }
        inherited => inherited.into_iter().map(TcpListener::from_std).collect::<Result<_, _>>()?,
    };
    let tcp = match sockets.tcp {
        None => config.tcp_listen.0.map(|address| bind("--tcp-listen", address, true)).transpose()?,
        Some(socket) => Some(TcpListener::from_std(socket)?),
    };
    let admin = config.access.admin_listen.map(|address| bind("--admin-listen", address, false)).transpose()?;
    Ok(Listeners { http, behind_proxy: None, tcp, admin })
}

/// Binds an address that a flag names. `is_optional`: whether the flag also accepts `off`. In this case, the error
/// suggests `off`.
pub fn bind(flag: &str, address: SocketAddr, is_optional: bool) -> io::Result<TcpListener> {
    serve::bind(address).map_err(|error| {
        let off = if is_optional { ", or `off`" } else { "" };
        let fix = match error.kind() {
            ErrorKind::AddrInUse => format!("the address is already in use; choose another{off}"),
            ErrorKind::AddrNotAvailable => format!("this machine does not have this address; choose another{off}"),
            ErrorKind::PermissionDenied => format!(
                "this user may not listen on a port below 1024; choose another{off}, or let systemd bind it \
                 (docs/operations.md)"
            ),
            _ => format!("cannot listen on this address: {error}"),
        };
        io::Error::new(error.kind(), format!("{flag} {address}: {fix}"))
    })
}

/// Logs the addresses. Scripts use such a line to detect that the server has started, so this is the last step of the
/// start.
pub fn announce(listeners: &Listeners, config: &Config, has_tls: bool) -> io::Result<()> {
    let scheme = if has_tls { "https" } else { "http" };
    for listener in &listeners.http {
        info!("listening on {scheme}://{}", listener.local_addr()?);
    }
    if let Some(listener) = &listeners.tcp {
        info!("listening on tcp://{}", listener.local_addr()?);
    }
    if let Some(listener) = &listeners.admin {
        let address = listener.local_addr()?;
        info!("admin interface on http://{address}");
        if !address.ip().is_loopback() {
            warn!("--admin-listen {address}: anybody who can reach it sees channel names and all metrics");
        }
    }
    if config.access.open {
        info!("open: anybody who can reach this server may subscribe and publish");
    }
    Ok(())
}
