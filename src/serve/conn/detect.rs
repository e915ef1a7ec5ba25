//! The door: what a connection speaks is seen from its first bytes.
//!
//! A TLS handshake, where there is a certificate; then HTTP/2 by its preface, else HTTP/1. One port serves them all,
//! and ALPN only tells a client what it may choose.

use super::http2::PREFACE;
use crate::serve::App;
use crate::serve::http::peer::Client;
use crate::serve::http::request::Request;
use crate::serve::net::drain::Drain;
use crate::serve::net::stream::ClientIo;
use crate::serve::net::tls::Tls;
use crate::serve::routes::response::{self, Reply};
use crate::transport::{ApiError, Code};
use bytes::BytesMut;
use hyper::header::{HOST, HeaderValue, LOCATION};
use hyper::{Method, StatusCode};
use std::future::poll_fn;
use std::time::Duration;

/// The first byte of a TLS handshake (RFC 8446 §5.1). No method of HTTP and no JSON begins with it.
const HANDSHAKE: u8 = 0x16;

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    /// HTTP/1, or bytes that are no HTTP at all.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Secures a connection, if its client wants that. `None`: the client is gone, was too slow, or failed.
pub async fn secure(app: &App, io: ClientIo) -> Option<(ClientIo, bool)> {
    let Some(tls) = &app.tls else { return Some((io, false)) };
    let timeout = app.settings.request_timeout;
    tokio::select! {
        secured = secure_in(tls, io, timeout, app.settings.write_timeout) => secured,
        // Nothing has been asked yet.
        () = app.drain.begun() => None,
    }
}

async fn secure_in(tls: &Tls, io: ClientIo, timeout: Duration, write_timeout: Duration) -> Option<(ClientIo, bool)> {
    let socket = io.socket().clone();
    let first = tokio::time::timeout(timeout, socket.peek()).await;
    if first.ok()?.ok()? != Some(HANDSHAKE) {
        return Some((io, false));
    }
    let layer = tls.secure(socket.clone(), timeout).await?;
    Some((ClientIo::new(socket, Some(layer), write_timeout), true))
}

/// Hears the first bytes, and gives them back. `None`: the client is gone, or was too slow.
pub async fn hear(io: &mut ClientIo, drain: &Drain, timeout: Duration) -> Option<Speech> {
    let mut heard = BytesMut::new();
    let listen = async {
        while heard.len() < PREFACE.len() && PREFACE.starts_with(&heard) {
            if !matches!(poll_fn(|cx| io.poll_input(cx, &mut heard)).await, Ok(n) if n > 0) {
                break;
            }
        }
    };
    tokio::select! {
        // First: what a client has sent in time is answered, also by one who is going.
        biased;
        () = listen => {}
        () = tokio::time::sleep(timeout) => return None,
        () = drain.begun() => return None,
    }
    if heard.is_empty() {
        return None;
    }
    let speech = if heard.starts_with(PREFACE) { Speech::Http2 } else { Speech::Http1 };
    io.unread(heard.freeze());
    Some(speech)
}

/// Whether a client without TLS is served although there is a certificate: one on this machine is, whose bytes cross no
/// network. So a PHP page publishes, and a load balancer asks for health, as without TLS. A trusted proxy is, too: where
/// it ends TLS itself, its clients would be sent in a circle.
pub fn may_be_plain(app: &App, client: &Client) -> bool {
    client.is_passed_on || client.ip.is_loopback() || app.proxies.trusts(client.ip)
}

/// Sends a client that came without TLS to where there is TLS. What would carry a secret once more is refused: it has been
/// read on the way already, and its sender had better know.
pub fn to_https(request: &Request) -> Reply {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).filter(|host| !host.is_empty());
    let host = host.map(|host| host.strip_suffix(":80").unwrap_or(host));
    let location = host.and_then(|host| HeaderValue::try_from(format!("https://{host}{path}")).ok());
    match (request.method(), location) {
        (&Method::GET | &Method::HEAD, Some(location)) => {
            let mut reply = response::whole(StatusCode::MOVED_PERMANENTLY, "", "");
            reply.headers_mut().insert(LOCATION, location);
            reply
        }
        _ => response::refused(&ApiError::new(
            Code::BadRequest,
            "this server speaks HTTPS: use an address with https://",
        )),
    }
}
