//! A request as the router sees it, over any version of HTTP.

use crate::serve::access::origin::is_host;
use crate::transport::{ApiError, Code};
use atomic_waker::AtomicWaker;
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{HOST, HeaderValue, ORIGIN, TRANSFER_ENCODING};
use hyper::{HeaderMap, Uri, Version};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

/// A request.
pub type Request = hyper::Request<RequestBody>;

/// Marks an HTTP/2 request for a WebSocket (RFC 8441). The request arrived as an extended `CONNECT`, and the server
/// handles it as a `GET`.
#[derive(Clone, Copy)]
pub struct ExtendedConnect;

/// Tells a waiting handler that its client has shut its sending side, and has probably disconnected.
#[derive(Clone, Default)]
pub struct ClientShut(Arc<(AtomicBool, AtomicWaker)>);

impl ClientShut {
    /// Records that the client has shut its side, and wakes the handler.
    pub fn set(&self) {
        if !self.0.0.swap(true, Ordering::AcqRel) {
            self.0.1.wake();
        }
    }

    /// Ready when the client has shut its side. Wakes the task that polled last.
    pub fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        self.0.1.register(cx.waker());
        if self.0.0.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// The reason why a body cannot be read.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request.
pub enum RequestBody {
    /// A body that hyper reads.
    Http1(Incoming),
    /// The body of an HTTP/2 stream.
    Boxed(Pin<Box<dyn Body<Data = Bytes, Error = BodyError> + Send>>),
    /// A body that was already read. It is empty if the bytes after the head do not belong to the request.
    Whole(Bytes),
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            RequestBody::Http1(body) => Pin::new(body).poll_frame(cx).map(|frame| frame.map(|frame| Ok(frame?))),
            RequestBody::Boxed(body) => body.as_mut().poll_frame(cx),
            RequestBody::Whole(body) if body.is_empty() => Poll::Ready(None),
            RequestBody::Whole(body) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(body))))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            RequestBody::Http1(body) => body.is_end_stream(),
            RequestBody::Boxed(body) => body.is_end_stream(),
            RequestBody::Whole(body) => body.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            RequestBody::Http1(body) => body.size_hint(),
            RequestBody::Boxed(body) => body.size_hint(),
            RequestBody::Whole(body) => SizeHint::with_exact(body.len() as u64),
        }
    }
}

/// Leaves exactly one `Host` header: the name that the request was sent to, wherever the request named it. Later code
/// may rely on the header alone.
///
/// # Errors
///
/// `bad_request` if there is no host, more than one host, or an invalid host (RFC 9112 §3.2, RFC 9113 §8.3.1).
/// Otherwise a proxy in front of this server and the server itself could take different hosts from the request.
pub fn normalize_host<B>(request: &mut hyper::Request<B>) -> Result<(), ApiError> {
    if let Some(host) = replaced_host(request.version(), request.uri(), request.headers())? {
        request.headers_mut().insert(HOST, host);
    }
    Ok(())
}

/// Puts the origin of a page into the header `Origin`: version 8 of WebSocket has another name for it.
pub fn normalize_origin<B>(request: &mut hyper::Request<B>) {
    let headers = request.headers_mut();
    if !headers.contains_key(ORIGIN)
        && let Some(origin) = headers.remove("sec-websocket-origin")
    {
        headers.insert(ORIGIN, origin);
    }
}

/// Checks that a body is sent unchanged, or in chunks.
///
/// # Errors
///
/// `bad_request` for any other transfer coding (RFC 9112 §6.1): hyper decodes only `chunked`, and would treat the
/// compressed bytes of `gzip, chunked` as the body.
pub fn check_transfer_coding(headers: &HeaderMap) -> Result<(), ApiError> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).into_iter();
    if codings.next().is_none_or(|coding| coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"))
        && codings.next().is_none()
    {
        return Ok(());
    }
    Err(ApiError::new(Code::BadRequest, "send the body as it is; the only transfer coding is chunked"))
}

