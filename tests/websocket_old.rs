//! Old handshakes of WebSocket: hixie-76 (`--websocket-hixie`) and version 8, byte by byte.

use crate::support;

use serde_json::Value;
use support::door::Stream;
use support::websocket::{ACCEPT, KEY};
use support::{Node, RawWebSocket, Request, SOON, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The example of the draft (section 1.2).
const KEY1: &str = "4 @1  46546xW%0l 1 5";
const KEY2: &str = "12998 5 Y3 1  .P00";
const KEY3: &[u8] = b"^n:ds[4U";
const PROOF: &[u8] = b"8jKS'y:G*Co,Wxa-";

fn handshake(target: &str, origin: &str) -> Request {
    Request::get(target)
        .header("Upgrade", "WebSocket")
        .header("Connection", "Upgrade")
        .header("Origin", origin)
        .header("Sec-WebSocket-Key1", KEY1)
        .header("Sec-WebSocket-Key2", KEY2)
}

/// A client of 2010.
struct Hixie {
    stream: Stream,
    buffer: Vec<u8>,
}

impl Hixie {
    /// Opens a WebSocket. Like haproxy, it sends the last key only after the head of the answer.
    async fn open(node: &Node, target: &str) -> Hixie {
        let origin = format!("http://{}", node.http);
        let answer = handshake(target, &origin).open(node.http).await;
        assert_eq!(answer.status, 101);
        for (name, expected) in [
            ("Upgrade", "WebSocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Origin", &*origin),
            ("Sec-WebSocket-Location", &format!("ws://{}{target}", node.http)),
        ] {
            assert_eq!(answer.header(name), Some(expected), "{name}");
        }
        let (stream, buffer) = answer.into_stream();
        assert_eq!(buffer, b"", "nothing comes before the last key");
        let mut socket = Hixie { stream, buffer };
        socket.send(KEY3).await;
        assert_eq!(socket.take(16).await, PROOF);
        socket
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("write");
    }

    async fn text(&mut self, text: &str) {
        self.send(&[&[0], text.as_bytes(), &[0xff]].concat()).await;
    }

    async fn take(&mut self, count: usize) -> Vec<u8> {
        within(SOON, "bytes", async {
            while self.buffer.len() < count {
                self.buffer.reserve(4096);
                assert!(self.stream.read_buf(&mut self.buffer).await.expect("read") > 0, "{:?}", self.buffer);
            }
            self.buffer.drain(..count).collect()
        })
        .await
    }

    /// The next text, or `None` at the closing handshake.
    async fn next(&mut self) -> Option<String> {
        match self.take(1).await[0] {
            0 => {
                let mut text = Vec::new();
                loop {
                    match self.take(1).await[0] {
                        0xff => return Some(String::from_utf8(text).expect("UTF-8")),
                        byte => text.push(byte),
                    }
                }
            }
            first => {
                assert_eq!([first, self.take(1).await[0]], [0xff, 0]);
                None
            }
        }
    }

    /// The next object that is of this type.
    async fn next_of(&mut self, kind: &str) -> Value {
        loop {
            let text = self.next().await.expect("an object, not the end");
            let object: Value = serde_json::from_str(&text).expect("JSON");
            if object["type"] == kind {
                return object;
            }
        }
    }

    async fn ended(&mut self) {
        let mut rest = Vec::new();
        within(SOON, "the end", self.stream.read_to_end(&mut rest)).await.ok();
        assert_eq!([std::mem::take(&mut self.buffer), rest].concat(), b"");
    }
}

#[tokio::test]
async fn a_client_of_2010_reads_and_writes() {
    let node = Node::start(&["--websocket-hixie", "--raw-websocket=/chat=chat on-message=publish"]).await;
    let mut native = Hixie::open(&node, "/ws?channel=chat").await;
    assert_eq!(native.next_of("hello").await["transport"], "ws");
    let mut page = Hixie::open(&node, "/chat").await;
    let mut new = RawWebSocket::open(&node, "/chat").await;
    for said in ["Käse", "{\"a\":[1, 2]}", ""] {
        page.text(said).await;
        assert_eq!(page.next().await.as_deref(), Some(said));
        assert_eq!(new.frame().await.expect("a frame").payload, said.as_bytes());
        let data: Value = serde_json::from_str(said).unwrap_or_else(|_| said.into());
        let message: Value = serde_json::from_str(&native.next().await.expect("a message")).expect("JSON");
        assert_eq!((&message["channel"], &message["data"]), (&"chat".into(), &data));
    }
    native.text(r#"{"type":"publish","channel":"chat","data":"from ws","ref":1}"#).await;
    assert_eq!(native.next_of("ack").await["ref"], 1);
    assert_eq!(page.next().await.as_deref(), Some("from ws"));
    // The closing handshake, a frame that the draft does not have, and a text that is too long.
    page.send(b"\xff\x00").await;
    assert_eq!(page.next().await, None);
    page.ended().await;
    for bytes in [&b"\x80\x01a"[..], b"\x01a\xff"] {
        let mut page = Hixie::open(&node, "/chat").await;
        page.send(bytes).await;
        assert_eq!(page.next().await, None);
        page.ended().await;
    }
    let mut long = Hixie::open(&node, "/ws?channel=a").await;
    long.next_of("hello").await;
    long.send(&[0]).await;
    long.send(&[b'x'; 200_000]).await;
    assert_eq!(long.next_of("error").await["code"], "too_large");
    assert_eq!(long.next().await, None);
    let mut drained = Hixie::open(&node, "/chat").await;
    node.signal("TERM");
    assert_eq!(drained.next().await, None);
}

#[tokio::test]
async fn an_old_handshake_is_refused_where_it_must_be() {
    let flags = ["--websocket-hixie", "--request-timeout=1", "--raw-websocket=/chat=chat"];
    let (on, off) = (Node::start(&flags).await, Node::start(&["--raw-websocket=/chat=chat"]).await);
    let here = format!("http://{}", off.http);
    for target in ["/chat", "/ws?channel=a"] {
        let refused = handshake(target, &here).open(off.http).await;
        assert_eq!(refused.status, 400, "the flag is off");
        assert_eq!(handshake(target, "https://evil.example").open(on.http).await.status, 403);
        let request = Request::get(target).header("Upgrade", "WebSocket").header("Connection", "Upgrade");
        let bad = request.header("Origin", "http://localhost").header("Sec-WebSocket-Key1", "12");
        let bad = bad.header("Sec-WebSocket-Key2", KEY2).open(on.http).await;
        assert_eq!(bad.status, 400, "a key without spaces");
    }
    // A client that never sends its last key is not kept.
    let (mut stream, buffer) = handshake("/chat", "http://localhost").open(on.http).await.into_stream();
    stream.write_all(b"seven b").await.expect("write");
    let mut rest = Vec::new();
    within(SOON, "the end", stream.read_to_end(&mut rest)).await.ok();
    assert_eq!([buffer, rest].concat(), b"");
    assert_eq!(on.metric("longtail_refused_total{reason=\"request_timeout\"}").await, 1.0);
}

/// Version 8 has the frames of version 13, and names the page in another header.
#[tokio::test]
async fn version_8_is_checked_like_version_13() {
    let node = Node::start(&["--raw-websocket=/chat=chat on-message=publish"]).await;
    let open = |origin: &str| {
        Request::get("/chat")
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "8")
            .header("Sec-WebSocket-Key", KEY)
            .header("Sec-WebSocket-Origin", origin)
    };
    assert_eq!(open("https://evil.example").open(node.http).await.status, 403);
    let answer = open(&format!("http://{}", node.http)).open(node.http).await;
    assert_eq!((answer.status, answer.header("Sec-WebSocket-Accept")), (101, Some(ACCEPT)));
    let mut socket = RawWebSocket::open_by(node.http, open("http://localhost")).await;
    socket.text("hello").await;
    assert_eq!(socket.frame().await.expect("a frame").payload, b"hello");
}
