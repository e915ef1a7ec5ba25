//! Timers of parked readers: heartbeats, and the timeouts of polls.
//!
//! A timer of tokio takes 112 bytes in an allocation of its own. Each of these timers takes 40 bytes in shared tables,
//! and all of them together use one timer of tokio. There are two trade-offs. A rescheduled timer may fire once
//! spuriously. A timer may be late by up to 1/128 of its delay, so that timers of about the same time fire together. A
//! node with many silent streams wakes up sixteen times a second for its heartbeats, and not once for each heartbeat.

use parking_lot::Mutex;
use slab::Slab;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Milliseconds since the start of the timers.
type Tick = u64;

const NEVER: Tick = Tick::MAX;

/// A timer may be late by its delay divided by this number.
const SLACK: Tick = 128;

/// If the queue has this number of stale entries in addition to one for each timer, it removes the stale entries.
const STALE: usize = 64;

/// All timers.
pub struct Timers {
    begun: Instant,
    table: Mutex<Table>,
    /// Notified when the time of the first timer has become earlier.
    sooner: Arc<Notify>,
}

#[derive(Default)]
struct Table {
    slots: Slab<Slot>,
    /// Pairs of a tick and the slot to check at that tick. An entry is stale if its slot names another tick.
    queue: BinaryHeap<Reverse<(Tick, u32)>>,
}

struct Slot {
    /// The waker of the task, or a waker that does nothing. It is not an `Option`, which would make each slot a word
    /// larger.
    waker: Waker,
    /// The tick of the slot's entry in the queue.
    queued: Tick,
}

/// A timer. It does not wake a task before it is polled for the first time.
pub struct Timer {
    timers: Arc<Timers>,
    due: Tick,
    key: u32,
}

impl Timers {
    fn new() -> Arc<Timers> {
        Arc::new(Timers { begun: Instant::now(), table: Mutex::default(), sooner: Arc::default() })
    }

    /// Starts the timers in tokio's runtime, and returns them with their task. The task ends when the timers are
    /// dropped. If it ends earlier, no timer fires any more, so the server must watch the task.
    pub fn start() -> (Arc<Timers>, JoinHandle<()>) {
        let timers = Timers::new();
        let task = tokio::spawn(run(Arc::downgrade(&timers), timers.sooner.clone()));
        (timers, task)
    }

    /// Makes a timer that is due at `due`. It may fire up to a millisecond, or the [`SLACK`]th part of its delay,
    /// later.
    pub fn at(self: &Arc<Timers>, due: Instant, now: Instant) -> Timer {
        let slot = Slot { waker: Waker::noop().clone(), queued: NEVER };
        let key = self.table.lock().slots.insert(slot);
        // There is never enough memory for this many timers.
        let key = u32::try_from(key).unwrap_or(u32::MAX);
        Timer { timers: self.clone(), due: self.due(due, now), key }
    }

    /// Returns the first tick from this moment on that is a multiple of a power of two. So delays of about the same
    /// length end on the same ticks.
    fn due(&self, at: Instant, now: Instant) -> Tick {
        let since = at.saturating_duration_since(self.begun);
        let exact = tick(since) + Tick::from(!since.subsec_nanos().is_multiple_of(1_000_000));
        let slack = exact.saturating_sub(self.now(now)) / SLACK;
        exact.next_multiple_of(1 << slack.max(1).ilog2())
    }

    fn now(&self, now: Instant) -> Tick {
        tick(now.saturating_duration_since(self.begun))
    }

    /// Wakes the tasks whose timers are due. Returns the time at which the next timer is due.
    fn fire(&self, now: Instant) -> Option<Instant> {
        let now = self.now(now);
        let mut due = Vec::new();
        let mut table = self.table.lock();
        let Table { slots, queue } = &mut *table;
        let next = loop {
            match queue.peek() {
                Some(Reverse((tick, _))) if *tick > now => break Some(*tick),
                None => break None,
                Some(_) => {}
            }
            if let Some(Reverse((tick, key))) = queue.pop()
                && let Some(slot) = slots.get_mut(key as usize).filter(|slot| slot.queued == tick)
            {
                slot.queued = NEVER;
                due.push(std::mem::replace(&mut slot.waker, Waker::noop().clone()));
            }
        };
        drop(table);
        // Tasks are woken without the lock, since a woken task may need it at once.
        due.into_iter().for_each(Waker::wake);
        next.map(|next| self.begun + Duration::from_millis(next))
    }
}

/// Converts a duration to whole ticks.
fn tick(since: Duration) -> Tick {
    since.as_secs() * 1000 + Tick::from(since.subsec_millis())
}

async fn run(timers: Weak<Timers>, sooner: Arc<Notify>) {
    while let Some(next) = timers.upgrade().map(|timers| timers.fire(Instant::now())) {
        match next {
            Some(next) => tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = sooner.notified() => {}
            },
            None => sooner.notified().await,
        }
    }
}

impl Drop for Timers {
    fn drop(&mut self) {
        self.sooner.notify_one();
    }
}

impl Timer {
    /// Whether the timer is not due yet.
    fn is_ahead(&self, now: Instant) -> bool {
        self.timers.now(now) < self.due
    }

    /// Reschedules the timer. The task must poll the timer again.
    pub fn reset(&mut self, due: Instant, now: Instant) {
        self.due = self.timers.due(due, now);
    }

