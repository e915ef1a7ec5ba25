//! What a message of a client does.

use super::request::Asked;
use super::settings::Prefix;
use super::shared::Shared;
use crate::message::{ClientId, Draft, Event, Extras, Payload};
use crate::serve::access::credentials::Credentials;
use crate::serve::client_sessions::state::SessionState;
use crate::serve::events::service::{self as events, Sender};
use crate::serve::metrics::delivery::PublishSource;
use crate::serve::publishing::service;
use crate::serve::state::ServerState;
use crate::transport::page::OnMessage;
use crate::transport::{ApiError, ClientEvent, Code};
use crate::wire::json;
use futures_util::future::BoxFuture;
use serde_json::value::RawValue;
use std::sync::Arc;

/// The most messages of a request or a frame.
pub const MAX_MESSAGES: usize = 1000;

/// The event of a message, as the application sees it.
pub const EVENT: &str = "message";

/// The client whose messages are carried out.
#[derive(Clone)]
pub struct Speaker {
    /// What all sessions share.
    pub shared: Arc<Shared>,
    /// The prefix.
    pub prefix: Arc<Prefix>,
    /// The client id.
    pub client: ClientId,
    /// The credentials.
    pub credentials: Arc<Credentials>,
}

/// What is left to do with the messages of a request.
pub enum Done {
    /// Nothing.
    Nothing,
    /// The client gets these JSON strings.
    Echo(Vec<String>),
}

/// The answer of the application to a message.
pub type Answer = BoxFuture<'static, Result<(), ApiError>>;

impl Speaker {
    /// The client of a request.
    pub fn new(asked: &Asked<'_>, client: ClientId, credentials: Arc<Credentials>) -> Speaker {
        Speaker { shared: asked.shared.clone(), prefix: asked.prefix.clone(), client, credentials }
    }

    /// Carries out messages, which are texts as JSON strings. The application gets them by [`to_application`].
    ///
    /// # Errors
    ///
    /// The log cannot take them. Messages that are refused are counted and dropped.
    ///
    /// [`to_application`]: Speaker::to_application
    pub async fn carry_out(&self, state: &Arc<ServerState>, texts: Vec<String>) -> Result<Done, ApiError> {
        let metrics = &self.shared.metrics;
        let max = state.settings.max_message;
        let (fitting, others): (Vec<_>, Vec<_>) = texts.into_iter().partition(|text| Payload::fits(text, max));
        for _ in others {
            self.refused(state, Code::TooLarge);
        }
        match self.prefix.on_message {
            OnMessage::Ignore => {
                metrics.ignored_messages.inc_by(fitting.len() as u64);
                Ok(Done::Nothing)
            }
            OnMessage::Echo => Ok(Done::Echo(fitting)),
            OnMessage::Publish | OnMessage::Broadcast => {
                let drafts: Vec<Draft> = fitting.iter().filter_map(|text| self.draft(text)).collect();
                self.publish(state, drafts).await.map(|()| Done::Nothing)
            }
            OnMessage::Hook => Ok(Done::Nothing),
        }
    }

    async fn publish(&self, state: &Arc<ServerState>, mut drafts: Vec<Draft>) -> Result<(), ApiError> {
        if drafts.is_empty() {
            return Ok(());
        }
        let count = drafts.len();
        if let Err(refusal) = service::authorize(state, &self.credentials, None, &mut drafts).await {
            (0..count).for_each(|_| self.refused(state, refusal.code));
            return Ok(());
        }
        service::append(state, PublishSource::Command, drafts).await.map(drop)
    }

    /// The message to all channels of the prefix.
    fn draft(&self, text: &str) -> Option<Draft> {
        let (payload, is_text) = Payload::of_bare_json(text);
        let channels = &self.prefix.channels;
        let several = if channels.len() > 1 { channels.clone().into() } else { Box::default() };
        let extras = Extras { channels: several, is_text, ..Extras::default() };
        let mut draft = Draft::new(channels.first()?.clone(), payload).with_extras(extras);
        draft.exclude = (self.prefix.on_message == OnMessage::Broadcast).then(|| self.client.clone());
        Some(draft)
    }

    /// Passes messages on to the application, each as a call. Calls keep their order.
    pub fn to_application(&self, state: &Arc<ServerState>, session: &SessionState, texts: Vec<String>) -> Vec<Answer> {
        let send = |text: String| -> Result<Answer, ApiError> {
            let args = RawValue::from_string(format!("[{text}]"))
                .map_err(|_| ApiError::new(Code::BadJson, "the message is not JSON"))?;
            let event =
                ClientEvent { name: Event::of_session(EVENT)?, args, channel: None, key: None, wants_ack: false };
            let sender = Sender {
                named: None,
                made: Some(self.client.clone()),
                credentials: self.credentials.clone(),
                channels: Vec::new(),
                session: Some(Box::new(session.clone())),
            };
            let answer = events::send(state, sender, event)?;
            Ok(Box::pin(async move { answer.await.map(drop) }))
        };
        let mut answers = Vec::with_capacity(texts.len());
        for text in texts {
            match send(text) {
                Ok(answer) => answers.push(answer),
                Err(error) => self.refused(state, error.code),
            }
        }
        answers
    }

    /// Counts a message that was refused. SockJS has no word for a refusal.
    pub fn refused(&self, state: &ServerState, code: Code) {
        self.shared.metrics.refused_messages.inc();
        state.rejections.count(code);
    }
}

/// The texts of messages, as JSON strings. A message that is not a string is the text of its JSON.
pub fn texts(messages: &[&RawValue]) -> Vec<String> {
    let text = |message: &&RawValue| match message.get() {
        text if text.starts_with('"') => text.to_owned(),
        other => json::quoted(other),
    };
    messages.iter().map(text).collect()
}
