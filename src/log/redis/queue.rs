//! The publishers' queue: drafts that wait to be appended, in the order of their publishers' first polls and within
//! bounds.

use super::abort_on_drop::in_own_task;
use crate::cursor::Cursor;
use crate::log::AppendError;
use crate::log::queued::Queued;
use crate::message::{Draft, Extras};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

/// The maximum number of bytes of payloads that wait. Beyond this limit publishers wait for their turn.
const BYTES: usize = 32 << 20;

/// The maximum number of appends that wait.
const JOBS: usize = 8192;

/// The bounds of a batch, in messages and bytes. A larger append is a batch of its own.
const BATCH_MESSAGES: usize = 1000;
const BATCH_BYTES: usize = 1 << 20;

type AppendResult = Result<Vec<Cursor>, AppendError>;

/// The publishers' side.
pub(super) struct Queue {
    entrance: Arc<Entrance>,
    /// The time for which a publisher waits, in all.
    timeout: Duration,
    /// The reason why there is no connection, for the publishers of drafts that are withdrawn.
    obstacle: Obstacle,
}

type Obstacle = Arc<parking_lot::Mutex<Option<&'static str>>>;

/// The time limits of one append.
#[derive(Clone, Copy)]
pub(super) struct Deadlines {
    /// The time at which the drafts are withdrawn, if they were not sent.
    pub(super) withdraw_at: Instant,
    /// The time at which the appender gives up. The publisher itself does not give up, because only the appender can
    /// tell whether the drafts were sent.
    pub(super) give_up_at: Instant,
}

/// The place where publishers wait until there is room.
struct Entrance {
    jobs: mpsc::Sender<Job>,
    /// Publishers wait for room in this line, in the order of their first polls.
    line: Mutex<()>,
    room: Arc<Semaphore>,
}

/// The appender's side.
pub(super) struct Jobs {
    jobs: mpsc::Receiver<Job>,
    obstacle: Obstacle,
}

/// The drafts that one publisher appends together, and the room that they take.
pub(super) struct Job {
    request: Request,
    _room: OwnedSemaphorePermit,
}

struct Request {
    drafts: Vec<Draft>,
    claim: Arc<Claim>,
    give_up_at: Instant,
    answer: oneshot::Sender<AppendResult>,
}

/// The publisher's side of a request.
struct PendingOutcome {
    claim: Arc<Claim>,
    answered: oneshot::Receiver<AppendResult>,
}

#[cfg(test)]
impl Job {
    /// A job whose publisher does not wait for the answer.
    pub(super) fn of(drafts: Vec<Draft>) -> Job {
        let now = Instant::now();
        let (request, _) = Request::new(drafts, Deadlines { withdraw_at: now, give_up_at: now });
        let room = Arc::new(Semaphore::new(1)).try_acquire_owned().expect("room");
        Job { request, _room: room }
    }
}

impl Request {
    fn new(drafts: Vec<Draft>, deadlines: Deadlines) -> (Request, PendingOutcome) {
        let claim = Arc::<Claim>::default();
        let (answer, answered) = oneshot::channel();
        let request = Request { drafts, claim: claim.clone(), give_up_at: deadlines.give_up_at, answer };
        (request, PendingOutcome { claim, answered })
    }

    fn size(&self) -> usize {
        let extras = |draft: &Draft| draft.extras.as_deref().map_or(0, Extras::size);
        self.drafts.iter().map(|draft| draft.payload.as_str().len() + 100 + extras(draft)).sum()
    }

    fn room(&self) -> u32 {
        self.size().clamp(1, BYTES) as u32
    }
}

/// Decides between the appender and the publisher: the appender takes a draft to send it, the publisher withdraws it,
/// and the first of them wins.
#[derive(Default)]
struct Claim(AtomicU8);

impl Claim {
    const TAKEN: u8 = 1;
    const WITHDRAWN: u8 = 2;

