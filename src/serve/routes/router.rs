//! Requests to where they are answered, and what every reply gets.

use super::assets;
use super::demo;
use super::diagnose;
use super::publish;
use super::response::{self, Body, Reply};
use super::subscribe;
use crate::serve::App;
use crate::serve::access::credentials::Asker;
use crate::serve::access::origin::{Access, Door, Nearness};
use crate::serve::conn::detect;
use crate::serve::http::peer::Client;
use crate::serve::http::request::{self, Inbound, Request};
use crate::serve::net::drain::Pace;
use crate::transport::{self, ApiError, Code, Transport};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Body as _;
use hyper::header::{ALLOW, CONNECTION, CONTENT_ENCODING, HeaderValue, ORIGIN};
use hyper::{Method, StatusCode, Uri, Version};
use std::sync::Arc;

/// Answers a request. Never fails: a refusal is an answer.
pub async fn answer(app: &Arc<App>, client: &Client, request: Request) -> Reply {
    let behind = client.behind_proxies(app, request.headers());
    let client = behind.as_ref().unwrap_or(client);
    let Some(log) = &app.access_log else { return respond(app, client, request).await };
    let mut entry = log.begin(client.ip, &request);
    entry.transport = transport::by_path(request.uri().path()).map_or("-", |transport| transport.name());
    let mut reply = respond(app, client, request).await;
    entry.answered(&reply);
    // What goes on beyond its head takes its line along, and it is written at the end.
    match reply.body_mut() {
        Body::Waiting(waiting) => waiting.log(entry),
        _ => client.handover().log(entry),
    }
    reply
}

