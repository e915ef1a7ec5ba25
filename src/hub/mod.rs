//! The hub: a node's memory of the log, by channel, and the readers that wait on it.
//!
//! One task follows the log's tail and is the only writer. All state that a reader can see (epoch, head, floor, rings)
//! changes in one step under one lock, so that a reader never sees a head without the messages before it. A reader
//! holds the lock only to copy pointers out.

#[cfg(test)]
pub mod controlled_log;
mod count_reporter;
mod counts;
mod fan_out;
mod fan_out_stats;
#[expect(clippy::module_inception, reason = "the folder is named after its main type")]
mod hub;
mod limit;
mod memory;
mod message_id;
mod news;
mod outlet;
mod parking;
mod polling_clients;
mod reader;
mod subscription;
mod tail;
mod tail_state;
mod undelivered;

pub use count_reporter::REPORT_PERIOD;
pub use counts::{ChannelCounts, Retained};
pub use fan_out_stats::{FanOutCounts, FanOutObserver, FanOutReport, MAX_TRANSPORTS};
pub use hub::Hub;
pub use limit::{LIMIT, Limit};
pub use outlet::{BareFormat, Encoded, Format, Layout, Outlet, OwnedFormat};
pub use parking::{Allowance, Remainder, Written};
pub use subscription::{Gap, Step, Subscription};

use crate::cursor::Start;
use crate::log::subscriber_counts::SubscriberCounts;
use crate::message::{Channel, ClientId};
use std::sync::Arc;
use std::time::Duration;

impl Hub {
    /// Reports the readers of this node to the other nodes, at this interval. It does not return.
    pub async fn report_counts(self: Arc<Hub>, counts: Arc<dyn SubscriberCounts>, period: Duration) {
        count_reporter::report(&self, &*counts, period).await;
    }

    /// Follows the log's tail. Returns when the tail has ended.
    pub async fn follow(self: Arc<Hub>) {
        tail::follow(&self).await;
    }

    /// Reads messages that were just appended, unless another task is reading them. The tail's task delivers them in
    /// its own turn.
    pub fn advance(&self) {
        if let Some(mut tail) = self.tail.try_lock()
            && let Some(tail) = tail.as_mut()
        {
            tail.advance(self);
        }
    }

    /// Opens a subscription. The hub must be [`ready`](Hub::ready) before this call.
    ///
    /// With `last`, `latest` begins with that number of retained messages, and at most that number are replayed after a
    /// gap. The subscription counts as a reader by `transport`. With `None` it does not count as a reader.
    pub fn subscribe(
        self: &Arc<Hub>,
        transport: Option<&'static str>,
        channels: &[Channel],
        start: Start,
        last: Option<usize>,
        client: Option<ClientId>,
    ) -> Subscription {
        Subscription::open(self.clone(), transport, channels, start, last, client)
    }
}
