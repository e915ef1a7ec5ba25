//! A fault-injecting proxy: ports in front of the server that imitate the middleboxes between a browser and a server,
//! and that record the bytes. Only `longtail demo` opens them.
//!
//! It does not import other modules of this crate: the proxy knows only the server's address.

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

/// Limit on connections on all ports together. Further connections are closed at once.
pub const MAX_CONNECTIONS: usize = 512;

/// A port of the proxy.
#[derive(Debug)]
pub struct Port {
    /// The name in the port's events: the name of a transport, or of another lane of the page.
    pub lane: &'static str,
    /// The protocol that passes through the port.
    pub protocol: Protocol,
    /// The listener.
    pub listener: TcpListener,
    /// The address to which connections are forwarded.
    pub upstream: SocketAddr,
}

/// The proxy. All ports of the proxy inject the same faults.
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

    /// Changes the faults, also for open connections.
    pub fn set(&self, faults: Faults) {
        self.faults.send_replace(faults);
    }

    /// The wire tap.
    pub fn tap(&self) -> &Tap {
        &self.tap
    }

    /// Accepts connections on a port until the returned future is dropped. Connections that were already accepted
    /// continue.
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
