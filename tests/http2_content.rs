//! Bodies and trailers over HTTP/2: the server accepts bytes within the announced windows, and closes a connection that
//! sends more.

use crate::support;

use std::cell::Cell;
use std::process::Command;
use std::time::Duration;
use support::frames::*;
use support::redis::fresh_dir;
use support::{Certificate, Node, Request, within};

const MINUTE: Duration = Duration::from_secs(60);

async fn let_go(node: &Node, reason: &str) -> f64 {
    node.metric(&format!("longtail_http2_let_go_total{{reason=\"{reason}\"}}")).await
}

/// The head of a publish with a body, or of another request that has one.
fn post(stream: u32, path: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let head = [(":method", "POST"), (":scheme", "http"), (":authority", "localhost"), (":path", path)];
    frame(HEADERS, END_HEADERS, stream, &block(&[&head[..], fields].concat()))
}

/// A body in frames of 16 KiB.
fn body(stream: u32, bytes: &[u8]) -> Vec<u8> {
    let count = bytes.chunks(16 << 10).count();
    let frames = bytes.chunks(16 << 10).enumerate();
    frames.flat_map(|(n, part)| frame(DATA, u8::from(n + 1 == count) * END_STREAM, stream, part)).collect()
}

/// The client sends as many uploads at once as fit into the connection's window, again and again. The server reads the
/// bodies, refuses them, or does not read them.
#[tokio::test]
async fn uploads_within_the_windows_are_no_flood() {
    const UPLOADS: u32 = 8;
    let node = Node::start(&[]).await;
    let payload = vec![b'x'; 60_000];
    let all = i64::from(UPLOADS) * payload.len() as i64;
    for path in ["/publish?channel=a", "/publish?channel=%ff", "/healthz", "/nothing", "/poll"] {
        let mut raw = Raw::open(&node, b"").await;
        // The window of the connection, as the server opens it.
        let room = Cell::new(65_535);
        let note = |frame: &Frame| {
            assert_ne!(frame.kind, GOAWAY, "{path}: {frame:?}");
            if frame.kind == WINDOW_UPDATE && frame.stream == 0 {
                let more = u32::from_be_bytes(frame.payload[..4].try_into().expect("4 bytes"));
                room.set(room.get() + i64::from(more));
            }
        };
        for round in 0..15 {
            if room.get() < all {
                raw.wait("room in the window", |frame| {
                    note(frame);
                    room.get() >= all
                })
                .await;
            }
            let streams: Vec<u32> = (0..UPLOADS).map(|n| 1 + 2 * (round * UPLOADS + n)).collect();
            let heads: Vec<u8> = streams.iter().flat_map(|stream| post(*stream, path, &[])).collect();
            let bodies: Vec<u8> = streams.iter().flat_map(|stream| body(*stream, &payload)).collect();
            assert!(raw.send(&[heads, bodies].concat()).await, "{path}: the server has hung up");
            room.set(room.get() - all);
            for _ in &streams {
                raw.wait("an answer", |frame| {
                    note(frame);
                    frame.kind == HEADERS
                })
                .await;
            }
        }
        assert_eq!(let_go(&node, "flood").await, 0.0, "{path}");
    }
}

/// All requests are sent at once with long cookies, as by a browser with many tabs after an outage.
#[tokio::test]
async fn heads_within_the_limit_are_no_flood() {
    let node = Node::start(&[]).await;
    let cookie = "c".repeat(30_000);
    let mut raw = Raw::open(&node, b"").await;
    let mut burst = Vec::new();
    for n in 0..100 {
        let fields = [
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "localhost"),
            (":path", "/healthz"),
            ("cookie", &cookie),
        ];
        let block = block(&fields);
        let mut parts = block.chunks(16_000).peekable();
        burst.extend(frame(HEADERS, END_STREAM, 1 + 2 * n, parts.next().expect("a part")));
        while let Some(part) = parts.next() {
            burst.extend(frame(CONTINUATION, if parts.peek().is_none() { END_HEADERS } else { 0 }, 1 + 2 * n, part));
        }
    }
    assert!(raw.send(&burst).await, "the server has hung up");
    for _ in 0..100 {
        let answer = raw.wait("an answer", |frame| matches!(frame.kind, HEADERS | GOAWAY)).await;
        assert!(answer.has_status(200), "{answer:?}");
    }
    assert_eq!(let_go(&node, "flood").await, 0.0);
}

/// DATA that no window allows: on a stream that was reset, without content, and with padding only.
#[tokio::test]
async fn data_that_is_of_no_use_is_ended() {
    let node = Node::start(&[]).await;
    let padding = [&[255][..], &[0; 255]].concat();
    for (name, flood) in [
        ("DATA of a stream that was reset", frame(DATA, 0, 1, &[0; 16_000])),
        ("empty DATA", frame(DATA, 0, 3, b"")),
        ("padding", frame(DATA, 8, 3, &padding)),
    ] {
        let mut raw = Raw::open(&node, b"").await;
        raw.send(&[post(1, "/publish?channel=a", &[]), reset(1), post(3, "/publish?channel=a", &[])].concat()).await;
        raw.settle().await;
        let (sent, code) = raw.flood(&flood.repeat(16), 64 << 20).await;
        assert!(sent < 32 << 20, "{sent} bytes of {name} were taken");
        assert!(code.is_none_or(|code| code != 0), "{name}: {code:?}");
    }
    // The server serves other clients in the meantime.
    assert_eq!(node.get("/healthz").await.status, 200);
}

