//! Serves until the server has to stop, and drains it.

use crate::serve::ServerState;
use crate::systemd;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tracing::info;

/// The times of the steps of a drain.
pub struct DrainTimes {
    /// The time for which the server still accepts connections after the signal to stop.
    pub delay: Duration,
    /// The time that readers have to disconnect after the drain has begun.
    pub limit: Duration,
}

/// Serves until `shutdown` resolves, and during the drain.
pub async fn serve_until(
    shutdown: impl Future<Output = ()>,
    serving: impl Future<Output = io::Result<()>>,
    state: Arc<ServerState>,
    times: DrainTimes,
) -> io::Result<()> {
    tokio::pin!(serving);
    tokio::select! {
        served = &mut serving => return served,
        () = shutdown => {}
    }
    if !times.delay.is_zero() {
        info!(seconds = times.delay.as_secs(), "not ready: connections are still taken until the drain begins");
        // A load balancer stops sending clients to the node only after it has seen that `/readyz` answers 503.
        state.drain.announce();
        systemd::stopping();
        tokio::select! {
            served = &mut serving => return served,
            () = tokio::time::sleep(times.delay) => {}
        }
    }
    info!(seconds = times.limit.as_secs(), "draining: readers are told to reconnect");
    // Before the drain begins, the server finds all requests that have already arrived. Otherwise, the drain would
    // treat their connections as idle and cut them.
    state.reactor.catch_up().await;
    state.drain.begin();
    systemd::stopping();
    serving.await
}
