//! Handles `POST /event`: an event of a client for the application.

use super::context::Context;
use super::endpoint::{Answer, Call, Endpoint, Route};
use super::post;
use super::response::{self, Response};
use crate::serve::events::connect;
use crate::serve::events::parse::{self, EventRequest, RequestContent};
use crate::serve::events::service::{self, Sender};
use crate::serve::http::body::ReceivedBody;
use crate::serve::http::peer::Peer;
use crate::serve::http::request::Request;
use crate::serve::publishing::parse::FORM;
use crate::serve::state::ServerState;
use crate::transport::ApiError;
use std::sync::Arc;

/// The path.
const PATH: &str = "/event";

/// The endpoint.
pub struct Event;

impl Endpoint for Event {
    fn route(&self, _: &Context, path: &str) -> Option<Route> {
        (path == PATH).then_some(Route { methods: "POST, OPTIONS", ..Route::PAGE })
    }

    fn call<'a>(&'a self, call: Call<'a>) -> Answer<'a> {
        Box::pin(async move { Ok(answer(&call.context.state, call.peer, call.request).await) })
    }
}

/// The fields of a body except the arguments.
const FIELDS_BYTES: usize = 4 << 10;

async fn answer(state: &Arc<ServerState>, peer: &Peer, mut request: Request) -> Response {
    let kind = post::content_type(request.headers());
    let most = state.settings.max_message.saturating_mul(3).saturating_add(FIELDS_BYTES);
    let body = match service::any_hook(state) {
        Ok(_) => response::read_body(state, &mut request, most).await,
        // Without a hook the body is not read.
        Err(refusal) => Err(refusal),
    };
    let is_form = body.as_ref().map_or(kind == FORM, |body| parse::is_form(&kind, body));
    let answered = match body {
        Ok(body) => send(state, peer, request, &kind, body).await,
        Err(refusal) => Err(refusal),
    };
    response::json_for(is_form, answered)
}

/// Sends the event of a body to the application, and returns the body of the response.
async fn send(
    state: &Arc<ServerState>,
    peer: &Peer,
    request: Request,
    kind: &str,
    body: ReceivedBody,
) -> Result<String, ApiError> {
    let text = post::text(&body)?;
    let query = request.uri().query().unwrap_or_default();
    let EventRequest { content, session, client, token } = parse::read(query, kind, text, state.settings.max_message)?;
    drop(body);
    let credentials = post::credentials(state, peer, request.headers(), "event").with_token(token.as_deref());
    // A page of another site may make a browser send a form, or a text that looks like JSON, with the user's cookies.
    // Such a page cannot send this content type without a preflight request.
    let credentials = if kind == "application/json" { credentials } else { credentials.to_publish()? };
    let session = match session {
        Some(id) => Some(Box::new(connect::find_latest(state, &id).await?)),
        None => None,
    };
    let sender =
        Sender { named: client, made: None, credentials: Arc::new(credentials), channels: Vec::new(), session };
    let answered = match content {
        RequestContent::Event(event) => service::send(state, sender, event)?.await?,
        RequestContent::Ack(ack) => service::acknowledge(state, sender, ack)?.await?,
    };
    Ok(format!("{{\"ack\":{},\"send\":[]}}", answered.ack.as_deref().unwrap_or("null")))
}
