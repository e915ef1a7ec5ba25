//! HTTP/1.1 and 1.0 by hand: requests are bytes, and bodies are read as they arrive. Through the door of HTTP/2, the
//! same requests are sent as HTTP/2.

use super::door::{self, Door, Stream};
use super::{SOON, came, within};
use bytes::Bytes;
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A request that is written unchanged.
pub struct Request {
    method: String,
    target: String,
    version: &'static str,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
    host: Option<String>,
}

impl Request {
    pub fn new(method: &str, target: &str) -> Request {
        Request {
            method: method.to_owned(),
            target: target.to_owned(),
            version: "HTTP/1.1",
            headers: Vec::new(),
            body: None,
            host: None,
        }
    }

    pub fn get(target: &str) -> Request {
        Request::new("GET", target)
    }

    pub fn post(target: &str, body: &[u8]) -> Request {
        let mut request = Request::new("POST", target);
        request.body = Some(body.to_vec());
        request
    }

    /// A POST of form fields, already encoded.
    pub fn form(target: &str, fields: &str) -> Request {
        Request::post(target, fields.as_bytes()).header("Content-Type", "application/x-www-form-urlencoded")
    }

    pub fn header(mut self, name: &str, value: &str) -> Request {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn host(mut self, host: &str) -> Request {
        self.host = Some(host.to_owned());
        self
    }

    pub fn http10(mut self) -> Request {
        self.version = "HTTP/1.0";
        self
    }

    fn bytes(&self, address: SocketAddr) -> Vec<u8> {
        let mut head = format!("{} {} {}\r\n", self.method, self.target, self.version);
        let host = self.host.clone().unwrap_or_else(|| address.to_string());
        head.push_str(&format!("Host: {host}\r\n"));
        if let Some(body) = &self.body {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend(self.body.iter().flatten());
        bytes
    }

    /// Sends the request on a connection of its own and reads the whole answer.
    pub async fn send(self, address: SocketAddr) -> Response {
        let what = format!("the whole answer to {} {}", self.method, self.target);
        within(SOON, &what, async {
            let asked = format!("{} {}", self.method, self.target);
            let mut response = self.open(address).await;
            response.finish().await;
            response.note(&asked);
            response
        })
        .await
    }

    /// Sends the request and reads the answer's head; the body is read as it arrives.
    pub async fn open(self, address: SocketAddr) -> Response {
        let what = format!("the head of the answer to {} {}", self.method, self.target);
        let answer = within(SOON, &what, self.connect(address)).await;
        answer.unwrap_or_else(|| panic!("no answer to {} {}", self.method, self.target))
    }

    /// Does the same as `open` with a server that may be gone. A body that breaks off just ends.
    pub async fn try_open(self, address: SocketAddr) -> Option<Response> {
        let answer = tokio::time::timeout(SOON, self.connect(address)).await.ok()??;
        Some(Response { tolerant: true, ..answer })
    }

    /// Returns the whole answer of a server that may be gone.
    pub async fn try_send(self, address: SocketAddr) -> Option<Response> {
        let asked = format!("{} {}", self.method, self.target);
        let answer = self.try_open(address).await;
        if answer.is_none() {
            came(|| format!("{asked}: no answer"));
        }
        let mut answer = answer?;
        tokio::time::timeout(SOON, answer.finish()).await.ok()?;
        answer.note(&asked);
        (!answer.broken).then_some(answer)
    }

    async fn connect(&self, address: SocketAddr) -> Option<Response> {
        if door::door() == Door::Http2 && self.version == "HTTP/1.1" {
            return self.exchange(address).await;
        }
        let mut stream = door::connect(address).await?;
        // A refusal may come before the server has read the body: only the answer counts.
        stream.write_all(&self.bytes(address)).await.ok();
        let mut response = Response::new(stream, self.method == "HEAD");
        response.read_head().await?;
        Some(response)
    }

    async fn exchange(&self, address: SocketAddr) -> Option<Response> {
        let host = self.host.clone().unwrap_or_else(|| address.to_string());
        let body = self.body.as_deref();
        let answer = door::exchange(address, &self.method, &self.target, &host, &self.headers, body).await?;
        let mut response = Response::new(answer.stream, self.method == "HEAD");
        (response.status, response.headers) = (answer.status, answer.headers);
        response.version = "HTTP/2".to_owned();
        response.find_framing();
        Some(response)
    }
}

enum Framing {
    Sized(usize),
    Chunked,
    Close,
}

/// An answer: the head, and as much of the body as was read.
pub struct Response {
    pub status: u16,
    pub version: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    stream: Stream,
    buffer: Vec<u8>,
    framing: Framing,
    head_only: bool,
    ended: bool,
    /// Whether a body may break off without a failure of the test.
    tolerant: bool,
    /// Whether the body broke off.
    pub broken: bool,
}

impl Response {
    /// An answer to be read from a connection on which the request was written by hand.
    pub fn new(stream: impl Into<Stream>, head_only: bool) -> Response {
        Response {
            status: 0,
            version: String::new(),
            headers: Vec::new(),
            body: Vec::new(),
            stream: stream.into(),
            buffer: Vec::new(),
            framing: Framing::Close,
            head_only,
            ended: false,
            tolerant: false,
            broken: false,
        }
    }

    /// Reads the head; `None` if the connection ended before one came.
    pub async fn read_head(&mut self) -> Option<()> {
        let end = loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                break at;
            }
            if !self.fill().await {
                return None;
            }
        };
        let head = String::from_utf8(self.buffer.drain(..end + 4).collect()).expect("ASCII head");
        let mut lines = head.trim_end().split("\r\n");
        let status_line = lines.next().expect("a status line");
        let mut words = status_line.splitn(3, ' ');
        self.version = words.next().expect("a version").to_owned();
        let status = words.next().expect("a status");
        self.status = status.parse().unwrap_or_else(|_| panic!("status line {status_line:?}"));
        self.headers = lines
            .map(|line| {
                let (name, value) = line.split_once(':').expect("a header line");
                (name.to_ascii_lowercase(), value.trim().to_owned())
            })
            .collect();
        self.find_framing();
        Some(())
    }

