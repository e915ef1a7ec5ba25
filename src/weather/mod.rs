//! Bad weather: ports in front of the server that imitate what lies between a browser and it, and tell what
//! passes. For `longtail demo` only; without it none of this is ever opened.
//!
//! It imports nothing of ours: to it the server is an address.

mod carry;
mod conditions;
mod framing;
#[cfg(fuzzing)]
pub mod fuzzing;
mod tap;

pub use conditions::Conditions;
pub use tap::{Seen, Tap};

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tracing::warn;

/// Connections on all ports together; more are closed without a word.
pub const CONNECTIONS: usize = 512;

/// Errors are said at most so often, since they come many times a second or not at all.
const SAID_EVERY: Duration = Duration::from_secs(10);

/// What passes a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// HTTP/1.x, and what it is switched to.
    Http,
    /// Anything.
    Bytes,
}

/// A port, and what it leads to.
#[derive(Debug)]
pub struct Port {
    /// What it is for: a name that its events carry.
    pub lane: &'static str,
    /// What passes.
    pub speaks: Speaks,
    /// The listener.
    pub listener: TcpListener,
    /// Where what passes goes on to.
    pub upstream: SocketAddr,
}

/// One weather over all ports.
pub struct Weather {
    conditions: watch::Sender<Conditions>,
    tap: Tap,
    room: Arc<Semaphore>,
}

impl Default for Weather {
    fn default() -> Weather {
        let conditions = watch::channel(Conditions::default()).0;
        Weather { conditions, tap: Tap::new(), room: Arc::new(Semaphore::new(CONNECTIONS)) }
    }
}

impl Weather {
    /// The weather now, and its changes.
    pub fn conditions(&self) -> watch::Receiver<Conditions> {
        self.conditions.subscribe()
    }

    /// Changes it, for what is under way, too.
    pub fn set(&self, conditions: Conditions) {
        self.conditions.send_replace(conditions);
    }

    /// Where what passes is told.
    pub fn tap(&self) -> &Tap {
        &self.tap
    }

    /// Takes a port's connections for as long as it is polled; those that it has taken go on.
    pub async fn blow(self: Arc<Weather>, port: Port) {
        let mut last_said = None::<Instant>;
        let mut left_out = 0_u64;
        loop {
            let client = match port.listener.accept().await {
                Ok((client, _)) => client,
                Err(error) => {
                    if last_said.is_none_or(|last| last.elapsed() > SAID_EVERY) {
                        warn!(%error, left_out, "cannot accept a connection on a weather port");
                        (last_said, left_out) = (Some(Instant::now()), 0);
                    } else {
                        left_out += 1;
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let Ok(room) = self.room.clone().try_acquire_owned() else { continue };
            let record = self.tap.connection(port.lane);
            let carrying = carry::carry(client, port.upstream, port.speaks, record, self.conditions());
            tokio::spawn(async move {
                carrying.await;
                drop(room);
            });
        }
    }
}
