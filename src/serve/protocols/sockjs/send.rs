//! Requests that send messages.

use super::headers::TEXT;
use super::messages::{self, Done, EVENT, MAX_MESSAGES, Speaker};
use super::request::Asked;
use super::transports::{JSONP, XHR};
use crate::serve::client_sessions::change::{ControlEntry, Json, Send};
use crate::serve::client_sessions::id::SessionId;
use crate::serve::events::connect;
use crate::serve::http::headers::text;
use crate::serve::http::request::Request;
use crate::serve::metrics::delivery::PublishSource;
use crate::serve::publishing::service;
use crate::serve::routes::response::{self, Response};
use crate::transport::page::OnMessage;
use crate::transport::{ApiError, Code};
use crate::wire::sockjs::messages::{BadMessages, field, of_body};
use hyper::StatusCode;
use std::time::Duration;

/// Answers a request that sends messages.
///
/// # Errors
///
/// The log, or the record of sessions, cannot be reached.
pub async fn answer(
    asked: Asked<'_>,
    id: SessionId,
    is_jsonp: bool,
    mut request: Request,
) -> Result<Response, ApiError> {
    let state = asked.state;
    let body = match response::read_body(state, &mut request, state.settings.max_command()).await {
        Ok(body) => body,
        Err(error) if error.code == Code::TooLarge => {
            return Ok(response::whole(StatusCode::PAYLOAD_TOO_LARGE, TEXT, "the messages are too long"));
        }
        Err(error) => return Err(error),
    };
    let broken = |bad: BadMessages| Ok(response::whole(StatusCode::INTERNAL_SERVER_ERROR, TEXT, bad.words()));
    let kind = text(&asked.head.headers, "content-type").unwrap_or_default();
    let is_form = is_jsonp && kind.starts_with("application/x-www-form-urlencoded");
    let read = if is_form {
        field(&body)
    } else {
        std::str::from_utf8(&body).map(str::to_owned).map_err(|_| BadMessages::Json)
    };
    let text = match read {
        Ok(text) => text,
        Err(bad) => return broken(bad),
    };
    let texts = match of_body(&text) {
        Ok(messages) if messages.len() > MAX_MESSAGES => {
            return Ok(response::whole(StatusCode::PAYLOAD_TOO_LARGE, TEXT, "there are too many messages"));
        }
        Ok(messages) => messages::texts(&messages),
        Err(bad) => return broken(bad),
    };
    let away = |_| ApiError::new(Code::LogUnavailable, "the record of sessions is not available at the moment");
    let Some(session) = asked.shared.receivers.find(&id).await.map_err(away)? else {
        return Ok(response::whole(StatusCode::NOT_FOUND, TEXT, "there is no such session"));
    };
    // A session that is over does nothing with messages. Its client learns of the end by its next request that reads.
    if session.closed.is_none() && !texts.is_empty() {
        let malformed = |_| ApiError::new(Code::NoSession, "the session is not one of this version");
        let client = session.info.client.parse().map_err(malformed)?;
        let transport = if is_jsonp { JSONP } else { XHR };
        let speaker = Speaker::new(&asked, client, asked.credentials(transport));
        carry_out(&asked, &speaker, &id, session.info.session.as_deref(), texts).await?;
    }
    Ok(match is_jsonp {
        true => response::whole(StatusCode::OK, TEXT, "ok"),
        false => response::whole(StatusCode::NO_CONTENT, TEXT, ""),
    })
}

async fn carry_out(
    asked: &Asked<'_>,
    speaker: &Speaker,
    id: &SessionId,
    session: Option<&str>,
    texts: Vec<String>,
) -> Result<(), ApiError> {
    let state = asked.state;
    if asked.prefix.on_message == OnMessage::Hook {
        let Some(session) = session else { return Ok(()) };
        let session = match connect::find(state, session, None, Duration::ZERO).await {
            Ok(session) => session,
            // The application has ended the session, and the client does not know it yet.
            Err(error) if error.code == Code::NoSession => return Ok(()),
            Err(error) => return Err(error),
        };
        // The client's next request comes after the answer, so the calls keep their order at any node.
        for answer in speaker.to_application(state, &session, texts) {
            if let Err(error) = answer.await {
                speaker.refused(state, error.code);
            }
        }
        return Ok(());
    }
    if let Done::Echo(texts) = speaker.carry_out(state, texts).await? {
        let entry = |text: String| {
            let args = Json::parse(&format!("[{text}]"))?;
            ControlEntry::Send(Send { to: None, event: EVENT.to_owned(), args, ack: None, filter: None })
                .draft(Some(id))
        };
        let drafts = texts.into_iter().filter_map(entry).collect();
        service::append(state, PublishSource::Command, drafts).await?;
    }
    Ok(())
}
