//! A publisher's request head as a template: everything except the query and `Content-Length` must match byte for byte.
//!
//! A publisher mostly sends the same head again, to another channel and with another body. The server keeps the values
//! that it derived from the head. It checks rates, memory and permissions for each publish.

use crate::serve::access::credentials::Credentials;
use crate::serve::access::origin::OriginPolicy;
use crate::serve::http::head::write_head;
use crate::serve::http::head_template::{ByteSet, HeadTemplate, Hole};
use crate::serve::http::peer::Peer;
use crate::serve::http::request::Request;
use crate::serve::publishing::parse;
use crate::serve::routes::post;
use crate::serve::routes::response::{self, Body, Response};
use crate::serve::state::ServerState;
use crate::transport::ApiError;
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{CONNECTION, HeaderValue, ORIGIN};
use std::ops::Range;

/// The bytes that every publisher's head begins with.
const START: &[u8] = b"POST /publish";

/// The bytes that a query without encoded characters may contain, and the question mark.
static QUERY: ByteSet = ByteSet::letters_and(b"?-._~:/@=&,", true);

static DIGITS: ByteSet = ByteSet::digits();

/// The parts of a publisher's head around its query and its content length.
pub struct PublishHead(HeadTemplate<2>);

/// A publish that matches a template.
#[derive(Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// The query, without the question mark. It has no encoded characters.
    pub query: &'a str,
    /// The length of the head.
    pub head: usize,
    /// The length of the body.
    pub body: usize,
}

impl PublishHead {
    /// Makes a template of the whole head of a publish. `length` is the place of the value of the head's only
    /// `Content-Length`.
    pub fn of(head: &Bytes, length: Range<usize>) -> Option<PublishHead> {
        let query_end = START.len() + head.strip_prefix(START)?.iter().position(|byte| *byte == b' ')?;
        let query = Hole { at: START.len()..query_end, accepts: &QUERY };
        HeadTemplate::new(head, [query, Hole { at: length, accepts: &DIGITS }]).map(PublishHead)
    }

    /// Matches the beginning of the input. A query with encoded characters does not match: a parser must read it.
    pub fn find<'a>(&self, input: &'a [u8]) -> Option<Found<'a>> {
        let ([query, digits], head) = self.0.find(input)?;
        let query = match query {
            b"" => query,
            query => query.strip_prefix(b"?").filter(|query| !query.contains(&b'?'))?,
        };
        Some(Found { query: std::str::from_utf8(query).ok()?, head, body: parse_length(digits)? })
    }
}

