//! Sends the events of a webhook to the application, several in one request.
//!
//! While the application does not answer, requests are repeated after growing pauses. An event that the source of
//! transitions has sent goes back to it, because another node may have to repeat it. Other events wait here. After
//! [`GIVE_UP`], events are dropped, so that an application that is gone does not hold back others.

use super::metrics::{PusherMetrics, WebhookOutcome};
use crate::serve::application::change_log::{ChangeLog, LogText};
use crate::serve::application::client::ApplicationClient;
use crate::serve::application::problem::Problem;
use crate::wire::pusher::signature::Secret;
use crate::wire::pusher::webhook::body;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Method, Request, Uri};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

/// How many events wait at most, and their bytes. Further ones are dropped.
const MAX_WAITING: usize = 1000;
const MAX_BYTES: usize = 8 << 20;

/// How many events one request has at most.
const MAX_EVENTS: usize = 100;

/// How long the first event of a request waits for others.
const GATHER: Duration = Duration::from_millis(50);

/// The time for an answer, and the largest one.
const TIMEOUT: Duration = Duration::from_secs(5);
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// The pauses after requests without success.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How long an event is repeated.
const GIVE_UP: Duration = Duration::from_secs(300);

const KEY: HeaderName = HeaderName::from_static("x-pusher-key");
const SIGNATURE: HeaderName = HeaderName::from_static("x-pusher-signature");

/// The texts of the log lines about the application.
const LOG_TEXT: LogText = LogText {
    flag: "a webhook of --pusher-apps",
    fails: "did not take events, so they are repeated",
    works: "takes events again",
};

/// An event that waits.
struct Waiting {
    event: String,
    since: Instant,
    /// Gets whether the event was sent, if another part of the server repeats it.
    told: Option<oneshot::Sender<bool>>,
    _room: Room,
}

/// The room that an event takes.
struct Room {
    all: Arc<AtomicUsize>,
    bytes: usize,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The events that wait for one application.
pub struct WebhookQueue {
    waiting: mpsc::Sender<Waiting>,
    /// The bytes of the events that wait.
    bytes: Arc<AtomicUsize>,
    metrics: PusherMetrics,
}

impl WebhookQueue {
    /// Starts the task that sends events to this URL. It ends with the queue.
    ///
    /// # Errors
    ///
    /// The URL is `https:`, and the system's certificates cannot be read.
    pub fn start(uri: Uri, key: &str, secret: &str, metrics: PusherMetrics) -> io::Result<WebhookQueue> {
        let client = ApplicationClient::new(uri, TIMEOUT, MAX_ANSWER_BYTES)?;
        let (waiting, receiver) = mpsc::channel(MAX_WAITING);
        let sender = Sender {
            client,
            key: HeaderValue::from_str(key).unwrap_or(HeaderValue::from_static("")),
            secret: Secret::new(secret),
            metrics: metrics.clone(),
            changes: ChangeLog::new(LOG_TEXT),
            receiver,
            batch: VecDeque::new(),
            pause: FIRST_PAUSE,
            fails_since: None,
        };
        tokio::spawn(sender.run());
        Ok(WebhookQueue { waiting, bytes: Arc::default(), metrics })
    }

