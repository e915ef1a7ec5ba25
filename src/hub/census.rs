//! Tells the other nodes who reads here.

use super::Hub;
use crate::log::census::Census;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// How often changes are told. Counts of other nodes are as old as this.
const PERIOD: Duration = Duration::from_secs(2);

pub(super) async fn tell(hub: &Hub, census: &dyn Census) {
    let mut tick = tokio::time::interval(PERIOD.mul_f64(0.9 + 0.2 * fastrand::f64()));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut everything = true;
    loop {
        tick.tick().await;
        let told = census.tell(hub.changes(everything), everything).await;
        // Not told, or told to a Redis that had forgotten this node (it was emptied, or we were stalled).
        let was_everything = std::mem::replace(&mut everything, !matches!(told, Ok(true)));
        if was_everything && told.is_ok() {
            everything = false;
        }
    }
}