/// The host that must replace the `Host` header; `None` if the header is right.
fn replaced_host(version: Version, uri: &Uri, headers: &HeaderMap) -> Result<Option<HeaderValue>, ApiError> {
    let bad = |text: &str| Err(ApiError::new(Code::BadRequest, text));
    let mut hosts = headers.get_all(HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return bad("send exactly one Host header");
    }
    if host.is_some_and(|host| !is_host(host.as_bytes())) {
        return bad("Host must be a name or an address, optionally with a port");
    }
    let Some(authority) = uri.authority() else {
        return if host.is_none() && version >= Version::HTTP_11 { bad("send a Host header") } else { Ok(None) };
    };
    if authority.as_str().contains('@') {
        return bad("leave the user name out of the request's address");
    }
    if !is_host(authority.as_str().as_bytes()) {
        return bad("the request's address must have a host name or an IP address, optionally with a port");
    }
    if version == Version::HTTP_2
        && host.is_some_and(|host| !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()))
    {
        return bad("Host must equal :authority, or be left out");
    }
    // Over HTTP/1 an absolute target takes precedence over Host. Proxies follow the same rule.
    let Ok(host) = HeaderValue::from_str(authority.as_str()) else { return bad("send a Host header") };
    Ok(Some(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_transfer_coding_is_chunked() {
        for (lines, is_good) in [
            (&[][..], true),
            (&["chunked"], true),
            (&["Chunked "], true),
            (&["gzip"], false),
            (&["gzip, chunked"], false),
            (&["chunked, chunked"], false),
            (&["identity, chunked"], false),
            (&["gzip", "chunked"], false),
            (&["chunked", "chunked"], false),
            (&["chunked;q=1"], false),
            (&[""], false),
        ] {
            let headers = lines.iter().map(|line| (TRANSFER_ENCODING, HeaderValue::from_static(line))).collect();
            assert_eq!(check_transfer_coding(&headers).is_ok(), is_good, "{lines:?}");
        }
    }

    fn normalized(version: Version, uri: &str, hosts: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, host.parse().expect("a header"));
        }
        let mut request = hyper::Request::new(());
        (*request.version_mut(), *request.uri_mut()) = (version, uri.parse().expect("a URI"));
        *request.headers_mut() = headers;
        normalize_host(&mut request).ok()?;
        Some(request.headers().get(HOST).map_or("", |host| host.to_str().expect("ASCII")).to_owned())
    }

    #[test]
    fn one_host_counts() {
        let ok = |text: &str| Some(text.to_owned());
        let (v1, v2) = (Version::HTTP_11, Version::HTTP_2);
        assert_eq!(normalized(v1, "/", &["a:80"]), ok("a:80"));
        assert_eq!(normalized(Version::HTTP_10, "/", &[]), ok(""));
        assert_eq!(normalized(v1, "/", &[]), None);
        assert_eq!(normalized(v1, "/", &["a", "a"]), None);
        for good in ["", "[::1]:80", "a-b_c.example:8080", "127.0.0.1", "push.example."] {
            assert_eq!(normalized(v1, "/", &[good]), ok(good));
        }
        for bad in ["a@b", "localhost:80@evil.example", "a b", "a/b", "a?b", "a#b", "[::1", "::1]", "a\\b", "é"] {
            assert_eq!(normalized(v1, "/", &[bad]), None, "{bad}");
        }
        assert_eq!(normalized(v1, "http://evil.example/x", &["localhost"]), ok("evil.example"));
        assert_eq!(normalized(v1, "http://localhost@evil.example/x", &["localhost"]), None);
        assert_eq!(normalized(v1, "a[::1]:80", &["localhost"]), None);
        assert_eq!(normalized(v2, "https://a:1/x", &[]), ok("a:1"));
        assert_eq!(normalized(v2, "https://a:1/x", &["A:1"]), ok("a:1"));
        assert_eq!(normalized(v2, "https://a:1/x", &["b"]), None);
        assert_eq!(normalized(v2, "/x", &["b"]), ok("b"));
        assert_eq!(normalized(v2, "/x", &[]), None);
    }
}