    /// Adds an event, which is JSON. `told` gets whether it was sent, if another part of the server repeats it. If too many
    /// wait, the event is dropped, or goes back to that part.
    pub fn push(&self, event: String, told: Option<oneshot::Sender<bool>>) {
        let (bytes, is_repeated) = (event.len(), told.is_some());
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let room = Room { all: self.bytes.clone(), bytes };
        let waiting = Waiting { event, since: Instant::now(), told, _room: room };
        let is_taken = before + bytes <= MAX_BYTES && self.waiting.try_send(waiting).is_ok();
        if !is_taken && !is_repeated {
            self.metrics.webhook(WebhookOutcome::Dropped);
        }
    }
}

struct Sender {
    client: ApplicationClient,
    key: HeaderValue,
    secret: Secret,
    metrics: PusherMetrics,
    changes: ChangeLog,
    receiver: mpsc::Receiver<Waiting>,
    batch: VecDeque<Waiting>,
    pause: Duration,
    /// Since when the application does not answer.
    fails_since: Option<Instant>,
}

impl Sender {
    async fn run(mut self) {
        loop {
            if self.batch.is_empty() {
                let Some(first) = self.receiver.recv().await else { return };
                self.batch.push_back(first);
                sleep(GATHER).await;
            }
            while self.batch.len() < MAX_EVENTS
                && let Ok(next) = self.receiver.try_recv()
            {
                self.batch.push_back(next);
            }
            // This node may not be the one that repeats an event any more.
            self.batch.retain(|waiting| !waiting.told.as_ref().is_some_and(oneshot::Sender::is_closed));
            if self.batch.is_empty() {
                continue;
            }
            let count = self.batch.len().min(MAX_EVENTS);
            let problem = self.send(count).await.err();
            self.changes.note(problem.as_ref());
            if problem.is_none() {
                self.sent(count);
                continue;
            }
            self.fails_since.get_or_insert_with(Instant::now);
            self.give_back();
            let pause = self.pause.mul_f64(0.75 + fastrand::f64() / 2.0);
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            if !self.rest(Instant::now() + pause).await {
                return;
            }
        }
    }

    /// Sends the first events in one request.
    async fn send(&self, count: usize) -> Result<(), Problem> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let body = body(time, self.batch.iter().take(count).map(|waiting| &*waiting.event));
        let signature = HeaderValue::from_str(&self.secret.sign(body.as_bytes()));
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        let headers = request.headers_mut();
        // SDKs compare the whole value.
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(KEY, self.key.clone());
        headers.extend(signature.ok().map(|signature| (SIGNATURE, signature)));
        let reply = match timeout(TIMEOUT, self.client.send(request)).await {
            Ok(replied) => replied.map_err(|error| Problem::no_reply(&error))?,
            Err(_) => {
                return Err(Problem::passing(format!("no answer within {} s", TIMEOUT.as_secs()), "make it faster"));
            }
        };
        match reply.status {
            Some(status) if !status.is_success() => {
                Err(Problem::status(status, "answer with status 200 when the events are stored"))
            }
            _ => Ok(()),
        }
    }

    fn sent(&mut self, count: usize) {
        for waiting in self.batch.drain(..count) {
            self.metrics.webhook(WebhookOutcome::Sent);
            if let Some(told) = waiting.told {
                let _ = told.send(true);
            }
        }
        (self.pause, self.fails_since) = (FIRST_PAUSE, None);
    }

    /// After a failure, gives the events back that another part of the server repeats, and drops those that have waited
    /// for too long.
    fn give_back(&mut self) {
        let has_given_up = self.fails_since.is_some_and(|since| since.elapsed() >= GIVE_UP);
        let batch = std::mem::take(&mut self.batch);
        self.batch = batch.into_iter().filter_map(|waiting| self.keep(waiting, has_given_up)).collect();
    }

    /// Keeps an event that only this queue repeats.
    fn keep(&self, mut waiting: Waiting, has_given_up: bool) -> Option<Waiting> {
        let outcome = match waiting.told.take() {
            Some(told) => {
                let _ = told.send(has_given_up);
                if has_given_up { WebhookOutcome::Dropped } else { WebhookOutcome::Repeated }
            }
            None if waiting.since.elapsed() >= GIVE_UP || self.batch.len() >= MAX_WAITING => WebhookOutcome::Dropped,
            None => {
                self.metrics.webhook(WebhookOutcome::Repeated);
                return Some(waiting);
            }
        };
        self.metrics.webhook(outcome);
        None
    }

    /// Waits before the next request. Events that another part of the server repeats go back at once, so that they do
    /// not hold back what other applications are told. Returns false if the server ends.
    async fn rest(&mut self, until: Instant) -> bool {
        let has_given_up = self.fails_since.is_some_and(|since| since.elapsed() >= GIVE_UP);
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return true,
                next = self.receiver.recv() => {
                    let Some(next) = next else { return false };
                    let kept = self.keep(next, has_given_up);
                    self.batch.extend(kept);
                }
            }
        }
    }
}