/// A pseudo-header field in trailers makes the request malformed (RFC 9113 §8.1): it has no effect.
#[tokio::test]
async fn pseudo_header_fields_in_trailers() {
    let node = Node::start(&[]).await;
    // `:path: /publish?…` again, as an index of the dynamic table.
    let dynamic = [0xbe];
    let name = |name: &str| block(&[(name, "x")]);
    for (trailers, is_good) in [
        (name("x-checksum"), true),
        (Vec::new(), true),
        (name(":path"), false),
        (name(":method"), false),
        (name(":anything"), false),
        (vec![0x82], false),
        ([name("x-checksum"), vec![0x84]].concat(), false),
        (dynamic.to_vec(), false),
    ] {
        let mut raw = Raw::open(&node, b"").await;
        // The path goes into the dynamic table.
        let path = b"/publish?channel=trailers";
        let indexed = [&[0x44, path.len() as u8][..], path].concat();
        let head = [block(&[(":method", "POST"), (":scheme", "http"), (":authority", "localhost")]), indexed].concat();
        let request = [
            frame(HEADERS, END_HEADERS, 1, &head),
            frame(DATA, 0, 1, b"1"),
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &trailers),
        ];
        raw.send(&request.concat()).await;
        if is_good {
            let answer = raw.wait("an answer", |frame| matches!(frame.kind, HEADERS | GOAWAY | RST_STREAM)).await;
            assert!(answer.has_status(200), "{trailers:?}: {answer:?}");
        } else {
            // A name with a colon that is not a known pseudo-header field is also an error.
            let code = raw.end().await;
            assert!(matches!(code, Some(PROTOCOL_ERROR | COMPRESSION_ERROR)), "{trailers:?}: {code:?}");
        }
    }
    let answer = node.get("/poll?channel=trailers&cursor=earliest").await.json();
    assert_eq!(answer["messages"].as_array().map(Vec::len), Some(2), "{answer}");
    assert_eq!(let_go(&node, "malformed").await, 6.0);
}

/// A client waits until the server asks for the body.
#[tokio::test]
async fn an_expected_body_is_asked_for() {
    let node = Node::start(&[]).await;
    let mut raw = Raw::open(&node, b"").await;
    raw.send(&post(1, "/publish?channel=a", &[("content-length", "1"), ("expect", "100-continue")])).await;
    let answer = raw.wait("100", |frame| frame.kind == HEADERS).await;
    assert!(answer.has_status(100) && answer.flags & END_STREAM == 0, "{answer:?}");
    raw.send(&frame(DATA, END_STREAM, 1, b"1")).await;
    let answer = raw.wait("an answer", |frame| frame.kind == HEADERS).await;
    assert!(answer.has_status(200), "{answer:?}");
}

/// Common clients make ten uploads at once on one connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_upload_side_by_side() {
    let node = Node::start(&Certificate::common().flags()).await;
    let dir = fresh_dir("uploads");
    let file = dir.join("body");
    std::fs::write(&file, "x".repeat(60_000)).expect("write");
    let file = file.to_str().expect("UTF-8").to_owned();
    let url = format!("http://{}/publish?channel=uploads", node.http);
    let run = async |program: &str, arguments: Vec<String>| {
        let program = program.to_owned();
        let name = program.clone();
        let output = tokio::task::spawn_blocking(move || Command::new(&name).args(arguments).output());
        let output = within(MINUTE, "a client", output)
            .await
            .expect("a client")
            .unwrap_or_else(|error| panic!("{program} (apt-get install nghttp2-client curl nodejs): {error}"));
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    let text = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    let said = run("h2load", text(&["-n", "100", "-c", "1", "-m", "10", "-d", &file, &url])).await;
    assert!(said.contains("100 succeeded") && said.contains("100 2xx"), "{said}");
    // This case uses TLS: with any server, this client cannot share a connection that begins with prior knowledge.
    let data = format!("@{file}");
    let secure = format!("https://{}/publish?channel=uploads", node.http);
    let mut curl = text(&["-sS", "-k", "-Z", "--parallel-max", "20", "--http2", "-w", "%{http_code}\n"]);
    curl.extend(text(&["--data-binary", &data]));
    for _ in 0..30 {
        curl.extend(text(&["-o", "/dev/null", &secure]));
    }
    let said = run("curl", curl).await;
    assert_eq!(said.matches("200\n").count(), 30, "{said}");
    let script = "const client = require('node:http2').connect(process.argv[1]); let left = 30; \
        client.on('error', error => { console.log(String(error)); process.exit(1); }); \
        for (let n = 0; n < 30; n++) { const request = client.request({ ':method': 'POST', ':path': '/publish?channel=uploads' }); \
        request.on('response', head => console.log(head[':status'])).on('error', error => console.log(String(error))); \
        request.resume().on('close', () => { if (--left === 0) client.close(); }).end('x'.repeat(60000)); }";
    let said = run("node", text(&["-e", script, &format!("http://{}", node.http)])).await;
    assert_eq!(said.matches("200").count(), 30, "{said}");
    assert_eq!(let_go(&node, "flood").await, 0.0);
    let answer = Request::get("/channels/uploads").send(node.http).await;
    assert_eq!(answer.status, 200);
}
