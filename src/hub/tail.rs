//! The task that follows the log and is the only writer of the node's memory.

use super::Hub;
use crate::log::TailEvent;
use crate::log::memory::now_ms;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio_stream::StreamExt;
use tracing::{info, warn};

/// How often entries that have grown too old are looked for.
const EVICTION_PERIOD: Duration = Duration::from_secs(1);

pub(super) async fn follow(hub: &Hub) {
    let mut tail = hub.log.clone().tail();
    let mut eviction = tokio::time::interval(EVICTION_PERIOD);
    loop {
        tokio::select! {
            event = tail.next() => match event {
                Some(event) => apply(hub, event),
                None => return,
            },
            _ = eviction.tick() => hub.memory.write().evict(now_ms()),
        }
    }
}

fn apply(hub: &Hub, event: TailEvent) {
    match event {
        TailEvent::Opened(extent) => {
            let mut memory = hub.memory.write();
            let before = memory.cursor();
            memory.open(&extent, now_ms());
            let head = memory.cursor();
            drop(memory);
            hub.reachable.send_replace(true);
            if before.is_some_and(|before| before.epoch != extent.epoch) {
                warn!(epoch = %extent.epoch, "the log is not the one it was; readers whose cursors it does not hold are told of a gap");
                // A node that was ready stays so; `reached` must not wait for an epoch that is gone.
                if let (Some(head), true) = (head, hub.head().is_some()) {
                    hub.set_head(head);
                }
            }
            hub.wake_all();
        }
        TailEvent::Entries { after, messages, upto } => {
            hub.read.fetch_add(messages.len() as u64, Ordering::Relaxed);
            let mut memory = hub.memory.write();
            let touched = memory.extend(after, messages, upto, now_ms());
            let head = memory.cursor();
            drop(memory);
            if let (Some(head), true) = (head, hub.head().is_some()) {
                hub.set_head(head);
            }
            hub.memory.read().wake(&touched);
        }
        TailEvent::CaughtUp => {
            let head = hub.memory.read().cursor();
            if let (Some(head), None) = (head, hub.head()) {
                info!(cursor = %head, "the log is read");
                hub.set_head(head);
            }
        }
        TailEvent::Volatile(message) => hub.deliver_volatile(&message),
        TailEvent::Lost => {
            hub.reachable.send_replace(false);
        }
    }
}
