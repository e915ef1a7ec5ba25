//! Routes requests to their handlers, and adds what every response gets.

use super::context::Context;
use super::response::{self, Body, Response};
use super::{assets, channels, demo, diagnose, health, info, metrics, operators, publish, redirect, subscribe};
use crate::serve::access::origin::{AccessMode, ListenerKind, OriginPolicy};
use crate::serve::http::peer::Peer;
use crate::serve::http::request::{self, Request};
use crate::serve::state::ServerState;
use crate::transport::{self, ApiError, Code, Transport};
use hyper::header::{ALLOW, CONNECTION, HeaderValue, ORIGIN};
use hyper::{Method, StatusCode, Uri, Version};

/// Answers a request. It cannot fail: a refusal is a response, too.
pub async fn answer(context: &Context, peer: &Peer, request: Request) -> Response {
    let state = &context.state;
    let behind = peer.behind_proxies(&state.proxies, &state.connections, request.headers());
    let peer = behind.as_ref().unwrap_or(peer);
    let Some(log) = &state.access_log else { return respond(context, peer, request).await };
    let mut entry = log.begin(peer.ip, &request);
    entry.transport = transport::by_path(request.uri().path()).map_or("-", |transport| transport.name());
    let mut response = respond(context, peer, request).await;
    entry.answered(response.status(), response.body().length());
    // The entry of a session is written when the session ends; any other is written here.
    if let Body::Session(session) = response.body_mut() {
        session.log(entry);
    }
    response
}

async fn respond(context: &Context, peer: &Peer, mut request: Request) -> Response {
    if let Err(refusal) = request::normalize_host(&mut request) {
        return response::refused(&refusal);
    }
    if peer.must_use_tls {
        return redirect::to_https(&request);
    }
    let state = &context.state;
    // The parts of the request that are needed after it was moved into its handler.
    let version = request.version();
    let origin = request.headers().get(ORIGIN).cloned();
    let is_by_star = state.origins.is_by_star(request.headers(), peer.forwarded_host());
    let checked = check_origin(state, peer, &request);
    let is_allowed = checked.is_ok();
    let mut response = match checked {
        Ok(()) => route(context, peer, request).await,
        Err(refusal) => response::refused(&refusal),
    };
    if let Some(code) = response.extensions().get::<Code>() {
        state.rejections.count(*code);
    }
    if is_allowed {
        OriginPolicy::write_cors(origin, is_by_star, response.headers_mut());
    }
    if peer.is_over_limit && version != Version::HTTP_2 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Checks the host and the origin of a request.
fn check_origin(state: &ServerState, peer: &Peer, request: &Request) -> Result<(), ApiError> {
    let headers = request.headers();
    match peer.listener {
        ListenerKind::Public => state.origins.check(headers, peer.forwarded_host()),
        ListenerKind::Admin { is_loopback } => {
            let mode = if is_loopback { AccessMode::Loopback } else { AccessMode::Guarded };
            OriginPolicy { mode, allow_origin: Vec::new() }.check(headers, None)
        }
    }
}

/// Whether there is a page at a path that is neither a transport's nor the demo's.
fn is_page(path: &str) -> bool {
    const PAGES: [&str; 8] =
        ["/publish", "/healthz", "/readyz", "/metrics", "/info", "/channels", diagnose::ECHO, diagnose::DRIP];
    PAGES.contains(&path) || path.starts_with("/channels/") || assets::has(path)
}

async fn route(context: &Context, peer: &Peer, request: Request) -> Response {
    let state = &context.state;
    let path = request.uri().path();
    let transport = transport::by_path(path);
    let of_demo = demo::methods(context.demo.as_ref(), path);
    let methods = match (path, transport) {
        ("/publish", _) => "POST, OPTIONS",
        (_, Some(_)) => "GET, HEAD, POST, OPTIONS",
        _ => of_demo.unwrap_or("GET, HEAD, OPTIONS"),
    };
    let is_of_listener = peer.listener == ListenerKind::Public || operators::is_on_admin_listener(path);
    let is_known = is_of_listener && (transport.is_some() || of_demo.is_some() || is_page(path));
    // Health checks and operators are not limited.
    let is_unlimited = matches!(path, "/healthz" | "/readyz") || peer.listener != ListenerKind::Public;
    let method = request.method().clone();
    // Metrics are served on a full server, too: they show what it is full of.
    if peer.is_over_limit && !is_unlimited && path != "/metrics" {
        let refusal = ApiError::new(Code::TooManyConnections, "the server has reached its limit of connections");
        refuse(&request, transport, &refusal)
    } else if !is_unlimited && let Err(refusal) = state.rates.request(peer.ip) {
        refuse(&request, transport, &refusal)
    } else if !is_known {
        response::refused(&ApiError::new(Code::NotFound, "there is no such path; see /info for the transports"))
    } else if method == Method::OPTIONS {
        let mut response = response::whole(StatusCode::NO_CONTENT, "", "");
        OriginPolicy::write_preflight(response.headers_mut(), methods);
        response
    } else if !methods.split(", ").any(|known| known == method.as_str()) {
        let refusal = ApiError::new(Code::MethodNotAllowed, format!("this path accepts {methods}"));
        let mut response = response::refused(&refusal);
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
        response
    } else if let Some(transport) = transport {
        // It is boxed: this future is twice as large as the others, and a publish should not carry its size.
        Box::pin(subscribe::answer(state, peer, transport, request)).await
    } else {
        page(context, peer, request).await.unwrap_or_else(|refusal| response::refused(&refusal))
    }
}

/// Answers a request to a path that is not a transport's.
async fn page(context: &Context, peer: &Peer, request: Request) -> Result<Response, ApiError> {
    let path = request.uri().path();
    if path == "/publish" {
        return publish::answer(&context.state, peer, request).await;
    }
    if demo::methods(context.demo.as_ref(), path).is_some() {
        return demo::answer(&context.state, context.demo.as_ref(), request).await;
    }
    operators::admit(&context.state, peer, path, request.headers())?;
    let query = request.uri().query().unwrap_or_default();
    match path {
        "/healthz" => Ok(health::live()),
        "/readyz" => Ok(health::ready(context)),
        "/metrics" => Ok(metrics::answer(context)),
        "/info" => Ok(info::answer(context)),
        "/channels" => channels::list(&context.state, query).await,
        diagnose::ECHO => Ok(diagnose::echo(request.version(), request.headers())),
        diagnose::DRIP => diagnose::drip(&context.state, query),
        _ => match path.strip_prefix("/channels/") {
            Some(name) => channels::channel(&context.state, name).await,
            None => Ok(assets::answer(path)),
        },
    }
}

fn refuse(request: &Request, transport: Option<&dyn Transport>, refusal: &ApiError) -> Response {
    let query = Uri::query(request.uri()).unwrap_or_default().as_bytes();
    match transport {
        Some(transport) => subscribe::refuse(transport, query, None, refusal),
        None => response::refused(refusal),
    }
}
