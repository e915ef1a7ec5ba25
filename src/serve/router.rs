//! Requests to where they are answered, and what every reply gets.

use super::access::{Access, Nearness};
use super::listener::Client;
use super::reply::{self, Reply};
use super::{App, diagnose, pages, publish, subscribe};
use crate::transport::{self, Code, Refusal};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONNECTION, CONTENT_ENCODING, HeaderValue, ORIGIN};
use hyper::{Method, Request, StatusCode, Uri};
use std::sync::Arc;

/// Answers a request. Never fails: a refusal is an answer.
pub async fn answer(app: Arc<App>, client: Client, request: Request<Incoming>) -> Reply {
    let entry = app.access_log.as_ref().map(|log| log.begin(client.ip, &request));
    let transport = transport::by_path(request.uri().path()).map(|transport| transport.name());
    let reply = route(&app, &client, request).await;
    if let Some(mut entry) = entry {
        entry.transport = transport.unwrap_or("-");
        entry.answered(&reply);
        // A stream's goes with it, and is written at its end.
        client.handover.log(entry);
    }
    reply
}

async fn route(app: &Arc<App>, client: &Client, request: Request<Incoming>) -> Reply {
    // All that is needed of the request once it is gone.
    let origin = request.headers().get(ORIGIN).cloned();
    let path = request.uri().path();
    let transport = transport::by_path(path);
    let methods = match (path, transport) {
        ("/publish", _) => "POST, OPTIONS",
        (_, Some(_)) => "GET, HEAD, POST, OPTIONS",
        _ => "GET, HEAD, OPTIONS",
    };
    if let Err(refusal) = app.access.check(request.headers()) {
        return reply::refused(&refusal);
    }
    let is_known = path == "/publish" || transport.is_some() || pages::has(path);
    let method = request.method().clone();
    let mut reply = if client.is_over && !matches!(path, "/healthz" | "/readyz") {
        let refusal = Refusal::new(Code::TooManyConnections, "the server has as many connections as it takes");
        refuse(&request, transport, &refusal)
    } else if !is_known {
        reply::refused(&Refusal::new(Code::NotFound, "there is no such path; see /info for what there is"))
    } else if method == Method::OPTIONS {
        let mut reply = reply::whole(StatusCode::NO_CONTENT, "", "");
        Access::preflight(reply.headers_mut(), methods);
        reply
    } else if !methods.split(", ").any(|known| known == method.as_str()) {
        let refusal = Refusal::new(Code::MethodNotAllowed, format!("this path takes {methods}"));
        let mut reply = reply::refused(&refusal);
        reply.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
        reply
    } else if let Some(transport) = transport {
        subscribe::answer(app, client, transport, request).await
    } else if path == "/publish" {
        publish::answer(app, client, request).await.unwrap_or_else(|refusal| reply::refused(&refusal))
    } else if app.access.nearness == Nearness::Guarded && pages::is_private(path) {
        reply::refused(&Refusal::new(Code::Forbidden, "this server tells that to nobody but its keepers"))
    } else if path == "/diagnose/echo" {
        diagnose::echo(request.version(), request.headers())
    } else {
        let answer = pages::answer(app, path, request.uri().query().unwrap_or_default()).await;
        answer.unwrap_or_else(|refusal| reply::refused(&refusal))
    };
    app.access.share(origin, reply.headers_mut());
    if client.is_over {
        reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    reply
}

fn refuse(request: &Request<Incoming>, transport: Option<&dyn transport::Transport>, refusal: &Refusal) -> Reply {
    let query = Uri::query(request.uri()).unwrap_or_default().as_bytes();
    match transport {
        Some(transport) => subscribe::refuse(transport, query, None, refusal),
        None => reply::refused(refusal),
    }
}

/// Reads a request's body, within its size and time.
///
/// # Errors
///
/// `too_large`; `bad_request` for one that does not arrive in time or breaks off.
pub async fn read_body(app: &App, request: &mut Request<Incoming>, most: usize) -> Result<Bytes, Refusal> {
    // Nothing is unpacked here, so that nothing can be a bomb; taken as it is it would be garbage.
    if request
        .headers()
        .get(CONTENT_ENCODING)
        .is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        return Err(Refusal::new(Code::BadRequest, "send the body as it is, without Content-Encoding"));
    }
    let body = Limited::new(request.body_mut(), most).collect();
    match tokio::time::timeout(app.settings.request_timeout, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Err(Refusal::new(Code::TooLarge, format!("the body is at most {most} bytes")))
        }
        Ok(Err(_)) => Err(Refusal::new(Code::BadRequest, "the body broke off")),
        Err(_) => Err(Refusal::new(Code::BadRequest, "the body took too long to arrive")),
    }
}
