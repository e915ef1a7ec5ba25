//! Finds where HTTP/1.x messages begin and end (RFC 9112 §6), as far as a proxy must.

use super::faults::Faults;

/// Limit on the size of a head. The proxy drops a connection with a longer head.
const MAX_HEAD: usize = 32 << 10;

/// Limit on the number of header lines. The server does not accept more.
const MAX_HEADERS: usize = 100;

/// The part of a message that has not arrived yet.
#[derive(Debug, PartialEq, Eq)]
enum Body {
    Sized(u64),
    /// The size line of a chunk: the number so far, and whether the number is complete.
    ChunkSize(u64, bool),
    /// The rest of a chunk, with the line end after it.
    Chunk(u64),
    /// The trailer section: the length of the current line.
    Trailer(usize),
    /// All bytes until the connection ends.
    UntilClose,
}

impl Body {
    /// Takes bytes from the front; `None` if the message is complete. After an invalid size line, the body continues
    /// until the connection ends: the proxy forwards bytes that it does not understand.
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

    /// Returns the body that the headers announce; `other` for a message with neither a length nor chunks.
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

/// The head is not HTTP, or too long.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotHttp;

/// The result of parsing bytes of a browser: the bytes to forward, and the head.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Passed {
    /// The bytes to forward.
    pub bytes: Vec<u8>,
    /// The head as it arrived, if a head is complete now.
    pub head: Option<Vec<u8>>,
    /// Whether the request is a HEAD. The response to a HEAD does not have a body.
    pub is_head: bool,
}

/// Parses requests, and rewrites their heads according to the faults.
#[derive(Default)]
pub(super) struct Requests {
    head: Vec<u8>,
    body: Option<Body>,
}

impl Requests {
    /// Takes the bytes that have arrived.
    ///
    /// # Errors
    ///
    /// The bytes are not HTTP.
    pub fn feed(&mut self, mut bytes: &[u8], faults: &Faults) -> Result<Passed, NotHttp> {
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
            // If some lines end with a bare line feed, the parser may find an earlier end of the head, and the bytes
            // after that end would be lost.
            if request.parse(&head) != Ok(httparse::Status::Complete(head.len())) {
                return Err(NotHttp);
            }
            self.body = Body::of(request.headers, None);
            passed.is_head = request.method == Some("HEAD");
            rewrite(&request, faults, &mut passed.bytes);
            passed.head = Some(head);
        }
    }
}

