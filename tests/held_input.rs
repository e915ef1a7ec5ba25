//! Incomplete input of clients counts against `--max-buffer-bytes`, whatever it is: heads, header blocks, handshakes,
//! records, bodies, and requests behind a waiting poll.

use crate::support;

use std::time::Duration;
use support::frames::{CONTINUATION, DATA, END_HEADERS, HEADERS, SETTINGS, block, frame};
use support::http::raw;
use support::{Certificate, Node, RawWebSocket, Response, SOON, eventually, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const CLIENTS: usize = 700;

/// A number of bytes below the limit on a head.
const LONG: usize = 31 << 10;

fn http2(frames: &[Vec<u8>]) -> Vec<u8> {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    [preface, frame(SETTINGS, 0, 0, &[]), frames.concat()].concat()
}

fn tls_record(kind: u8, announced: u16, bytes: &[u8]) -> Vec<u8> {
    [&[kind, 3, 1][..], &announced.to_be_bytes(), bytes].concat()
}

/// The head of a request of HTTP/2, and the first bytes of its body.
fn upload(stream: u32, body: &str) -> Vec<u8> {
    let path = "/publish?channel=a";
    let fields = [(":method", "POST"), (":scheme", "http"), (":authority", "localhost"), (":path", path)];
    let head = frame(HEADERS, END_HEADERS, stream, &block(&fields));
    if body.is_empty() { head } else { [head, frame(DATA, 0, stream, body.as_bytes())].concat() }
}

/// Each case: a name for the incomplete input, additional flags of the server, and the bytes.
fn beginnings() -> Vec<(&'static str, &'static [&'static str], Vec<u8>)> {
    let long = "y".repeat(LONG);
    let head = |line: &str| format!("{line}\r\nHost: localhost\r\nX-Long: {long}").into_bytes();
    let post = |field: &str, body: String| {
        format!("POST /publish?channel=a HTTP/1.1\r\nHost: localhost\r\n{field}\r\n\r\n{body}").into_bytes()
    };
    let chunks = format!("400\r\n{}\r\n", "y".repeat(1024)).repeat(LONG >> 10);
    let many: Vec<_> = (0..900).map(|_| ("x", "")).collect();
    let hello = [&[1, 0, 0xff, 0, 3, 3][..], &[7; 32_000]].concat();
    let plain = &[][..];
    vec![
        ("a head", plain, head("GET /poll?channel=a HTTP/1.1")),
        ("a head for hyper", plain, head("PUT /x HTTP/1.1")),
        ("a head without the fast path", &["--plain-requests", "false"], head("GET /poll?channel=a HTTP/1.1")),
        (
            "a head behind a request",
            plain,
            [b"GET /info HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(), head("GET / HTTP/1.1")].concat(),
        ),
        ("a body", plain, post("Content-Length: 900000", long.clone())),
        ("a body of which nothing has arrived", plain, post("Content-Length: 900000", String::new())),
        ("a body in chunks of which nothing has arrived", plain, post("Transfer-Encoding: chunked", String::new())),
        ("a body in chunks", plain, post("Transfer-Encoding: chunked", chunks)),
        (
            "a request behind a long poll",
            plain,
            [b"GET /long-poll?channel=a HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(), vec![b'y'; 16 << 10]].concat(),
        ),
        ("a frame of HTTP/2", plain, http2(&[frame(HEADERS, END_HEADERS, 1, &[0; 16_000])[..15_000].to_vec()])),
        (
            "a header block",
            plain,
            http2(&[
                frame(HEADERS, 0, 1, &block(&[("x", &long[..16_000])])),
                frame(CONTINUATION, 0, 1, &block(&[("x", &long[..14_000])])),
            ]),
        ),
        ("bodies of HTTP/2", plain, http2(&(0..4).map(|n| upload(2 * n + 1, &long[..15_000])).collect::<Vec<_>>())),
        (
            "bodies of HTTP/2 of which nothing has arrived",
            plain,
            http2(&(0..8).map(|n| upload(2 * n + 1, "")).collect::<Vec<_>>()),
        ),
        ("a header block of short fields", plain, http2(&[frame(HEADERS, 0, 1, &block(&many))])),
        (
            "a handshake",
            &["tls"],
            [tls_record(22, 16_000, &hello[..16_000]), tls_record(22, 16_000, &hello[16_000..31_000])].concat(),
        ),
    ]
}

/// The budget bounds the memory of a node, apart from the memory that each connection takes anyway.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_begun_is_bounded_by_the_budget() {
    for (what, flags, bytes) in beginnings() {
        let certificate = Certificate::common();
        let tls = certificate.flags();
        let flags: Vec<&str> = if flags == ["tls"] { tls.to_vec() } else { flags.to_vec() };
        let node = Node::start(&[&["--max-buffer-bytes", "4MiB"], flags.as_slice()].concat()).await;
        let idle = bounded(&node, b"", CLIENTS).await;
        let begun = bounded(&node, &bytes, CLIENTS).await;
        // The bound is half of the budget, and the same again for memory that the allocator does not return at once. A
        // connection on which hyper or h2 has read a body takes more than an idle connection until it is closed: it has
        // their buffers and the refusals.
        let each = match what {
            what if what.starts_with("a body") => 16 << 10,
            "bodies of HTTP/2" => 80 << 10,
            "bodies of HTTP/2 of which nothing has arrived" => 48 << 10,
            _ => 0,
        };
        let bound = idle + (4 << 20) + CLIENTS * each;
        assert!(begun <= bound, "{what}: {CLIENTS} clients took {begun} bytes; idle they take {idle}");
        eventually("nothing to be held", async || (node.metric("longtail_buffered_bytes").await == 0.0).then_some(()))
            .await;
    }
}

/// A refused client that does not close its side takes less than half of the memory of an idle connection: the server
/// frees the task that has read its head.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_heads_take_less_than_idle_connections() {
    const MANY: usize = 6000;
    let flags = &["--max-buffer-bytes", "4MiB", "--max-connections-per-ip", "0", "--request-timeout", "60"];
    let node = Node::start(flags).await;
    let head = format!("GET /poll?channel=a HTTP/1.1\r\nHost: localhost\r\nX-Long: {}", "y".repeat(LONG));
    let refused = bounded(&node, head.as_bytes(), MANY).await;
    eventually("the refused to be gone", async || (node.metric("longtail_sockets").await < 200.0).then_some(())).await;
    drop(node);
    let idle = bounded(&Node::start(flags).await, b"", MANY).await;
    // The heads that the server holds are a part of it: at most half of the budget.
    assert!(refused < idle / 2, "{MANY} clients took {refused} bytes; idle they take {idle}");
}

/// Returns by how many bytes the memory grows when many clients send the same incomplete input.
async fn bounded(node: &Node, bytes: &[u8], clients: usize) -> usize {
    node.get("/info").await;
    let (before, mut most) = (node.resident(), 0);
    let mut opened = Vec::new();
    for n in 0..clients {
        let mut client = TcpStream::connect(node.http).await.expect("connect");
        // The server may have closed the connection by now.
        client.write_all(bytes).await.ok();
        opened.push(client);
        if n % 50 == 0 {
            most = most.max(node.resident());
        }
    }
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        most = most.max(node.resident());
    }
    most.saturating_sub(before)
}

/// Beyond the budget, the server refuses an incomplete head with an answer, but still serves complete requests.
#[tokio::test]
async fn a_head_past_the_budget_is_told_so() {
    for flags in [&[][..], &["--plain-requests", "false"]] {
        let node = Node::start(&[&["--max-buffer-bytes", "2MiB", "--request-timeout", "30"], flags].concat()).await;
        let head = format!("GET /poll?channel=a HTTP/1.1\r\nHost: localhost\r\nX-Long: {}", "y".repeat(LONG));
        let mut clients = Vec::new();
        let refused = loop {
            let mut client = TcpStream::connect(node.http).await.expect("connect");
            client.write_all(head.as_bytes()).await.expect("write");
            let mut first = [0; 1];
            let refused = tokio::time::timeout(Duration::from_millis(100), client.peek(&mut first)).await.is_ok();
            if refused {
                break client;
            }
            clients.push(client);
            assert!(clients.len() < 200, "200 heads of 31 KiB are within half of 2 MiB: {flags:?}");
        };
        let mut answer = Response::new(refused, false);
        answer.read_head().await.expect("an answer");
        within(SOON, "the end", answer.finish()).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (503, "not_ready"), "{flags:?}");
        assert!(answer.header("Retry-After").is_some() && answer.header("Connection") == Some("close"));
        assert_eq!(node.get("/info").await.status, 200, "a whole request");
        // A head that arrives in two parts is also complete.
        let long = format!("GET /info HTTP/1.1\r\nHost: localhost\r\nX-Long: {}\r\n\r\n", "y".repeat(20_000));
        assert_eq!(raw(node.http, long.as_bytes()).await.map(|answer| answer.status), Some(200), "{flags:?}");
        // The server answers a head that becomes complete later.
        let mut client = clients.swap_remove(0);
        client.write_all(b"\r\n\r\n").await.expect("write");
        let mut answer = Response::new(client, false);
        within(SOON, "an answer", answer.read_head()).await.expect("an answer");
        assert_eq!(answer.status, 200);
        drop((answer, clients));
        eventually("nothing to be held", async || (node.metric("longtail_buffered_bytes").await == 0.0).then_some(()))
            .await;
    }
}

