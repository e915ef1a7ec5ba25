//! The commands of a connection that wait for an answer: publishes wait for the log, and events for the application.

use crate::cursor::Cursor;
use crate::log::queued::Queued;
use crate::serve::events::service::EventAnswer;
use crate::transport::{ApiError, Control};
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The answer to a command.
pub struct CommandAnswer {
    reference: Option<String>,
    outcome: Outcome,
}

enum Outcome {
    Published(Option<Cursor>),
    PublishRefused(ApiError),
    Event(EventAnswer),
    EventRefused(ApiError),
}

/// The future of an answer.
pub struct PendingAnswer(Pin<Box<dyn Future<Output = CommandAnswer> + Send>>);

/// The waiting commands. The server answers publishes in their order, and events in their order. A slow application
/// does not delay the answers to publishes.
#[derive(Default)]
pub struct PendingAnswers {
    publishes: FuturesOrdered<PendingAnswer>,
    /// Whether the position of the newest publish in the order of the log is fixed.
    queued: Queued,
    events: FuturesOrdered<PendingAnswer>,
}

impl CommandAnswer {
    /// The control object for the client.
    pub fn control(&self) -> Control<'_> {
        let reference = self.reference.as_deref();
        match &self.outcome {
            Outcome::Published(id) => Control::Ack { reference, cursor: None, id: *id },
            Outcome::Event(answer) => Control::Answer { reference, ack: answer.ack.as_deref() },
            Outcome::PublishRefused(error) | Outcome::EventRefused(error) => Control::Error { reference, error },
        }
    }

    /// Whether the command was refused or has failed.
    pub fn is_error(&self) -> bool {
        matches!(self.outcome, Outcome::PublishRefused(_) | Outcome::EventRefused(_))
    }

    /// The error of an event that was refused or has failed.
    pub fn event_error(&self) -> Option<&ApiError> {
        match &self.outcome {
            Outcome::EventRefused(error) => Some(error),
            _ => None,
        }
    }
}

impl PendingAnswer {
    /// An answer that is already available.
    pub fn ready(answer: CommandAnswer) -> PendingAnswer {
        PendingAnswer(Box::pin(std::future::ready(answer)))
    }

    /// The answer to a publish. `reference` is the command's reference.
    pub fn to_publish(
        reference: Option<String>,
        publish: impl Future<Output = Result<Option<Cursor>, ApiError>> + Send + 'static,
    ) -> PendingAnswer {
        PendingAnswer(Box::pin(async move {
            let outcome = publish.await.map_or_else(Outcome::PublishRefused, Outcome::Published);
            CommandAnswer { reference, outcome }
        }))
    }

    /// The answer to an event. `reference` is the command's reference.
    pub fn to_event(
        reference: Option<String>,
        event: impl Future<Output = Result<EventAnswer, ApiError>> + Send + 'static,
    ) -> PendingAnswer {
        PendingAnswer(Box::pin(async move {
            let outcome = event.await.map_or_else(Outcome::EventRefused, Outcome::Event);
            CommandAnswer { reference, outcome }
        }))
    }
}

impl Future for PendingAnswer {
    type Output = CommandAnswer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<CommandAnswer> {
        self.0.as_mut().poll(cx)
    }
}

impl PendingAnswers {
    /// The number of waiting commands.
    pub fn len(&self) -> usize {
        self.publishes.len() + self.events.len()
    }

    /// The flag of the next publish. The publish sets the flag when its position in the order of the log is fixed.
    pub fn next_queued(&mut self) -> Queued {
        self.queued = Queued::default();
        self.queued.clone()
    }

    /// Whether the positions of all publishes in the order of the log are fixed, so that the next publish can begin.
    pub fn are_queued(&self) -> bool {
        self.publishes.is_empty() || self.queued.is_set()
    }

    /// Adds a publish.
    pub fn push_publish(&mut self, answer: PendingAnswer) {
        self.publishes.push_back(answer);
    }

    /// Adds an event.
    pub fn push_event(&mut self, answer: PendingAnswer) {
        self.events.push_back(answer);
    }

    /// Polls for the next answer of a publish or an event. Returns `Pending` while no answer is ready.
    pub fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<CommandAnswer> {
        for answers in [&mut self.publishes, &mut self.events] {
            if let Poll::Ready(Some(answer)) = answers.poll_next_unpin(cx) {
                return Poll::Ready(answer);
            }
        }
        Poll::Pending
    }
}
