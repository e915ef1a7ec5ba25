//! Handles `POST /publish`.

use super::channels::ReaderCounts;
use super::context::Context;
use super::endpoint::{Answer, Call, Endpoint, Route};
use super::post;
use super::response::{self, Response};
use crate::cursor::Cursor;
use crate::log::queued::Queued;
use crate::message::{Channel, Draft, Extras};
use crate::serve::access::credentials::Credentials;
use crate::serve::http::body::ReceivedBody;
use crate::serve::http::peer::Peer;
use crate::serve::http::request::Request;
use crate::serve::metrics::delivery::PublishSource;
use crate::serve::publishing::parse::{self, Fields, flag};
use crate::serve::publishing::service;
use crate::serve::state::ServerState;
use crate::transport::ApiError;
use smallvec::SmallVec;
use std::sync::Arc;

/// The path.
pub const PATH: &str = "/publish";

/// The endpoint.
pub struct Publish;

impl Endpoint for Publish {
    fn route(&self, _: &Context, path: &str) -> Option<Route> {
        (path == PATH).then_some(Route { methods: "POST, OPTIONS", ..Route::PAGE })
    }

    fn call<'a>(&'a self, call: Call<'a>) -> Answer<'a> {
        Box::pin(answer(&call.context.state, call.peer, call.request))
    }
}

/// The maximum number of bytes of a body, unless a single message may be longer.
const BODY_BYTES: usize = 1 << 20;

/// Handles a request. A connection that pipelines publishes puts a [`Queued`] into the request's extensions.
///
/// # Errors
///
/// The reason why nothing was appended, or the error that the outcome is unknown.
async fn answer(state: &Arc<ServerState>, peer: &Peer, mut request: Request) -> Result<Response, ApiError> {
    let most = BODY_BYTES.max(state.settings.max_message.saturating_mul(2));
    let body = response::read_body(state, &mut request, most).await?;
    let kind = post::content_type(request.headers());
    let is_hidden_form = parse::is_hidden_form(&kind, &body);
    let published = publish(state, peer, request, &kind, body).await;
    Ok(response::json_for(is_hidden_form, published))
}

/// Publishes the messages of a body, and returns the body of the response.
async fn publish(
    state: &Arc<ServerState>,
    peer: &Peer,
    mut request: Request,
    kind: &str,
    body: ReceivedBody,
) -> Result<Vec<u8>, ApiError> {
    let text = post::text(&body)?;
    let query = request.uri().query().unwrap_or_default();
    let publish = PublishRequest::read(query, kind, text, state.settings.max_message)?;
    // The drafts are copies of the body, so the body is freed before the drafts wait for the application and the log.
    drop(body);
    let credentials = post::credentials(state, peer, request.headers(), "publish");
    let queued = request.extensions_mut().remove::<Queued>().unwrap_or_default();
    publish.carry_out(state, &credentials, &queued).await
}

/// A parsed request.
pub struct PublishRequest {
    drafts: Vec<Draft>,
    /// The channels of the drafts, for the response.
    targets: SmallVec<[Target; 1]>,
    wants_counts: bool,
    token: Option<String>,
}

/// The channels of a draft.
struct Target {
    channel: Channel,
    extras: Option<Arc<Extras>>,
}

impl Target {
    fn of(draft: &Draft) -> Target {
        Target { channel: draft.channel.clone(), extras: draft.extras.clone() }
    }

    /// The channels, if there are several.
    fn several(&self) -> &[Channel] {
        self.extras.as_deref().map_or(&[], |extras| &extras.channels)
    }
}

impl PublishRequest {
    /// Parses a request. `kind` is the result of [`post::content_type`].
    ///
    /// # Errors
    ///
    /// The first error in the request.
    pub fn read(query: &str, kind: &str, body: &str, max: usize) -> Result<PublishRequest, ApiError> {
        let query = parse::parse_query(query)?;
        let (drafts, is_hidden_form) = parse::drafts(&query, kind, body, max)?;
        let wants_counts = match query.iter().find(|(name, _)| name == "counts") {
            Some((_, value)) => flag("counts", value)?,
            None => false,
        };
        let form = if is_hidden_form { parse::parse_query(body)? } else { Fields::new() };
        Ok(PublishRequest {
            targets: drafts.iter().map(Target::of).collect(),
            drafts,
            wants_counts,
            token: parse::token(&query, &form),
        })
    }

    /// Appends the drafts if that is allowed, and returns the body of the response. Sets `queued` when the position of
    /// the drafts in the order of the log is fixed.
    ///
    /// # Errors
    ///
    /// The reason why nothing was appended, or the error that the outcome is unknown.
    pub async fn carry_out(
        self,
        state: &Arc<ServerState>,
        credentials: &Credentials,
        queued: &Queued,
    ) -> Result<Vec<u8>, ApiError> {
        let PublishRequest { mut drafts, targets, .. } = self;
        // While the application or the log is slow, the waiting drafts grow with the number of publishers.
        let mut reservation = state.budget.publication();
        reservation.resize(drafts.iter().map(Draft::size).sum())?;
        let credentials = credentials.clone().with_token(self.token.as_deref());
        service::authorize(state, &credentials, None, &mut drafts).await?;
        let cursors = service::append_in_order(state, PublishSource::Http, drafts, queued.clone()).await?;
        drop(reservation);
        let counts = if self.wants_counts { Some(counts(state, &targets).await) } else { None };
        Ok(published(&targets, &cursors, counts.as_ref()))
    }
}

async fn counts(state: &ServerState, targets: &[Target]) -> ReaderCounts {
    let others = targets.iter().flat_map(Target::several);
    let channels: Vec<Channel> = targets.iter().map(|target| &target.channel).chain(others).cloned().collect();
    ReaderCounts::of(state, &channels).await
}

fn published(targets: &[Target], cursors: &[Option<Cursor>], counts: Option<&ReaderCounts>) -> Vec<u8> {
    let mut out = String::with_capacity(32 + targets.len() * 128);
    out.push_str("{\"messages\":[");
    for (index, (target, cursor)) in targets.iter().zip(cursors).enumerate() {
        out.push_str(if index > 0 { ",{" } else { "{" });
        if let Some(cursor) = cursor {
            out.push_str("\"id\":\"");
            out.push_str(cursor.text().as_str());
            out.push_str("\",");
        }
        out.push_str("\"channel\":\"");
        out.push_str(target.channel.as_str());
        out.push('"');
        let several = target.several();
        if !several.is_empty() {
            let names: Vec<String> = several.iter().map(|channel| format!("\"{channel}\"")).collect();
            out.push_str(&format!(",\"channels\":[{}]", names.join(",")));
        }
        match counts {
            Some(counts) if several.is_empty() => {
                out.push_str(&format!(",\"readers\":{}", counts.readers(&target.channel)));
            }
            // The answer does not contain a sum, because a reader of several of the channels would count several times.
            Some(counts) => {
                let each = several.iter().map(|channel| format!("\"{channel}\":{}", counts.readers(channel)));
                out.push_str(&format!(",\"readers\":{{{}}}", each.collect::<Vec<_>>().join(",")));
            }
            None => {}
        }
        out.push('}');
    }
    out.push(']');
    if let Some(counts) = counts {
        out.push_str(&format!(",\"complete\":{}", counts.is_complete));
    }
    out.push('}');
    out.into_bytes()
}
