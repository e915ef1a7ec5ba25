//! HTTP/2: the duties of the server towards a client, and the limits on clients. Frames are made by hand, because no
//! library sends these.

use crate::support;

use std::time::{Duration, Instant};
use support::frames::*;
use support::{Kind, Node, Reader, SOON, Subscription, eventually, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn let_go(node: &Node, reason: &str) -> u64 {
    let metrics = node.get("/metrics").await.text();
    let name = format!("longtail_http2_let_go_total{{reason=\"{reason}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap_or(0)
}

/// A reader on another connection, which must not be affected.
async fn witness(node: &Node) -> Reader {
    let sse = node.transport("sse").await;
    let mut reader = Reader::open(node, &sse, Subscription::to(&["witness"])).await;
    reader.next_of(Kind::Hello).await;
    reader
}

async fn check(node: &Node, mut witness: Reader) {
    let published = node.publish_numbers("witness", 3).await;
    witness.expect(&published).await;
}

#[tokio::test]
async fn streams_that_are_reset_in_one_breath() {
    let node = Node::start(&[]).await;
    let witness = witness(&node).await;
    let mut raw = Raw::open(&node, b"").await;
    let mut burst = Vec::new();
    for n in 0..2000 {
        burst.extend(get(1 + 2 * n, "/long-poll?channel=a"));
        burst.extend(reset(1 + 2 * n));
    }
    raw.send(&burst).await;
    assert_eq!(raw.end().await, Some(ENHANCE_YOUR_CALM));
    check(&node, witness).await;
}

/// The same, at a pace at which the server begins each request before the client resets it.
#[tokio::test]
async fn streams_that_are_reset_one_by_one() {
    let node = Node::start(&[]).await;
    let witness = witness(&node).await;
    let mut raw = Raw::open(&node, b"").await;
    let mut asked = 0;
    let code = within(Duration::from_secs(60), "the end", async {
        loop {
            let id = 1 + 2 * asked;
            asked += 1;
            let ping = frame(PING, 0, 0, b"settled?");
            raw.send(&[get(id, "/long-poll?channel=a"), ping].concat()).await;
            loop {
                match raw.next().await {
                    Some(frame) if frame.kind == PING => break,
                    Some(frame) if frame.kind == GOAWAY => return frame.code(),
                    Some(_) => {}
                    None => panic!("the end without a word"),
                }
            }
            raw.send(&reset(id)).await;
        }
    });
    assert_eq!(code.await, ENHANCE_YOUR_CALM);
    assert!((100..1000).contains(&asked), "{asked} requests were taken back");
    assert_eq!(let_go(&node, "rapid_reset").await, 1);
    check(&node, witness).await;
}

#[tokio::test]
async fn headers_without_end() {
    let node = Node::start(&[]).await;
    let witness = witness(&node).await;
    // CONTINUATION frames without an end: small ones and empty ones.
    for size in [1000, 0] {
        let mut raw = Raw::open(&node, b"").await;
        raw.send(&frame(HEADERS, 0, 1, &block(&[(":method", "GET")]))).await;
        let part = block(&[("x", &"y".repeat(size))]);
        let part = frame(CONTINUATION, 0, 1, if size == 0 { b"" } else { &part });
        let (sent, _) = raw.flood(&part.repeat(100), 64 << 20).await;
        assert!(sent < 32 << 20, "{sent} bytes of CONTINUATION were taken");
    }
    // A header list that is too long is refused, and the connection stays open.
    let mut raw = Raw::open(&node, b"").await;
    let long = "y".repeat(1000);
    let mut fields = vec![(":method", "GET"), (":scheme", "http"), (":authority", "localhost"), (":path", "/info")];
    let names: Vec<String> = (0..40).map(|n| format!("x-{n}")).collect();
    fields.extend(names.iter().map(|name| (name.as_str(), long.as_str())));
    let list = block(&fields);
    let mut parts = list.chunks(16_000).peekable();
    raw.send(&frame(HEADERS, END_STREAM, 1, parts.next().expect("a part"))).await;
    while let Some(part) = parts.next() {
        raw.send(&frame(CONTINUATION, if parts.peek().is_none() { END_HEADERS } else { 0 }, 1, part)).await;
    }
    let answer = raw.wait("a refusal", |frame| frame.stream == 1 && frame.kind == HEADERS).await;
    assert!(answer.has_status(431), "{answer:?}");
    raw.send(&get(3, "/healthz")).await;
    let answer = raw.wait("an answer", |frame| frame.stream == 3 && frame.kind == HEADERS).await;
    assert!(answer.has_status(200), "{answer:?}");
    check(&node, witness).await;
}

#[tokio::test]
async fn frames_that_ask_for_nothing() {
    let node = Node::start(&[]).await;
    let witness = witness(&node).await;
    let floods = [
        ("PING", frame(PING, 0, 0, b"12345678")),
        ("SETTINGS", setting(INITIAL_WINDOW_SIZE, 65_535)),
        ("PRIORITY", frame(PRIORITY, 0, 1001, &[0, 0, 0, 0, 1])),
        ("unknown frames", frame(0xbe, 0, 0, b"")),
        ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 0, &1u32.to_be_bytes())),
    ];
    let before = let_go(&node, "flood").await;
    let count = floods.len() as u64;
    for (name, bytes) in floods {
        let mut raw = Raw::open(&node, b"").await;
        let (sent, code) = raw.flood(&bytes.repeat(64), 64 << 20).await;
        assert!(sent < 32 << 20, "{sent} bytes of {name} were taken");
        // The unread rest of the flood may reset the socket, and the GOAWAY is then lost.
        assert!(matches!(code, None | Some(ENHANCE_YOUR_CALM)), "{name}: {code:?}");
    }
    assert_eq!(let_go(&node, "flood").await - before, count);
    check(&node, witness).await;
}

