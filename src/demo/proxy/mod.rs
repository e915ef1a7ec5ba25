//! A fault-injecting proxy: ports in front of the server that imitate what lies between a browser and a server, and
//! record what passes. Only `longtail demo` opens them.
//!
//! It imports nothing else of this crate: to the proxy the server is an address.

mod connection;
mod faults;
mod framing;
#[cfg(fuzzing)]
pub mod fuzzing;
mod tap;

pub use connection::Protocol;
pub use faults::Faults;
pub use tap::{Event, Tap};

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tracing::warn;

/// Limit of connections on all ports together; more are closed at once.
pub const MAX_CONNECTIONS: usize = 512;

/// A port of the proxy.
#[derive(Debug)]
pub struct Port {
    /// The name that its events carry: that of a transport, or of another lane of the page.
    pub lane: &'static str,
    /// The protocol that passes.
    pub protocol: Protocol,
    /// The listener.
    pub listener: TcpListener,
    /// The address that connections are forwarded to.
    pub upstream: SocketAddr,
}

/// The proxy. All of its ports inject the same faults.
pub struct FaultProxy {
    faults: watch::Sender<Faults>,
    tap: Tap,
    permits: Arc<Semaphore>,
}

impl Default for FaultProxy {
    fn default() -> FaultProxy {
        let faults = watch::channel(Faults::default()).0;
        FaultProxy { faults, tap: Tap::new(), permits: Arc::new(Semaphore::new(MAX_CONNECTIONS)) }
    }
}

impl FaultProxy {
    /// The current faults, and their changes.
    pub fn faults(&self) -> watch::Receiver<Faults> {
        self.faults.subscribe()
    }

    /// Changes the faults, including those of open connections.
    pub fn set(&self, faults: Faults) {
        self.faults.send_replace(faults);
    }

    /// The wire tap.
    pub fn tap(&self) -> &Tap {
        &self.tap
    }

    /// Accepts connections on a port until it is dropped. Connections that it has accepted go on.
    pub async fn accept(self: Arc<FaultProxy>, port: Port) {
        loop {
            let client = match port.listener.accept().await {
                Ok((client, _)) => client,
                Err(error) => {
                    warn!(%error, "cannot accept a connection on a port of the demo");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let Ok(permit) = self.permits.clone().try_acquire_owned() else { continue };
            let record = self.tap.connection(port.lane);
            let forwarding = connection::forward(client, port.upstream, port.protocol, record, self.faults());
            tokio::spawn(async move {
                forwarding.await;
                drop(permit);
            });
        }
    }
}