    /// Ready from the moment when the timer is due. The timer wakes the task that has polled it last. It may wake the
    /// task once spuriously if it was rescheduled before it fired.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut table = self.timers.table.lock();
        let Table { slots, queue } = &mut *table;
        let Some(slot) = slots.get_mut(self.key as usize) else { return Poll::Ready(()) };
        if !self.is_ahead(Instant::now()) {
            // This poll may come before the timer has fired. The entry that is still queued must not count for the next
            // due time of the timer.
            slot.queued = NEVER;
            return Poll::Ready(());
        }
        slot.waker.clone_from(cx.waker());
        if slot.queued > self.due {
            slot.queued = self.due;
            let is_first = queue.peek().is_none_or(|Reverse((first, _))| self.due < *first);
            queue.push(Reverse((self.due, self.key)));
            if is_first {
                self.timers.sooner.notify_one();
            }
        }
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let mut table = self.timers.table.lock();
        let Table { slots, queue } = &mut *table;
        let slot = slots.try_remove(self.key as usize);
        // Thousands of polls end before their timeout, and their entries would otherwise stay queued until that time.
        if queue.len() > 2 * slots.len() + STALE {
            queue.retain(|Reverse((tick, key))| slots.get(*key as usize).is_some_and(|slot| slot.queued == *tick));
        }
        drop(table);
        // The waker is dropped without the lock: it may hold the last reference to a task.
        drop(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    async fn wait(timer: &mut Timer) {
        poll_fn(|cx| timer.poll(cx)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn in_their_order_and_in_time() {
        let (timers, _task) = Timers::start();
        let begun = Instant::now();
        let mut waiting = tokio::task::JoinSet::new();
        for ms in [500, 20, 70_000, 20, 1] {
            let mut timer = timers.at(begun + Duration::from_millis(ms), begun);
            waiting.spawn(async move {
                wait(&mut timer).await;
                (ms, begun.elapsed().as_millis() as u64)
            });
        }
        let fired = waiting.join_all().await;
        assert!(fired.iter().all(|(ms, at)| (*ms..=ms + 2 + ms / SLACK).contains(at)), "{fired:?}");
        assert!(timers.table.lock().slots.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_set_anew_fires_then() {
        let (timers, _task) = Timers::start();
        let begun = Instant::now();
        let mut timer = timers.at(begun + Duration::from_secs(1), begun);
        assert!(polled(&mut timer).await.is_pending());
        // The timer is moved to a later time: it wakes its task once too early, but `wait` does not see this.
        timer.reset(begun + Duration::from_secs(5), Instant::now());
        wait(&mut timer).await;
        assert!((5000..=5041).contains(&begun.elapsed().as_millis()));
        // The timer is moved to an earlier time.
        timer.reset(begun + Duration::from_secs(60), Instant::now());
        assert!(polled(&mut timer).await.is_pending());
        timer.reset(begun + Duration::from_secs(7), Instant::now());
        wait(&mut timer).await;
        assert!((7000..=7022).contains(&begun.elapsed().as_millis()));
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_are_near_each_other_fire_together() {
        let (timers, _task) = Timers::start();
        // The times are spread over one second; the timers fire every 64 or 128 ms.
        for (wait_ms, groups) in [(15_000, 17), (25_000, 9)] {
            let begun = Instant::now();
            let mut waiting = tokio::task::JoinSet::new();
            for ms in 0..1000 {
                let mut timer = timers.at(begun + Duration::from_millis(wait_ms + ms), begun);
                waiting.spawn(async move {
                    wait(&mut timer).await;
                    begun.elapsed().as_millis()
                });
            }
            let mut fired = waiting.join_all().await;
            fired.sort_unstable();
            fired.dedup();
            assert!(fired.len() <= groups, "{wait_ms} ms: {fired:?}");
        }
    }

    async fn polled(timer: &mut Timer) -> Poll<()> {
        poll_fn(|cx| Poll::Ready(timer.poll(cx))).await
    }

    /// A task that was woken for another reason may find that its timer is due before the timer has fired, and may set
    /// the timer again.
    #[tokio::test(start_paused = true)]
    async fn one_that_is_found_due_before_it_fires_fires_again() {
        struct Woken(AtomicUsize);

        impl Wake for Woken {
            fn wake(self: Arc<Woken>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }

        // Timers fire only when this test calls `fire`.
        let timers = Timers::new();
        let (begun, second) = (Instant::now(), Duration::from_millis(1024));
        let woken = Arc::new(Woken(AtomicUsize::new(0)));
        let waker = Waker::from(woken.clone());
        let mut cx = Context::from_waker(&waker);
        let mut timer = timers.at(begun + second, begun);
        assert!(timer.poll(&mut cx).is_pending());
        for nth in 1..4_u32 {
            tokio::time::advance(second).await;
            assert!(timer.poll(&mut cx).is_ready());
            timer.reset(begun + second * (nth + 1), Instant::now());
            assert!(timer.poll(&mut cx).is_pending());
            timers.fire(Instant::now());
            assert_eq!(woken.0.load(Ordering::Relaxed), 0, "it is not due again");
        }
        tokio::time::advance(second).await;
        timers.fire(Instant::now());
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_are_gone_leave_little() {
        let (timers, _task) = Timers::start();
        let now = Instant::now();
        for _ in 0..10_000 {
            let mut timer = timers.at(now + Duration::from_secs(60), now);
            assert!(polled(&mut timer).await.is_pending());
        }
        let table = timers.table.lock();
        assert!(table.slots.is_empty() && table.queue.len() <= STALE + 1, "{}", table.queue.len());
    }
}