/// Cookies that are too long for the table of fields come with each request, and are not a flood.
#[tokio::test]
async fn long_heads_are_of_use() {
    let node = Node::start(&[]).await;
    let mut raw = Raw::open(&node, b"").await;
    let cookie = "c".repeat(8000);
    let fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "localhost"),
        (":path", "/healthz"),
        ("cookie", &cookie),
    ];
    for n in 0..200 {
        assert!(raw.send(&ask(1 + 2 * n, &fields)).await, "the server has hung up before request {n}");
        raw.wait("an answer", |frame| frame.stream == 1 + 2 * n && frame.flags & END_STREAM != 0).await;
    }
    assert_eq!(let_go(&node, "flood").await, 0);
}

/// A client sends requests and does not read the answers: the answers do not pile up.
#[tokio::test]
async fn pings_whose_answers_nobody_reads() {
    let node = Node::start(&["--write-timeout", "1"]).await;
    let witness = witness(&node).await;
    let mut raw = Raw::open(&node, b"").await;
    let pings = frame(PING, 0, 0, b"12345678").repeat(1000);
    within(SOON, "the end of a flood", async { while raw.send(&pings).await {} }).await;
    check(&node, witness).await;
}

/// A window stays shut. When the time is up, the stream is reset; so is its connection, if no other stream makes
/// progress.
#[tokio::test]
async fn a_window_that_stays_shut() {
    let node = Node::start(&["--write-timeout", "1"]).await;
    node.publish("todo", "1").await;
    for target in ["/poll?channel=todo&cursor=earliest", "/sse?channel=todo", "/client.js", "/diagnose/drip"] {
        let before = let_go(&node, "stalled").await;
        let mut raw = Raw::open(&node, &setting(INITIAL_WINDOW_SIZE, 0)).await;
        raw.send(&get(1, target)).await;
        assert!(raw.wait("a head", |frame| frame.kind == HEADERS).await.has_status(200), "{target}");
        let begun = Instant::now();
        assert_eq!(raw.end().await, Some(ENHANCE_YOUR_CALM), "{target}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{target}: after {:?} in place of 1 s", begun.elapsed());
        assert_eq!(let_go(&node, "stalled").await, before + 1, "{target}");
    }
}

