//! Runs a server: its background tasks, the drain, and the end.

use super::drain;
use super::{RunError, Server};
use crate::hub::REPORT_PERIOD;
use crate::log::subscriber_counts::SubscriberCounts;
use crate::serve::{self, Presence, ServerState, TRANSITIONS_REPORT_PERIOD, transition_sender};
use crate::systemd;
use futures_util::future::select_all;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle};
use tracing::{error, info};

/// The time for which the server waits for Redis before it ends. In this time, the bridge appends its remaining
/// messages, and the server removes the counts of this node.
const LAST_WRITES: Duration = Duration::from_secs(2);

impl Server {
    /// Serves until `shutdown` resolves, then drains. Returns when all connections are closed or the drain time is up.
    ///
    /// # Errors
    ///
    /// The server failed to read from clients or to accept them, at the start or later. Even then, this call has shut
    /// down the background tasks cleanly.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
        let mut background = Background::spawn(&mut self);
        let state = self.context.state.clone();
        let serving = serve::serve(self.context, self.listeners, self.drain.limit);
        let serving = drain::serve_until(shutdown, serving, state.clone(), self.drain);
        let ended = tokio::select! {
            served = serving => served.map_err(RunError::from),
            ended = self.reactor_task => Err(reactor_failure(ended)),
            failure = background.failure() => Err(failure),
        };
        if let Err(error) = &ended {
            // A drain relies on all of these tasks. Clients reconnect to another node, or to this node after its
            // restart.
            error!("{error}");
            // This closes the listeners, so that clients are refused and try another node.
            state.drain.begin();
            systemd::stopping();
        }
        background.end().await;
        if let Some(log) = &state.access_log {
            log.flush();
        }
        info!("stopped");
        ended
    }
}

fn reactor_failure(ended: Result<io::Result<()>, JoinError>) -> RunError {
    RunError::Reactor(match ended {
        Ok(Ok(())) => "the reactor's task has ended".into(),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    })
}

/// The tasks of a running server that do not serve clients.
struct Background {
    /// Follows the log.
    tail: JoinHandle<()>,
    /// The tasks that the start has spawned, each with a description.
    needed: Vec<(&'static str, JoinHandle<()>)>,
    /// Reports this node's counts to other nodes.
    counts: Option<(Arc<dyn SubscriberCounts>, JoinHandle<()>)>,
    /// Tells the other nodes which users read channels at this node.
    presence: Option<(Arc<Presence>, JoinHandle<()>)>,
    /// Keeps the records of client sessions.
    sessions: (Arc<ServerState>, JoinHandle<()>),
    /// Tells the application about channels and members.
    transitions: Option<JoinHandle<()>>,
    /// Appends PUBLISHes to the log.
    bridge: Option<JoinHandle<()>>,
    stop_bridge: watch::Sender<bool>,
    /// Reports to the service manager.
    supervisor: JoinHandle<()>,
    demo: Vec<JoinHandle<()>>,
}

impl Background {
    fn spawn(server: &mut Server) -> Background {
        let state = &server.context.state;
        let (stop_bridge, stopping) = watch::channel(false);
        let transitions = server.transitions.take();
        let period = if transitions.is_some() { TRANSITIONS_REPORT_PERIOD } else { REPORT_PERIOD };
        let counts = |remote: Arc<dyn SubscriberCounts>| {
            (remote.clone(), tokio::spawn(state.hub.clone().report_counts(remote, period)))
        };
        Background {
            tail: tokio::spawn(state.hub.clone().follow()),
            needed: std::mem::take(&mut server.needed_tasks),
            counts: state.remote_counts.clone().map(counts),
            presence: state.presence.clone().map(|presence| (presence.clone(), tokio::spawn(presence.run()))),
            sessions: (state.clone(), tokio::spawn(serve::upkeep::run(state.clone()))),
            transitions: transitions.map(|source| tokio::spawn(transition_sender::run(source))),
            bridge: server.bridge.take().map(|bridge| bridge.spawn(stopping)),
            stop_bridge,
            supervisor: tokio::spawn(supervise(state.clone(), server.waits_for_log)),
            demo: server.demo_tasks.drain(..).map(tokio::spawn).collect(),
        }
    }

    /// Returns when a task has ended that should run until [`Background::end`]. The task has usually panicked.
    async fn failure(&mut self) -> RunError {
        let counts = self.counts.iter_mut().map(|(_, task)| ("the task that reports counts to other nodes", task));
        let bridge = self.bridge.iter_mut().map(|task| ("the task that takes PUBLISHes into the log", task));
        let needed = self.needed.iter_mut().map(|(what, task)| (*what, task));
        let presence =
            self.presence.iter_mut().map(|(_, task)| ("the task that reports the members of channels", task));
        let transitions =
            self.transitions.iter_mut().map(|task| ("the task that tells the application about channels", task));
        let sessions = [("the task that keeps the records of client sessions", &mut self.sessions.1)];
        let tail = [("the task that follows the log", &mut self.tail)];
        let all = needed.chain(counts).chain(presence).chain(transitions).chain(bridge).chain(sessions).chain(tail);
        let ended = select_all(all.map(|(task, handle)| Box::pin(async move { (task, handle.await) })));
        let ((task, ended), ..) = ended.await;
        RunError::Task { task, reason: ended.err().map_or("it returned".into(), |error| error.to_string()) }
    }

