//! The manner in which a publisher asks: his head, with holes where its query and its `Content-Length` stand.
//!
//! Who publishes again asks by the head that he asked by before, mostly, to another channel and with another body. What
//! the server has made of that head once it need not make of it again. The rest is asked each time, by those who ask it
//! of every publication: rates, memory, the application. See [`plain`](super::fast).

use crate::serve::App;
use crate::serve::access::credentials::Asker;
use crate::serve::access::origin::Access;
use crate::serve::http::peer::Client;
use crate::serve::http::request::Request;
use crate::serve::publishing::parse;
use crate::serve::routes::publish;
use crate::serve::routes::response::{self, Body, Reply};
use crate::transport::ApiError;
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{CONNECTION, HeaderValue, ORIGIN};
use std::ops::Range;

/// The longest head that is remembered.
const MOST: usize = 1 << 10;

/// The path, which is the same for all, and what stands before it.
const START: &[u8] = b"POST /publish";

/// A publish's head around its query and its length.
#[derive(Debug, PartialEq, Eq)]
pub struct Outline {
    head: Bytes,
    /// Where the digits of its length stand.
    length: Range<usize>,
    /// Where its query ends, which begins behind [`START`].
    query_end: usize,
}

/// A publish that was found.
#[derive(Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// Its query, without the question mark. Nothing in it is encoded.
    pub query: &'a str,
    /// How long its head is.
    pub head: usize,
    /// How long its body is to be.
    pub body: usize,
}

impl Outline {
    /// Of a whole head that was read as a plain publish. `length`: where in it the one length stands.
    pub fn of(head: &Bytes, length: Range<usize>) -> Option<Outline> {
        let rest = head.strip_prefix(START).filter(|_| head.len() <= MOST)?;
        let query_end = START.len() + rest.iter().position(|byte| *byte == b' ')?;
        Some(Outline { head: head.clone(), length, query_end })
    }

    /// The request that begins here, if its head is the same but for query and length. A query of which anything is
    /// encoded, or to be refused, is for who reads every head.
    pub fn find<'a>(&self, input: &'a [u8]) -> Option<Found<'a>> {
        let rest = input.strip_prefix(START)?;
        let (query, rest) = match rest.strip_prefix(b"?") {
            Some(rest) => rest.split_at(rest.iter().position(|byte| !is_of_query(*byte))?),
            None => (&b""[..], rest),
        };
        let rest = rest.strip_prefix(&self.head[self.query_end..self.length.start])?;
        let (digits, rest) = rest.split_at(rest.iter().position(|byte| !byte.is_ascii_digit())?);
        let rest = rest.strip_prefix(&self.head[self.length.end..])?;
        let query = std::str::from_utf8(query).ok()?;
        Some(Found { query, head: input.len() - rest.len(), body: length(digits)? })
    }
}