#[tokio::test]
async fn one_slow_stream_disturbs_no_other() {
    let node = Node::start(&["--write-timeout", "1"]).await;
    let mut raw = Raw::open(&node, &setting(INITIAL_WINDOW_SIZE, 0)).await;
    raw.send(&[get(1, "/ndjson?channel=todo"), get(3, "/ndjson?channel=todo")].concat()).await;
    // The connection has a window, too, and messages come as fast as they can.
    for stream in [0, 3] {
        raw.send(&frame(WINDOW_UPDATE, 0, stream, &1_000_000_000u32.to_be_bytes())).await;
    }
    raw.wait("a hello", |frame| frame.kind == DATA && frame.stream == 3).await;
    let begun = Instant::now();
    let mut is_reset = false;
    while !is_reset {
        assert!(begun.elapsed() < SOON, "the slow stream is not reset after {:?}", begun.elapsed());
        let id = node.publish("todo", "1").await;
        let arrived = raw.wait("the message, or the reset", |frame| {
            frame.kind == RST_STREAM
                || frame.kind == DATA && frame.stream == 3 && String::from_utf8_lossy(&frame.payload).contains(&id)
        });
        let frame = arrived.await;
        if frame.kind == RST_STREAM {
            assert_eq!((frame.stream, frame.code()), (1, CANCEL));
            is_reset = true;
        }
    }
    let id = node.publish("todo", "1").await;
    let message = raw.wait("the message", |frame| {
        frame.kind == DATA && frame.stream == 3 && String::from_utf8_lossy(&frame.payload).contains(&id)
    });
    message.await;
    assert_eq!(let_go(&node, "stalled").await, 0);
}

#[tokio::test]
async fn streams_are_bounded_and_counted() {
    let node = Node::start(&[]).await;
    let mut raw = Raw::open(&node, b"").await;
    let settings = raw.wait("SETTINGS", |frame| frame.kind == SETTINGS && frame.flags == 0).await;
    let find = |name: u16| {
        let mut settings = settings.payload.chunks(6);
        let found = settings.find(|setting| setting[..2] == name.to_be_bytes()).expect("the setting");
        u32::from_be_bytes(found[2..].try_into().expect("4 bytes"))
    };
    let most = find(3);
    assert!((100..=1000).contains(&most), "MAX_CONCURRENT_STREAMS {most}");
    assert_eq!(find(8), 1, "ENABLE_CONNECT_PROTOCOL (RFC 8441)");
    assert!(find(6) <= 64 << 10, "MAX_HEADER_LIST_SIZE {}", find(6));
    raw.send(&frame(SETTINGS, ACK, 0, b"")).await;
    for n in 0..=most {
        raw.send(&get(1 + 2 * n, "/long-poll?channel=a")).await;
    }
    let refused = raw.wait("a refusal", |frame| frame.kind == RST_STREAM).await;
    assert_eq!((refused.stream, refused.code()), (1 + 2 * most, REFUSED_STREAM));

    // The limits on connections count streams, because one connection could otherwise bypass them.
    let node = Node::start(&["--max-connections", "4"]).await;
    let mut raw = Raw::open(&node, b"").await;
    for n in 0..3 {
        raw.send(&get(1 + 2 * n, "/long-poll?channel=a")).await;
    }
    raw.send(&get(7, "/long-poll?channel=a")).await;
    let answer = raw.wait("an answer", |frame| frame.kind == HEADERS).await;
    assert!(answer.stream == 7 && answer.has_status(503), "{answer:?}");
    raw.send(&reset(1)).await;
    raw.settle().await;
    raw.send(&get(9, "/poll?channel=a")).await;
    let answer = raw.wait("an answer", |frame| frame.kind == HEADERS).await;
    assert!(answer.stream == 9 && answer.has_status(200), "{answer:?}");
}

