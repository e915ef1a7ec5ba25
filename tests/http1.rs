//! HTTP/1 as raw bytes, to the fast path and to hyper: versions, framing, and the time for which a connection is kept.

use crate::support;

use std::net::SocketAddr;
use std::time::{Duration, Instant};
use support::http::raw;
use support::{Node, Response, SOON, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const HOST: &str = "Host: localhost\r\n";

/// A node with the fast path, and one without.
async fn nodes(args: &[&str]) -> [Node; 2] {
    [Node::start(args).await, Node::start(&[args, &["--plain-requests", "false"]].concat()).await]
}

/// Sends bytes and shuts the sending side. Returns all bytes that the server sends.
async fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connect");
    stream.write_all(bytes).await.expect("write");
    stream.shutdown().await.expect("shutdown");
    let mut answer = Vec::new();
    within(SOON, "the end", stream.read_to_end(&mut answer)).await.ok();
    String::from_utf8_lossy(&answer).into_owned()
}

/// The statuses of the answers.
fn statuses(answers: &str) -> Vec<&str> {
    let marks = answers.match_indices("HTTP/1.").map(|(at, mark)| &answers[at + mark.len()..]);
    marks.map(|rest| &rest["1 ".len().."1 200".len()]).collect()
}

/// A minor version that the server does not know counts as the highest one that it knows (RFC 9110 §2.5).
#[tokio::test]
async fn versions() {
    for node in nodes(&[]).await {
        for (version, status) in [
            ("HTTP/1.1", "200"),
            ("HTTP/1.2", "200"),
            ("HTTP/1.9", "200"),
            ("HTTP/1.0", "200"),
            ("HTTP/2.0", "400"),
            ("HTTP/0.9", "400"),
            ("HTTP/1.10", "400"),
            ("HTTP/1.x", "400"),
            ("http/1.2", "400"),
        ] {
            for (method, target, body) in [
                ("GET", "/poll?channel=a", ""),
                ("GET", "/healthz", ""),
                ("POST", "/publish?channel=a", "1"),
                ("OPTIONS", "/publish", ""),
            ] {
                let length = if body.is_empty() { "" } else { "Content-Length: 1\r\n" };
                let request = format!("{method} {target} {version}\r\n{HOST}{length}\r\n{body}");
                let status = if (method, status) == ("OPTIONS", "200") { "204" } else { status };
                let answer = exchange(node.http, request.as_bytes()).await;
                assert_eq!(statuses(&answer), [status], "{request}");
                // Several requests on a connection, which stays open as with 1.1.
                if version > "HTTP/1.1" && status.starts_with('2') && !version.starts_with("HTTP/2") {
                    let answer = exchange(node.http, request.repeat(3).as_bytes()).await;
                    assert_eq!(statuses(&answer), [status; 3], "{request}");
                }
            }
        }
        // Chunks, as in 1.1.
        let request = format!("GET /xhr-stream?channel=a&max_seconds=1 HTTP/1.2\r\n{HOST}\r\n");
        let answer = exchange(node.http, request.as_bytes()).await;
        assert!(answer.contains("transfer-encoding: chunked"), "{answer}");
    }
}