/// Parses a `Content-Length` that every proxy reads in the same way: a few digits only.
pub fn parse_length(value: &[u8]) -> Option<usize> {
    let digits = std::str::from_utf8(value).ok().filter(|text| text.len() <= 8)?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// The values derived from a head whose publish is not answered yet.
pub struct PendingTemplate {
    head: PublishHead,
    kind: String,
    credentials: Credentials,
    origin: Option<HeaderValue>,
    is_by_star: bool,
}

impl PendingTemplate {
    /// Derives the values from a request that the router is about to handle. Returns `None` for the form of an old
    /// browser, whose response differs. Call it only for requests that are [decided by their
    /// head](super::is_decided_by_head).
    pub fn of(state: &ServerState, peer: &Peer, request: &Request, head: PublishHead) -> Option<PendingTemplate> {
        let headers = request.headers();
        let kind = post::content_type(headers);
        let is_by_star = state.origins.is_by_star(headers, peer.forwarded_host());
        let origin = headers.get(ORIGIN).cloned();
        let credentials = post::credentials(state, peer, headers, "publish");
        (kind != parse::FORM).then_some(PendingTemplate { head, kind, credentials, origin, is_by_star })
    }

    /// Returns the template if the publish was successful. The head of a refused request never becomes a template.
    pub fn answered(self, response: &Response) -> Option<PublishTemplate> {
        let is_successful = response.status() == StatusCode::OK
            && matches!(response.body(), Body::Whole(Some(_)))
            && !response.headers().contains_key(CONNECTION);
        is_successful.then(|| {
            let mut response_head = Vec::with_capacity(384);
            write_head(response.status(), response.headers(), &mut response_head);
            PublishTemplate { request: self, response_head }
        })
    }
}

/// A publisher's head, and the values that the server derived from it.
pub struct PublishTemplate {
    request: PendingTemplate,
    response_head: Vec<u8>,
}

impl PublishTemplate {
    /// Matches the beginning of the input: see [`PublishHead::find`].
    pub fn find<'a>(&self, input: &'a [u8]) -> Option<Found<'a>> {
        self.request.head.find(input)
    }

    /// The content type, as [`post::content_type`] returns it.
    pub fn kind(&self) -> &str {
        &self.request.kind
    }

    /// The publisher's credentials, without a token of the query.
    pub fn credentials(&self) -> &Credentials {
        &self.request.credentials
    }

    /// The status line and headers of a successful response, without those that depend on its body.
    pub fn response_head(&self) -> &[u8] {
        &self.response_head
    }

    /// The response to a publish that was refused, as the router would make it.
    pub fn refused(&self, state: &ServerState, refusal: &ApiError) -> Response {
        let mut response = response::refused(refusal);
        state.rejections.count(refusal.code);
        OriginPolicy::write_cors(self.request.origin.clone(), self.request.is_by_star, response.headers_mut());
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::http::head_template::MAX_TEMPLATE;
    use proptest::prelude::*;

    fn head(query: &str, length: &str) -> Bytes {
        format!("POST /publish{query} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\nX: 1\r\n\r\n").into()
    }

    fn template(head: &Bytes) -> PublishHead {
        let text = std::str::from_utf8(head).expect("text");
        let begin = text.find("Length: ").expect("a length") + 8;
        let end = begin + text[begin..].find('\r').expect("a line");
        PublishHead::of(head, begin..end).expect("a template")
    }

    #[test]
    fn the_same_head_has_another_query_and_length() {
        let template = template(&head("?channel=a", "3"));
        for (query, length, body) in
            [("?channel=b:c/d&event=x", "12", 12), ("", "0", 0), ("?", "007", 7), ("?channel=a", "3", 3)]
        {
            let other = head(query, length);
            let more = [&other[..], b"abc"].concat();
            let query = query.trim_start_matches('?');
            assert_eq!(template.find(&more), Some(Found { query, head: other.len(), body }), "{query}");
            for part in 0..other.len() {
                assert_eq!(template.find(&other[..part]), None);
            }
        }
    }

    #[test]
    fn another_head_does_not_match() {
        let template = template(&head("?channel=a", "3"));
        for query in ["?channel=%61", "?channel=a+b", "?a?b", "?a#b", "x", "/x?channel=a", "?channel=a b", "?\u{e9}"] {
            assert_eq!(template.find(&head(query, "3")), None, "{query}");
        }
        for length in ["", "+3", "-3", "3 ", " 3", "3, 3", "0x3", "123456789", "3\r\nContent-Length: 3"] {
            assert_eq!(template.find(&head("?channel=a", length)), None, "{length}");
        }
        let text = String::from_utf8(head("?channel=a", "3").to_vec()).expect("text");
        for (from, to) in [
            ("POST", "PUT"),
            ("POST", "post"),
            ("POST", "\r\nPOST"),
            ("1.1", "1.0"),
            ("Host", "host"),
            ("Host: a", "Host: b"),
            ("X: 1\r\n", ""),
            ("X: 1", "X: 1\r\nTransfer-Encoding: chunked"),
            ("\r\nX", "\nX"),
        ] {
            assert_eq!(template.find(text.replacen(from, to, 1).as_bytes()), None, "{to}");
        }
    }

    #[test]
    fn a_long_head_makes_no_template() {
        let head = head(&format!("?x={}", "x".repeat(MAX_TEMPLATE)), "3");
        assert!(PublishHead::of(&head, 0..0).is_none());
    }

    proptest! {
        #[test]
        fn a_match_is_what_a_parser_finds(
            query in "(\\?[a-c=&%+ #?.0-9]{0,20})?",
            length in "[0-9 +,x]{0,9}",
            rest in "[\r\nA-Za-z:]{0,20}",
        ) {
            let template = template(&head("?channel=a", "3"));
            let input = [&head(&query, &length)[..], rest.as_bytes()].concat();
            if let Some(found) = template.find(&input) {
                let mut lines = [httparse::EMPTY_HEADER; 8];
                let mut parsed = httparse::Request::new(&mut lines);
                prop_assert_eq!(parsed.parse(&input), Ok(httparse::Status::Complete(found.head)));
                let target = parsed.path.expect("a target");
                prop_assert_eq!(target.split_once('?').map_or("", |(_, query)| query), found.query);
                prop_assert_eq!(parsed.headers.len(), 3);
                prop_assert_eq!(super::parse_length(parsed.headers[1].value), Some(found.body));
            }
        }

        #[test]
        fn any_input_can_be_matched(input: Vec<u8>) {
            template(&head("?channel=a", "3")).find(&input);
        }
    }
}