/// A poll whose client has gone no longer counts as a reader.
#[tokio::test]
async fn a_poll_that_is_reset_ends() {
    let node = Node::start(&[]).await;
    let mut raw = Raw::open(&node, b"").await;
    let readers = async |wanted: u64| {
        eventually("the count", async || {
            let counts = node.get("/channels/todo").await.json();
            (counts["readers"]["total"] == wanted).then_some(())
        })
        .await;
    };
    raw.send(
        &[get(1, "/long-poll?channel=todo"), get(3, "/sse?channel=todo"), get(5, "/ndjson?channel=todo")].concat(),
    )
    .await;
    readers(3).await;
    raw.send(&[reset(1), reset(3)].concat()).await;
    readers(1).await;
    drop(raw);
    readers(0).await;
}

#[tokio::test]
async fn an_idle_connection_is_ended() {
    let node = Node::start(&["--request-timeout", "1", "--keep-alive-timeout", "2", "--write-timeout", "1"]).await;
    // The client may have sent a request before or not, and it may answer the last ping or not.
    for asks in [false, true] {
        let mut raw = Raw::open(&node, b"").await;
        if asks {
            raw.send(&get(1, "/healthz")).await;
            raw.wait("an answer", |frame| frame.kind == HEADERS).await;
        }
        let begun = Instant::now();
        assert_eq!(raw.end().await, Some(0), "NO_ERROR");
        assert!(!asks || begun.elapsed() > Duration::from_millis(1500), "closed after {:?}", begun.elapsed());
    }
    // The same over HTTP/1.1, after an answer.
    let mut stream = TcpStream::connect(node.http).await.expect("connect");
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("write");
    within(SOON, "the end", stream.read_to_end(&mut Vec::new())).await.ok();
    // Half of a preface does not hold a connection.
    let mut stream = TcpStream::connect(node.http).await.expect("connect");
    stream.write_all(b"PRI * HT").await.expect("write");
    within(SOON, "the end", stream.read_to_end(&mut Vec::new())).await.ok();
}

/// A client that has vanished does not acknowledge a ping. A client that only listens acknowledges it, and stays
/// connected.
#[tokio::test]
async fn who_does_not_answer_a_ping_is_gone() {
    let node = Node::start(&["--heartbeat-seconds", "600", "--write-timeout", "1", "--request-timeout", "2"]).await;
    let mut here = Raw::open(&node, b"").await;
    let mut gone = Raw::open(&node, b"").await;
    for raw in [&mut here, &mut gone] {
        raw.send(&get(1, "/ndjson?channel=todo")).await;
        raw.wait("a hello", |frame| frame.kind == DATA).await;
    }
    let ping = here.wait("a ping", |frame| frame.kind == PING && frame.flags == 0).await;
    assert!(
        here.send(&frame(PING, ACK, 0, &ping.payload)).await,
        "the server has hung up before the answer to its ping"
    );
    gone.end().await;
    let id = node.publish("todo", "1").await;
    here.wait("a message", |frame| String::from_utf8_lossy(&frame.payload).contains(&id)).await;
}