/// The server accepts only framing that can be read in one way: otherwise a proxy and the server could find different
/// requests in the same bytes.
#[tokio::test]
async fn chunked_bodies() {
    let next = format!("GET /poll?channel=next HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n");
    let cases: [(&str, &[&str]); 22] = [
        ("1\r\n1\r\n0\r\n\r\n", &["200", "200"]),
        ("1\r\n1\r\n0\r\nX: y\r\nZ: a\r\n\r\n", &["200", "200"]),
        ("1;a=b\r\n1\r\n00\r\n\r\n", &["200", "200"]),
        ("0\r\n\n", &["400"]),
        ("1\r\n1\r\n0\r\n\n", &["400"]),
        ("1\r\n1\r\n0\n\r\n", &["400"]),
        ("1\r\n1\r\n0\n\n", &["400"]),
        ("1\n1\r\n0\r\n\r\n", &["400"]),
        ("1\r\n1\n0\r\n\r\n", &["400"]),
        ("1\r\n1\r\n0\r\nX: y\n\n", &["400"]),
        ("1\r\n1\r\n0\r\nX: y\n\r\n", &["400"]),
        ("1\r\n1\r\n0\r\nX: y\r\n\n", &["400"]),
        ("1\r\n1\r\n0\r\n\nX: y\r\n\r\n", &["400"]),
        ("1\r\n1\r\n0\r\n X: y\r\n\r\n", &["400"]),
        ("1\r\n1\r\n0\r\nX: \0\r\n\r\n", &["400"]),
        ("1\r\n1\r\n0\r\nX\r\n\r\n", &["400"]),
        ("1\r\n1\r\n0\r\n\r\r\n", &["400"]),
        ("1;\n\r\n1\r\n0\r\n\r\n", &["400"]),
        ("-1\r\n1\r\n0\r\n\r\n", &["400"]),
        ("0x1\r\n1\r\n0\r\n\r\n", &["400"]),
        ("10000000000000001\r\n1\r\n0\r\n\r\n", &["400"]),
        ("1\r\n12\r\n0\r\n\r\n", &["400"]),
    ];
    for node in nodes(&[]).await {
        for (body, expected) in cases {
            let head = format!("POST /publish?channel=a HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n");
            let answer = exchange(node.http, format!("{head}{body}{next}").as_bytes()).await;
            assert_eq!(statuses(&answer), expected, "{body:?}: {answer}");
        }
        // The server also follows a body that no handler reads.
        for (body, least) in [("1\r\n1\r\n0\r\n\r\n", 1), ("0\r\n\n", 1), ("0\r\nX: y\n\n", 1)] {
            let head = format!("GET /poll?channel=a HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n");
            let answer = exchange(node.http, format!("{head}{body}{SMUGGLED}").as_bytes()).await;
            assert!(statuses(&answer).len() >= least, "{body:?}: {answer}");
            assert!(body.contains("\r\n\r\n") || !answer.contains("smuggled"), "{body:?}: {answer}");
        }
    }
}

const SMUGGLED: &str = "POST /publish?channel=smuggled HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n1";

/// The server decodes only `chunked`: the bytes inside another coding are not the body.
#[tokio::test]
async fn transfer_codings() {
    for node in nodes(&[]).await {
        for (codings, status) in [
            (&["chunked"][..], "200"),
            (&["Chunked"], "200"),
            (&["gzip, chunked"], "400"),
            (&["gzip", "chunked"], "400"),
            (&["deflate, chunked"], "400"),
            (&["identity, chunked"], "400"),
            (&["x-unknown,chunked"], "400"),
            (&["chunked, chunked"], "400"),
            (&["chunked", "chunked"], "400"),
            (&["chunked, gzip"], "400"),
            (&["gzip"], "400"),
            (&["chunked;q=1"], "400"),
            (&[""], "400"),
        ] {
            let lines: String = codings.iter().map(|coding| format!("Transfer-Encoding: {coding}\r\n")).collect();
            let body = "3\r\nabc\r\n0\r\n\r\n";
            let request = format!("POST /publish?channel=coded HTTP/1.1\r\n{HOST}{lines}\r\n{body}{SMUGGLED}");
            let answer = exchange(node.http, request.as_bytes()).await;
            let expected: &[&str] = if status == "200" { &["200", "200"] } else { &["400"] };
            assert_eq!(statuses(&answer), expected, "{codings:?}: {answer}");
        }
        let coded = node.get("/poll?channel=coded&cursor=earliest").await.json();
        assert_eq!(coded["messages"].as_array().map(Vec::len), Some(2), "{coded}");
        let refused = node.metric("longtail_refused_total{reason=\"bad_request\"}").await;
        assert!(refused >= 5.0, "{refused} refusals are counted");
    }
}

