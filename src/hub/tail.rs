//! The task that follows the log and is the only writer of the node's memory.
//!
//! Reading entries and delivering them are two steps. A task that has just appended may do the first step for the tail
//! ([`Hub::advance`]). So the answer to a publish does not wait for another task, and messages that several requests
//! publish in one turn are delivered together.

use super::Hub;
use super::fan_out::fan_out;
use super::tail_state::Tail;
use super::undelivered::Undelivered;
use crate::log::{Descent, Extent, TailEvent};
use crate::message::Kind;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;
use tracing::{info, warn};

/// The interval at which entries that are too old are dropped.
const EVICTION_PERIOD: Duration = Duration::from_secs(1);

/// The maximum time for which the tail collects messages before it delivers them, if new messages arrive in each turn.
/// A turn without a message ends this time at once, so a single message does not wait.
const GATHERING: Duration = Duration::from_micros(500);

impl Tail {
    /// Reads the tail's new events, but stops when there are enough messages for one delivery. Returns whether the
    /// position may have moved. Entries that are not messages also move it.
    pub(super) fn take_in(&mut self, hub: &Hub) -> bool {
        let mut has_moved = false;
        let waker = self.waker.clone();
        let mut cx = Context::from_waker(&waker);
        while !self.is_over && !self.undelivered.is_full() {
            match self.events.as_mut().poll_next(&mut cx) {
                Poll::Ready(Some(event)) => {
                    has_moved |= !matches!(event, TailEvent::Volatile(_));
                    apply(hub, event, &mut self.undelivered);
                }
                Poll::Ready(None) => self.is_over = true,
                Poll::Pending => break,
            }
        }
        has_moved
    }

    /// Reads the tail's new events, and wakes the task that delivers messages.
    pub(super) fn advance(&mut self, hub: &Hub) {
        if self.take_in(hub) {
            self.waker.wake_by_ref();
        }
    }
}

pub(super) async fn follow(hub: &Arc<Hub>) {
    let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
    let events = hub.log.clone().tail();
    *hub.tail.lock() = Some(Tail { events, waker, undelivered: Undelivered::default(), is_over: false });
    let mut eviction = tokio::time::interval(EVICTION_PERIOD);
    loop {
        let news = poll_fn(|cx| match &mut *hub.tail.lock() {
            Some(tail) => {
                tail.waker.clone_from(cx.waker());
                tail.take_in(hub);
                if !tail.undelivered.is_empty() {
                    return Poll::Ready(true);
                }
                if let Some(head) = hub.head() {
                    hub.set_handed_out(head);
                }
                if tail.is_over { Poll::Ready(false) } else { Poll::Pending }
            }
            None => Poll::Ready(false),
        });
        tokio::select! {
            there_are = news => if !there_are { return },
            _ = eviction.tick() => {
                let now_ms = hub.log.now_ms();
                hub.memory.write().evict(now_ms);
                continue;
            }
        }
        gather(hub).await;
        let (undelivered, head) = match &mut *hub.tail.lock() {
            // The messages and the head are read under one lock, so that the head belongs to these messages.
            Some(tail) => (std::mem::take(&mut tail.undelivered), hub.memory.read().cursor()),
            None => return,
        };
        fan_out(hub, undelivered, head).await;
        if let Some(head) = head {
            hub.set_handed_out(head);
        }
    }
}

/// Lets tasks that are about to publish run for a short time, as long as their messages can be sent in the same writes.
/// It stops at a message in a channel that does not have undelivered messages: waiting for such messages would only
/// delay the others.
async fn gather(hub: &Hub) {
    let begun = Instant::now();
    loop {
        let before = hub.tail.lock().as_ref().map_or(0, |tail| tail.undelivered.messages.len());
        tokio::task::yield_now().await;
        let mut tail = hub.tail.lock();
        let Some(tail) = tail.as_mut() else { return };
        tail.take_in(hub);
        if !tail.undelivered.repeats(before) || tail.undelivered.is_full() || begun.elapsed() > GATHERING {
            return;
        }
    }
}

fn apply(hub: &Hub, event: TailEvent, undelivered: &mut Undelivered) {
    match event {
        TailEvent::Opened(extent) => {
            open(hub, &extent);
            undelivered.log_has_changed();
        }
        TailEvent::Entries { after, messages, upto } => {
            let count = messages.iter().filter(|message| message.kind() == Kind::Message).count();
            hub.read.fetch_add(count as u64, Ordering::Relaxed);
            let mut memory = hub.memory.write();
            let is_whole = memory.extend(after, messages, upto, hub.log.now_ms(), undelivered);
            let head = memory.cursor();
            drop(memory);
            if !is_whole {
                undelivered.log_has_changed();
            }
            if let (Some(head), true) = (head, hub.head().is_some()) {
                hub.set_head(head);
            }
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

/// Records that the log was reached. It may be a different log than before.
fn open(hub: &Hub, extent: &Extent) {
    let mut memory = hub.memory.write();
    let before = memory.cursor();
    memory.open(extent);
    let head = memory.cursor();
    drop(memory);
    hub.reachable.send_replace(true);
    let epoch = extent.lineage.epoch;
    let Some(before) = before.filter(|before| before.epoch != epoch) else { return };
    match extent.lineage.locate(before) {
        Descent::Same(_) => {
            info!(%epoch, "the log continues on another server, with everything that this node has read");
        }
        Descent::Beyond(end) | Descent::Until(end) => {
            warn!(%epoch, %end, "the log continues on another server and has lost its end; readers behind it are told of a gap");
        }
        Descent::Unknown => warn!(%epoch, "the log was replaced by another log; all readers are told of a gap"),
    }
    // A node that was ready stays ready. The head is set because `reached` must not wait for an epoch that has ended.
    if let (Some(head), true) = (head, hub.head().is_some()) {
        hub.set_head(head);
    }
}
