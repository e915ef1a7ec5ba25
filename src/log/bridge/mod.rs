//! The bridge from PUBLISH to the log: every node receives each PUBLISH, and one node appends it.
//!
//! A Redis server delivers all PUBLISHes to all its subscribers in one order. A node that joins publishes a *marker* on
//! a channel that all nodes receive. The PUBLISHes that a server delivers between two markers are a *segment*. Each
//! node that has received the marker knows the number of each PUBLISH after it. The script appends entries, and in the
//! same step stores the last number that it has taken in each segment. It takes only PUBLISHes that follow that number.
//! So nodes do not have to compare payloads. A node may also offer a PUBLISH that was already taken, or that another
//! node offers at the same moment.
//!
//! The lease only saves work. The holder of the lease offers PUBLISHes at once. Another node waits for a quarter of a
//! second. If no node has appended the PUBLISHes by then, this node offers them and holds the lease from then on.
//!
//! [`member`] is the protocol without its connections, [`queue`] holds the waiting messages, and `lua/bridge.lua` is
//! the side in Redis.

mod config;
mod member;
mod queue;
mod script;
mod session;
#[cfg(test)]
mod simulated;
#[cfg(test)]
mod simulation;

pub use super::publish_payload::{BadPattern, PublishPattern, parse_patterns};
pub use config::{BridgeConfig, ForeignPublishes};

use super::redis::RedisLog;
use session::Session;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, warn};

/// How long a session continues to append its waiting messages after its subscription is lost, and at the end of the
/// process.
const FINISH: Duration = Duration::from_secs(600);
const FINISH_AT_EXIT: Duration = Duration::from_secs(1);

/// How many sessions without a subscription may append their waiting messages at a time. Each may keep a full queue.
const FINISHING: usize = 8;

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// A subscription that lasts for a shorter time does not reset the pause before the next attempt.
const LASTING: Duration = Duration::from_secs(1);

/// Listens to PUBLISH until `stop` is set, and then gives the lease back. Sets `listening` when the first subscription
/// begins.
pub async fn run(
    log: Arc<RedisLog>,
    config: BridgeConfig,
    listening: watch::Sender<bool>,
    mut stop: watch::Receiver<bool>,
) {
    let mut pause = FIRST_PAUSE;
    let mut reported = String::new();
    let (mut unreachable, mut finishing) = (None, JoinSet::new());
    while !*stop.borrow() {
        let mut session = Session::new(log.clone(), &config);
        let began = Instant::now();
        let ended = tokio::select! {
            ended = session.listen(&config, &mut unreachable, &listening) => ended,
            () = is_set(&mut stop) => {
                finishing.spawn(session.finish(FINISH_AT_EXIT));
                break;
            }
        };
        while finishing.try_join_next().is_some() {}
        if session.has_joined() {
            if began.elapsed() >= LASTING {
                pause = FIRST_PAUSE;
            }
            reported.clear();
            let times = log.metrics().lost_subscriptions.inc() + 1;
            warn!(reason = %ended, times, "the subscription in Redis is lost, so PUBLISHes may be missed");
            // The messages that the session has already received still have to be appended.
            let time = if finishing.len() < FINISHING { FINISH } else { FINISH_AT_EXIT };
            finishing.spawn(session.finish(time));
        } else if reported != ended.to_string() {
            reported = ended.to_string();
            warn!(reason = %ended, "no subscription in Redis: this node does not receive PUBLISHes; it retries");
        } else {
            debug!(reason = %ended, "no subscription in Redis");
        }
        tokio::select! {
            () = tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())) => {}
            () = is_set(&mut stop) => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    let all = async { while finishing.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(FINISH_AT_EXIT, all).await;
}

async fn is_set(stop: &mut watch::Receiver<bool>) {
    // A dropped sender also means that the bridge has to stop.
    let _ = stop.wait_for(|stop| *stop).await;
}