/// A client of HTTP/1.0 that asks for keep-alive gets it only if the length of the answer is known.
#[tokio::test]
async fn keep_alive_over_http_1_0() {
    for node in nodes(&[]).await {
        node.publish("a", "1").await;
        for (target, is_kept) in [
            ("/poll?channel=a&cursor=earliest", true),
            ("/long-poll?channel=a&cursor=earliest", true),
            ("/healthz", true),
            ("/xhr-stream?channel=a&max_seconds=1", false),
            ("/forever-frame?channel=a&callback=f&max_seconds=1", false),
            ("/multipart?channel=a&max_seconds=1", false),
            ("/sse?channel=a", false),
            ("/ndjson?channel=a", false),
            ("/diagnose/drip?count=1", false),
        ] {
            let request = format!("GET {target} HTTP/1.0\r\n{HOST}Connection: keep-alive\r\n\r\n");
            let mut stream = TcpStream::connect(node.http).await.expect("connect");
            stream.write_all(request.as_bytes()).await.expect("write");
            let mut answer = Response::new(stream, false);
            within(SOON, "a head", answer.read_head()).await.expect("an answer");
            let connection = answer.header("Connection").map(str::to_ascii_lowercase);
            let expected = if is_kept { "keep-alive" } else { "close" };
            assert_eq!((answer.status, connection.as_deref()), (200, Some(expected)), "{target}");
            assert_eq!(answer.header("Transfer-Encoding"), None, "{target}");
            assert_eq!(answer.header("Content-Length").is_some(), is_kept, "{target}");
            if is_kept {
                within(SOON, "the body", answer.finish()).await;
                let mut stream = answer.into_stream().0;
                stream.write_all(request.as_bytes()).await.expect("write");
                let mut answer = Response::new(stream, false);
                within(SOON, "another answer", answer.read_head()).await.expect("another answer");
                assert_eq!(answer.status, 200, "{target}");
            }
        }
    }
}

/// How long the server keeps a connection after an answer, and how long after a part of a head.
#[tokio::test]
async fn an_idle_connection_lives_longer_than_half_a_head() {
    for node in nodes(&["--request-timeout", "1", "--keep-alive-timeout", "6"]).await {
        for target in ["/poll?channel=a", "/healthz"] {
            let request = format!("GET {target} HTTP/1.1\r\n{HOST}\r\n");
            let mut kept = TcpStream::connect(node.http).await.expect("connect");
            for round in 0..2 {
                kept.write_all(request.as_bytes()).await.expect("write");
                let mut answer = Response::new(kept, false);
                within(SOON, "a head", answer.read_head()).await.expect("an answer");
                within(SOON, "the body", answer.finish()).await;
                kept = answer.into_stream().0.into_plain();
                // This pause is longer than the time limit for a head.
                if round == 0 {
                    tokio::time::sleep(Duration::from_millis(2500)).await;
                }
            }
            let begun = Instant::now();
            within(SOON, "the end", kept.read_to_end(&mut Vec::new())).await.ok();
            let idle = begun.elapsed().as_secs_f64();
            assert!((5.5..12.0).contains(&idle), "{target}: closed after {idle} s in place of 6 s");
            // A part of a head, as the first bytes of a connection and after an answer.
            for first in ["", &request] {
                let mut stream = TcpStream::connect(node.http).await.expect("connect");
                stream.write_all(format!("{first}GET {target} HTTP/1.1\r\nHo").as_bytes()).await.expect("write");
                let begun = Instant::now();
                within(SOON, "the end", stream.read_to_end(&mut Vec::new())).await.ok();
                let time = begun.elapsed().as_secs_f64();
                assert!((0.5..5.0).contains(&time), "{target}: half a head was waited for {time} s in place of 1 s");
            }
        }
        assert!(node.metric("longtail_refused_total{reason=\"request_timeout\"}").await >= 1.0);
    }
}