    /// Ends the tasks. The bridge and the counts have some time for their last writes to Redis.
    async fn end(self) {
        self.demo.iter().for_each(JoinHandle::abort);
        if let Some(transitions) = self.transitions {
            transitions.abort();
        }
        if let Some((remote, task)) = self.counts {
            task.abort();
            let _ = tokio::time::timeout(LAST_WRITES, remote.leave()).await;
        }
        if let Some((presence, task)) = self.presence {
            task.abort();
            let _ = tokio::time::timeout(LAST_WRITES, presence.end()).await;
        }
        let (state, task) = self.sessions;
        task.abort();
        let _ = tokio::time::timeout(LAST_WRITES, serve::upkeep::end(&state)).await;
        self.stop_bridge.send_replace(true);
        // The server must not await a task again after it has seen the end of the task.
        if let Some(bridge) = self.bridge.filter(|bridge| !bridge.is_finished()) {
            let _ = tokio::time::timeout(LAST_WRITES, bridge).await;
        }
        self.tail.abort();
        self.supervisor.abort();
    }
}

/// Tells the service manager when the server is ready, and from then on reports the server's state.
async fn supervise(state: Arc<ServerState>, waits_for_log: bool) {
    let ready = async {
        if !waits_for_log {
            state.hub.ready().await;
        }
    };
    let status = || {
        let readers: i64 = state.delivery.totals().iter().map(|totals| totals.open).sum();
        let retained = state.hub.retained();
        let log = if state.hub.is_ready() { "" } else { "; the log cannot be reached" };
        format!("{readers} readers of {} channels, {} messages retained{log}", retained.channels, retained.messages)
    };
    systemd::supervise(ready, status).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AddressOrOff, Config};
    use std::future::{pending, ready};
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpStream;

    async fn server() -> Server {
        server_with(Config::default()).await
    }

    async fn server_with(config: Config) -> Server {
        let listen = vec!["127.0.0.1:0".parse().expect("an address")];
        Server::bind(&Config { listen, tcp_listen: AddressOrOff(None), ..config }).await.expect("bound")
    }

    /// If one of its tasks has ended, the server ends with an error, so that a supervisor starts it again. Otherwise,
    /// the server would only seem to work.
    #[tokio::test]
    async fn a_task_that_ends_ends_the_server() {
        let panics = || tokio::spawn(async { panic!("a fault") });
        let returns = || tokio::spawn(ready(()));
        for (task, reason) in [(panics(), "a fault"), (returns(), "it returned")] {
            let mut server = server().await;
            let mut client = TcpStream::connect(server.local_addrs()[0]).await.expect("connect");
            server.needed_tasks.push(("the task of this test", task));
            let failure = server.run(pending()).await.expect_err("a failure");
            let text = failure.to_string();
            assert!(text.starts_with("the task of this test has ended: ") && text.contains(reason), "{text}");
            assert_eq!(failure.exit_code(), 70);
            // The connections end, by a FIN or a reset.
            assert!(matches!(client.read(&mut [0; 1]).await, Ok(0) | Err(_)));
        }
    }

    #[tokio::test]
    async fn each_task_is_watched() {
        type Task = fn(&Background) -> Option<&JoinHandle<()>>;
        fn needed<'a>(background: &'a Background, name: &str) -> Option<&'a JoinHandle<()>> {
            background.needed.iter().find(|(what, _)| what.contains(name)).map(|(_, task)| task)
        }
        let tasks: [(Task, &str); 8] = [
            (|background| Some(&background.tail), "follows the log"),
            (|background| background.bridge.as_ref(), "takes PUBLISHes"),
            (|background| background.counts.as_ref().map(|(_, task)| task), "reports counts"),
            (|background| background.presence.as_ref().map(|(_, task)| task), "reports the members"),
            (|background| background.transitions.as_ref(), "tells the application"),
            (|background| Some(&background.sessions.1), "records of client sessions"),
            (|background| needed(background, "appends to the log"), "appends to the log"),
            (|background| needed(background, "the timers"), "the timers"),
        ];
        for (task, name) in tasks {
            // With a log in Redis, the server has all of its tasks. No program listens on this port, so the server
            // waits.
            let redis = Some("redis://127.0.0.1:1".into());
            let mut config = Config::default();
            (config.message_log.redis, config.message_log.wait_for_log) = (redis, true);
            config.hook.hook_url = Some("http://127.0.0.1:1/".parse().expect("a URL"));
            config.hook.hook_notify = "occupied".parse().expect("types");
            config.presence.presence = vec!["*".parse().expect("a pattern")];
            let mut server = server_with(config).await;
            let mut background = Background::spawn(&mut server);
            task(&background).unwrap_or_else(|| panic!("no task {name}")).abort();
            let failure = background.failure().await.to_string();
            assert!(failure.contains(name) && failure.contains("cancelled"), "{failure}");
        }
        let mut server = server().await;
        let mut healthy = Background::spawn(&mut server);
        let seconds = tokio::time::timeout(Duration::from_millis(300), healthy.failure()).await;
        assert!(seconds.is_err(), "a failure of a healthy server: {seconds:?}");
    }
}
