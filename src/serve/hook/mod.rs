//! The application hook (`--hook-url`, `--hook-stream`): the server reports the actions of clients to the application,
//! and the application's answers say what to do next.
//!
//! A call has a place in the queue from its beginning to its end. The queue bounds the memory of all calls, and lets
//! the calls of one client run one after the other.

pub mod answer;
pub mod call;
pub mod call_type;
pub mod http;
mod metrics;
pub mod queue;
pub mod signature;
pub mod stream;

use crate::serve::application::change_log::{ChangeLog, LogText};
use crate::serve::application::client::Reply;
use crate::serve::application::problem::Problem;
use crate::transport::{ApiError, Code};
use answer::{Accepted, Answer, SessionAnswer};
use call::{Caller, HookCall};
use call_type::CallType;
use http::HttpTransport;
use metrics::HookMetrics;
use prometheus_client::registry::Registry;
use queue::{CallQueue, Permits, Place};
use signature::HookSecret;
use std::sync::Arc;
use std::time::Duration;
use stream::StreamTransport;
use tokio::time::{Instant, timeout_at};

/// A call waits for its turn and its permission to be in flight for at most this number of time-outs. Its client's earlier
/// calls may each take one.
const TURN_TIMEOUTS: u32 = 5;

/// The time after which a client should send an event again that has waited for too long.
const RETRY: Duration = Duration::from_secs(1);

/// The texts of the log lines about the application.
const LOG_TEXT: LogText = LogText {
    flag: "--hook-url",
    fails: "did not answer as expected, so events fail",
    works: "answers as expected again",
};

/// How calls get to the application, and answers come back.
pub enum HookTransport {
    /// A request for each call.
    Http(Box<HttpTransport>),
    /// A stream in Redis, which workers read.
    Stream(StreamTransport),
}

impl HookTransport {
    /// The flag that has chosen it.
    fn flag(&self) -> &'static str {
        match self {
            HookTransport::Http(_) => "--hook-url",
            HookTransport::Stream(_) => "--hook-stream",
        }
    }

    async fn ask(&self, call: &HookCall, permits: &Permits, metrics: &HookMetrics) -> Result<Reply, Problem> {
        match self {
            HookTransport::Http(http) => http.ask(call, permits, metrics).await,
            HookTransport::Stream(stream) => stream.ask(call).await,
        }
    }
}

/// The settings of the hook.
pub struct HookSettings {
    /// How calls get to the application.
    pub transport: HookTransport,
    /// The time limit for a call.
    pub timeout: Duration,
    /// The maximum number of calls in flight.
    pub max_in_flight: usize,
    /// The types of calls that the application gets.
    pub notify: Vec<CallType>,
}

/// The hook.
pub struct Hook {
    transport: HookTransport,
    timeout: Duration,
    notify: Vec<CallType>,
    queue: Arc<CallQueue>,
    metrics: HookMetrics,
    changes: ChangeLog,
}

/// A call that has a place in the queue.
pub struct QueuedCall {
    call: HookCall,
    place: Place,
    /// When the call gives up to wait for its turn; `None` before it waits.
    until: Option<Instant>,
}

impl QueuedCall {
    /// Tells the application what is known about the client now. A call may wait while earlier calls change that.
    pub fn set_caller(&mut self, caller: Caller) {
        self.call.caller = caller;
    }
}

/// The application's answer to a call. The client's next call begins when this is dropped.
pub struct Answered<T> {
    /// The arguments for the client's callback, as JSON on one line.
    pub ack: Option<String>,
    /// The messages to publish.
    pub publish: Vec<T>,
    /// What happens to the client's session.
    pub session: SessionAnswer,
    _place: Place,
}

/// A call without an answer that has an effect.
pub struct CallFailure {
    /// The error for the client.
    pub error: ApiError,
    /// Whether the same call may have another outcome later: the application was not reached, or has failed. A refusal,
    /// such as a status of 4xx, is final.
    pub may_pass: bool,
    /// Whether the application has heard of the call: it has answered, and not with a status of 5xx.
    pub was_heard: bool,
}

impl Hook {
    /// Makes a hook.
    pub fn new(settings: HookSettings, registry: &mut Registry) -> Hook {
        let HookSettings { transport, timeout, max_in_flight, notify } = settings;
        let queue = CallQueue::new(max_in_flight);
        Hook {
            timeout,
            notify,
            metrics: HookMetrics::register(registry, &queue),
            queue,
            changes: ChangeLog::new(LogText { flag: transport.flag(), ..LOG_TEXT }),
            transport,
        }
    }