/// The default is longer than the 60 s after which load balancers close their side, so that they never send a request
/// on a connection that the server closes.
#[tokio::test]
async fn the_default_outlives_load_balancers() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_longtail")).arg("--help").output().expect("help");
    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    let help = &help[help.find("--keep-alive-timeout").expect("the flag")..];
    let default = &help[help.find("[default: ").expect("a default") + 10..];
    let seconds: u64 = default[..default.find(']').expect("an end")].parse().expect("a number");
    assert!(seconds > 60, "{seconds} s");
    // Without flags, a connection is still open after 32 s. This is longer than the time limit for a head.
    let node = Node::start(&[]).await;
    let mut stream = TcpStream::connect(node.http).await.expect("connect");
    let request = format!("GET /healthz HTTP/1.1\r\n{HOST}\r\n");
    stream.write_all(request.as_bytes()).await.expect("write");
    let mut answer = Response::new(stream, false);
    answer.read_head().await.expect("an answer");
    answer.finish().await;
    let mut stream = answer.into_stream().0;
    tokio::time::sleep(Duration::from_secs(32)).await;
    stream.write_all(request.as_bytes()).await.expect("write");
    let mut answer = Response::new(stream, false);
    within(SOON, "another answer", answer.read_head()).await.expect("another answer");
    assert_eq!(answer.status, 200);
}

/// Requests that are not plain, cut at every byte: the bytes between two requests are not lost.
#[tokio::test]
async fn pipelines_in_pieces() {
    let chunked =
        format!("POST /publish?channel=a HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
    let form = format!(
        "POST /poll HTTP/1.2\r\n{HOST}Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 9\r\n\r\nchannel=a"
    );
    let page = format!("\r\nGET /healthz HTTP/1.1\r\n{HOST}\r\n");
    let plain = format!("GET /poll?channel=a HTTP/1.1\r\n{HOST}\r\n");
    let all = [&chunked, &form, &page, &plain, &chunked, &form, &page].map(String::as_str).concat();
    for node in nodes(&[]).await {
        for piece in [1, 3, 17, 64, 150, all.len()] {
            let stream = TcpStream::connect(node.http).await.expect("connect");
            stream.set_nodelay(true).expect("nodelay");
            let (mut read, mut write) = stream.into_split();
            let bytes = all.clone().into_bytes();
            let sending = tokio::spawn(async move {
                for piece in bytes.chunks(piece) {
                    write.write_all(piece).await.expect("write");
                    tokio::task::yield_now().await;
                }
                write.shutdown().await.expect("shutdown");
            });
            let mut answers = Vec::new();
            within(SOON, "the end", read.read_to_end(&mut answers)).await.expect("read");
            sending.await.expect("sent");
            let answers = String::from_utf8_lossy(&answers).into_owned();
            assert_eq!(statuses(&answers), ["200"; 7], "in pieces of {piece}: {answers}");
        }
    }
}

/// A client that sends more than the limit can read the reason of the refusal.
#[tokio::test]
async fn a_refused_head_is_answered() {
    for node in nodes(&[]).await {
        for (head, status) in [
            (format!("GET /poll?channel=a HTTP/1.1\r\n{HOST}{}\r\n", "X: y\r\n".repeat(200)), 431),
            (format!("GET /healthz HTTP/1.1\r\n{HOST}X: {}\r\n\r\n", "x".repeat(300_000)), 431),
            (format!("GET /healthz HTTP/1.1\r\n{HOST}Content-Length: 1, 2\r\n\r\n"), 400),
            ("nonsense\r\n\r\n".to_owned(), 400),
        ] {
            let answer = raw(node.http, head.as_bytes()).await.expect("an answer");
            assert_eq!(answer.status, status, "{}", &head[..30]);
        }
    }
}
