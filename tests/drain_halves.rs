//! Input that is incomplete when the drain begins: in every protocol, the client has two seconds for the rest. After
//! that the input does not delay the drain.

use crate::support;

use std::net::SocketAddr;
use std::time::{Duration, Instant};
use support::door::{self, Stream};
use support::frames::{END_HEADERS, HEADERS, SETTINGS, block, frame};
use support::{Certificate, Node, Response, SOON, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Two seconds, and the time that a busy machine adds. Without a bound of its own, incomplete input would last for
/// `--drain-seconds` or `--request-timeout`, which are 60 s here.
const MOST: Duration = Duration::from_millis(4500);

const PATIENT: [&str; 6] = ["--drain-seconds", "60", "--request-timeout", "60", "--write-timeout", "60"];

/// The listener that a client connects to.
#[derive(Clone, Copy, Debug)]
enum To {
    Http,
    Tcp,
    /// The HTTP listener, after a TLS handshake.
    HttpsInside,
    TcpsInside,
}

use To::{Http, HttpsInside, Tcp, TcpsInside};

type Case = (&'static str, To, Vec<u8>);

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn http2(frames: &[Vec<u8>]) -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, b""), &frames.concat()].concat()
}

fn fields(method: &str, path: &str) -> Vec<u8> {
    block(&[(":method", method), (":scheme", "http"), (":authority", "localhost"), (":path", path)])
}

