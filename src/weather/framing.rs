//! Where messages of HTTP/1.x begin and end (RFC 9112 §6), as far as a path has to know it.

use super::Conditions;

/// Bytes of a head. A longer one is not let through.
const MAX_HEAD: usize = 32 << 10;

/// Header lines of a head; the server takes no more.
const MAX_HEADERS: usize = 100;

/// What the rest of a message is.
#[derive(Debug, PartialEq, Eq)]
enum Body {
    Sized(u64),
    /// A chunk's size line, so far: its number, and whether it is over.
    ChunkSize(u64, bool),
    /// What is left of a chunk, with the line end behind it.
    Chunk(u64),
    /// Lines behind the last chunk: the length of the present one.
    Trailer(usize),
    /// All that comes until the connection ends.
    UntilClose,
}

impl Body {
    /// Takes bytes from the front; `None` for what is over. A size line that is none makes it endless: the
    /// path passes on what it does not understand.
    fn take(mut self, bytes: &mut &[u8]) -> Option<Body> {
        loop {
            match &mut self {
                Body::Sized(0) => return None,
                Body::Chunk(0) => self = Body::ChunkSize(0, false),
                _ if bytes.is_empty() => return Some(self),
                Body::UntilClose => *bytes = &[],
                Body::Sized(left) | Body::Chunk(left) => {
                    let n = (*left).min(bytes.len() as u64);
                    *left -= n;
                    *bytes = &bytes[n as usize..];
                }
                Body::ChunkSize(size, is_over) => {
                    let byte = bytes[0];
                    *bytes = &bytes[1..];
                    match (byte, char::from(byte).to_digit(16)) {
                        (b'\n', _) if *size == 0 => self = Body::Trailer(0),
                        (b'\n', _) => self = Body::Chunk(*size + 2),
                        (_, Some(digit)) if !*is_over && *size < 1 << 40 => *size = *size * 16 + u64::from(digit),
                        (b';' | b'\r' | b' ', _) => *is_over = true,
                        _ if *is_over => {}
                        _ => self = Body::UntilClose,
                    }
                }
                Body::Trailer(length) => {
                    let byte = bytes[0];
                    *bytes = &bytes[1..];
                    match byte {
                        b'\n' if *length == 0 => return None,
                        b'\n' => *length = 0,
                        b'\r' => {}
                        _ => *length += 1,
                    }
                }
            }
        }
    }

    /// From a head's headers. A message with neither length nor chunks has the body that `other` says.
    fn of(headers: &[httparse::Header<'_>], other: Option<Body>) -> Option<Body> {
        let value = |name: &str| {
            let found = headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
            found.and_then(|header| std::str::from_utf8(header.value).ok())
        };
        if value("transfer-encoding").is_some_and(|coding| coding.to_ascii_lowercase().contains("chunked")) {
            return Some(Body::ChunkSize(0, false));
        }
        match value("content-length") {
            Some(length) => Some(length.trim().parse().map_or(Body::UntilClose, Body::Sized)),
            None => other,
        }
    }
}

/// A head that is no HTTP, or too long.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotHttp;

/// What a path has made of what a browser sent.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Passed {
    /// What goes on.
    pub bytes: Vec<u8>,
    /// The head that came, where one was completed.
    pub head: Option<Vec<u8>>,
    /// Whether it is a HEAD, whose answer has no body.
    pub is_head: bool,
}

/// Follows requests, and makes of their heads what the weather makes of them.
#[derive(Default)]
pub(super) struct Requests {
    head: Vec<u8>,
    body: Option<Body>,
}

impl Requests {
    /// Takes what has arrived.
    ///
    /// # Errors
    ///
    /// What no HTTP proxy would let through.
    pub fn feed(&mut self, mut bytes: &[u8], conditions: &Conditions) -> Result<Passed, NotHttp> {
        let mut passed = Passed::default();
        loop {
            if let Some(body) = self.body.take() {
                let all = bytes;
                self.body = body.take(&mut bytes);
                passed.bytes.extend_from_slice(&all[..all.len() - bytes.len()]);
            }
            if bytes.is_empty() {
                return Ok(passed);
            }
            let Some(head) = complete_head(&mut self.head, &mut bytes)? else { return Ok(passed) };
            let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
            let mut request = httparse::Request::new(&mut headers);
            // With line ends of one byte it would be over sooner, and what is behind it would be lost.
            if request.parse(&head) != Ok(httparse::Status::Complete(head.len())) {
                return Err(NotHttp);
            }
            self.body = Body::of(request.headers, None);
            passed.is_head = request.method == Some("HEAD");
            rewrite(&request, conditions, &mut passed.bytes);
            passed.head = Some(head);
        }
    }
}

