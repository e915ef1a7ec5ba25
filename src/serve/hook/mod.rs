//! The application hook (`--hook-url`): the server reports the actions of clients to the application, and the
//! application's answers say what to do next.
//!
//! A call has a place in the queue from its beginning to its end. The queue bounds the memory of all calls, and lets
//! the calls of one client run one after the other.

pub mod answer;
pub mod call;
mod metrics;
pub mod queue;
pub mod signature;

use crate::serve::application::change_log::{ChangeLog, LogText};
use crate::serve::application::client::{ApplicationClient, NoReply, Reply};
use crate::serve::application::problem::Problem;
use crate::transport::{ApiError, Code};
use answer::{AcceptedEvent, Answer};
use bytes::Bytes;
use call::EventCall;
use http_body_util::Full;
use hyper::{Request, Uri};
use metrics::HookMetrics;
use prometheus_client::registry::Registry;
use queue::{CallQueue, Place};
use signature::HookSecret;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// Size limit of an answer's body.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// A call waits for its turn for at most this number of time-outs. Its client's earlier calls may each take one.
const TURN_TIMEOUTS: u32 = 5;

/// The pause before a call is repeated after a failure: time for a worker of the application to restart.
const PAUSE: Duration = Duration::from_millis(50);

/// The texts of the log lines about the application.
const LOG_TEXT: LogText = LogText {
    flag: "--hook-url",
    fails: "did not answer as expected, so events fail",
    works: "answers as expected again",
};

/// The advice for an application that does not answer in time.
const SLOW: &str = "make it faster, or raise --hook-timeout";

/// The settings of the hook.
pub struct HookSettings {
    /// The application's `http:` or `https:` URL.
    pub uri: Uri,
    /// The secret that signs calls, if there is one.
    pub secret: Option<HookSecret>,
    /// The time limit for a call.
    pub timeout: Duration,
    /// The maximum number of requests in flight.
    pub max_in_flight: usize,
    /// Whether the application is called for events.
    pub takes_events: bool,
}

/// The hook.
pub struct Hook {
    client: ApplicationClient,
    secret: Option<HookSecret>,
    timeout: Duration,
    takes_events: bool,
    queue: Arc<CallQueue>,
    /// Permits for requests in flight.
    free: Semaphore,
    metrics: HookMetrics,
    changes: ChangeLog,
}

/// A call that has a place in the queue.
pub struct QueuedCall {
    call: EventCall,
    place: Place,
}

/// The application's answer to a call. The client's next call begins when this is dropped.
pub struct Answered<T> {
    /// The arguments for the client's callback, as JSON on one line.
    pub ack: Option<String>,
    /// The messages to publish.
    pub publish: Vec<T>,
    _place: Place,
}

impl Hook {
    /// Makes a hook.
    ///
    /// # Errors
    ///
    /// The URL is `https:`, and the system's certificates cannot be read.
    pub fn new(settings: HookSettings, registry: &mut Registry) -> io::Result<Hook> {
        let HookSettings { uri, secret, timeout, max_in_flight, takes_events } = settings;
        let queue = Arc::<CallQueue>::default();
        Ok(Hook {
            client: ApplicationClient::new(uri, timeout, MAX_ANSWER_BYTES)?,
            secret,
            timeout,
            takes_events,
            free: Semaphore::new(max_in_flight),
            metrics: HookMetrics::register(registry, &queue),
            queue,
            changes: ChangeLog::new(LOG_TEXT),
        })
    }

    /// Whether the application is called for events of clients.
    pub fn takes_events(&self) -> bool {
        self.takes_events
    }

    /// The secret that signs calls, if there is one.
    pub fn secret(&self) -> Option<&HookSecret> {
        self.secret.as_ref()
    }

    /// Gives a call its place, after all earlier calls of its client.
    ///
    /// # Errors
    ///
    /// `rate_limited`: too many calls of this client, or of its network, wait. `not_ready`: too many calls of all
    /// clients wait.
    pub fn queue(&self, call: EventCall) -> Result<QueuedCall, ApiError> {
        match self.queue.enter(call.sender.clone(), call.size()) {
            Ok(place) => Ok(QueuedCall { call, place }),
            Err(refusal) => {
                self.metrics.count("overloaded");
                Err(refusal)
            }
        }
    }

