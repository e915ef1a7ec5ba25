//! PUBLISH into the log: every node hears each PUBLISH, one appends it.
//!
//! One Redis delivers all PUBLISHes to all its subscribers in one order, so each has a number. A node
//! that joins publishes a *marker* on a channel that all nodes hear; whoever appends takes the marker
//! like everything else and notes its number, and from there the node counts by itself. The script
//! keeps the number of the last PUBLISH taken, in one step with its entry, and takes only what follows
//! it. So nodes need not look for equal payloads: what has a number up to the last one taken is struck
//! out, what has a higher one is kept for the case that this node has to go on.
//!
//! Who appends holds a lease, which the script checks in the same step: a holder that stalled and
//! wakes up finds another node in its place and its messages taken.
//!
//! [`member`] is the protocol without its connections, [`queue`] what waits, `lua/bridge.lua` the other side.

mod member;
mod queue;
#[cfg(test)]
mod simulation;
mod subscription;

pub use super::pushed::{BadPattern, Pattern};

use super::redis::RedisLog;
use std::sync::Arc;
use std::time::Duration;
use subscription::{Ended, Subscription};
use tokio::sync::watch;
use tracing::{debug, warn};

/// How PUBLISH is taken in.
#[derive(Clone, Debug)]
pub struct BridgeConfig {
    /// What is listened to.
    pub patterns: Vec<Pattern>,
    /// Messages that may wait to be appended.
    pub queue: usize,
}

/// What may wait beside their number, in bytes.
const QUEUE_BYTES: usize = 64 << 20;

/// How long a subscription that hears no more looks after what it has heard, and how long at the end
/// of the process.
const FINISH: Duration = Duration::from_secs(20);
const LAST_WORDS: Duration = Duration::from_secs(1);

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Listens until `stop` is set, and gives the lease back then. `listening` is set when it listens for
/// the first time.
pub async fn run(
    log: Arc<RedisLog>,
    config: BridgeConfig,
    listening: watch::Sender<bool>,
    mut stop: watch::Receiver<bool>,
) {
    let mut pause = FIRST_PAUSE;
    let mut reported = String::new();
    while !*stop.borrow() {
        let mut subscription = Subscription::new(log.clone(), &config);
        let ended = tokio::select! {
            ended = subscription.listen(&config.patterns, &listening) => ended,
            () = is_set(&mut stop) => {
                subscription.finish(LAST_WORDS).await;
                return;
            }
        };
        if subscription.has_joined() {
            pause = FIRST_PAUSE;
            reported.clear();
            let times = log.metrics().deaf.inc() + 1;
            warn!(reason = %ended, times, "the subscription in Redis is lost: what is PUBLISHed until it is back may be missed");
            if !matches!(ended, Ended::LostTrack) {
                // What it has heard it still owes.
                tokio::spawn(subscription.finish(FINISH));
            }
        } else if reported != ended.to_string() {
            reported = ended.to_string();
            warn!(reason = %ended, "no subscription in Redis: what is PUBLISHed is not heard by this node; trying on");
        } else {
            debug!(reason = %ended, "no subscription in Redis");
        }
        tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn is_set(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone has stopped, too.
    let _ = stop.wait_for(|stop| *stop).await;
}