    /// Whether the application gets calls of this type.
    pub fn takes(&self, kind: CallType) -> bool {
        self.notify.contains(&kind)
    }

    /// The secret that signs calls, if there is one.
    pub fn secret(&self) -> Option<&HookSecret> {
        match &self.transport {
            HookTransport::Http(http) => http.secret(),
            HookTransport::Stream(_) => None,
        }
    }

    /// Gives a call its place, after all earlier calls of its client.
    ///
    /// # Errors
    ///
    /// `rate_limited`: too many calls of this client, or of its network, wait. `not_ready`: too many calls of all
    /// clients wait.
    pub fn queue(&self, call: HookCall) -> Result<QueuedCall, ApiError> {
        let kind = call.content.kind();
        match self.queue.enter(call.sender.clone(), call.size()) {
            Ok(place) => Ok(QueuedCall { call, place, until: None }),
            Err(refusal) => {
                self.metrics.count(kind, "overloaded");
                Err(refusal)
            }
        }
    }

    /// Waits until all earlier calls of the client have ended, or the call gives up.
    pub async fn turn(&self, queued: &mut QueuedCall) {
        let until = *queued.until.get_or_insert_with(|| Instant::now() + self.timeout * TURN_TIMEOUTS);
        let _ = timeout_at(until, queued.place.turn()).await;
    }

    /// Calls the application. `read` reads a publish object of the answer. `max_payload` is the longest payload of an
    /// event that it sends to the client.
    ///
    /// # Errors
    ///
    /// `forbidden`: the application refuses the event. `no_session`: the answer needs a session. `application_failed`:
    /// the application did not answer as expected. `not_ready`: the application was not called, because earlier calls have
    /// taken too long.
    pub async fn call<T>(
        &self,
        queued: QueuedCall,
        max_payload: usize,
        read: impl Fn(&str) -> Result<T, ApiError>,
    ) -> Result<Answered<T>, ApiError> {
        self.call_or_problem(queued, max_payload, read).await.map_err(|failure| failure.error)
    }

    /// Does the same as [`call`](Hook::call), for a caller that repeats the call itself.
    ///
    /// # Errors
    ///
    /// Those of [`call`](Hook::call), and whether the same call may have another outcome later.
    pub async fn call_or_problem<T>(
        &self,
        queued: QueuedCall,
        max_payload: usize,
        read: impl Fn(&str) -> Result<T, ApiError>,
    ) -> Result<Answered<T>, CallFailure> {
        let QueuedCall { call, mut place, until } = queued;
        let until = until.unwrap_or_else(|| Instant::now() + self.timeout * TURN_TIMEOUTS);
        let kind = call.content.kind();
        let turn = async {
            place.turn().await;
            place.permits().acquire().await
        };
        let Ok(Some(permit)) = timeout_at(until, turn).await else {
            self.metrics.count(kind, "overloaded");
            let text = "the event has waited too long for the application, which was not called";
            return Err(CallFailure {
                error: ApiError::until(Code::NotReady, text, RETRY),
                may_pass: true,
                was_heard: false,
            });
        };
        let permits = place.permits().clone();
        let answer = self.answer_in_time(&call, &permits, max_payload, read).await;
        drop(permit);
        self.changes.note(answer.as_ref().err());
        let failed = |error, may_pass, was_heard| Err(CallFailure { error, may_pass, was_heard });
        let (outcome, answered) = match answer {
            Ok(Answer::Accepted(Accepted { ack, publish, session })) => {
                ("answered", Ok(Answered { ack, publish, session, _place: place }))
            }
            Ok(Answer::Refused(refusal)) => ("refused", failed(refusal, false, true)),
            Ok(Answer::NeedsSession) => {
                let text = "the application's answer needs a session, and this client does not have one";
                ("no_session", failed(ApiError::new(Code::NoSession, text), false, true))
            }
            Err(problem) => {
                let text = "the application did not answer the event as expected";
                (
                    "failed",
                    failed(ApiError::passing(Code::ApplicationFailed, text), problem.may_pass, problem.is_answer),
                )
            }
        };
        self.metrics.count(kind, outcome);
        answered
    }

    /// Asks the application, and reads its answer.
    async fn answer_in_time<T>(
        &self,
        call: &HookCall,
        permits: &Permits,
        max_payload: usize,
        read: impl Fn(&str) -> Result<T, ApiError>,
    ) -> Result<Answer<T>, Problem> {
        let began = Instant::now();
        let replied = self.transport.ask(call, permits, &self.metrics).await;
        self.metrics.took(began.elapsed());
        answer::read(&replied?, call.caller.session.is_some(), max_payload, read)
    }
}
