//! The calls of this node that wait for an answer, and their time limits.

use crate::log::metrics::CallStreamMetrics;
use crate::log::redis::RedisLog;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

/// How much longer a call waits in this node than in Redis, so that an answer that Redis accepts at the last moment
/// still arrives.
const GRACE: Duration = Duration::from_millis(250);

/// The pause after a failure. It doubles with each further failure.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// A call for the stream.
#[derive(Clone, Debug)]
pub struct StreamCall {
    /// The id of the call.
    pub id: String,
    /// The names and the values of the entry's fields.
    pub fields: Vec<(&'static str, Vec<u8>)>,
}

/// The reason why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// No worker has answered in time.
    #[error("no answer of a worker in time")]
    Silence,
    /// The call did not get into the stream in time.
    #[error("the call does not get into the stream: {0}")]
    NotSent(String),
}

/// The calls of this node in a stream.
pub struct CallStream {
    pub(super) log: Arc<RedisLog>,
    /// The id of this node, in the names of its keys.
    pub(super) node: String,
    /// The key of the stream.
    pub(super) stream: String,
    pub(super) waiting: Mutex<Waiting>,
    /// Tells the sender that there is a new call.
    pub(super) news: Notify,
    pub(super) metrics: CallStreamMetrics,
}

/// The calls that wait for an answer.
#[derive(Default)]
pub(super) struct Waiting {
    /// The number of the next attempt. The number belongs to one call of this node. An id may belong to several calls,
    /// because a client may send an event again while the first call waits.
    next: u64,
    pub(super) attempts: BTreeMap<u64, Attempt>,
    /// The reason why the last call did not get into the stream.
    pub(super) obstacle: Option<String>,
}

/// A call that waits for an answer.
pub(super) struct Attempt {
    pub(super) call: Arc<StreamCall>,
    /// The time at which the call ends in Redis.
    pub(super) until: Instant,
    /// The `run_id` of the server that has the call.
    pub(super) sent_to: Option<String>,
    answer: oneshot::Sender<Result<Vec<u8>, Unanswered>>,
}

/// Keeps an attempt in the list of attempts until the caller drops this value.
struct Place<'a> {
    stream: &'a CallStream,
    attempt: u64,
}

impl CallStream {
    /// The stream of a log with this name.
    pub(super) fn new(log: Arc<RedisLog>, name: &str) -> CallStream {
        CallStream {
            node: uuid::Uuid::new_v4().to_string(),
            stream: log.keys().beside(&format!("hook:{name}")),
            log,
            waiting: Mutex::default(),
            news: Notify::new(),
            metrics: CallStreamMetrics::default(),
        }
    }

    /// The metrics.
    pub fn metrics(&self) -> &CallStreamMetrics {
        &self.metrics
    }

    /// Puts a call into the stream, and waits for its answer: the JSON that a worker has given, or an empty text.
    ///
    /// # Errors
    ///
    /// No answer arrives within the time `within`, or Redis refuses the call.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the call may stay in the stream, and an answer to it has no effect.
    pub async fn call(&self, call: StreamCall, within: Duration) -> Result<Vec<u8>, Unanswered> {
        let (answer, answered) = oneshot::channel();
        let attempt = Attempt { call: Arc::new(call), until: Instant::now() + within, sent_to: None, answer };
        let place = self.enter(attempt);
        self.news.notify_one();
        match tokio::time::timeout(within + GRACE, answered).await {
            Ok(Ok(answered)) => answered,
            _ => Err(self.reason(&place)),
        }
    }

    fn enter(&self, attempt: Attempt) -> Place<'_> {
        let mut waiting = self.waiting.lock();
        let number = waiting.next;
        waiting.next += 1;
        waiting.attempts.insert(number, attempt);
        Place { stream: self, attempt: number }
    }

    /// The reason why an attempt has no answer.
    fn reason(&self, place: &Place<'_>) -> Unanswered {
        let waiting = self.waiting.lock();
        let is_sent = waiting.attempts.get(&place.attempt).is_none_or(|attempt| attempt.sent_to.is_some());
        match &waiting.obstacle {
            Some(obstacle) if !is_sent => Unanswered::NotSent(obstacle.clone()),
            None if !is_sent => Unanswered::NotSent("Redis does not answer".into()),
            _ => Unanswered::Silence,
        }
    }

    /// Ends an attempt with an answer. An attempt that has already ended is no longer in the list.
    pub(super) fn answer(&self, attempt: u64, answer: Result<Vec<u8>, Unanswered>) {
        if let Some(attempt) = self.waiting.lock().attempts.remove(&attempt) {
            // The caller may no longer wait.
            let _ = attempt.answer.send(answer);
        }
    }

    /// The key of the stream with this node's answers.
    pub(super) fn answers(&self) -> String {
        self.log.keys().beside(&format!("answers:{}", self.node))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.stream.waiting.lock().attempts.remove(&self.attempt);
    }
}

pub(super) async fn rest(pause: &mut Duration) {
    tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
    *pause = (*pause * 2).min(LONGEST_PAUSE);
}