    fn find_framing(&mut self) {
        let length = self.header("content-length").map(str::parse);
        self.framing = if self.head_only || matches!(self.status, 101 | 204 | 304) {
            Framing::Sized(0)
        } else if self.header("transfer-encoding") == Some("chunked") {
            assert!(length.is_none(), "both a length and chunks: {:?}", self.headers);
            Framing::Chunked
        } else {
            length.map_or(Framing::Close, |n| Framing::Sized(n.expect("a number")))
        };
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Reads the next part of the body; `None` at its end.
    pub async fn read_some(&mut self) -> Option<Bytes> {
        loop {
            if self.ended {
                return None;
            }
            if let Some(part) = self.take_part() {
                if part.is_empty() {
                    self.ended = true;
                    return None;
                }
                self.body.extend_from_slice(&part);
                return Some(part);
            }
            if !self.fill().await {
                self.ended = true;
                self.broken = true;
                assert!(
                    matches!(self.framing, Framing::Close) || self.tolerant,
                    "the connection ended within a body: {:?}",
                    String::from_utf8_lossy(&self.body)
                );
                return None;
            }
        }
    }

    /// A part of the body that has arrived; empty at the end.
    fn take_part(&mut self) -> Option<Bytes> {
        let buffer = &mut self.buffer;
        match &mut self.framing {
            Framing::Sized(0) => Some(Bytes::new()),
            Framing::Sized(left) if !buffer.is_empty() => {
                let part: Vec<u8> = buffer.drain(..buffer.len().min(*left)).collect();
                *left -= part.len();
                Some(part.into())
            }
            Framing::Close if !buffer.is_empty() => Some(std::mem::take(buffer).into()),
            Framing::Chunked => {
                let line = find(buffer, b"\r\n")?;
                let size = std::str::from_utf8(&buffer[..line]).expect("a chunk size");
                let size = size.split(';').next().expect("a size").trim();
                let size = usize::from_str_radix(size, 16).expect("a chunk size in hex");
                let end = line + 2 + size + 2;
                if buffer.len() < end {
                    return None;
                }
                assert_eq!(&buffer[end - 2..end], b"\r\n", "a chunk ends with CRLF");
                let chunk: Vec<u8> = buffer.drain(..end).collect();
                Some(Bytes::copy_from_slice(&chunk[line + 2..end - 2]))
            }
            _ => None,
        }
    }

    async fn fill(&mut self) -> bool {
        self.buffer.reserve(16 * 1024);
        matches!(self.stream.read_buf(&mut self.buffer).await, Ok(n) if n > 0)
    }

    /// Records the answer, for the message of a wait that fails.
    fn note(&self, asked: &str) {
        let broken = if self.broken { ", broken off" } else { "" };
        came(|| format!("{asked}: {}{broken} {}", self.status, String::from_utf8_lossy(&self.body)));
    }

    /// Reads the body to its end.
    pub async fn finish(&mut self) {
        while self.read_some().await.is_some() {}
    }

    /// Reads until the connection breaks off within the body.
    pub async fn cut_off(&mut self) {
        self.tolerant = true;
        within(SOON, "a body that breaks off", self.finish()).await;
        assert!(self.broken, "a body that breaks off, not one that ends in order: {} {}", self.status, self.text());
    }

    /// The stream and the bytes that were read after the head (of a 101).
    pub fn into_stream(self) -> (Stream, Vec<u8>) {
        (self.stream, self.buffer)
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("a body of UTF-8")
    }

    pub fn json(&self) -> Value {
        let text = self.text();
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{} {text:?}: {e}", self.status))
    }

    /// The code of an error body, whose shape is checked.
    pub fn error_code(&self) -> String {
        let body = self.json();
        let message = body["error"]["message"].as_str().unwrap_or_default();
        assert!(!message.is_empty(), "{} and no error that says why: {body}", self.status);
        body["error"]["code"].as_str().expect("an error has a code").to_owned()
    }
}

/// Sends raw bytes and reads one answer; `None` if the connection just ends.
pub async fn raw(address: SocketAddr, bytes: &[u8]) -> Option<Response> {
    let what = format!("the answer to {:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(100)]));
    within(SOON, &what, async {
        let mut stream = door::connect(address).await.expect("connect");
        // The server may answer before it has read all bytes, and then read no more.
        tokio::time::timeout(Duration::from_secs(2), stream.write_all(bytes)).await.ok();
        let mut response = Response::new(stream, false);
        response.read_head().await?;
        response.finish().await;
        Some(response)
    })
    .await
}

pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