    fn make(&self, to: u8) -> bool {
        self.0.compare_exchange(0, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

impl Queue {
    /// Makes both sides of a queue. `timeout`: the time for which a publisher waits, in all.
    pub(super) fn new(timeout: Duration) -> (Queue, Jobs) {
        let (sender, jobs) = mpsc::channel(JOBS);
        let entrance = Entrance { jobs: sender, line: Mutex::default(), room: Arc::new(Semaphore::new(BYTES)) };
        let obstacle = Obstacle::default();
        let queue = Queue { entrance: Arc::new(entrance), timeout, obstacle: obstacle.clone() };
        (queue, Jobs { jobs, obstacle })
    }

    /// The time limits of an append that begins now. Half of the time is left for the outcome after the drafts were
    /// sent.
    pub(super) fn deadlines(&self) -> Deadlines {
        let now = Instant::now();
        Deadlines { withdraw_at: now + self.timeout / 2, give_up_at: now + self.timeout }
    }

    /// The time limits of an append that has waited for something other than the queue until its `withdraw_at`. It gets
    /// half of the rest of its time: otherwise an idle appender would get no time at all to send the drafts.
    pub(super) fn after_a_wait(&self, deadlines: Deadlines) -> Deadlines {
        Deadlines { withdraw_at: deadlines.withdraw_at + self.timeout / 4, ..deadlines }
    }

    /// Appends drafts that are not volatile. The drafts are queued at the first poll.
    ///
    /// # Errors
    ///
    /// The drafts are not appended and never will be, or the outcome is unknown.
    ///
    /// # Cancel safety
    ///
    /// Drafts that are queued are still appended, unless they wait for a connection. Drafts that wait for room are not
    /// appended.
    pub(super) async fn append(&self, drafts: Vec<Draft>, deadlines: Deadlines, queued: &Queued) -> AppendResult {
        let (request, pending) = Request::new(drafts, deadlines);
        let waiting = match self.entrance.try_enter(request) {
            Ok(()) => None,
            // The wait runs in a task of its own: otherwise it would block all other publishers while this one is busy
            // elsewhere. The task ends with its publisher. The request has its place in the line from here on.
            Err(request) => Some(in_own_task(self.entrance.clone().enter(request, deadlines))),
        };
        // The drafts have their place in the order after the first poll of `waiting`, which is a part of the present
        // poll.
        queued.set();
        if let Some(waiting) = waiting {
            waiting.await?;
        }
        self.outcome(pending, deadlines).await
    }

    /// Appends drafts as [`Queue::append`] does, but they are queued after `admission`, whose value is kept until then.
    /// `admission` is polled in a task of its own, except at the first time.
    pub(super) async fn append_after<T: Send>(
        &self,
        admission: impl Future<Output = Result<T, AppendError>> + Send + 'static,
        drafts: Vec<Draft>,
        deadlines: Deadlines,
        queued: &Queued,
    ) -> AppendResult {
        let (request, pending) = Request::new(drafts, deadlines);
        let entrance = self.entrance.clone();
        in_own_task(async move {
            let _admitted = admission.await?;
            entrance.enter(request, deadlines).await
        })
        .await?;
        queued.set();
        self.outcome(pending, deadlines).await
    }

    /// Waits for the outcome of drafts that are queued.
    async fn outcome(&self, pending: PendingOutcome, deadlines: Deadlines) -> AppendResult {
        let PendingOutcome { claim, mut answered } = pending;
        tokio::select! {
            answer = &mut answered => return settle(answer),
            () = tokio::time::sleep_until(deadlines.withdraw_at) => {}
        }
        if claim.make(Claim::WITHDRAWN) {
            let obstacle = *self.obstacle.lock();
            return Err(AppendError::Unavailable(obstacle.unwrap_or("Redis cannot be reached")));
        }
        settle(answered.await)
    }
}

impl Entrance {
    /// Queues the request if no publisher waits and there is room; otherwise returns it.
    fn try_enter(&self, request: Request) -> Result<(), Request> {
        let Ok(_line) = self.line.try_lock() else { return Err(request) };
        let Ok(room) = self.room.clone().try_acquire_many_owned(request.room()) else { return Err(request) };
        let Ok(place) = self.jobs.try_reserve() else { return Err(request) };
        place.send(Job { request, _room: room });
        Ok(())
    }

    /// Waits for the request's turn and for room.
    async fn enter(self: Arc<Entrance>, request: Request, deadlines: Deadlines) -> Result<(), AppendError> {
        let entering = async {
            // There may be room for a waiting publisher whose task was not polled yet. A publisher that finds room at
            // once does not overtake it.
            let _line = self.line.lock().await;
            if let Ok(room) = self.room.clone().acquire_many_owned(request.room()).await
                && let Ok(place) = self.jobs.reserve().await
            {
                place.send(Job { request, _room: room });
            }
        };
        let entered = tokio::time::timeout_at(deadlines.withdraw_at, entering).await;
        entered.map_err(|_| AppendError::Unavailable("too many messages wait for Redis"))
    }
}

fn settle(answer: Result<AppendResult, oneshot::error::RecvError>) -> AppendResult {
    // The appender does not end before the process.
    answer.unwrap_or(Err(AppendError::OutcomeUnknown))
}

impl Jobs {
    /// Returns the next batch of waiting requests; `None` when the publishers' side was dropped. Cancel safe.
    pub(super) async fn batch(&mut self) -> Option<Vec<Job>> {
        let first = self.jobs.recv().await?;
        let (mut messages, mut bytes) = (first.drafts().len(), first.request.size());
        let mut batch = vec![first];
        while messages < BATCH_MESSAGES && bytes < BATCH_BYTES {
            let Ok(job) = self.jobs.try_recv() else { break };
            messages += job.drafts().len();
            bytes += job.request.size();
            batch.push(job);
        }
        Some(batch)
    }

    /// Stores the reason why there is no connection; `None` if there is a connection.
    pub(super) fn note_obstacle(&self, reason: Option<&'static str>) {
        *self.obstacle.lock() = reason;
    }
}

impl Job {
    /// The drafts to append.
    pub(super) fn drafts(&self) -> &[Draft] {
        &self.request.drafts
    }

    /// Whether the publisher still waits for an answer.
    pub(super) fn is_wanted(&self) -> bool {
        !self.request.answer.is_closed()
    }

    /// Takes the job to send it; from then on the publisher cannot withdraw it. Returns false if the publisher has
    /// withdrawn it.
    pub(super) fn take(&self) -> bool {
        self.request.claim.make(Claim::TAKEN)
    }

    /// The time at which the appender gives up.
    pub(super) fn give_up_at(&self) -> Instant {
        self.request.give_up_at
    }

    /// Answers the publisher, if it still exists.
    pub(super) fn answer(self, answer: AppendResult) {
        let _ = self.request.answer.send(answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Payload;
    use std::future::{poll_fn, ready};
    use std::pin::pin;
    use std::task::Poll;

    const PATIENCE: Duration = Duration::from_secs(60);

    impl Queue {
        async fn append_now(&self, drafts: Vec<Draft>) -> AppendResult {
            self.append(drafts, self.deadlines(), &Queued::default()).await
        }
    }

    fn draft(channel: &str, bytes: usize) -> Vec<Draft> {
        vec![Draft::new(channel.parse().expect("a channel"), Payload::from_any(&"1".repeat(bytes)))]
    }

    #[tokio::test]
    async fn the_order_is_that_of_first_polls_also_where_room_is_waited_for() {
        let (queue, mut jobs) = Queue::new(PATIENCE);
        let (mut all, mut first, mut second) = (
            pin!(queue.append_now(draft("all", BYTES))),
            pin!(queue.append_now(draft("first", 9))),
            pin!(queue.append_now(draft("second", 9))),
        );
        poll_fn(|cx| {
            assert!(all.as_mut().poll(cx).is_pending() && first.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        // There is room now, but the first publisher has not been polled yet.
        drop(jobs.batch().await);
        poll_fn(|cx| {
            assert!(second.as_mut().poll(cx).is_pending() && first.as_mut().poll(cx).is_pending());
            assert!(second.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        let batch = jobs.batch().await.expect("they are queued");
        let channels: Vec<&str> = batch.iter().map(|job| job.drafts()[0].channel.as_str()).collect();
        assert_eq!(channels, ["first", "second"]);
    }

    /// A publisher that has got room does not block others while its own connection waits for a client that does not
    /// read.
    #[tokio::test]
    async fn one_that_nobody_polls_holds_up_nobody() {
        let (queue, mut jobs) = Queue::new(PATIENCE);
        let queue = Arc::new(queue);
        let (mut all, mut first) =
            (pin!(queue.append_now(draft("all", BYTES))), pin!(queue.append_now(draft("first", 9))));
        poll_fn(|cx| {
            assert!(all.as_mut().poll(cx).is_pending() && first.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        drop(jobs.batch().await);
        let others = queue.clone();
        let other = tokio::spawn(async move { others.append_now(draft("other", 9)).await });
        let mut queued = Vec::new();
        while queued.len() < 2 {
            let batch = tokio::time::timeout(Duration::from_secs(5), jobs.batch()).await.expect("queued in time");
            queued.extend(batch.expect("there is more").iter().map(|job| job.drafts()[0].channel.to_string()));
        }
        assert_eq!(queued, ["first", "other"]);
        other.abort();
    }

    /// A pipeline begins many appends in one turn of its task. Tokio bounds the length of a turn. After such a turn,
    /// the task may wait for something else.
    #[tokio::test]
    async fn many_that_are_begun_in_a_turn_are_all_queued() {
        let (queue, mut jobs) = Queue::new(PATIENCE);
        let mut many: Vec<_> = (0..500).map(|_| Box::pin(queue.append_now(draft("many", 9)))).collect();
        poll_fn(|cx| {
            assert!(many.iter_mut().all(|append| append.as_mut().poll(cx).is_pending()));
            Poll::Ready(())
        })
        .await;
        assert_eq!(jobs.batch().await.expect("they are queued").len(), 500);
    }

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_room_in_time_is_told_so_and_leaves_nothing() {
        let (queue, mut jobs) = Queue::new(PATIENCE);
        let mut all = pin!(queue.append_now(draft("all", BYTES)));
        poll_fn(|cx| Poll::Ready(all.as_mut().poll(cx).is_pending())).await;
        let refused = queue.append_now(draft("refused", 9)).await;
        assert!(matches!(refused, Err(AppendError::Unavailable(reason)) if reason.contains("too many")));
        drop(jobs.batch().await);
        let mut next = pin!(queue.append_now(draft("next", 9)));
        poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx).is_pending())).await;
        let batch = jobs.batch().await.expect("it is queued");
        assert_eq!((batch.len(), batch[0].drafts()[0].channel.as_str()), (1, "next"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_draft_is_sent_or_taken_back_and_never_both() {
        let (queue, mut jobs) = Queue::new(PATIENCE);
        let queue = Arc::new(queue);
        let append = |channel: &'static str| {
            let queue = queue.clone();
            tokio::spawn(async move { queue.append_now(draft(channel, 9)).await })
        };
        // The appender does not take the draft: the publisher waits for half of the patience.
        let left = append("left");
        let job = jobs.batch().await.expect("it is queued").remove(0);
        let unavailable = |reason: &'static str| Err(AppendError::Unavailable(reason));
        assert_eq!(left.await.expect("no panic"), unavailable("Redis cannot be reached"));
        assert!(!job.take(), "it was taken back");
        // The publisher's error names the reason why the appender waits.
        jobs.note_obstacle(Some("a replica"));
        assert_eq!(append("told").await.expect("no panic"), unavailable("a replica"));
        drop(jobs.batch().await);
        jobs.note_obstacle(None);
        // The appender took the draft in time: the publisher waits for the outcome.
        let taken = append("taken");
        let job = jobs.batch().await.expect("it is queued").remove(0);
        assert!(job.take() && job.is_wanted());
        tokio::time::sleep(PATIENCE).await;
        job.answer(Ok(Vec::new()));
        assert!(matches!(taken.await.expect("no panic"), Ok(cursors) if cursors.is_empty()));
        // If an appender ends without an answer, the outcome is unknown.
        let open = append("open");
        drop(jobs.batch().await);
        assert!(matches!(open.await.expect("no panic"), Err(AppendError::OutcomeUnknown)));
    }

    /// All waits of a draft together take the time of a publish, and a wait before the queue leaves time to send it.
    #[tokio::test(start_paused = true)]
    async fn a_wait_before_the_queue_counts() {
        let (queue, mut jobs) = Queue::new(PATIENCE);
        let append = async |wait: Duration| {
            let (begun, queued, deadlines) = (Instant::now(), Queued::default(), queue.deadlines());
            let admission = async move {
                tokio::time::sleep(wait).await;
                Ok(())
            };
            let outcome = queue.append_after(admission, draft("a", 9), queue.after_a_wait(deadlines), &queued).await;
            assert!(queued.is_set());
            (outcome, begun.elapsed())
        };
        let (refused, took) = append(PATIENCE / 2).await;
        assert!(matches!(refused, Err(AppendError::Unavailable(_))), "{refused:?}");
        assert_eq!(took, PATIENCE * 3 / 4);
        drop(jobs.batch().await);
        // The appender gives up at the same time as for a publish that did not wait.
        let begun = Instant::now();
        let taking = async {
            let job = jobs.batch().await.expect("it is queued").remove(0);
            assert!(job.take());
            assert_eq!(job.give_up_at() - begun, PATIENCE);
            job.answer(Ok(Vec::new()));
        };
        let ((appended, took), ()) = tokio::join!(append(PATIENCE / 2), taking);
        assert_eq!((appended, took), (Ok(Vec::new()), PATIENCE / 2));
        // A draft that is not admitted is never queued.
        let (queued, refusal) = (Queued::default(), Err::<(), _>(AppendError::Unavailable("no")));
        let refused = queue.append_after(ready(refusal), draft("a", 9), queue.deadlines(), &queued).await;
        assert!(refused.is_err() && !queued.is_set());
    }

    #[tokio::test]
    async fn a_batch_has_a_bound_and_one_that_is_larger_is_a_batch_of_its_own() {
        let (queue, mut jobs) = Queue::new(PATIENCE);
        let mut appends: Vec<_> = [BATCH_BYTES, 9, BATCH_BYTES / 2, BATCH_BYTES, 9]
            .into_iter()
            .map(|bytes| Box::pin(queue.append_now(draft("a", bytes))))
            .collect();
        poll_fn(|cx| {
            assert!(appends.iter_mut().all(|append| append.as_mut().poll(cx).is_pending()));
            Poll::Ready(())
        })
        .await;
        for expected in [1, 3, 1] {
            assert_eq!(jobs.batch().await.expect("there is more").len(), expected);
        }
    }
}
