//! Answers `GET /channels/{channel}/members`: the members of a channel, and the cursor at which a client continues to
//! read.

use super::channels::percent_decoded;
use super::context::Context;
use super::endpoint::{Answer, Audience, Call, Endpoint, Route};
use super::response;
use crate::message::Channel;
use crate::serve::access::credentials::Credentials;
use crate::serve::access::origin::ListenerKind;
use crate::serve::access::query::{AccessRequest, Action};
use crate::serve::http::headers::last_field;
use crate::serve::presence::service::Presence;
use crate::transport::{ApiError, Code};
use hyper::StatusCode;
use std::sync::Arc;

/// The endpoint.
pub struct MembersOfChannel;

const BEFORE: &str = "/channels/";
const BEHIND: &str = "/members";

/// The name of the channel in a path of this endpoint.
fn name(path: &str) -> Option<&str> {
    path.strip_prefix(BEFORE)?.strip_suffix(BEHIND)
}

impl Endpoint for MembersOfChannel {
    fn route(&self, _: &Context, path: &str) -> Option<Route> {
        name(path).map(|_| Route { audience: Audience::Monitoring, ..Route::PAGE })
    }

    fn call<'a>(&'a self, call: Call<'a>) -> Answer<'a> {
        Box::pin(async move {
            let state = &call.context.state;
            let channel: Channel = percent_decoded(name(call.path()).unwrap_or_default()).parse()?;
            let presence = state.presence.as_ref().filter(|presence| presence.covers(&channel));
            let presence: &Arc<Presence> = presence.ok_or_else(|| {
                ApiError::new(Code::NotFound, "the members of this channel are not known: --presence does not name it")
            })?;
            // Takes only the head, because a body cannot be shared between threads.
            let (headers, query) = (call.request.headers(), call.query().as_bytes());
            if call.peer.listener == ListenerKind::Public && !state.authorizer.is_open() {
                // If every origin is allowed, a page of any site may read the answer. In this case, a cookie does not
                // count.
                let by_cookie = !state.origins.is_by_star(headers, call.peer.forwarded_host());
                let credentials = Credentials::new(call.peer.ip, "members", headers, by_cookie);
                let credentials = credentials.with_token(last_field(query, None, "token").as_deref());
                let access_request = AccessRequest {
                    action: Action::Subscribe,
                    channels: vec![channel.clone()],
                    client: None,
                    credentials,
                };
                state.authorizer.ask(access_request).await?;
            }
            let list = presence.members(&channel).await?;
            let members = list.members.join(",");
            let answer = format!("{{\"members\":[{members}],\"cursor\":\"{}\"}}", list.cursor);
            Ok(response::json(StatusCode::OK, answer))
        })
    }
}
