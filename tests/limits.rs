//! Rates and memory: a request that exceeds a limit is refused with a clear answer and counted, and other clients do
//! not notice.

use crate::support;

use serde_json::json;
use std::time::{Duration, Instant};
use support::token::{SECRET, token};
use support::{
    Item, Kind, LineClient, Log, Node, RawWebSocket, Reader, Request, Response, SOON, Subscription, World,
    each_transport, eventually, http::raw, within,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

const KEY: &str = "server-key-0123456789abcdef";

fn refused(reason: &str) -> String {
    format!("longtail_refused_total{{reason=\"{reason}\"}}")
}

/// An answer about an exceeded rate gives the time to wait, in the form that each transport can express.
#[tokio::test]
async fn requests_have_a_rate() {
    let node = Node::start_unready(&["--request-rate", "3", "--trusted-proxy", "127.0.0.1"]).await;
    let of = async |ip: &str, path: &str| {
        let mut answer = Request::get(path).header("X-Forwarded-For", ip).open(node.http).await;
        if answer.status != 200 || path.starts_with("/poll") || path.starts_with("/jsonp") {
            answer.finish().await;
        }
        answer
    };
    for n in 0..6 {
        let answer = of("192.0.2.1", "/poll?channel=a").await;
        let expected = if n < 3 { 200 } else { 429 };
        assert_eq!(answer.status, expected, "{n}");
        if expected == 429 {
            assert_eq!(answer.error_code(), "rate_limited");
            assert_eq!(answer.header("Retry-After"), Some("1"));
        }
    }
    for path in ["/xhr-stream?channel=a", "/info", "/nothing", "/ws?channel=a", "/multipart?channel=a"] {
        assert_eq!(of("192.0.2.1", path).await.status, 429, "{path}");
    }
    let answer = of("192.0.2.1", "/jsonp?channel=a&callback=f&mode=poll").await;
    assert!(answer.status == 200 && answer.text().contains("rate_limited"), "{}", answer.text());
    // Another status would be final for an EventSource.
    let mut answer = of("192.0.2.1", "/sse?channel=a").await;
    assert_eq!(answer.status, 200);
    within(SOON, "the end", answer.finish()).await;
    assert!(answer.text().contains("retry: ") && answer.text().contains("\"code\":4004"), "{}", answer.text());
    // Other addresses and health checks are not affected, and the limit ends with time.
    assert_eq!(of("192.0.2.2", "/poll?channel=a").await.status, 200);
    for _ in 0..10 {
        assert_eq!(of("192.0.2.1", "/healthz").await.status, 200);
    }
    eventually("a second to pass", async || (of("192.0.2.1", "/poll?channel=a").await.status == 200).then_some(()))
        .await;
    let metrics = Request::get("/metrics").header("X-Forwarded-For", "192.0.2.9").send(node.http).await.text();
    let line = metrics.lines().find(|line| line.starts_with(&refused("rate_limited"))).expect("counted");
    assert!(line.rsplit(' ').next().and_then(|n| n.parse::<u32>().ok()).is_some_and(|n| n >= 8), "{line}");
}

#[tokio::test]
async fn commands_have_the_same_rate() {
    let node = Node::start_unready(&["--request-rate", "5"]).await;
    let mut client = LineClient::connect(node.tcp).await;
    let mut kinds = Vec::new();
    for n in 0..8 {
        client.send(&json!({"type": "ping", "ref": n}).to_string()).await;
        let answer = client.json().await;
        assert_eq!(answer["ref"], n);
        kinds.push(answer["type"].as_str().expect("a type").to_owned());
    }
    assert_eq!(kinds[..5], ["pong"; 5]);
    assert!(kinds[5..].contains(&"error".to_owned()), "{kinds:?}");
}

#[tokio::test]
async fn publishers_have_a_rate() {
    let args = ["--publish-rate", "5", "--publish-key", KEY, "--token-secret", SECRET];
    let node = Node::start(&args).await;
    let credential =
        |sub: &str| format!("Bearer {}", token(&json!({"publish": ["a"], "subscribe": ["a"], "sub": sub})));
    let publish = async |credential: &str, count: usize| {
        let body = format!("[{}]", vec![r#"{"channel":"a","data":1}"#; count].join(","));
        let request = Request::post("/publish", body.as_bytes()).header("Content-Type", "application/json");
        request.header("Authorization", credential).send(node.http).await
    };
    let (ann, bob) = (credential("ann"), credential("bob"));
    // A slow machine gives the bucket time to fill, so each refusal here would need most of a second.
    assert_eq!(publish(&ann, 4).await.status, 200);
    let answer = publish(&ann, 5).await;
    assert_eq!((answer.status, answer.error_code().as_str()), (429, "rate_limited"));
    let wait = answer.header("Retry-After");
    assert!(wait.is_some_and(|s| s.parse::<u32>().is_ok_and(|s| s >= 1)), "Retry-After: {wait:?}");
    // A batch is accepted as a whole or not at all, so one message is still free.
    assert_eq!(publish(&ann, 1).await.status, 200);
    // Another token of the same subject counts for that subject; another subject has its own rate.
    assert_eq!(publish(&credential("ann"), 5).await.status, 429);
    assert_eq!(publish(&bob, 5).await.status, 200);
    let answer = publish(&credential("eve"), 6).await;
    // More than the rate ever allows together: waiting would not help.
    assert_eq!((answer.status, answer.error_code().as_str()), (413, "too_large"), "{}", answer.text());
    // A client with a server key is not counted.
    for _ in 0..5 {
        assert_eq!(publish(&format!("Bearer {KEY}"), 100).await.status, 200);
    }
    // Over a socket the client gets an error, and the connection stays open.
    let token = token(&json!({"publish": ["a"], "subscribe": ["a"], "sub": "socket"}));
    let mut ws = RawWebSocket::open(&node, &format!("/ws?token={token}")).await;
    for n in 0..60 {
        ws.text(&json!({"type": "publish", "channel": "a", "data": 1, "ref": n}).to_string()).await;
    }
    let error = ws.next_of("error").await;
    assert_eq!(error["code"].as_str(), Some("rate_limited"));
    assert!(error["ref"].as_u64().is_some_and(|n| n >= 5), "{error}");
    ws.text(r#"{"type":"ping","ref":7}"#).await;
    assert_eq!(ws.next_of("pong").await["ref"], 7);
    // An open server counts by address.
    let node = Node::start(&["--publish-rate", "2"]).await;
    let mut statuses = Vec::new();
    while statuses.len() < 60 && !statuses.contains(&429) {
        statuses.push(node.try_publish("channel=a", "1").await.status);
    }
    assert_eq!(statuses[..2], [200, 200]);
    assert_eq!(statuses.last(), Some(&429));
}

/// Requests that hyper itself refuses, and connections that are only closed, are also counted.
#[tokio::test]
async fn refusals_are_counted_by_reason() {
    let node = Node::start(&["--request-timeout", "1", "--max-connections-per-ip", "20"]).await;
    raw(node.http, b"GET /\x01 HTTP/1.1\r\n\r\n").await;
    let many: String = (0..2000).map(|n| format!("X-{n}: y\r\n")).collect();
    let answer = raw(node.http, format!("GET /info HTTP/1.1\r\nHost: localhost\r\n{many}\r\n").as_bytes()).await;
    assert_eq!(answer.map(|answer| answer.status), Some(431));
    let mut slow = TcpStream::connect(node.http).await.expect("connect");
    slow.write_all(b"GET / HTTP/1.1\r\nHost: ").await.expect("write");
    let mut rest = Vec::new();
    within(SOON, "a slow head to be ended", slow.read_to_end(&mut rest)).await.ok();
    node.get("/poll?channel=,").await;
    let mut held = Vec::new();
    for _ in 0..25 {
        held.push(TcpStream::connect(node.http).await.expect("connect"));
    }
    eventually("one too many", async || {
        let answer = Request::get("/healthz").try_send(node.http).await?;
        (answer.status == 200).then_some(())
    })
    .await;
    drop(held);
    for reason in ["bad_head", "head_too_large", "request_timeout", "bad_channel", "connection_limit"] {
        eventually(reason, async || {
            let answer = node.get("/metrics").await;
            (answer.status == 200 && answer.text().contains(&refused(reason))).then_some(())
        })
        .await;
    }
}

/// A client with a small window that reads nothing until the test reads from it.
async fn reluctant(node: &Node, target: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    let mut stream = socket.connect(node.http).await.expect("connect");
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("write");
    stream
}

/// Publishes more than any socket takes: 70 messages of 60,000 bytes, of which one write holds four.
async fn fill(node: &Node) {
    let payload = format!("\"{}\"", "x".repeat(60_000));
    for _ in 0..7 {
        node.publish_all("a", &vec![payload.clone(); 10]).await;
    }
}

async fn held(node: &Node) -> f64 {
    node.metric("longtail_buffered_bytes").await
}

/// A reader that is asked to leave while there is still room, and that reads, gets the time to come back and the cursor
/// to continue from.
#[tokio::test]
async fn a_slow_reader_that_can_be_told_is_told() {
    let node = Node::start(&["--max-buffer-bytes", "2MiB"]).await;
    fill(&node).await;
    let mut slow = Vec::new();
    // Seven writes of 240,000 bytes: more than three quarters of the memory, and less than all of it.
    for n in 1..=7 {
        slow.push(reluctant(&node, "/ndjson?channel=a&cursor=earliest").await);
        let blocks = async || (held(&node).await > f64::from(n) * 239_000.0).then_some(());
        eventually("a write that blocks", blocks).await;
    }
    assert_eq!(node.metric(&refused("memory")).await, 0.0);
    let mut response = Response::new(slow.remove(0), false);
    within(SOON, "a head", response.read_head()).await.expect("a head");
    within(SOON, "the end", response.finish()).await;
    let text = response.text();
    let bye = Item::parse(text.trim_end().lines().last().expect("a line"));
    assert_eq!((bye.kind, bye.number("code")), (Kind::Bye, Some(4002)), "{}", bye.text);
    assert!(bye.number("retry").is_some_and(|ms| (1000..10_000).contains(&ms)), "{}", bye.text);
    // The reader comes back and has missed nothing.
    let read = text.lines().filter(|line| line.contains("\"channel\"")).count();
    assert!((1..70).contains(&read), "{read}");
    let transport = node.transport("sse").await;
    let cursor = bye.str("cursor").expect("a cursor");
    let mut reader = Reader::open(&node, &transport, Subscription::to(&["a"]).from(&cursor)).await;
    for _ in read..70 {
        reader.next_of(Kind::Message).await;
    }
    drop(slow);
    eventually("nothing to be held", async || (held(&node).await == 0.0).then_some(())).await;
}

/// Readers that never read are cut when memory is short, on every transport, and a reader that reads does not notice.
#[tokio::test]
async fn those_that_never_read_are_cut() {
    let node = Node::start(&["--max-buffer-bytes", "2MiB"]).await;
    let sse = node.transport("sse").await;
    let mut witness = Reader::open(&node, &sse, Subscription::to(&["b"])).await;
    fill(&node).await;
    let paths = [
        "/sse?channel=a&cursor=earliest",
        "/ndjson?channel=a&cursor=earliest",
        "/xhr-stream?channel=a&cursor=earliest&max_bytes=10000000",
        "/multipart?channel=a&cursor=earliest&max_bytes=10000000",
        "/forever-frame?channel=a&cursor=earliest&callback=f&max_bytes=10000000",
        "/poll?channel=a&cursor=earliest&limit=1000",
    ];
    let mut never = Vec::new();
    let effect = async || (held(&node).await, node.metric(&refused("memory")).await);
    for path in paths {
        let before = effect().await;
        let mut stream = reluctant(&node, path).await;
        if path.starts_with("/poll") {
            // The socket takes one batch, but not all batches that were asked for.
            let again = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").repeat(9);
            stream.write_all(again.as_bytes()).await.expect("write");
        }
        never.push(stream);
        // This makes each reader wait longer than the next.
        eventually("a write that blocks", async || (effect().await != before).then_some(())).await;
    }
    let before = effect().await;
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    let mut tcp = socket.connect(node.tcp).await.expect("connect");
    tcp.write_all(b"{\"type\":\"subscribe\",\"channels\":[\"a\"],\"cursor\":\"earliest\"}\n").await.expect("write");
    never.push(tcp);
    eventually("a write that blocks", async || (effect().await != before).then_some(())).await;
    let mut more = Vec::new();
    let begun = Instant::now();
    // The oldest go first, so these push them out one by one.
    while node.metric(&refused("memory")).await < never.len() as f64 {
        assert!(begun.elapsed() < SOON * 2, "not all were cut: {}", node.metric(&refused("memory")).await);
        more.push(reluctant(&node, paths[0]).await);
        let published = node.publish_numbers("b", 1).await;
        witness.expect(&published).await;
        let held = held(&node).await;
        assert!(held <= f64::from(2 << 20), "{held} bytes held");
    }
    for mut stream in never {
        let mut rest = Vec::new();
        within(SOON, "the end of one that never reads", stream.read_to_end(&mut rest)).await.ok();
        assert!(rest.len() < 10 * 70 * 60_000, "it had everything: {} bytes", rest.len());
    }
    drop(more);
    eventually("nothing to be held", async || (held(&node).await == 0.0).then_some(())).await;
}

/// Bodies and commands that never become complete cannot use up the memory either.
#[tokio::test]
async fn slow_senders_have_half_of_the_memory() {
    let node = Node::start(&["--max-buffer-bytes", "2MiB", "--request-timeout", "20"]).await;
    let half = "x".repeat(500_000);
    let mut senders = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(node.http).await.expect("connect");
        let head = "POST /publish?channel=a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 600000\r\n\r\n";
        stream.write_all(format!("{head}{half}").as_bytes()).await.expect("write");
        senders.push(stream);
    }
    eventually("them to be counted", async || {
        (node.metric("longtail_buffered_bytes").await >= 1_000_000.0).then_some(())
    })
    .await;
    let answer = raw(
        node.http,
        format!("POST /publish?channel=a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 600000\r\n\r\n{half}")
            .as_bytes(),
    )
    .await;
    let answer = answer.expect("an answer");
    assert_eq!((answer.status, answer.error_code().as_str()), (503, "not_ready"));
    assert!(answer.header("Retry-After").is_some(), "no Retry-After in {:?}", answer.headers);
    // A raw TCP command that is cut short.
    let mut tcp = TcpStream::connect(node.tcp).await.expect("connect");
    tcp.write_all(&half.as_bytes()[..125_000]).await.expect("write");
    let mut end = Vec::new();
    within(SOON, "its end", tcp.read_to_end(&mut end)).await.ok();
    // A WebSocket command that is cut short, in one frame or in fragments: `x` is the letter without a mask of zeros.
    for head in [&[0x81, 0xff, 0, 0, 0, 0, 0, 1, 0xe8, 0x48, 0, 0, 0, 0][..], &[0x01, 0xfe, 0xfd, 0xe8, 0, 0, 0, 0]] {
        let mut ws = RawWebSocket::open(&node, "/ws?channel=b").await;
        ws.next_of("hello").await;
        ws.try_send(head).await;
        ws.try_send(&half.as_bytes()[..100_000]).await;
        assert_eq!(ws.frame().await, None, "cut short without a word");
    }
    // Small inputs pass, and when the senders have gone, the memory is free again.
    assert_eq!(node.try_publish("channel=a", "1").await.status, 200);
    drop(senders);
    eventually("nothing to be held", async || (node.metric("longtail_buffered_bytes").await == 0.0).then_some(()))
        .await;
    assert_eq!(node.try_publish("channel=a", &"x".repeat(60_000)).await.status, 200);
}

/// While the log stalls, the waiting messages do not grow with the number of publishers, because the server stops
/// reading from them.
#[tokio::test]
async fn publications_that_wait_for_the_log_are_bounded() {
    let World { node, redis } =
        World::start(Log::Redis, &["--max-buffer-bytes", "2MiB", "--publish-timeout", "60"]).await;
    let redis = redis.expect("a Redis");
    redis.freeze();
    let payload = "x".repeat(50_000);
    let (publishers, each) = (4, 60);
    let publishers = (0..publishers).map(|_| {
        let (at, payload) = (node.tcp, payload.clone());
        tokio::spawn(async move {
            let (read, mut write) = TcpStream::connect(at).await.expect("connect").into_split();
            let send = tokio::spawn(async move {
                for n in 0..each {
                    let command = json!({"type": "publish", "channel": "a", "data": payload, "ref": n}).to_string();
                    write.write_all(format!("{command}\n").as_bytes()).await.expect("write");
                }
                write
            });
            let mut lines = tokio::io::BufReader::new(read).lines();
            let mut acknowledged = 0;
            for n in 0..each {
                let line = lines.next_line().await.expect("a line").expect("no end");
                let answer = Item::parse(&line);
                assert_eq!(answer.number("ref"), Some(n), "each is answered, in order: {line}");
                acknowledged += u32::from(answer.str("type").as_deref() == Some("ack"));
            }
            drop(send.await);
            acknowledged
        })
    });
    let publishers: Vec<_> = publishers.collect();
    eventually("much to wait", async || (held(&node).await > 600_000.0).then_some(())).await;
    // However long the stall lasts, they hold at most half of the memory.
    for _ in 0..20 {
        let held = held(&node).await;
        assert!(held <= f64::from(1 << 20), "{held}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    redis.thaw();
    let mut acknowledged = 0;
    for publisher in publishers {
        acknowledged += within(SOON * 2, "all to be answered", publisher).await.expect("a publisher");
    }
    assert_eq!(redis.number(&["XLEN", "longtail:log"]).await, i64::from(acknowledged));
    assert!(acknowledged >= 60, "{acknowledged}");
    eventually("nothing to be held", async || (held(&node).await == 0.0).then_some(())).await;
}

/// A reader that reads nothing for `--write-timeout` is disconnected and counted, on every transport.
#[tokio::test]
async fn slow_readers_are_counted() {
    let node = Node::start(&["--write-timeout", "1", "--retain-bytes", "8MiB"]).await;
    let stream = reluctant(&node, "/sse?channel=a").await;
    eventually("the reader", async || (node.get("/channels/a").await.json()["readers"]["total"] == 1).then_some(()))
        .await;
    let payload = format!("\"{}\"", "x".repeat(60_000));
    for _ in 0..20 {
        node.publish_all("a", &vec![payload.clone(); 10]).await;
    }
    eventually("it to be let go", async || (node.metric(&refused("slow_reader")).await >= 1.0).then_some(())).await;
    drop(stream);
    each_transport(
        &node,
        |transport| transport.is_stream(),
        async |transport| {
            let mut reader = Reader::open(&node, &transport, Subscription::to(&["b"])).await;
            reader.next_of(Kind::Hello).await;
        },
    )
    .await;
}

/// A poll of some seventy bytes may have an answer of a megabyte, and a client that reads nothing may send a hundred
/// polls at once.
#[tokio::test]
async fn answers_to_many_polls_are_not_gathered() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    for _ in 0..16 {
        node.publish("a", &format!("\"{}\"", "x".repeat(60_000))).await;
    }
    let before = node.resident();
    let mut stream = TcpStream::connect(node.http).await.expect("connect");
    let poll = "GET /poll?channel=a&cursor=earliest HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(poll.repeat(100).as_bytes()).await.expect("write");
    within(SOON, "the first answer", stream.readable()).await.expect("readable");
    let mut most = before;
    for _ in 0..40 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        most = most.max(node.resident());
    }
    assert!(most - before < 30 << 20, "{before} bytes before, {most} then");
    // A client that reads the answers gets all of them, one after the other.
    let (mut taken, mut some) = (0, vec![0; 1 << 20]);
    while taken < 95_000_000 {
        let n = within(SOON, "more of the answers", stream.read(&mut some)).await.expect("read");
        assert!(n > 0, "it ended after {taken} bytes");
        taken += n;
    }
}
