//! Routes requests to their endpoints, checks limits, methods and listeners, and adds the headers that every response
//! gets.

pub mod endpoints;

use crate::serve::access::allowed_origins::AllowedOrigins;
use crate::serve::access::fetch_metadata;
use crate::serve::access::origin::{AccessMode, ListenerKind, OriginPolicy};
use crate::serve::http::peer::Peer;
use crate::serve::http::request::{self, ExtendedConnect, Request};
use crate::serve::routes::context::Context;
use crate::serve::routes::endpoint::{Call, Endpoint, Limits, Origins, OtherMethods, Route};
use crate::serve::routes::response::{self, Body, Response, ServedBy};
use crate::serve::routes::{operators, redirect};
use crate::serve::state::ServerState;
use crate::transport::{ApiError, Code, Lifecycle, Params};
use hyper::header::{ALLOW, CONNECTION, HeaderValue, ORIGIN};
use hyper::{Method, StatusCode, Version};
use std::borrow::Cow;

/// The target of an `OPTIONS` that asks for the whole server (RFC 9110 §9.3.7), and the methods of all paths.
const WHOLE_SERVER: &str = "*";
const EVERY_METHOD: &str = "GET, HEAD, POST, OPTIONS";

/// Answers a request. This cannot fail, because a refusal is also a response.
pub async fn answer(context: &Context, peer: &Peer, request: Request) -> Response {
    let state = &context.state;
    let behind = peer.behind_proxies(&state.proxies, &state.connections, request.headers());
    let peer = behind.as_ref().unwrap_or(peer);
    let Some(log) = &state.access_log else { return respond(context, peer, request).await };
    let mut entry = log.begin(peer.ip, &request);
    let transport = endpoints::find(context, request.uri().path()).and_then(|(_, route)| route.transport);
    entry.transport = transport.map_or("-", |transport| transport.name());
    let mut response = respond(context, peer, request).await;
    if let Some(ServedBy(name)) = response.extensions().get() {
        entry.transport = name;
    }
    entry.answered(response.status(), response.body().length());
    // The entry of a session is written when the session ends. Any other entry is written here.
    if let Body::Session(session) = response.body_mut() {
        session.log(entry);
    }
    response
}

