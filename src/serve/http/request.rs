//! A request as the router sees it, whatever version of HTTP it came in.

use crate::serve::conn::http2::Share;
use crate::transport::{ApiError, Code};
use bytes::Bytes;
use h2::RecvStream;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{HOST, HeaderValue};
use hyper::{HeaderMap, Uri, Version};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// A request.
pub type Request = hyper::Request<Inbound>;

/// Marks a request of HTTP/2 that wants a WebSocket (RFC 8441): it came as an extended `CONNECT`, and goes on as
/// the `GET` that it stands for.
#[derive(Clone, Copy)]
pub struct ExtendedConnect;

/// A request's body.
pub enum Inbound {
    /// Of HTTP/1.
    Http1(Incoming),
    /// Of a stream of HTTP/2.
    Http2(RecvStream, Share),
    /// All of it, read already. Empty where what comes is not the request's.
    Whole(Bytes),
}

impl Body for Inbound {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Inbound::Http1(body) => Pin::new(body).poll_frame(cx).map(|frame| frame.map(|frame| Ok(frame?))),
            Inbound::Http2(body, share) => {
                let Some(data) = ready!(body.poll_data(cx)).transpose()? else { return Poll::Ready(None) };
                // More may come only for what was taken: the body's bound is known to the reader alone.
                body.flow_control().release_capacity(data.len())?;
                share.was_of_use(data.len());
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Inbound::Whole(body) if body.is_empty() => Poll::Ready(None),
            Inbound::Whole(body) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(body))))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Inbound::Http1(body) => body.is_end_stream(),
            Inbound::Http2(body, _) => body.is_end_stream(),
            Inbound::Whole(body) => body.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Inbound::Http1(body) => body.size_hint(),
            Inbound::Http2(..) => SizeHint::default(),
            Inbound::Whole(body) => SizeHint::with_exact(body.len() as u64),
        }
    }
}

/// Leaves one `Host`: the name that the request was sent to, wherever it stood. What is behind this may go by
/// the header alone.
///
/// # Errors
///
/// A request that names none, several, or one that is none (RFC 9112 §3.2, RFC 9113 §8.3.1): who asks us by one name
/// and whoever stands in front of us by another could be told different things.
pub fn settle_host<B>(request: &mut hyper::Request<B>) -> Result<(), ApiError> {
    if let Some(host) = other_host(request.version(), request.uri(), request.headers())? {
        request.headers_mut().insert(HOST, host);
    }
    Ok(())
}

/// What is to stand in `Host`, where it is not what stands there.
fn other_host(version: Version, uri: &Uri, headers: &HeaderMap) -> Result<Option<HeaderValue>, ApiError> {
    let bad = |text: &str| Err(ApiError::new(Code::BadRequest, text));
    let mut hosts = headers.get_all(HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return bad("a request has one Host");
    }
    if host.is_some_and(|host| !is_host(host.as_bytes())) {
        return bad("Host is a name or an address, and a port");
    }
    let Some(authority) = uri.authority() else {
        return if host.is_none() && version >= Version::HTTP_11 { bad("a request has a Host") } else { Ok(None) };
    };
    if authority.as_str().contains('@') {
        return bad("a request's address has no name of a user");
    }
    if !is_host(authority.as_str().as_bytes()) {
        return bad("a request's address has a name or an address, and a port");
    }
    if version == Version::HTTP_2
        && host.is_some_and(|host| !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()))
    {
        return bad("Host is the same as :authority, or left out");
    }
    // Over HTTP/1 an address in the request's line counts, and Host does not, as every proxy on the way has it.
    let Ok(host) = HeaderValue::from_str(authority.as_str()) else { return bad("a request has a Host") };
    Ok(Some(host))
}

/// Whether this may be a name or an address, and a port (RFC 3986 §3.2.2), without a user's name. It is asked of each
/// request, so nothing is taken apart.
pub fn is_host(text: &[u8]) -> bool {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+,;=".contains(byte);
    text.iter().all(is_part) && text.starts_with(b"[") == text.contains(&b']')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(version: Version, uri: &str, hosts: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, host.parse().expect("a header"));
        }
        let mut request = hyper::Request::new(());
        (*request.version_mut(), *request.uri_mut()) = (version, uri.parse().expect("a URI"));
        *request.headers_mut() = headers;
        settle_host(&mut request).ok()?;
        Some(request.headers().get(HOST).map_or("", |host| host.to_str().expect("ASCII")).to_owned())
    }

    #[test]
    fn one_name_counts() {
        let ok = |text: &str| Some(text.to_owned());
        let (v1, v2) = (Version::HTTP_11, Version::HTTP_2);
        assert_eq!(settled(v1, "/", &["a:80"]), ok("a:80"));
        assert_eq!(settled(Version::HTTP_10, "/", &[]), ok(""));
        assert_eq!(settled(v1, "/", &[]), None);
        assert_eq!(settled(v1, "/", &["a", "a"]), None);
        for good in ["", "[::1]:80", "a-b_c.example:8080", "127.0.0.1", "push.example."] {
            assert_eq!(settled(v1, "/", &[good]), ok(good));
        }
        for bad in ["a@b", "localhost:80@evil.example", "a b", "a/b", "a?b", "a#b", "[::1", "::1]", "a\\b", "é"] {
            assert_eq!(settled(v1, "/", &[bad]), None, "{bad}");
        }
        assert_eq!(settled(v1, "http://evil.example/x", &["localhost"]), ok("evil.example"));
        assert_eq!(settled(v1, "http://localhost@evil.example/x", &["localhost"]), None);
        assert_eq!(settled(v1, "a[::1]:80", &["localhost"]), None);
        assert_eq!(settled(v2, "https://a:1/x", &[]), ok("a:1"));
        assert_eq!(settled(v2, "https://a:1/x", &["A:1"]), ok("a:1"));
        assert_eq!(settled(v2, "https://a:1/x", &["b"]), None);
        assert_eq!(settled(v2, "/x", &["b"]), ok("b"));
        assert_eq!(settled(v2, "/x", &[]), None);
    }
}
