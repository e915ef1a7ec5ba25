//! Appends: each node has one task that gathers waiting drafts into a batch. One batch is under way at a time.
//!
//! A batch has a number, and the script keeps the answer to the last batch. So a batch that got no answer can be sent
//! again, and still runs only once. A draft that was not sent can be withdrawn: it is then certain that the draft will
//! never be in the log. If a draft was sent but not answered in time, its outcome is unknown. The number of the next
//! batch prevents Redis from appending it later.

mod answer;
mod appender;
mod upkeep;

pub(super) use appender::Appender;

use super::queue::Jobs;
use super::{RedisLog, peers};
use std::sync::Weak;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// The interval at which the log is trimmed.
const TRIM_PERIOD: Duration = Duration::from_secs(5);

/// The interval at which the node asks the sentinels, if there are any, for the primary.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// The appender's task. The task ends with the log.
pub(super) async fn run(log: Weak<RedisLog>, mut jobs: Jobs) {
    let mut node = Appender::new();
    let mut look = tokio::time::interval(LOOK_PERIOD.mul_f64(0.8 + 0.4 * fastrand::f64()));
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut renew = tokio::time::interval(peers::PERIOD.mul_f64(0.8 + 0.4 * fastrand::f64()));
    renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut trim = tokio::time::interval(TRIM_PERIOD.mul_f64(0.8 + 0.4 * fastrand::f64()));
    loop {
        tokio::select! {
            batch = jobs.batch() => {
                let Some(batch) = batch else { return };
                let Some(log) = log.upgrade() else { return };
                node.append(&log, &jobs, batch).await;
            }
            _ = look.tick() => {
                let Some(log) = log.upgrade() else { return };
                node.look_for_the_primary(&log).await;
                node.mark(&log).await;
            }
            _ = renew.tick() => {
                let Some(log) = log.upgrade() else { return };
                node.renew(&log).await;
            }
            _ = trim.tick() => {
                let Some(log) = log.upgrade() else { return };
                if node.trim(&log).await {
                    // Only one round runs at a time: a round takes milliseconds, and appends run between two rounds.
                    trim.reset_immediately();
                }
            }
        }
    }
}