async fn respond(context: &Context, peer: &Peer, mut request: Request) -> Response {
    let checked = request::normalize_host(&mut request);
    if let Err(refusal) = checked.and_then(|()| request::check_transfer_coding(request.headers())) {
        context.state.rejections.count(refusal.code);
        return refused_framing(request.version(), &refusal);
    }
    request::normalize_origin(&mut request);
    let state = &context.state;
    // These parts of the request are still needed after the request was moved into its endpoint.
    let version = request.version();
    let origin = request.headers().get(ORIGIN).cloned();
    let found = endpoints::find(context, request.uri().path());
    let origins = found.map_or(Origins::Known, |(_, route)| route.origins);
    let is_for_all_origins = peer.listener == ListenerKind::Public && origins == Origins::Any;
    let echoes_origin = found.is_some_and(|(_, route)| route.echoes_origin);
    // A path for all origins does not read cookies, so a page gets its answers without them, too.
    let is_by_star = is_for_all_origins || state.origins.is_by_star(request.headers(), peer.forwarded_host());
    let checked = if is_for_all_origins { Ok(()) } else { check_origin(state, peer, &request, origins) };
    let is_allowed = checked.is_ok();
    let mut response = match checked {
        _ if peer.must_use_tls => redirect::to_https(&request),
        Ok(()) => route(context, peer, request, found).await,
        Err(refusal) => response::refused(&refusal),
    };
    if let Some(code) = response.extensions().get::<Code>() {
        state.rejections.count(*code);
    }
    if is_allowed {
        let is_by_star = is_by_star && !echoes_origin;
        OriginPolicy::write_cors(origin, is_by_star, response.headers_mut());
    }
    if peer.is_over_limit && version != Version::HTTP_2 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Refuses a request that a proxy on the path may interpret differently. The connection closes after the response.
fn refused_framing(version: Version, refusal: &ApiError) -> Response {
    let mut response = response::refused(refusal);
    if version != Version::HTTP_2 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Checks the host and the origin of a request.
fn check_origin(state: &ServerState, peer: &Peer, request: &Request, origins: Origins) -> Result<(), ApiError> {
    let headers = request.headers();
    match peer.listener {
        ListenerKind::Public => {
            let policy = match origins {
                Origins::Listed(list) => Cow::Owned(state.origins.with_list(list)),
                Origins::Known | Origins::Any => Cow::Borrowed(&state.origins),
            };
            policy.check(headers, peer.forwarded_host(), peer.listener)
        }
        ListenerKind::Admin { is_loopback } => {
            let policy = |mode| OriginPolicy { mode, allow_origin: AllowedOrigins::default() };
            let check = |mode| policy(mode).check(headers, None, peer.listener);
            // The admin listener serves only its own pages: another program of this machine may also serve pages, and
            // the listener does not require a key.
            check(AccessMode::Guarded)?;
            if is_loopback { check(AccessMode::Loopback) } else { Ok(()) }
        }
    }
}

async fn route(context: &Context, peer: &Peer, request: Request, found: Option<(&dyn Endpoint, Route)>) -> Response {
    // This check comes before the limits, because a refusal by a limit also calls the callback.
    let is_page = found.is_some_and(|(_, route)| route.transport.is_some_and(|transport| transport.is_page()));
    if is_page && !fetch_metadata::may_frame(request.headers()) {
        return response::not_framed();
    }
    if let Err(refusal) = check_limits(&context.state, peer, found.map_or(Limits::All, |(_, route)| route.limits)) {
        let query = request.uri().query().unwrap_or_default();
        return match found {
            Some((endpoint, route)) => endpoint.refuse(&route, query.as_bytes(), &refusal),
            None => response::refused(&refusal),
        };
    }
    if request.method() == Method::OPTIONS && request.uri().path() == WHOLE_SERVER {
        return options(&request, EVERY_METHOD);
    }
    let Some((endpoint, route)) = found.filter(|(_, route)| operators::is_served(route.audience, peer.listener)) else {
        return response::refused(&ApiError::new(
            Code::NotFound,
            "there is no such path; see /info for the transports",
        ));
    };
    if request.method() == Method::OPTIONS && route.other_methods != OtherMethods::Endpoint {
        return options(&request, route.methods);
    }
    if let Some(refusal) = check_method(&request, &route).filter(|_| route.other_methods != OtherMethods::Endpoint) {
        return refusal;
    }
    if let Err(refusal) = operators::admit(&context.state, peer, route.audience, request.headers()) {
        return response::refused(&refusal);
    }
    let answered = endpoint.call(Call { context, peer, route, request }).await;
    answered.unwrap_or_else(|refusal| response::refused(&refusal))
}

/// Answers `OPTIONS`: a CORS preflight, or a client that asks for the methods.
fn options(request: &Request, methods: &'static str) -> Response {
    let mut response = response::whole(StatusCode::NO_CONTENT, "", "");
    OriginPolicy::write_preflight(request.headers(), response.headers_mut(), methods);
    response
}

/// Refuses a method that the path does not have. An extended `CONNECT` asks for a WebSocket, so the client would treat
/// any answer except a refusal as a WebSocket (RFC 8441 §5).
fn check_method(request: &Request, route: &Route) -> Option<Response> {
    let is_listed = route.methods.split(", ").any(|known| known == request.method().as_str());
    let is_known = is_listed || route.other_methods == OtherMethods::EndpointRefuses;
    let has_socket =
        route.transport.is_some_and(|transport| transport.lifecycle(&Params::default()) == Lifecycle::Duplex);
    let wants_socket = request.extensions().get::<ExtendedConnect>().is_some();
    if is_known && (has_socket || !wants_socket) {
        return None;
    }
    let text = if wants_socket { "there is no WebSocket at this path; it" } else { "this path" };
    let refusal = ApiError::new(Code::MethodNotAllowed, format!("{text} accepts {}", route.methods));
    let mut response = response::refused(&refusal);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(route.methods));
    Some(response)
}

/// Checks the limits of a path. Requests to the admin listener are not limited.
fn check_limits(state: &ServerState, peer: &Peer, limits: Limits) -> Result<(), ApiError> {
    if limits == Limits::Unlimited || peer.listener != ListenerKind::Public {
        return Ok(());
    }
    if peer.is_over_limit && limits == Limits::All {
        return Err(ApiError::new(Code::TooManyConnections, "the server has reached its limit on connections"));
    }
    state.rates.request(peer.ip)
}
