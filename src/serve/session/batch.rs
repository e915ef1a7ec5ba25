//! The batch of a poll: the messages that are available now, or the first ones that arrive.

use crate::hub::{Gap, Hub, Limit, Step, Subscription};
use crate::message::Message;
use crate::serve::http::request::ClientShut;
use crate::serve::state::ServerState;
use crate::transport::{Batch, BatchSession};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// The maximum number of bytes in a batch. A larger batch is allowed if it has only one message.
pub const BATCH_BYTES: usize = 1 << 20;

/// The time for which a poll waits for a node that is behind the cursor. After this time, the answer returns the cursor
/// unchanged.
const AHEAD_WAIT: Duration = Duration::from_secs(1);

/// The time for which a poll waits for the log if only the log can answer it.
const LOG_WAIT: Duration = Duration::from_secs(20);

/// The messages that are available now. The result does not include volatile messages, because only waiting readers get
/// them.
pub async fn now(hub: &Hub, subscription: &mut Subscription, limit: usize) -> Batch {
    let mut collector = BatchBuilder::new(limit);
    let asked = Instant::now();
    let mut deadline = asked + LOG_WAIT;
    loop {
        let step = tokio::time::timeout_at(deadline, collector.step(subscription)).await;
        match step {
            Ok(Step::Ahead) if asked.elapsed() < AHEAD_WAIT => {
                deadline = asked + AHEAD_WAIT;
                let _ = tokio::time::timeout_at(deadline, hub.reached(subscription.cursor())).await;
            }
            Ok(Step::Gap(gap)) if collector.ends_before(&gap) => {
                let mut batch = collector.batch(subscription, false);
                batch.messages.retain(|message| message.cursor().is_some());
                batch.cursor = gap.from;
                return batch;
            }
            Ok(Step::Gap(_)) => {}
            // The batch also reports the gap, so that the client does not have to poll again to get it.
            Ok(Step::Messages) if subscription.is_at_cut() && collector.has_room() => {}
            Ok(Step::Messages | Step::Idle | Step::Ahead) | Err(_) => {
                collector.messages.retain(|message| message.cursor().is_some());
                return collector.batch(subscription, matches!(step, Ok(Step::Idle)));
            }
        }
    }
}

/// The messages for a long poll, if they are already available.
pub async fn first(subscription: &mut Subscription, limit: usize) -> Option<Batch> {
    let mut collector = BatchBuilder::new(limit);
    match poll_fn(|cx| Poll::Ready(collector.poll_wait(cx, subscription))).await {
        // If there is a gap, the batch reports it at once, with the messages after it.
        Poll::Ready(Step::Gap(_)) => Some(now_behind_gap(subscription, collector).await),
        Poll::Ready(_) => Some(collector.batch(subscription, true)),
        Poll::Pending => None,
    }
}

/// The first messages that arrive. The batch is empty after a timeout. It is also empty if the client closes its
/// sending side. In this case, the client has probably vanished, and only a response can show whether this is true.
pub async fn wait(
    state: &ServerState,
    subscription: &mut Subscription,
    limit: usize,
    timeout: Duration,
    client_shut: Option<&ClientShut>,
) -> Batch {
    let mut collector = BatchBuilder::new(limit);
    let step = tokio::select! {
        step = poll_fn(|cx| collector.poll_wait(cx, subscription)) => Some(step),
        () = tokio::time::sleep(timeout) => None,
        () = state.drain.begun() => None,
        () = poll_fn(|cx| client_shut.map_or(Poll::Pending, |client| client.poll(cx))) => None,
    };
    match step {
        Some(Step::Gap(_)) => now_behind_gap(subscription, collector).await,
        _ => collector.batch(subscription, true),
    }
}

/// Returns a batch with the gap and the messages after it.
pub async fn now_behind_gap(subscription: &mut Subscription, mut collector: BatchBuilder) -> Batch {
    let mut is_complete = false;
    while let Ok(step) = tokio::time::timeout(AHEAD_WAIT, collector.step(subscription)).await {
        is_complete = step == Step::Idle;
        if !matches!(step, Step::Gap(_)) {
            break;
        }
    }
    collector.batch(subscription, is_complete)
}

/// Collects a batch.
pub struct BatchBuilder {
    limit: Limit,
    gap: Option<Gap>,
    messages: Vec<Arc<Message>>,
}

impl BatchBuilder {
    /// Begins a batch of at most this many messages.
    pub fn new(messages: usize) -> BatchBuilder {
        BatchBuilder { limit: Limit { messages, bytes: BATCH_BYTES }, gap: None, messages: Vec::new() }
    }

    /// Whether the batch ends before a gap, which the next batch begins with. The gap of a batch stands before its messages,
    /// and `from` tells its place. If the log has lost what the batch has read last, these messages must not follow the
    /// gap: a reader that loads its state again at the gap would apply them to it.
    fn ends_before(&self, gap: &Gap) -> bool {
        !self.messages.is_empty() && gap.from.id > gap.cursor.id
    }

    /// Reduces the limit to the remaining space, and returns whether it allows more messages.
    fn has_room(&mut self) -> bool {
        let bytes: usize = self.messages.iter().map(|message| message.object().len()).sum();
        let room = Limit {
            messages: self.limit.messages.saturating_sub(self.messages.len()),
            bytes: BATCH_BYTES.saturating_sub(bytes),
        };
        let has_room = room.messages > 0 && room.bytes > 0;
        if has_room {
            self.limit = room;
        }
        has_room
    }

