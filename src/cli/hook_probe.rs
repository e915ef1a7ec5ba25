//! Probes what a server does for its application: sessions, and events of clients.

use super::client::{Client, quote};
use super::failure::Failure;
use super::probe::{Outcome, millis};
use serde_json::{Value, json};
use tokio::time::Instant;

/// The name of the event that the application gets. An application refuses an event that it does not know.
const EVENT: &str = "longtail-check";

/// A probe of the application.
pub(super) struct HookProbe<'a> {
    client: &'a Client,
    channel: &'a str,
    id: String,
    /// The session, after the server has begun one.
    session: Option<String>,
}

impl HookProbe<'_> {
    pub fn new<'a>(client: &'a Client, channel: &'a str) -> HookProbe<'a> {
        HookProbe { client, channel, id: format!("check-{}", uuid::Uuid::new_v4()), session: None }
    }

    /// Begins a session, and continues it with another request, which a load balancer may send to another node.
    pub async fn session(&mut self) -> Outcome {
        // A channel that this client may not read at all is not the fault of sessions.
        self.poll("").await?;
        let began = Instant::now();
        let batch = match self.poll("&session=1").await {
            Err(Failure::Refused { status: 403, reason }) => {
                return Ok(format!("the application refuses this client: {}", reason.message));
            }
            batch => batch?,
        };
        let time = began.elapsed();
        let (Some(id), Some(cursor)) = (batch["session"].as_str(), batch["cursor"].as_str()) else {
            return Err(Failure::Unexpected("a batch without a session: a proxy may drop the query".into()));
        };
        let more = format!("&session={}&cursor={}", quote(id), quote(cursor));
        match self.poll(&more).await {
            Err(Failure::Refused { status, reason }) if reason.has_code("no_session") => {
                let reason = reason.about("the nodes behind this address need one log in Redis");
                return Err(Failure::Refused { status, reason });
            }
            batch => batch?,
        };
        self.session = Some(id.to_owned());
        Ok(format!("begun after {}, continued by another request", millis(time)))
    }

    async fn poll(&self, more: &str) -> Result<Value, Failure> {
        let (channel, client) = (quote(self.channel), quote(&self.id));
        self.client.get(&format!("/poll?channel={channel}&client={client}{more}"), &[]).await?.json().await
    }

    /// Sends an event, and waits for the application's answer. An answer that refuses the event is an answer.
    pub async fn event(&self) -> Outcome {
        let body = json!({"event": EVENT, "client": self.id, "session": self.session, "key": self.id}).to_string();
        let began = Instant::now();
        match self.client.post("/event", "application/json", body.into()).await?.ok().await {
            Ok(_) => Ok(format!("answered after {}", millis(began.elapsed()))),
            Err(Failure::Refused { status: 403, reason }) if reason.has_code("forbidden") => {
                Ok(format!("answered after {}: {}", millis(began.elapsed()), reason.message))
            }
            Err(Failure::Refused { status, reason }) if reason.has_code("application_failed") => {
                let reason = reason.about("the server's log names the cause");
                Err(Failure::Refused { status, reason })
            }
            Err(failure) => Err(failure),
        }
    }
}
