//! Running a server: its background tasks, the drain, and the end.

use super::{RunError, Server};
use crate::log::subscriber_counts::SubscriberCounts;
use crate::serve::{self, App};
use crate::systemd;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle};
use tracing::{error, info};

/// How long the end waits for Redis: for what the bridge has received and not appended, and for this node's counts to be
/// removed.
const LAST_WRITES: Duration = Duration::from_secs(2);

impl Server {
    /// Serves until `shutdown` resolves, then drains. Returns when all connections are closed or the drain time is up.
    ///
    /// # Errors
    ///
    /// The server cannot read from clients or accept them, now or from the start. The background tasks were ended in
    /// good order.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
        let background = Background::spawn(&mut self);
        let app = self.app.clone();
        let serving = serve::serve(self.app, self.listeners, self.drain_time);
        let serving = serve_until(shutdown, serving, app.clone(), self.drain_time);
        let ended = tokio::select! {
            served = serving => served.map_err(RunError::from),
            ended = self.reactor_task => Err(reactor_failure(ended)),
        };
        if let Err(error) = &ended {
            // Clients cannot be told anything any more, so there is no drain.
            error!("{error}");
            // Closes the listeners: a client that is refused tries another node.
            app.drain.begin();
            systemd::stopping();
        }
        background.end().await;
        if let Some(log) = &app.access_log {
            log.flush();
        }
        info!("stopped");
        ended
    }
}

/// Serves until `shutdown` resolves, and through the drain.
async fn serve_until(
    shutdown: impl Future<Output = ()>,
    serving: impl Future<Output = io::Result<()>>,
    app: Arc<App>,
    drain_time: Duration,
) -> io::Result<()> {
    tokio::pin!(serving);
    tokio::select! {
        served = &mut serving => return served,
        () = shutdown => {}
    }
    info!(seconds = drain_time.as_secs(), "draining: readers are told to reconnect");
    // First answers what clients have sent in time. The drain would cut these connections as idle ones.
    app.reactor.catch_up().await;
    app.drain.begin();
    systemd::stopping();
    serving.await
}

fn reactor_failure(ended: Result<io::Result<()>, JoinError>) -> RunError {
    RunError::Reactor(match ended {
        Ok(Ok(())) => "its task has ended".into(),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    })
}

/// The tasks of a running server that do not serve clients.
struct Background {
    /// Follows the log.
    tail: JoinHandle<()>,
    /// Tells other nodes what this one counts.
    counts: Option<(Arc<dyn SubscriberCounts>, JoinHandle<()>)>,
    /// Takes what is PUBLISHed into the log.
    bridge: Option<JoinHandle<()>>,
    stop_bridge: watch::Sender<bool>,
    /// Talks to the service manager.
    supervisor: JoinHandle<()>,
    demo: Vec<JoinHandle<()>>,
}

impl Background {
    fn spawn(server: &mut Server) -> Background {
        let app = &server.app;
        let (stop_bridge, stopping) = watch::channel(false);
        let counts =
            |census: Arc<dyn SubscriberCounts>| (census.clone(), tokio::spawn(app.hub.clone().report_counts(census)));
        Background {
            tail: tokio::spawn(app.hub.clone().follow()),
            counts: app.census.clone().map(counts),
            bridge: server.bridge.take().map(|bridge| bridge.spawn(stopping)),
            stop_bridge,
            supervisor: tokio::spawn(supervise(app.clone(), server.waits_for_log)),
            demo: server.demo_tasks.drain(..).map(tokio::spawn).collect(),
        }
    }

    /// Ends the tasks. The bridge and the counts get a moment to write to Redis what is left.
    async fn end(self) {
        self.demo.iter().for_each(JoinHandle::abort);
        if let Some((census, task)) = self.counts {
            task.abort();
            let _ = tokio::time::timeout(LAST_WRITES, census.leave()).await;
        }
        self.stop_bridge.send_replace(true);
        if let Some(bridge) = self.bridge {
            let _ = tokio::time::timeout(LAST_WRITES, bridge).await;
        }
        self.tail.abort();
        self.supervisor.abort();
    }
}

/// Tells the service manager when the server is ready and, from then on, its state.
async fn supervise(app: Arc<App>, waits_for_log: bool) {
    let ready = async {
        if !waits_for_log {
            app.hub.ready().await;
        }
    };
    let status = || {
        let readers: i64 = app.meters.totals().iter().map(|totals| totals.open).sum();
        let retained = app.hub.retained();
        let log = if app.hub.is_ready() { "" } else { "; the log cannot be reached" };
        format!("{readers} readers of {} channels, {} messages retained{log}", retained.channels, retained.messages)
    };
    systemd::supervise(ready, status).await;
}