/// Gathers a head; `None` while there is more to come.
fn complete_head(head: &mut Vec<u8>, bytes: &mut &[u8]) -> Result<Option<Vec<u8>>, NotHttp> {
    // The end may lie across two reads.
    let from = head.len().saturating_sub(3);
    head.extend_from_slice(bytes);
    let Some(end) = head[from..].windows(4).position(|four| four == b"\r\n\r\n").map(|at| from + at + 4) else {
        *bytes = &[];
        return if head.len() > MAX_HEAD { Err(NotHttp) } else { Ok(None) };
    };
    let rest = head.len() - end;
    *bytes = &bytes[bytes.len() - rest..];
    head.truncate(end);
    if head.len() > MAX_HEAD { Err(NotHttp) } else { Ok(Some(std::mem::take(head))) }
}

fn rewrite(request: &httparse::Request<'_, '_>, conditions: &Conditions, out: &mut Vec<u8>) {
    let version = if conditions.http10 { 0 } else { request.version.unwrap_or(1) };
    let (method, path) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
    out.extend_from_slice(format!("{method} {path} HTTP/1.{version}\r\n").as_bytes());
    let strips = conditions.http10 || conditions.strip_upgrade;
    for header in request.headers.iter() {
        let concerns_the_hop =
            ["connection", "upgrade", "keep-alive"].iter().any(|name| header.name.eq_ignore_ascii_case(name));
        if strips && concerns_the_hop {
            continue;
        }
        out.extend_from_slice(header.name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(header.value);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// A head as it may be shown: cookies of whatever else runs on this machine go to all its ports, and what is
/// shown may be on a projector.
pub(super) fn without_secrets(head: &[u8]) -> Vec<u8> {
    let mut shown = Vec::with_capacity(head.len());
    for line in head.split_inclusive(|byte| *byte == b'\n') {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        let is_secret = ["cookie", "authorization", "proxy-authorization"]
            .iter()
            .any(|secret| name.eq_ignore_ascii_case(secret.as_bytes()));
        if is_secret {
            shown.extend_from_slice(name);
            shown.extend_from_slice(b": (not shown)\r\n");
        } else {
            shown.extend_from_slice(line);
        }
    }
    shown
}

/// Where an answer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stand {
    /// There is more to come.
    Open,
    /// It is over.
    Complete,
    /// It was a 101: what follows is no HTTP.
    Switched,
}

/// Follows answers.
#[derive(Default)]
pub(super) struct Answers {
    head: Vec<u8>,
    body: Option<Body>,
    /// Nothing that follows is looked at.
    is_beyond: bool,
}

impl Answers {
    /// Takes what has arrived; `is_head`: the answer is to a HEAD. What is no HTTP is open to its end.
    pub fn feed(&mut self, mut bytes: &[u8], is_head: bool) -> Stand {
        if self.is_beyond {
            return Stand::Open;
        }
        loop {
            if let Some(body) = self.body.take() {
                self.body = body.take(&mut bytes);
                if self.body.is_some() {
                    return Stand::Open;
                }
                if bytes.is_empty() {
                    return Stand::Complete;
                }
            }
            if bytes.is_empty() {
                return Stand::Open;
            }
            let head = match complete_head(&mut self.head, &mut bytes) {
                Ok(Some(head)) => head,
                Ok(None) => return Stand::Open,
                Err(NotHttp) => return self.beyond(Stand::Open),
            };
            let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
            let mut response = httparse::Response::new(&mut headers);
            if response.parse(&head) != Ok(httparse::Status::Complete(head.len())) {
                return self.beyond(Stand::Open);
            }
            self.body = match response.code {
                Some(101) => return self.beyond(Stand::Switched),
                // Another answer follows.
                Some(100..=199) => continue,
                Some(204 | 304) => Some(Body::Sized(0)),
                _ if is_head => Some(Body::Sized(0)),
                _ => Body::of(response.headers, Some(Body::UntilClose)),
            };
        }
    }

    fn beyond(&mut self, stand: Stand) -> Stand {
        self.is_beyond = true;
        stand
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n1a\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nA: b\r\n\r\n";
    const SIZED: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";

    fn stands(parts: &[&[u8]], is_head: bool) -> Vec<Stand> {
        let mut answers = Answers::default();
        parts.iter().map(|part| answers.feed(part, is_head)).collect()
    }

    #[test]
    fn answers_end_where_their_framing_says() {
        use Stand::{Complete, Open, Switched};
        assert_eq!(stands(&[SIZED, SIZED], false), [Complete, Complete]);
        assert_eq!(stands(&[CHUNKED, SIZED], false), [Complete, Complete]);
        assert_eq!(stands(&[b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"], false), [Complete]);
        assert_eq!(stands(&[b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"], true), [Complete]);
        assert_eq!(stands(&[b"HTTP/1.0 200 OK\r\n\r\n", b"any", b"thing"], false), [Open; 3]);
        assert_eq!(stands(&[b"HTTP/1.1 100 Continue\r\n\r\n", SIZED], false), [Open, Complete]);
        assert_eq!(stands(&[b"HTTP/1.1 101 Switching\r\n\r\n", SIZED], false), [Switched, Open]);
        assert_eq!(stands(&[b"\x01\x02\r\n\r\n", SIZED], false), [Open, Open]);
        assert_eq!(stands(&[b"HTTP/1.1 204 No\n\nHTTP/1.1 204 No\r\n\r\n", SIZED], false), [Open, Open]);
    }

    proptest! {
        /// However the bytes are cut into reads, the end is found at the last of them and no sooner.
        #[test]
        fn cuts_do_not_matter(cuts in proptest::collection::vec(0..CHUNKED.len(), 0..8)) {
            let mut cuts = cuts;
            cuts.extend([0, CHUNKED.len()]);
            cuts.sort_unstable();
            let mut answers = Answers::default();
            for pair in cuts.windows(2).filter(|pair| pair[0] < pair[1]) {
                let stand = answers.feed(&CHUNKED[pair[0]..pair[1]], false);
                prop_assert_eq!(stand == Stand::Complete, pair[1] == CHUNKED.len());
            }
        }

        /// Nothing that comes makes it panic.
        #[test]
        fn anything_may_come(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0..200usize) {
            let at = at.min(bytes.len());
            let mut answers = Answers::default();
            for start in [&b""[..], b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"] {
                answers.feed(start, false);
                answers.feed(&bytes[..at], false);
                answers.feed(&bytes[at..], true);
            }
            let _ = Requests::default().feed(&bytes, &Conditions::default());
        }

        #[test]
        fn requests_pass_unchanged_in_clear_weather(at in 0..70usize) {
            let all = b"POST /publish?channel=a HTTP/1.1\r\nHost: b\r\nContent-Length: 2\r\n\r\nokGET / HTTP/1.1\r\n\r\n";
            let mut requests = Requests::default();
            let mut out = requests.feed(&all[..at], &Conditions::default()).expect("HTTP").bytes;
            out.extend(requests.feed(&all[at..], &Conditions::default()).expect("HTTP").bytes);
            prop_assert_eq!(out, all.to_vec());
        }
    }

    #[test]
    fn heads_are_rewritten() {
        let upgrade = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        let made = |conditions| Requests::default().feed(upgrade, &conditions).map(|passed| passed.bytes);
        let stripped = made(Conditions { strip_upgrade: true, ..Conditions::default() });
        assert_eq!(stripped, Ok(b"GET /ws HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()));
        let old = made(Conditions { http10: true, ..Conditions::default() });
        assert_eq!(old, Ok(b"GET /ws HTTP/1.0\r\nHost: a\r\n\r\n".to_vec()));
    }

    #[test]
    fn nothing_behind_a_head_is_lost() {
        let two = b"GET / HTTP/1.1\nHost: a\n\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(Requests::default().feed(two, &Conditions::default()), Err(NotHttp));
    }

    #[test]
    fn secrets_are_not_shown() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\nCOOKIE: session=1\r\nauthorization: Bearer x\r\nX-Cookie: y\r\n\r\n";
        let shown =
            "GET / HTTP/1.1\r\nHost: a\r\nCOOKIE: (not shown)\r\nauthorization: (not shown)\r\nX-Cookie: y\r\n\r\n";
        assert_eq!(String::from_utf8_lossy(&without_secrets(head)), shown);
    }

    #[test]
    fn a_head_has_a_bound() {
        let mut requests = Requests::default();
        let mut refused = false;
        for _ in 0..40 {
            refused |= requests.feed(&[b'a'; 1024], &Conditions::default()).is_err();
        }
        assert!(refused);
    }
}
