//! The REST API, which the server SDKs of applications use.

mod channels;
mod publish;
mod refusal;

use super::apps::App;
use super::metrics::Refused;
use super::state::PusherState;
use crate::serve::http::request;
use crate::serve::routes::channels::percent_decoded;
use crate::serve::routes::response::{self, Response};
use crate::serve::state::ServerState;
use crate::transport::ApiError;
use crate::wire::pusher::rest::Request;
use hyper::StatusCode;
use refusal::Refusal;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// The beginning of the paths. The id of an app follows.
const APPS: &str = "/apps/";

/// The path that says whether the server is there.
pub const UP: &str = "/up";

/// The bytes of a body besides its data: names of events and channels, and JSON around them.
const BODY_FRAME: usize = 256 << 10;

/// What a path stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Resource {
    Events,
    Batch,
    /// The events of one channel, as old SDKs send them.
    ChannelEvents(String),
    Channels,
    Channel(String),
    Users(String),
    Terminate(String),
    Connections,
}

/// Reads a path: the id of the app, and the resource.
fn read(path: &str) -> Option<(&str, Resource)> {
    let (id, rest) = path.strip_prefix(APPS)?.split_once('/')?;
    let parts: Vec<&str> = rest.split('/').collect();
    let resource = match *parts.as_slice() {
        ["events"] => Resource::Events,
        ["batch_events"] => Resource::Batch,
        ["channels"] => Resource::Channels,
        ["channels", name] => Resource::Channel(percent_decoded(name)),
        ["channels", name, "users"] => Resource::Users(percent_decoded(name)),
        ["channels", name, "events"] => Resource::ChannelEvents(percent_decoded(name)),
        ["users", user, "terminate_connections"] => Resource::Terminate(percent_decoded(user)),
        ["connections"] => Resource::Connections,
        _ => return None,
    };
    Some((id, resource))
}

/// The methods of a path; `None` if the API does not have the path.
pub fn methods(path: &str) -> Option<&'static str> {
    if path == UP {
        return Some("GET, HEAD, OPTIONS");
    }
    Some(match read(path)?.1 {
        Resource::Events | Resource::Batch | Resource::ChannelEvents(_) | Resource::Terminate(_) => "POST, OPTIONS",
        Resource::Channels | Resource::Channel(_) | Resource::Users(_) | Resource::Connections => "GET, HEAD, OPTIONS",
    })
}

/// Answers a request to the API.
pub async fn answer(pusher: &PusherState, state: &Arc<ServerState>, request: request::Request) -> Response {
    if request.uri().path() == UP {
        return response::json(StatusCode::OK, "{\"health\":\"OK\"}");
    }
    match try_answer(pusher, state, request).await {
        Ok(response) => response,
        Err(refusal) => {
            pusher.metrics.refused(Refused::Request);
            refusal.response()
        }
    }
}

async fn try_answer(
    pusher: &PusherState,
    state: &Arc<ServerState>,
    mut request: request::Request,
) -> Result<Response, Refusal> {
    let path = request.uri().path().to_owned();
    let (id, resource) = read(&path).ok_or_else(|| Refusal::new(404, "there is no such path"))?;
    let app = pusher.apps.with_id(id).ok_or_else(|| Refusal::new(404, "there is no app with this id"))?;
    let query: Vec<(String, String)> =
        form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()).into_owned().collect();
    // JSON may double the length of a text.
    let events = if resource == Resource::Batch { publish::MAX_BATCH } else { 1 };
    let most = state.settings.max_message.saturating_mul(2 * events).saturating_add(BODY_FRAME);
    let body = response::read_body(state, &mut request, most).await?;
    let request = Request { method: request.method().as_str(), path: &path, query: &query, body: &body };
    check(app, &request)?;
    if !app.enabled {
        return Err(Refusal::new(403, "the app is disabled"));
    }
    carry_out(state, app, &request, resource).await
}

/// Checks the signature. `HEAD` counts as `GET`, and a proxy may have removed the beginning of the path that was signed.
fn check(app: &App, request: &Request<'_>) -> Result<(), Refusal> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let signed = format!("{}{}", app.path, request.path);
    let method = if request.method == "HEAD" { "GET" } else { request.method };
    let verify = |path: &str| Request { path, method, ..*request }.verify(&app.key, &app.secret, now);
    let checked = match verify(request.path) {
        Err(_) if !app.path.is_empty() => verify(&signed),
        checked => checked,
    };
    checked.map_err(|refused| Refusal::new(401, refused.to_string()))
}

async fn carry_out(
    state: &Arc<ServerState>,
    app: &Arc<App>,
    request: &Request<'_>,
    resource: Resource,
) -> Result<Response, Refusal> {
    let (status, body) = match resource {
        Resource::Events => (StatusCode::OK, publish::events(state, app, request.body).await?),
        Resource::Batch => (StatusCode::OK, publish::batch(state, app, request.body).await?),
        Resource::ChannelEvents(name) => {
            publish::channel_events(state, app, &name, request).await?;
            (StatusCode::ACCEPTED, "{}".to_owned())
        }
        Resource::Channels => (StatusCode::OK, channels::list(state, app, request).await?),
        Resource::Channel(name) => (StatusCode::OK, channels::one(state, app, &name, request).await?),
        Resource::Users(name) => (StatusCode::OK, channels::users(state, app, &name).await?),
        Resource::Terminate(user) => {
            publish::terminate(state, app, &user).await?;
            (StatusCode::OK, "{}".to_owned())
        }
        Resource::Connections => (StatusCode::OK, format!("{{\"connections\":{}}}", app.connections())),
    };
    Ok(response::json(status, body))
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Refusal {
        let mut refusal = Refusal::new(error.code.status(), error.message);
        refusal.retry = error.retry;
        refusal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for (path, resource) in [
            ("/apps/1/events", Some(Resource::Events)),
            ("/apps/1/batch_events", Some(Resource::Batch)),
            ("/apps/1/channels", Some(Resource::Channels)),
            ("/apps/1/channels/a%2Cb", Some(Resource::Channel("a,b".into()))),
            ("/apps/1/channels/a+b", Some(Resource::Channel("a+b".into()))),
            ("/apps/1/channels/presence-a/users", Some(Resource::Users("presence-a".into()))),
            ("/apps/1/channels/a/events", Some(Resource::ChannelEvents("a".into()))),
            ("/apps/1/users/7/terminate_connections", Some(Resource::Terminate("7".into()))),
            ("/apps/1/connections", Some(Resource::Connections)),
            ("/apps/1", None),
            ("/apps/1/", None),
            ("/apps/1/events/", None),
            ("/apps/1/users/7", None),
        ] {
            assert_eq!(read(path), resource.map(|resource| ("1", resource)), "{path}");
        }
        assert_eq!(methods("/apps/1/events"), Some("POST, OPTIONS"));
        assert_eq!(methods("/up"), Some("GET, HEAD, OPTIONS"));
        assert_eq!(methods("/ups"), None);
    }
}