async fn respond(app: &Arc<App>, client: &Client, mut request: Request) -> Reply {
    if let Err(refusal) = request::settle_host(&mut request) {
        return response::refused(&refusal);
    }
    if client.wants_tls {
        return detect::to_https(&request);
    }
    let version = request.version();
    // All that is needed of the request once it is gone.
    let origin = request.headers().get(ORIGIN).cloned();
    let is_by_star = app.access.is_by_star(request.headers(), client.forwarded_host());
    let is_over = client.is_over;
    let checked = check(app, client, &request);
    let may_share = checked.is_ok();
    let mut reply = match checked {
        Ok(()) => route(app, client, request).await,
        Err(refusal) => response::refused(&refusal),
    };
    if let Some(code) = reply.extensions().get::<Code>() {
        app.refused.count(*code);
    }
    if may_share {
        Access::share(origin, is_by_star, reply.headers_mut());
    }
    client.handover().replied(reply.body());
    if is_over && version != Version::HTTP_2 {
        reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    reply
}

/// Whether a request may come here at all.
fn check(app: &App, client: &Client, request: &Request) -> Result<(), ApiError> {
    let headers = request.headers();
    match client.door {
        Door::Public => app.access.check(headers, client.forwarded_host()),
        Door::Admin { is_near } => {
            let nearness = if is_near { Nearness::Loopback } else { Nearness::Guarded };
            Access { nearness, allow_origin: Vec::new() }.check(headers, None)
        }
    }
}

async fn route(app: &Arc<App>, client: &Client, request: Request) -> Reply {
    let path = request.uri().path();
    let transport = transport::by_path(path);
    let of_demo = demo::methods(app, path);
    let methods = match (path, transport) {
        ("/publish", _) => "POST, OPTIONS",
        (_, Some(_)) => "GET, HEAD, POST, OPTIONS",
        _ => of_demo.unwrap_or("GET, HEAD, OPTIONS"),
    };
    let is_here = client.door == Door::Public || assets::is_admin(path);
    let is_known = is_here && (path == "/publish" || transport.is_some() || of_demo.is_some() || assets::has(path));
    // Whoever watches over the process is not one of those who are counted.
    let is_watcher = matches!(path, "/healthz" | "/readyz") || client.door != Door::Public;
    let method = request.method().clone();
    // Nor is one that asks what a node is full of.
    if client.is_over && !is_watcher && path != "/metrics" {
        let refusal = ApiError::new(Code::TooManyConnections, "the server has as many connections as it takes");
        refuse(&request, transport, &refusal)
    } else if !is_watcher && let Err(refusal) = app.rates.request(client.ip) {
        refuse(&request, transport, &refusal)
    } else if !is_known {
        response::refused(&ApiError::new(Code::NotFound, "there is no such path; see /info for what there is"))
    } else if method == Method::OPTIONS {
        let mut reply = response::whole(StatusCode::NO_CONTENT, "", "");
        Access::preflight(reply.headers_mut(), methods);
        reply
    } else if !methods.split(", ").any(|known| known == method.as_str()) {
        let refusal = ApiError::new(Code::MethodNotAllowed, format!("this path takes {methods}"));
        let mut reply = response::refused(&refusal);
        reply.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
        reply
    } else if let Some(transport) = transport {
        // Apart: it is twice as large as the rest, and publishing shall not carry it.
        Box::pin(subscribe::answer(app, client, transport, request)).await
    } else if path == "/publish" {
        publish::answer(app, client, request).await.unwrap_or_else(|refusal| response::refused(&refusal))
    } else if of_demo.is_some() {
        demo::answer(app, request).await.unwrap_or_else(|refusal| response::refused(&refusal))
    } else if let Err(refusal) = admit_keeper(app, client, &request) {
        response::refused(&refusal)
    } else if path == "/diagnose/echo" {
        diagnose::echo(request.version(), request.headers())
    } else {
        let answer = assets::answer(app, path, request.uri().query().unwrap_or_default()).await;
        answer.unwrap_or_else(|refusal| response::refused(&refusal))
    }
}

/// Whether the page may be seen: some tell of others than the one who asks.
fn admit_keeper(app: &App, client: &Client, request: &Request) -> Result<(), ApiError> {
    if client.door != Door::Public || !assets::is_private(request.uri().path()) {
        return Ok(());
    }
    app.authorizer.admit_keeper(&Asker::new(client.ip, "page", request.headers(), false))
}

fn refuse(request: &Request, transport: Option<&dyn Transport>, refusal: &ApiError) -> Reply {
    let query = Uri::query(request.uri()).unwrap_or_default().as_bytes();
    match transport {
        Some(transport) => subscribe::refuse(transport, query, None, refusal),
        None => response::refused(refusal),
    }
}

/// Reads a request's body, within its size and time.
///
/// # Errors
///
/// `too_large`; `bad_request` for one that does not arrive in time or breaks off; `not_ready` for one that stands still
/// while the server is going.
pub async fn read_body(app: &App, request: &mut Request, most: usize) -> Result<Bytes, ApiError> {
    // Nothing is unpacked here, so that nothing can be a bomb; taken as it is it would be garbage.
    let coding = request.headers().get(CONTENT_ENCODING);
    if coding.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(ApiError::new(Code::BadRequest, "send the body as it is, without Content-Encoding"));
    }
    let reading = collect(app, Limited::new(request.body_mut(), most), most);
    let body = tokio::time::timeout(app.settings.request_timeout, reading).await;
    body.unwrap_or_else(|_| Err(ApiError::new(Code::BadRequest, "the body took too long to arrive")))
}

async fn collect(app: &App, mut body: Limited<&mut Inbound>, most: usize) -> Result<Bytes, ApiError> {
    let (mut whole, mut loan) = (Vec::new(), None);
    let mut pace = Pace::new(&app.drain);
    loop {
        let frame = tokio::select! {
            // What is there counts, also when the time is up.
            biased;
            frame = body.frame() => frame,
            // Nothing of it was carried out, so it may be sent again elsewhere.
            () = pace.is_too_slow(whole.len()) => {
                return Err(ApiError::new(Code::NotReady, "the server is going and the body is too slow; send it again"));
            }
        };
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|error| {
            if error.is::<http_body_util::LengthLimitError>() {
                return ApiError::new(Code::TooLarge, format!("the body is at most {most} bytes"));
            }
            ApiError::new(Code::BadRequest, "the body broke off")
        })?;
        let Ok(data) = frame.into_data() else { continue };
        if whole.is_empty() && body.is_end_stream() {
            // All of it in one piece, as most are.
            return Ok(data);
        }
        whole.extend_from_slice(&data);
        // It may be long in coming, and many may come at once.
        loan.get_or_insert_with(|| app.budget.loan()).set(whole.len())?;
    }
    Ok(whole.into())
}
