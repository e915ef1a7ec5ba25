//! Reports the readers of this node to the other nodes.

use super::Hub;
use crate::log::subscriber_counts::SubscriberCounts;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// The usual interval at which changes are reported. The counts of other nodes may be out of date by up to this time.
pub const REPORT_PERIOD: Duration = Duration::from_secs(2);

pub(super) async fn report(hub: &Hub, counts: &dyn SubscriberCounts, period: Duration) {
    let mut tick = tokio::time::interval(period.mul_f64(0.9 + 0.2 * fastrand::f64()));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut everything = true;
    loop {
        tick.tick().await;
        let reported = counts.report(hub.changes(everything), everything).await;
        // All counts are reported again after a failure, or if Redis has forgotten this node (Redis was emptied, or
        // this node was stalled).
        let was_everything = std::mem::replace(&mut everything, !matches!(reported, Ok(true)));
        if was_everything && reported.is_ok() {
            everything = false;
        }
    }
}
