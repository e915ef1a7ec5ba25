//! Answers `/sessions`: the application changes the sessions of clients, and lists those that read a channel.

use super::context::Context;
use super::endpoint::{Answer, Audience, Call, Endpoint, Route};
use super::post;
use super::response::{self, Response};
use crate::log::sessions::StoredSession;
use crate::message::Channel;
use crate::serve::client_sessions::bookmark;
use crate::serve::client_sessions::catch_up::{CannotCatchUp, catch_up};
use crate::serve::client_sessions::state::SessionState;
use crate::serve::events::to_sessions;
use crate::serve::http::headers::last_field;
use crate::serve::http::request::Request;
use crate::serve::state::ServerState;
use crate::transport::{ApiError, Code};
use hyper::{Method, StatusCode};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// The path.
const PATH: &str = "/sessions";

/// The part of a body besides the arguments of its events.
const FIELDS_BYTES: usize = 128 << 10;

/// How many sessions a page of the list has.
const PAGE: usize = 100;

/// How long the list waits for the present states of its sessions. Those that it does not get are shown as they were
/// stored.
const FOLD_TIME: Duration = Duration::from_secs(2);

/// The endpoint.
pub struct Sessions;

impl Endpoint for Sessions {
    fn route(&self, _: &Context, path: &str) -> Option<Route> {
        let route = Route { methods: "GET, POST, OPTIONS", audience: Audience::Operators, ..Route::PAGE };
        (path == PATH).then_some(route)
    }

    fn call<'a>(&'a self, call: Call<'a>) -> Answer<'a> {
        Box::pin(async move {
            let state = &call.context.state;
            if call.request.method() == Method::POST {
                return change(state, call.request).await;
            }
            let query = call.query().as_bytes().to_vec();
            let channel: Channel = match last_field(&query, None, "channel") {
                Some(channel) => channel.parse()?,
                None => return Err(ApiError::new(Code::BadChannel, "name a channel: ?channel=…")),
            };
            let after = last_field(&query, None, "after").unwrap_or_default();
            list(state, &channel, &after).await
        })
    }
}

/// Changes sessions. The change is in the log before the answer.
async fn change(state: &Arc<ServerState>, mut request: Request) -> Result<Response, ApiError> {
    // A page of another site can make a browser send other content types without asking first. An open server has no
    // keys, so this check is all that keeps such pages out.
    if post::content_type(request.headers()) != "application/json" {
        return Err(ApiError::new(Code::BadRequest, "send the change as application/json"));
    }
    let most = state.settings.max_message.saturating_mul(2).saturating_add(FIELDS_BYTES);
    let body = response::read_body(state, &mut request, most).await?;
    let text = post::text(&body)?;
    let cursor = to_sessions::carry_out(state, text).await?;
    Ok(response::json(StatusCode::OK, json!({ "cursor": cursor.to_string() }).to_string()))
}

/// Lists the sessions that read a channel, by pages. The list does not tell their ids.
async fn list(state: &ServerState, channel: &Channel, after: &str) -> Result<Response, ApiError> {
    if !after.bytes().all(|byte| byte.is_ascii_hexdigit()) || after.len() > 40 {
        return Err(ApiError::new(Code::BadRequest, "after must be the value of next in the page before"));
    }
    let listed = state.sessions.list(channel, after, PAGE).await?;
    let next = listed.last().filter(|_| listed.len() == PAGE).map(|last| last.place.clone());
    let entry = |session: SessionState| {
        json!({
            "client": session.client.to_string(),
            "user": session.user.and_then(|user| serde_json::from_str::<serde_json::Value>(user.data()).ok()),
            "endpoint": session.endpoint,
        })
    };
    let (mut sessions, until) = (Vec::new(), Instant::now() + FOLD_TIME);
    for StoredSession { bookmark, cursor } in listed.into_iter().map(|listed| listed.session) {
        let Some(session) = bookmark::read(&bookmark, cursor) else { continue };
        // The bookmark may be older than the last change of the session.
        match timeout_at(until, catch_up(&state.hub, session.clone(), None)).await {
            Ok(Ok(session)) if !session.channels.contains_key(channel) => {}
            Ok(Ok(session)) => sessions.push(entry(session)),
            Ok(Err(CannotCatchUp::Ended { .. })) => state.sessions.end_soon(&session.id, "disconnected"),
            _ => sessions.push(entry(session)),
        }
    }
    let mut answer = json!({ "sessions": sessions });
    if let Some(next) = next {
        answer["next"] = next.into();
    }
    Ok(response::json(StatusCode::OK, answer.to_string()))
}