/// Even with the smallest budget, the server accepts a body of the maximum length. Otherwise it would refuse such a
/// body forever.
#[tokio::test]
async fn the_longest_body_passes_the_smallest_budget() {
    let node = Node::start(&["--max-buffer-bytes", "2MiB"]).await;
    let message = format!(r#"{{"channel":"a","data":"{}"}},"#, "x".repeat(60_000));
    let body = format!("[{}{{\"channel\":\"a\",\"data\":1}}]", message.repeat(17));
    assert!(body.len() > 1_000_000 && body.len() <= 1 << 20);
    for _ in 0..3 {
        assert_eq!(node.publish_json(&body).await.status, 200);
    }
    eventually("nothing to be held", async || (node.metric("longtail_buffered_bytes").await == 0.0).then_some(()))
        .await;
}

/// If the client of a poll has disconnected, the poll stops counting as a connection at once, so reloads do not lock
/// the user out. A client that has only shut its sending side still gets its answer.
#[tokio::test]
async fn a_poll_whose_client_is_gone_gives_its_place_back() {
    for (flags, request) in [
        (&[][..], "GET /long-poll?channel=a&timeout=55 HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        (&[], "GET /jsonp?channel=a&callback=f&timeout=55 HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        (&["--direct-writes", "false"], "GET /long-poll?channel=a&timeout=55 HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        (&["--plain-requests", "false"], "GET /long-poll?channel=a&timeout=55 HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        (&[], "GET /long-poll?channel=a&timeout=55 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
        (&[], "GET /long-poll?channel=a&timeout=55 HTTP/1.0\r\n\r\n"),
    ] {
        let node = Node::start(&[&["--max-connections-per-ip", "6"], flags].concat()).await;
        for reload in 0..3 {
            let mut polls = Vec::new();
            for _ in 0..5 {
                let mut poll = TcpStream::connect(node.http).await.expect("connect");
                poll.write_all(request.as_bytes()).await.expect("write");
                polls.push(poll);
            }
            eventually("the polls to wait", async || {
                let waiting = async |name| node.metric(&format!("longtail_connections{{transport=\"{name}\"}}")).await;
                (waiting("long-poll").await + waiting("jsonp").await >= 5.0).then_some(())
            })
            .await;
            drop(polls);
            let begun = std::time::Instant::now();
            // Only the connection that asks is left. With another one, a poll of the next turn would be refused.
            eventually("the places", async || (node.metric("longtail_sockets").await <= 1.0).then_some(())).await;
            assert!(begun.elapsed() < Duration::from_secs(20), "reload {reload} of {request:?}: {:?}", begun.elapsed());
        }
    }
    let node = Node::start(&[]).await;
    let mut client = TcpStream::connect(node.http).await.expect("connect");
    client.write_all(b"GET /long-poll?channel=a HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("write");
    client.shutdown().await.expect("shut");
    let mut probe = [0; 25];
    within(SOON, "a probe", client.read_exact(&mut probe)).await.expect("a probe");
    assert_eq!(&probe, b"HTTP/1.1 100 Continue\r\n\r\n");
    node.publish("a", "\"for the patient\"").await;
    let mut answer = String::new();
    within(SOON, "the answer", client.read_to_string(&mut answer)).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("for the patient"), "{answer}");
}

/// An incomplete command of a socket counts from its beginning.
#[tokio::test]
async fn commands_that_do_not_end_are_counted() {
    let node = Node::start(&["--max-buffer-bytes", "2MiB"]).await;
    let mut ws = RawWebSocket::open(&node, "/ws?channel=a").await;
    ws.next_of("hello").await;
    // Half of a frame of 4,000 bytes.
    ws.try_send(&[0x81, 0xfe, 0x0f, 0xa0, 0, 0, 0, 0]).await;
    ws.try_send(&[b'x'; 2000]).await;
    let mut tcp = TcpStream::connect(node.tcp).await.expect("connect");
    tcp.write_all(&[b'x'; 2000]).await.expect("write");
    eventually("both to be counted", async || (node.metric("longtail_buffered_bytes").await >= 4000.0).then_some(()))
        .await;
}