    /// Takes one step. The step is pending only while it waits for the log. Cancel safe.
    async fn step(&mut self, subscription: &mut Subscription) -> Step {
        let step = poll_fn(|cx| subscription.poll_step(cx, self.limit, &mut self.messages)).await;
        self.note(step);
        step
    }

    /// Takes steps until there is a message or a gap.
    pub fn poll_wait(&mut self, cx: &mut Context<'_>, subscription: &mut Subscription) -> Poll<Step> {
        match subscription.poll_step(cx, self.limit, &mut self.messages) {
            // Volatile messages arrived during the wait for the log. The poll returns them now, because the server does
            // not send them again.
            Poll::Pending if !self.messages.is_empty() => Poll::Ready(Step::Messages),
            Poll::Ready(Step::Idle | Step::Ahead) | Poll::Pending => Poll::Pending,
            Poll::Ready(step) => {
                self.note(step);
                Poll::Ready(step)
            }
        }
    }

    fn note(&mut self, step: Step) {
        if let Step::Gap(gap) = step
            && !self.ends_before(&gap)
        {
            // If a gap follows another gap, the client must get the start of the first gap.
            let from = self.gap.map_or(gap.from, |first| first.from);
            self.gap = Some(Gap { from, ..gap });
        }
    }

    /// Returns the batch of the collected messages.
    pub fn batch(self, subscription: &Subscription, is_complete: bool) -> Batch {
        Batch {
            gap: self.gap,
            messages: self.messages,
            cursor: subscription.cursor(),
            session: BatchSession::Absent,
            is_complete,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::{Cursor, Epoch, Start};
    use crate::hub::controlled_log::{controlled, extent, id, message};
    use crate::log::{Ancestor, Page, TailEvent};
    use crate::message::Channel;

    #[tokio::test]
    async fn what_is_volatile_is_told_while_the_log_is_asked() {
        let (hub, controls) = controlled();
        let (epoch, end) = (Epoch::random(), id(5));
        controls.tail.send(TailEvent::Opened(extent(epoch, Vec::new(), end, end))).expect("it listens");
        controls.tail.send(TailEvent::CaughtUp).expect("it listens");
        hub.ready().await;
        // This node has not read up to that cursor. Only the log knows the messages after it.
        let channel: Channel = "a".parse().expect("a channel");
        let ahead = Cursor { id: id(9), epoch };
        let mut subscription = hub.subscribe(None, std::slice::from_ref(&channel), Start::After(ahead), None, None);
        assert!(first(&mut subscription, 10).await.is_none());
        controls.tail.send(TailEvent::Volatile(message(None, &channel))).expect("it listens");
        tokio::task::yield_now().await;
        let batch = first(&mut subscription, 10).await.expect("the message");
        assert_eq!((batch.messages.len(), batch.cursor), (1, ahead));
    }

    /// The log goes on at another server, without what came after entry 5. The page has entries up to `last`.
    async fn batches_at_a_cut(last: u64) -> Vec<(Option<u64>, Vec<u64>)> {
        let (hub, controls) = controlled();
        let (old, new) = (Epoch::random(), Epoch::random());
        controls.tail.send(TailEvent::Opened(extent(old, Vec::new(), id(5), id(5)))).expect("it listens");
        controls.tail.send(TailEvent::CaughtUp).expect("it listens");
        hub.ready().await;
        let channel: Channel = "a".parse().expect("a channel");
        let start = Start::After(Cursor { id: id(4), epoch: old });
        let mut subscription = hub.subscribe(None, std::slice::from_ref(&channel), start, None, None);
        // Only the log has what is after the position, so the poll asks it.
        assert!(first(&mut subscription, 10).await.is_none());
        let lineage = vec![Ancestor { epoch: old, last: id(5), is_cut: true }];
        controls.tail.send(TailEvent::Opened(extent(new, lineage, id(5), id(6)))).expect("it listens");
        let kept = message(Some(Cursor { id: id(6), epoch: new }), &channel);
        controls.tail.send(TailEvent::Entries { after: id(5), messages: vec![kept], upto: id(6) }).expect("it listens");
        controls.tail.send(TailEvent::CaughtUp).expect("it listens");
        hub.reached_in_lineage(Cursor { id: id(6), epoch: new }).await;
        let at = Cursor { id: id(last), epoch: old };
        let extent = extent(old, Vec::new(), id(3), id(last));
        let page = Page { extent, messages: vec![message(Some(at), &channel)], upto: id(last) };
        controls.pages.send(page).expect("it asks");
        let mut batches = Vec::new();
        while batches.last().is_none_or(|(_, messages): &(_, Vec<u64>)| messages.last() != Some(&6)) {
            let batch = now(&hub, &mut subscription, 10).await;
            let number = |at: Cursor| (1..10).find(|n| id(*n) == at.id).expect("a small id");
            let messages = batch.messages.iter().filter_map(|message| message.cursor()).map(number).collect();
            // The next poll of the client begins there.
            let start = Start::After(batch.cursor);
            subscription = hub.subscribe(None, std::slice::from_ref(&channel), start, None, None);
            batches.push((batch.gap.map(|gap| number(gap.from)), messages));
        }
        batches
    }

    /// A page can come from a server that has lost its role: it has entries that the log has lost when the page arrives.
    #[tokio::test]
    async fn messages_that_the_log_has_lost_are_not_in_the_batch_of_the_gap() {
        assert_eq!(batches_at_a_cut(7).await, [(None, vec![7]), (Some(7), vec![6])]);
    }

    #[tokio::test]
    async fn a_batch_goes_on_behind_a_gap() {
        assert_eq!(batches_at_a_cut(5).await, [(Some(5), vec![5, 6])]);
    }
}