/// A `Content-Length` that nobody on the way could read otherwise: digits, and few.
pub fn length(value: &[u8]) -> Option<usize> {
    let digits = std::str::from_utf8(value).ok().filter(|text| text.len() <= 8)?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// What stands for itself in a query, and splits it into fields.
fn is_of_query(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:/@=&,".contains(&byte)
}

/// What a head has decided, all but what its answer tells.
pub struct Asking {
    outline: Outline,
    kind: String,
    asker: Asker,
    origin: Option<HeaderValue>,
    is_by_star: bool,
}

impl Asking {
    /// Of a request that is about to be answered. `None` where more than the head decides what becomes of it: each
    /// request is written down, or a proxy speaks for others. An old browser's form is answered in a manner of its own.
    pub fn of(app: &App, client: &Client, request: &Request, outline: Outline) -> Option<Asking> {
        if app.access_log.is_some() || app.proxies.trusts(client.ip) {
            return None;
        }
        let headers = request.headers();
        let kind = publish::kind(headers);
        let is_by_star = app.access.is_by_star(headers, client.forwarded_host());
        let origin = headers.get(ORIGIN).cloned();
        let asker = publish::asker(app, client, headers);
        (kind != parse::FORM).then_some(Asking { outline, kind, asker, origin, is_by_star })
    }

    /// The manner, if this is how a publish is answered that goes well. Whatever is amiss with a head is told in another
    /// answer: no head that is refused becomes a manner.
    pub fn answered(self, reply: &Reply) -> Option<Manner> {
        let is_well = reply.status() == StatusCode::OK
            && matches!(reply.body(), Body::Whole(Some(_)))
            && !reply.headers().contains_key(CONNECTION);
        is_well.then(|| {
            let mut answer = Vec::with_capacity(384);
            response::write_head(reply, &mut answer);
            Manner { asking: self, answer }
        })
    }
}

/// What a publisher's head has decided.
pub struct Manner {
    asking: Asking,
    /// What goes before each answer, but for what depends on its body.
    answer: Vec<u8>,
}

impl Manner {
    /// See [`Outline::find`].
    pub fn find<'a>(&self, input: &'a [u8]) -> Option<Found<'a>> {
        self.asking.outline.find(input)
    }

    /// The content type, as [`publish::kind`] has it.
    pub fn kind(&self) -> &str {
        &self.asking.kind
    }

    /// Who publishes, but for a token in the query.
    pub fn asker(&self) -> &Asker {
        &self.asking.asker
    }

    /// The status line and the headers of an answer, without those that depend on its body.
    pub fn answer(&self) -> &[u8] {
        &self.answer
    }

    /// The answer to one that was refused, as the router gives it.
    pub fn refused(&self, app: &App, refusal: &ApiError) -> Reply {
        let mut reply = response::refused(refusal);
        app.refused.count(refusal.code);
        Access::share(self.asking.origin.clone(), self.asking.is_by_star, reply.headers_mut());
        reply
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn head(query: &str, length: &str) -> Bytes {
        format!("POST /publish{query} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\nX: 1\r\n\r\n").into()
    }

    fn outline(head: &Bytes) -> Outline {
        let text = std::str::from_utf8(head).expect("text");
        let begin = text.find("Length: ").expect("a length") + 8;
        let end = begin + text[begin..].find('\r').expect("a line");
        Outline::of(head, begin..end).expect("an outline")
    }

    #[test]
    fn the_same_head_has_another_query_and_length() {
        let outline = outline(&head("?channel=a", "3"));
        for (query, length, body) in
            [("?channel=b:c/d&event=x", "12", 12), ("", "0", 0), ("?", "007", 7), ("?channel=a", "3", 3)]
        {
            let other = head(query, length);
            let more = [&other[..], b"abc"].concat();
            let query = query.trim_start_matches('?');
            assert_eq!(outline.find(&more), Some(Found { query, head: other.len(), body }), "{query}");
            for part in 0..other.len() {
                assert_eq!(outline.find(&other[..part]), None);
            }
        }
    }

    #[test]
    fn anything_else_is_not_found() {
        let outline = outline(&head("?channel=a", "3"));
        for query in ["?channel=%61", "?channel=a+b", "?a?b", "?a#b", "x", "/x?channel=a", "?channel=a b", "?\u{e9}"] {
            assert_eq!(outline.find(&head(query, "3")), None, "{query}");
        }
        for length in ["", "+3", "-3", "3 ", " 3", "3, 3", "0x3", "123456789", "3\r\nContent-Length: 3"] {
            assert_eq!(outline.find(&head("?channel=a", length)), None, "{length}");
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
            assert_eq!(outline.find(text.replacen(from, to, 1).as_bytes()), None, "{to}");
        }
    }

    #[test]
    fn a_long_head_is_not_remembered() {
        let head = head(&format!("?x={}", "x".repeat(MOST)), "3");
        assert_eq!(Outline::of(&head, 0..0), None);
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_a_parser_finds(
            query in "(\\?[a-c=&%+ #?.0-9]{0,20})?",
            length in "[0-9 +,x]{0,9}",
            rest in "[\r\nA-Za-z:]{0,20}",
        ) {
            let outline = outline(&head("?channel=a", "3"));
            let input = [&head(&query, &length)[..], rest.as_bytes()].concat();
            if let Some(found) = outline.find(&input) {
                let mut lines = [httparse::EMPTY_HEADER; 8];
                let mut parsed = httparse::Request::new(&mut lines);
                prop_assert_eq!(parsed.parse(&input), Ok(httparse::Status::Complete(found.head)));
                let target = parsed.path.expect("a target");
                prop_assert_eq!(target.split_once('?').map_or("", |(_, query)| query), found.query);
                prop_assert_eq!(parsed.headers.len(), 3);
                prop_assert_eq!(super::length(parsed.headers[1].value), Some(found.body));
            }
        }

        #[test]
        fn anything_is_looked_at(input: Vec<u8>) {
            outline(&head("?channel=a", "3")).find(&input);
        }
    }
}
