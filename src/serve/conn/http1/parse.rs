//! Parses plain requests. hyper reads all others.
//!
//! A request is plain if nothing about it needs special treatment: `GET` of a poll or a stream, or `POST /publish`;
//! HTTP/1.1; no `Upgrade`, `Expect` or `Transfer-Encoding`; a `Content-Length` that is one number. Anything else goes
//! to hyper, with its bytes unchanged (only a minor version above 1 becomes 1). This module does not refuse any
//! request.

use super::publish_template::{PublishHead, parse_length};
use super::version::lower_minor;
use crate::serve::http::head::MAX_HEAD;
use crate::serve::http::request::{Request, RequestBody};
use crate::serve::routes::publish;
use crate::transport::{self, Lifecycle, Params};
use bytes::{Buf, Bytes, BytesMut};
use hyper::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE};
use hyper::{HeaderMap, Method, Uri, Version};
use std::mem::MaybeUninit;

/// The maximum number of bytes of a plain request, head and body.
pub const MAX_REQUEST: usize = 64 << 10;

/// The maximum number of headers of a plain request.
const MAX_HEADERS: usize = 64;

/// The result of parsing the beginning of the input.
pub enum Parsed {
    /// A plain GET, removed from the input, and the bytes of its head.
    Request(Box<Request>, Bytes),
    /// A plain publish, removed from the input, and the template of its head.
    Publish(Box<Request>, Option<PublishHead>),
    /// The beginning of a request that may be plain.
    Incomplete,
    /// Input that hyper must read.
    Other,
}

/// Takes a plain request from the beginning of the input.
pub fn parse(input: &mut BytesMut) -> Parsed {
    let mut lines = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut head = httparse::Request::new(&mut []);
    let size = match head.parse_with_uninit_headers(input, &mut lines) {
        Ok(httparse::Status::Complete(size)) if size <= MAX_HEAD => size,
        Ok(httparse::Status::Partial) if input.len() < MAX_HEAD => return Parsed::Incomplete,
        Err(httparse::Error::Version) if lower_minor(input) => return parse(input),
        // hyper reports the error in the head.
        _ => return Parsed::Other,
    };
    let (Some(method), Some(target), Some(1)) = (head.method, head.path, head.version) else { return Parsed::Other };
    let is_post = method == "POST";
    if !(is_post || method == "GET") || !is_plain(is_post, target) {
        return Parsed::Other;
    }
    // All parts of the head share one allocation of its size. The input buffer may be much larger.
    let shared = Bytes::copy_from_slice(&input[..size]);
    let begin = input.as_ptr() as usize;
    let part = |part: &[u8]| {
        let at = part.as_ptr() as usize - begin;
        shared.slice(at..at + part.len())
    };
    let Ok(uri) = Uri::from_maybe_shared(part(target.as_bytes())) else { return Parsed::Other };
    let mut headers = HeaderMap::with_capacity(head.headers.len());
    let (mut body, mut template) = (None, None);
    for line in head.headers.iter() {
        let Ok(name) = HeaderName::from_bytes(line.name.as_bytes()) else { return Parsed::Other };
        if name == CONTENT_LENGTH {
            let Some(length) = parse_length(line.value).filter(|_| body.is_none() && is_post) else {
                return Parsed::Other;
            };
            body = Some(length);
            let at = line.value.as_ptr() as usize - begin;
            template = PublishHead::of(&shared, at..at + line.value.len());
        } else if [TRANSFER_ENCODING, UPGRADE, EXPECT, TE].contains(&name)
            || (name == CONNECTION && !line.value.eq_ignore_ascii_case(b"keep-alive"))
        {
            return Parsed::Other;
        }
        let Ok(value) = HeaderValue::from_maybe_shared(part(line.value)) else { return Parsed::Other };
        headers.append(name, value);
    }
    let body = match body {
        None if is_post => return Parsed::Other,
        body => body.unwrap_or_default(),
    };
    let whole = size.saturating_add(body);
    if whole > MAX_REQUEST {
        return Parsed::Other;
    }
    if input.len() < whole {
        return Parsed::Incomplete;
    }
    let body = Bytes::copy_from_slice(&input[size..whole]);
    input.advance(whole);
    let mut request = Box::new(Request::new(RequestBody::Whole(body)));
    *request.method_mut() = if is_post { Method::POST } else { Method::GET };
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = headers;
    if is_post { Parsed::Publish(request, template) } else { Parsed::Request(request, shared) }
}

/// Whether the fast path may answer this target. Paths are compared byte for byte: an encoded path does not match.
fn is_plain(is_post: bool, target: &str) -> bool {
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    if is_post {
        return path == publish::PATH;
    }
    let lifecycle = transport::by_path(path).map(|transport| transport.lifecycle(&Params::default()));
    matches!(lifecycle, Some(Lifecycle::Poll | Lifecycle::LongPoll | Lifecycle::Stream { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Returns the requests in `bytes`, whether the remaining bytes are the beginning of a request, and the remaining
    /// bytes.
    fn parsed(bytes: &[u8]) -> (Vec<(Method, String, usize)>, bool, BytesMut) {
        let mut input = BytesMut::from(bytes);
        let mut requests = Vec::new();
        loop {
            match parse(&mut input) {
                Parsed::Request(request, _) | Parsed::Publish(request, _) => {
                    let RequestBody::Whole(body) = request.body() else { panic!("its body is there") };
                    requests.push((request.method().clone(), request.uri().to_string(), body.len()));
                }
                Parsed::Incomplete => return (requests, true, input),
                Parsed::Other => return (requests, false, input),
            }
        }
    }

    #[test]
    fn a_request_is_taken_when_it_is_complete() {
        let get = "GET /long-poll?channel=a HTTP/1.1\r\nHost: a\r\n\r\n";
        let post = "POST /publish?channel=a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
        let other = "GET /info HTTP/1.1\r\nHost: a\r\n\r\n";
        let all = [get, post, other].concat();
        for cut in 0..=all.len() {
            let (requests, is_part, rest) = parsed(&all.as_bytes()[..cut]);
            let whole = usize::from(cut >= get.len()) + usize::from(cut >= get.len() + post.len());
            assert_eq!(requests.len(), whole, "{cut}");
            assert_eq!(is_part, cut < all.len(), "{cut}");
            let taken: usize = [get, post][..whole].iter().map(|request| request.len()).sum();
            assert_eq!(rest, all.as_bytes()[taken..cut], "{cut}");
        }
        let (requests, ..) = parsed(all.as_bytes());
        assert_eq!(requests[0], (Method::GET, "/long-poll?channel=a".to_owned(), 0));
        assert_eq!(requests[1], (Method::POST, "/publish?channel=a".to_owned(), 3));
    }

    proptest! {
        #[test]
        fn input_that_is_not_taken_stays_as_it_was(
            start in "(GET|POST|PUT) /(poll|sse|publish|info)[?a-z=%]{0,8} HTTP/1.[01]\r\n",
            lines in prop::collection::vec("(Content-Length|Connection|Transfer-Encoding|Expect|X)[ :]{1,2}[0-9a-z, +-]{0,8}(\r\n|\n|\r)", 0..4),
            rest: Vec<u8>,
        ) {
            let bytes = [start.as_bytes(), lines.concat().as_bytes(), b"\r\n", &rest].concat();
            let (_, _, left) = parsed(&bytes);
            prop_assert!(bytes.ends_with(&left));
        }

        #[test]
        fn any_input_can_be_parsed(bytes: Vec<u8>) {
            parsed(&bytes);
        }
    }
}