    /// Calls the application. `read` reads a publish object of the answer.
    ///
    /// # Errors
    ///
    /// `forbidden`: the application refuses the event. `no_session`: the answer needs a session. `application_failed`:
    /// the application did not answer as expected.
    pub async fn call<T>(
        &self,
        queued: QueuedCall,
        read: impl Fn(&str) -> Result<T, ApiError>,
    ) -> Result<Answered<T>, ApiError> {
        let QueuedCall { call, mut place } = queued;
        let turn = async {
            place.turn().await;
            self.free.acquire().await
        };
        let answer = match timeout_at(Instant::now() + self.timeout * TURN_TIMEOUTS, turn).await {
            Ok(Ok(_permit)) => self.answer_in_time(&call, read).await,
            _ => Err(Problem::passing("events that wait too long for their turn", SLOW)),
        };
        self.changes.note(answer.as_ref().err());
        let (outcome, answered) = match answer {
            Ok(Answer::Event(AcceptedEvent { ack, publish })) => {
                ("answered", Ok(Answered { ack, publish, _place: place }))
            }
            Ok(Answer::Refused(refusal)) => ("refused", Err(refusal)),
            Ok(Answer::NeedsSession) => {
                let text = "the application's answer needs a session, and this client does not have one";
                ("no_session", Err(ApiError::new(Code::NoSession, text)))
            }
            Err(_) => {
                let text = "the application did not answer the event as expected";
                ("failed", Err(ApiError::passing(Code::ApplicationFailed, text)))
            }
        };
        self.metrics.count(outcome);
        answered
    }

    /// Asks the application, and reads its answer.
    async fn answer_in_time<T>(
        &self,
        call: &EventCall,
        read: impl Fn(&str) -> Result<T, ApiError>,
    ) -> Result<Answer<T>, Problem> {
        let began = Instant::now();
        let body = Bytes::from(call.to_json());
        let replied = timeout(self.timeout, self.ask(call, &body)).await;
        self.metrics.took(began.elapsed());
        match replied {
            Ok(Ok(reply)) => answer::read(&reply, read),
            Ok(Err(error)) => Err(Problem::no_reply(&error)),
            Err(_) => Err(Problem::passing(format!("no answer within {} s", self.timeout.as_secs()), SLOW)),
        }
    }

    /// Sends the call. After a failure, or without an answer after two thirds of the time, it sends the call once more.
    async fn ask(&self, call: &EventCall, body: &Bytes) -> Result<Reply, NoReply> {
        let mut first = pin!(self.send(call, body));
        let Ok(replied) = timeout(self.timeout * 2 / 3, &mut first).await else {
            // The first request stays open, because an application that is only slow may still answer it. While all
            // permits are in use, the call is not repeated: that would double the load of an application that is slow.
            let Ok(_permit) = self.free.try_acquire() else { return first.await };
            self.metrics.repeated();
            let mut second = pin!(self.send(call, body));
            return tokio::select! {
                replied = &mut first => if is_failure(&replied) { second.await } else { replied },
                replied = &mut second => if is_failure(&replied) { first.await } else { replied },
            };
        };
        if !is_failure(&replied) {
            return replied;
        }
        sleep(PAUSE).await;
        self.metrics.repeated();
        self.send(call, body).await
    }

    async fn send(&self, call: &EventCall, body: &Bytes) -> Result<Reply, NoReply> {
        let mut request = call.request(body);
        if let Some(secret) = &self.secret {
            secret.sign(&mut request, body);
        }
        self.client.send_once(request).await
    }
}

/// Whether the same call may be answered if it is repeated.
fn is_failure(replied: &Result<Reply, NoReply>) -> bool {
    match replied {
        Ok(reply) => reply.status.is_server_error(),
        Err(error) => !matches!(error, NoReply::TooLarge { .. }),
    }
}

/// A request to the application.
type HookRequest = Request<Full<Bytes>>;