fn plain() -> Vec<Case> {
    let text = |name, to, text: &str| (name, to, text.as_bytes().to_vec());
    let post = "POST /publish?channel=a HTTP/1.1\r\nHost: localhost\r\n";
    let ws = "GET /ws?channel=a HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let get = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n";
    let half_header_block = frame(HEADERS, 0, 1, &fields("GET", "/info"));
    let head_of_a_post = frame(HEADERS, END_HEADERS, 1, &fields("POST", "/publish?channel=a"));
    vec![
        text("nothing", Http, ""),
        text("half a request line", Http, "GET /in"),
        text("half a head of a plain request", Http, "GET /poll?channel=a HTTP/1.1\r\nHost: loc"),
        text("half a head of another request", Http, "PUT /x HTTP/1.1\r\nHost: loc"),
        text("half a head, in HTTP/1.0", Http, "GET /info HTTP/1.0\r\nAccept: "),
        text("an answer, and nothing", Http, &format!("{get}\r\n")),
        text("an answer, and half a head", Http, &format!("{get}\r\n{get}")),
        text("half a body", Http, &format!("{post}Content-Length: 9\r\n\r\n\"h")),
        text("no body yet", Http, &format!("{post}Content-Length: 9\r\n\r\n")),
        text("half a chunk", Http, &format!("{post}Transfer-Encoding: chunked\r\n\r\n9\r\n\"h")),
        text("no last chunk", Http, &format!("{post}Transfer-Encoding: chunked\r\n\r\n3\r\n\"h\"\r\n")),
        text(
            "half a form that subscribes",
            Http,
            "POST /sse HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nchan",
        ),
        text("half a handshake of WebSocket", Http, ws),
        text("half a frame of WebSocket", Http, &format!("{ws}\r\n\u{1}")),
        text("half a preface of HTTP/2", Http, "PRI * HTTP/2.0\r\n"),
        ("a preface of HTTP/2, and nothing", Http, PREFACE.to_vec()),
        ("HTTP/2, and no request", Http, http2(&[])),
        ("half a frame of HTTP/2", Http, http2(&[half_header_block[..12].to_vec()])),
        ("half a block of headers", Http, http2(&[half_header_block])),
        ("half a body in HTTP/2", Http, http2(&[head_of_a_post, frame(0, 0, 1, b"\"h")])),
        text("nothing on raw TCP", Tcp, ""),
        text("half a command", Tcp, r#"{"type":"subscr"#),
        text("a command, and half of one", Tcp, "{\"type\":\"subscribe\",\"channels\":[\"a\"]}\n{\"ty"),
    ]
}

fn tls() -> Vec<Case> {
    // A record that announces more bytes of its ClientHello than follow.
    let half_hello = [&[0x16, 3, 1, 1, 0, 1, 0, 0, 252, 3, 3][..], &[7; 40]].concat();
    vec![
        ("nothing", Http, Vec::new()),
        ("half a handshake of TLS", Http, half_hello.clone()),
        ("half a handshake of TLS on raw TCP", Tcp, half_hello),
        ("nothing in TLS", HttpsInside, Vec::new()),
        ("half a head in TLS", HttpsInside, b"GET /info HTTP/1.1\r\nHost: loc".to_vec()),
        ("half a block of headers in TLS", HttpsInside, http2(&[frame(HEADERS, 0, 1, &fields("GET", "/info"))])),
        ("half a command in TLS", TcpsInside, br#"{"type":"subscr"#.to_vec()),
    ]
}

fn behind_a_proxy() -> Vec<Case> {
    let line = "PROXY TCP4 192.0.2.1 192.0.2.2 1 80\r\n";
    let text = |name, to, text: &str| (name, to, text.as_bytes().to_vec());
    vec![
        text("nothing of the PROXY protocol", Http, ""),
        text("half a line of the PROXY protocol", Http, "PROXY TCP4 192.0."),
        text("half a line of it on raw TCP", Tcp, "PROXY TCP4 192.0."),
        ("half a binary header of it", Http, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0".to_vec()),
        text("that line, and nothing", Http, line),
        text("that line, and half a head", Http, &format!("{line}GET /info HTTP/1.1\r\nHost: loc")),
        text("that line, and half a command", Tcp, &format!("{line}{{\"type\":\"subscr")),
    ]
}

async fn connect(node: &Node, to: To) -> Stream {
    let address: SocketAddr = if matches!(to, Http | HttpsInside) { node.http } else { node.tcp };
    match to {
        Http | Tcp => TcpStream::connect(address).await.expect("connect").into(),
        HttpsInside | TcpsInside => {
            door::secure(address, Certificate::common(), &[]).await.expect("a handshake of TLS")
        }
    }
}

/// Opens a connection to one node for each case and checks that they do not delay its end. The clients never close.
async fn end_in_time(flags: &[&str], cases: Vec<Case>) {
    // The drain begins within the second that a plain request has, and after it.
    for said_before in [Duration::from_millis(300), Duration::from_millis(1500)] {
        let mut node = Node::start_unready(&[&PATIENT, flags].concat()).await;
        let mut clients = Vec::new();
        for (name, to, bytes) in &cases {
            let mut stream = connect(&node, *to).await;
            stream.write_all(bytes).await.expect("write");
            clients.push((*name, stream));
        }
        tokio::time::sleep(said_before).await;
        let told = Instant::now();
        node.signal("TERM");
        let ends = clients.into_iter().map(|(name, mut stream)| async move {
            let read = tokio::time::timeout(SOON, async {
                while stream.read(&mut [0; 4096]).await.is_ok_and(|n| n > 0) {}
                told.elapsed()
            });
            (name, read.await.ok(), stream)
        });
        let ended = futures_util::future::join_all(ends).await;
        for (name, took, _) in &ended {
            println!("{name}: {took:?}");
        }
        let late: Vec<_> = ended.iter().filter(|(_, took, _)| took.is_none_or(|took| took > MOST)).collect();
        let late: Vec<_> = late.iter().map(|(name, took, _)| format!("{name} (after {took:?})")).collect();
        assert!(late.is_empty(), "not ended within {MOST:?}, said {said_before:?} before the signal: {late:?}");
        assert_eq!(node.exit_code().await, 0);
        let took = told.elapsed();
        assert!(took < MOST, "the drain took {took:?}, with clients that never close");
        assert!(!node.log().contains("drain timeout"), "nobody was cut: {}", node.log());
    }
}

#[tokio::test]
async fn what_is_half_said_is_ended() {
    end_in_time(&[], plain()).await;
}

#[tokio::test]
async fn what_is_half_said_in_tls_is_ended() {
    end_in_time(&Certificate::common().flags(), tls()).await;
}

#[tokio::test]
async fn what_is_half_said_of_the_proxy_protocol_is_ended() {
    end_in_time(&["--proxy-protocol", "--trusted-proxy", "127.0.0.1"], behind_a_proxy()).await;
}

/// The server reads the rest of incomplete input while there is time.
#[tokio::test]
async fn what_is_finished_in_time_is_answered() {
    let mut node = Node::start(&PATIENT).await;
    let mut clients = Vec::new();
    for (first, rest) in [
        ("GET /info HTTP/1.1\r\nHost: loc", "alhost\r\n\r\n"),
        ("POST /publish?channel=a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n\"h", "i!\""),
        ("POST /publish?channel=a HTTP/1.1\r\nHo", "st: localhost\r\nContent-Length: 5\r\n\r\n\"hi!\""),
    ] {
        let mut stream = TcpStream::connect(node.http).await.expect("connect");
        stream.write_all(first.as_bytes()).await.expect("write");
        clients.push((first, rest, stream));
    }
    // After the time in which the server reads them as plain requests.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    node.signal("TERM");
    within(SOON, "the drain to begin", async {
        while TcpStream::connect(node.http).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    for (first, rest, mut stream) in clients {
        stream.write_all(rest.as_bytes()).await.expect("write");
        let mut answer = Response::new(stream, false);
        within(SOON, "an answer", answer.read_head())
            .await
            .unwrap_or_else(|| panic!("{first}: an answer, not the end"));
        answer.finish().await;
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")), "{first}: {}", answer.text());
    }
    assert_eq!(node.exit_code().await, 0);
}

/// A body that makes progress may finish. A byte now and then does not count as progress.
#[tokio::test]
async fn a_body_is_waited_for_while_it_makes_progress() {
    let mut node = Node::start(&PATIENT).await;
    let total = 40_000;
    // The number of bytes, sent five times a second, and the outcome.
    let paces = [(2000, 200, "\"messages\""), (1, 503, "not_ready")];
    let told = Instant::now();
    let mut posts = Vec::new();
    for (piece, status, text) in paces {
        let mut stream = TcpStream::connect(node.http).await.expect("connect");
        let head = format!("POST /publish?channel=a HTTP/1.1\r\nHost: localhost\r\nContent-Length: {total}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("write");
        posts.push((piece, status, text, stream));
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    node.signal("TERM");
    let posts = posts.into_iter().map(|(piece, status, text, stream)| async move {
        let (mut read, mut write) = stream.into_split();
        let sending = tokio::spawn(async move {
            let mut sent = 0;
            while sent < total && write.write_all(&vec![b'1'; piece]).await.is_ok() {
                sent += piece;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
        let mut answer = Vec::new();
        within(SOON, "the answer", read.read_to_end(&mut answer)).await.ok();
        sending.abort();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{piece} bytes at a time: {answer}");
        assert!(answer.contains(text), "{piece} bytes at a time: {answer}");
        told.elapsed()
    });
    let took = futures_util::future::join_all(posts).await;
    assert!(took[0] > Duration::from_millis(3500), "the one takes longer than what stands still may: {took:?}");
    assert!(took[1] < MOST, "the other is not waited for: {took:?}");
    assert_eq!(node.exit_code().await, 0);
}
