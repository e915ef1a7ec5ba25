//! Detects the protocol of a connection from its first bytes: TLS by its handshake, if there is a certificate; then
//! HTTP/2 by its preface, or else HTTP/1. One port serves all three protocols. If the handshake agreed on a protocol
//! (ALPN), this protocol is used: a proxy that decides by ALPN and this server must see the same protocol.

use super::tls_input::TlsInput;
use crate::serve::http::peer::Peer;
use crate::serve::net::drain::Drain;
use crate::serve::net::stream::ClientStream;
use crate::serve::net::tls::{Agreed, Tls};
use crate::serve::state::ServerState;
use bytes::BytesMut;
use std::future::poll_fn;
use std::time::Duration;

/// The bytes that an HTTP/2 connection begins with (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The first byte of a TLS handshake (RFC 8446 §5.1). An HTTP request or a JSON text cannot begin with this byte.
const HANDSHAKE: u8 = 0x16;

/// The protocol of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1, or bytes that are not HTTP.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Does the TLS handshake if the client starts one, and returns the protocol that it agreed on. The outer `None` means
/// that the client has disconnected or is too slow, or that the handshake failed.
pub async fn secure(state: &ServerState, io: ClientStream) -> Option<(ClientStream, Option<Agreed>)> {
    let Some(tls) = &state.tls else { return Some((io, None)) };
    tokio::select! {
        secured = secure_in(state, tls, io) => secured,
        // The client has not sent a request yet.
        () = state.drain.begun() => None,
    }
}

async fn secure_in(state: &ServerState, tls: &Tls, io: ClientStream) -> Option<(ClientStream, Option<Agreed>)> {
    let (timeout, write_timeout) = (state.settings.request_timeout, state.settings.write_timeout);
    let socket = io.socket().clone();
    let first = tokio::time::timeout(timeout, socket.peek()).await;
    if first.ok()?.ok()? != Some(HANDSHAKE) {
        return Some((io, None));
    }
    let (layer, agreed) = tls.secure(TlsInput::new(socket.clone(), &state.budget), timeout).await?;
    Some((ClientStream::new(socket, Some(layer), write_timeout), Some(agreed)))
}

/// Detects the protocol from the first bytes, unless the handshake agreed on one. The bytes can still be read
/// afterwards. Returns `None` if the client has disconnected or is too slow.
pub async fn detect(
    io: &mut ClientStream,
    agreed: Option<Agreed>,
    drain: &Drain,
    timeout: Duration,
) -> Option<Protocol> {
    let mut first = BytesMut::new();
    let read = async {
        while first.len() < PREFACE.len() && PREFACE.starts_with(&first) {
            if !matches!(poll_fn(|cx| io.poll_input(cx, &mut first)).await, Ok(n) if n > 0) {
                break;
            }
        }
    };
    tokio::select! {
        // The bytes are polled first: a request that the client has sent in time is answered, even during a drain.
        biased;
        () = read => {}
        () = tokio::time::sleep(timeout) => return None,
        () = drain.begun() => return None,
    }
    if first.is_empty() {
        return None;
    }
    let protocol = match agreed {
        Some(Agreed::Http2) => Protocol::Http2,
        Some(Agreed::Http1) => Protocol::Http1,
        Some(Agreed::Nothing) | None if first.starts_with(PREFACE) => Protocol::Http2,
        Some(Agreed::Nothing) | None => Protocol::Http1,
    };
    io.unread(first.freeze());
    Some(protocol)
}

/// Whether the server serves a client without TLS although there is a certificate. It does so for a client on this
/// machine, whose bytes do not cross a network: a PHP page can publish and a load balancer can check health without
/// TLS. It also does so for a trusted proxy, which may terminate TLS itself: a redirect would send its clients in a
/// circle.
pub fn may_be_plain(state: &ServerState, peer: &Peer) -> bool {
    peer.has_proxy_header || peer.ip.is_loopback() || state.proxies.trusts(peer.ip)
}