/// A request has one name of the host that it was sent to: `:authority`, which a `Host` must equal.
#[tokio::test]
async fn authorities_and_malformed_requests() {
    let node = Node::start(&[]).await;
    let base = |authority: &'static str| {
        vec![(":method", "GET"), (":scheme", "http"), (":authority", authority), (":path", "/poll?channel=a")]
    };
    let with = |fields: &[(&'static str, &'static str)]| [base("localhost"), fields.to_vec()].concat();
    let no_authority = vec![(":method", "GET"), (":scheme", "http"), (":path", "/poll?channel=a")];
    let connect_to = |protocol: &'static str, path: &'static str| {
        vec![
            (":method", "CONNECT"),
            (":protocol", protocol),
            (":scheme", "http"),
            (":authority", "localhost"),
            (":path", path),
            ("sec-websocket-version", "13"),
        ]
    };
    let connect = |protocol: &'static str| connect_to(protocol, "/ws");
    let cases = [
        (base("localhost"), 200),
        (with(&[("host", "localhost")]), 200),
        (with(&[("host", "evil.example")]), 400),
        (with(&[("host", "localhost"), ("host", "localhost")]), 400),
        (base("evil.example"), 403),
        (base("localhost@evil.example"), 400),
        (no_authority.clone(), 400),
        ([no_authority, vec![("host", "localhost")]].concat(), 200),
        (connect("websocket"), 200),
        (connect("connect-udp"), 405),
        (connect_to("websocket", "/poll?channel=a"), 405),
        (connect_to("websocket", "/sse?channel=a"), 405),
        (connect_to("websocket", "/long-poll?channel=a"), 405),
        (connect_to("websocket", "/healthz"), 405),
        (connect_to("websocket", "/publish?channel=a"), 405),
        (connect_to("websocket", "/nothing"), 404),
        (vec![(":method", "GET"), (":scheme", "http"), (":authority", "localhost"), (":path", "/ws")], 400),
        (vec![(":method", "CONNECT"), (":authority", "localhost:80")], 404),
    ];
    for (fields, status) in cases {
        let mut raw = Raw::open(&node, b"").await;
        let block = block(&fields);
        raw.send(&frame(HEADERS, END_HEADERS, 1, &block)).await;
        let answer =
            raw.wait("an answer", |frame| frame.stream == 1 && matches!(frame.kind, HEADERS | RST_STREAM)).await;
        assert!(answer.has_status(status), "{fields:?}: {answer:?} in place of {status}");
    }
    // Requests that would fool a proxy that speaks HTTP/1 to the server (RFC 9113 §8.2, §8.3, §8.1.1).
    let bad: [&[(&'static str, &'static str)]; 8] = [
        &[("transfer-encoding", "chunked")],
        &[("connection", "close")],
        &[("upgrade", "h2c")],
        &[("X-Upper", "a")],
        &[("x-a", "a\r\nx-injected: 1")],
        &[("x-a\r\nx-injected", "1")],
        &[("x-a", "a\0b")],
        &[("content-length", "5"), ("content-length", "6")],
    ];
    for fields in bad {
        let mut raw = Raw::open(&node, b"").await;
        raw.send(&ask(1, &with(fields))).await;
        let answer = within(SOON, "an answer", async {
            loop {
                match raw.next().await {
                    Some(frame) if frame.kind == GOAWAY => return Some(frame),
                    Some(frame) if frame.stream == 1 => return Some(frame),
                    Some(_) => {}
                    None => return None,
                }
            }
        });
        let answer = answer.await;
        let is_refused = match &answer {
            Some(frame) if frame.kind == HEADERS => frame.has_status(400),
            Some(frame) => frame.code() == PROTOCOL_ERROR,
            None => true,
        };
        assert!(is_refused, "{fields:?}: {answer:?}");
    }
    // A body that is longer or shorter than its announced length.
    for (length, body) in [("1", "22"), ("3", "22")] {
        let mut raw = Raw::open(&node, b"").await;
        let post = [
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", "localhost"),
            (":path", "/publish?channel=smuggled"),
            ("content-length", length),
        ];
        let head = frame(HEADERS, END_HEADERS, 1, &block(&post));
        raw.send(&[head, frame(DATA, END_STREAM, 1, body.as_bytes())].concat()).await;
        let answer =
            raw.wait("a refusal", |frame| frame.stream == 1 && matches!(frame.kind, HEADERS | RST_STREAM)).await;
        assert!(answer.kind == RST_STREAM || answer.has_status(400), "{answer:?}");
    }
    let answer = node.get("/poll?channel=smuggled&cursor=earliest").await.json();
    assert_eq!(answer["messages"], serde_json::json!([]));
}

/// Invalid frames end their own connection, and no other.
#[tokio::test]
async fn garbage() {
    let node = Node::start(&[]).await;
    let witness = witness(&node).await;
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..200 {
        let mut raw = Raw::open(&node, b"").await;
        let mut bytes = Vec::new();
        for n in 0..20u32 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let payload: Vec<u8> = random.to_be_bytes()[..(random % 9) as usize].to_vec();
            let kind = (random >> 8) as u8 % 11;
            bytes.extend(frame(kind, (random >> 16) as u8, (random >> 24) as u32 % 6 * (n % 3), &payload));
        }
        raw.send(&bytes).await;
        if round % 2 == 0 {
            raw.stream.shutdown().await.ok();
            raw.end().await;
        }
    }
    check(&node, witness).await;
}