/// Collects a head; `None` while it is incomplete.
fn complete_head(head: &mut Vec<u8>, bytes: &mut &[u8]) -> Result<Option<Vec<u8>>, NotHttp> {
    // The four bytes that end a head may arrive in two reads.
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

fn rewrite(request: &httparse::Request<'_, '_>, faults: &Faults, out: &mut Vec<u8>) {
    let version = if faults.http10 { 0 } else { request.version.unwrap_or(1) };
    let (method, path) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
    out.extend_from_slice(format!("{method} {path} HTTP/1.{version}\r\n").as_bytes());
    let strips = faults.http10 || faults.strip_upgrade;
    for header in request.headers.iter() {
        let is_hop_by_hop =
            ["connection", "upgrade", "keep-alive"].iter().any(|name| header.name.eq_ignore_ascii_case(name));
        if strips && is_hop_by_hop {
            continue;
        }
        out.extend_from_slice(header.name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(header.value);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// Returns the head without secrets, for display. A browser sends the cookies of one program on this machine to all
/// ports of the machine, and the display may be a projector.
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

/// The progress of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// More bytes will come.
    Open,
    /// The response is complete.
    Complete,
    /// The response was a 101: the bytes after it are not HTTP.
    Switched,
}

/// Parses responses.
#[derive(Default)]
pub(super) struct Responses {
    head: Vec<u8>,
    body: Option<Body>,
    /// Whether the remaining bytes are forwarded without parsing.
    is_opaque: bool,
}

impl Responses {
    /// Takes the bytes that have arrived. `is_head`: whether the response answers a HEAD. Bytes that are not HTTP never
    /// count as complete.
    pub fn feed(&mut self, mut bytes: &[u8], is_head: bool) -> Progress {
        if self.is_opaque {
            return Progress::Open;
        }
        loop {
            if let Some(body) = self.body.take() {
                self.body = body.take(&mut bytes);
                if self.body.is_some() {
                    return Progress::Open;
                }
                if bytes.is_empty() {
                    return Progress::Complete;
                }
            }
            if bytes.is_empty() {
                return Progress::Open;
            }
            let head = match complete_head(&mut self.head, &mut bytes) {
                Ok(Some(head)) => head,
                Ok(None) => return Progress::Open,
                Err(NotHttp) => return self.stop_parsing(Progress::Open),
            };
            let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
            let mut response = httparse::Response::new(&mut headers);
            if response.parse(&head) != Ok(httparse::Status::Complete(head.len())) {
                return self.stop_parsing(Progress::Open);
            }
            self.body = match response.code {
                Some(101) => return self.stop_parsing(Progress::Switched),
                // This is an interim response, and another response follows.
                Some(100..=199) => continue,
                Some(204 | 304) => Some(Body::Sized(0)),
                _ if is_head => Some(Body::Sized(0)),
                _ => Body::of(response.headers, Some(Body::UntilClose)),
            };
        }
    }

    fn stop_parsing(&mut self, progress: Progress) -> Progress {
        self.is_opaque = true;
        progress
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n1a\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nA: b\r\n\r\n";
    const SIZED: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";

    fn progress(parts: &[&[u8]], is_head: bool) -> Vec<Progress> {
        let mut responses = Responses::default();
        parts.iter().map(|part| responses.feed(part, is_head)).collect()
    }

    #[test]
    fn responses_end_where_their_framing_says() {
        use Progress::{Complete, Open, Switched};
        assert_eq!(progress(&[SIZED, SIZED], false), [Complete, Complete]);
        assert_eq!(progress(&[CHUNKED, SIZED], false), [Complete, Complete]);
        assert_eq!(progress(&[b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"], false), [Complete]);
        assert_eq!(progress(&[b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"], true), [Complete]);
        assert_eq!(progress(&[b"HTTP/1.0 200 OK\r\n\r\n", b"any", b"thing"], false), [Open; 3]);
        assert_eq!(progress(&[b"HTTP/1.1 100 Continue\r\n\r\n", SIZED], false), [Open, Complete]);
        assert_eq!(progress(&[b"HTTP/1.1 101 Switching\r\n\r\n", SIZED], false), [Switched, Open]);
        assert_eq!(progress(&[b"\x01\x02\r\n\r\n", SIZED], false), [Open, Open]);
        assert_eq!(progress(&[b"HTTP/1.1 204 No\n\nHTTP/1.1 204 No\r\n\r\n", SIZED], false), [Open, Open]);
    }

    proptest! {
        /// The parser finds the end at the last byte and not earlier, however the bytes are split into reads.
        #[test]
        fn cuts_do_not_matter(cuts in proptest::collection::vec(0..CHUNKED.len(), 0..8)) {
            let mut cuts = cuts;
            cuts.extend([0, CHUNKED.len()]);
            cuts.sort_unstable();
            let mut responses = Responses::default();
            for pair in cuts.windows(2).filter(|pair| pair[0] < pair[1]) {
                let progress = responses.feed(&CHUNKED[pair[0]..pair[1]], false);
                prop_assert_eq!(progress == Progress::Complete, pair[1] == CHUNKED.len());
            }
        }

        /// Arbitrary input does not cause a panic.
        #[test]
        fn anything_may_come(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0..200usize) {
            let at = at.min(bytes.len());
            let mut responses = Responses::default();
            for start in [&b""[..], b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"] {
                responses.feed(start, false);
                responses.feed(&bytes[..at], false);
                responses.feed(&bytes[at..], true);
            }
            let _ = Requests::default().feed(&bytes, &Faults::default());
        }

        #[test]
        fn requests_pass_unchanged_without_faults(at in 0..70usize) {
            let all = b"POST /publish?channel=a HTTP/1.1\r\nHost: b\r\nContent-Length: 2\r\n\r\nokGET / HTTP/1.1\r\n\r\n";
            let mut requests = Requests::default();
            let mut out = requests.feed(&all[..at], &Faults::default()).expect("HTTP").bytes;
            out.extend(requests.feed(&all[at..], &Faults::default()).expect("HTTP").bytes);
            prop_assert_eq!(out, all.to_vec());
        }
    }

    #[test]
    fn heads_are_rewritten() {
        let upgrade = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        let made = |faults| Requests::default().feed(upgrade, &faults).map(|passed| passed.bytes);
        let stripped = made(Faults { strip_upgrade: true, ..Faults::default() });
        assert_eq!(stripped, Ok(b"GET /ws HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()));
        let old = made(Faults { http10: true, ..Faults::default() });
        assert_eq!(old, Ok(b"GET /ws HTTP/1.0\r\nHost: a\r\n\r\n".to_vec()));
    }

    #[test]
    fn nothing_behind_a_head_is_lost() {
        let two = b"GET / HTTP/1.1\nHost: a\n\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(Requests::default().feed(two, &Faults::default()), Err(NotHttp));
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
            refused |= requests.feed(&[b'a'; 1024], &Faults::default()).is_err();
        }
        assert!(refused);
    }
}
