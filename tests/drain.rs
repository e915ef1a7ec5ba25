//! A graceful shutdown: requests under way are answered, idle connections are closed, and no client can delay it.

use crate::support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use support::websocket::frame;
use support::{Kind, LineClient, Log, RawWebSocket, Reader, Response, SOON, Subscription, World, eventually, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// If all readers got the same time to come back, they would all come to the next node at once.
#[tokio::test]
async fn returns_are_spread() {
    let World { mut node, .. } = World::start(Log::Memory, &[]).await;
    let mut readers = Vec::new();
    for name in ["sse", "ws", "tcp", "ndjson"] {
        let transport = node.transport(name).await;
        for _ in 0..25 {
            readers.push(Reader::open(&node, &transport, Subscription::to(&["todo"])).await);
        }
    }
    node.signal("TERM");
    let mut retries = BTreeSet::new();
    for mut reader in readers {
        let bye = reader.next_of(Kind::Bye).await;
        assert_eq!(bye.number("code"), Some(4001));
        retries.insert(bye.number("retry").expect("a time"));
    }
    // There are 100 random times within 2,800 milliseconds.
    let (first, last) = (*retries.first().expect("one"), *retries.last().expect("one"));
    assert!(retries.len() > 80 && last - first > 2000, "{} from {first} to {last}", retries.len());
    assert_eq!(node.exit_code().await, 0);
}

#[tokio::test]
async fn what_is_under_way_is_answered() {
    let World { mut node, .. } = World::start(Log::Memory, &[]).await;
    let ndjson = node.transport("ndjson").await;
    let mut reader = Reader::open(&node, &ndjson, Subscription::to(&["todo"])).await;
    reader.next_of(Kind::Hello).await;
    // A client in the middle of its body, a client that has its answer and may ask again, and a client that has sent no
    // request.
    let mut busy = TcpStream::connect(node.http).await.expect("connect");
    let head = b"POST /publish?channel=todo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n\"h";
    busy.write_all(head).await.expect("write");
    let mut idle = TcpStream::connect(node.http).await.expect("connect");
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("write");
    let mut idle = Response::new(idle, false);
    idle.read_head().await.expect("an answer");
    idle.finish().await;
    let mut fresh = TcpStream::connect(node.http).await.expect("connect");
    node.get("/healthz").await;

    let began = Instant::now();
    node.signal("TERM");
    reader.next_of(Kind::Bye).await;
    eventually("the listener to be gone", async || TcpStream::connect(node.http).await.is_err().then_some(())).await;
    let (mut idle, rest) = idle.into_stream();
    assert!(rest.is_empty(), "nothing behind the answer: {rest:?}");
    assert_eq!(within(SOON, "the end", idle.read(&mut [0; 1])).await.expect("closed in good order"), 0);
    busy.write_all(b"i!\"").await.expect("write");
    let mut answer = Response::new(busy, false);
    answer.read_head().await.expect("an answer");
    answer.finish().await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")), "{}", answer.text());
    within(SOON, "the end of one that asks nothing", fresh.read(&mut [0; 1])).await.ok();
    assert_eq!(node.exit_code().await, 0);
    let log = node.log();
    assert!(!log.contains("drain timeout"), "held up for {:?}: {log}", began.elapsed());
}

/// The hub answers a poll without its task, which may see the next request and the drain at the same moment.
#[tokio::test]
async fn who_has_asked_again_before_it_is_answered() {
    let World { mut node, .. } = World::start(Log::Memory, &[]).await;
    let ask = |cursor: &str| format!("GET /long-poll?channel=todo&cursor={cursor} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut polls = Vec::new();
    for _ in 0..1000 {
        let mut poll = TcpStream::connect(node.http).await.expect("connect");
        poll.write_all(ask("latest").as_bytes()).await.expect("write");
        polls.push(poll);
    }
    eventually("all to wait", async || {
        (node.get("/channels/todo").await.json()["readers"]["total"] == 1000).then_some(())
    })
    .await;
    let cursor = node.publish("todo", "1").await;
    let mut next = Vec::new();
    for poll in polls {
        let mut answer = Response::new(poll, false);
        answer.read_head().await.expect("an answer");
        answer.finish().await;
        assert_eq!((answer.status, answer.header("connection")), (200, None));
        let (poll, more) = answer.into_stream();
        assert!(more.is_empty(), "nothing behind the answer: {more:?}");
        next.push(poll);
    }
    // The requests and the signal have arrived when the node continues.
    node.signal("STOP");
    for poll in &mut next {
        poll.write_all(ask(&cursor).as_bytes()).await.expect("write");
    }
    node.signal("TERM");
    node.signal("CONT");
    for poll in next {
        let mut answer = Response::new(poll, false);
        answer.read_head().await.expect("an answer");
        answer.finish().await;
        assert_eq!(answer.header("connection"), Some("close"), "{}", answer.text());
    }
    assert_eq!(node.exit_code().await, 0);
}

/// The hub knows readers by their channels. A reader without a channel, or one that left its last channel, also gets a
/// farewell.
#[tokio::test]
async fn who_reads_no_channel_is_told() {
    let World { mut node, .. } = World::start(Log::Memory, &["--heartbeat-seconds", "600"]).await;
    let mut fresh = RawWebSocket::open(&node, "/ws").await;
    fresh.next_of("hello").await;
    let mut former = RawWebSocket::open(&node, "/ws?channel=todo").await;
    former.next_of("hello").await;
    former.text(r#"{"type":"unsubscribe","channels":["todo"]}"#).await;
    former.next_of("ack").await;
    let mut tcp = LineClient::connect(node.tcp).await;
    for kind in ["subscribe", "unsubscribe"] {
        tcp.send(&format!(r#"{{"type":"{kind}","channels":["todo"],"ref":"{kind}"}}"#)).await;
        while tcp.json().await["ref"] != kind {}
    }
    node.signal("TERM");
    for ws in [&mut fresh, &mut former] {
        assert_eq!(ws.next_of("bye").await["code"], 4001);
        assert_eq!(ws.close_code().await, 4001);
    }
    assert_eq!(tcp.json().await["code"], 4001);
    assert_eq!(node.exit_code().await, 0);
}

/// Messages that are being appended are acknowledged before the farewell: a publisher without the acknowledgement would
/// publish them again.
#[tokio::test]
async fn publications_are_acknowledged_before_the_farewell() {
    let World { mut node, redis } = World::start(Log::Redis, &[]).await;
    let redis = redis.expect("a Redis");
    let sse = node.transport("sse").await;
    let mut witness = Reader::open(&node, &sse, Subscription::to(&["other"])).await;
    witness.next_of(Kind::Hello).await;
    let mut ws = RawWebSocket::open(&node, "/ws?channel=todo").await;
    let mut tcp = LineClient::connect(node.tcp).await;
    redis.freeze();
    // The pong shows that the server has read all commands before it.
    for n in 1..=3 {
        let publish = format!(r#"{{"type":"publish","channel":"other","data":{n},"ref":{n}}}"#);
        ws.text(&publish).await;
        tcp.send(&publish).await;
    }
    ws.text(r#"{"type":"ping"}"#).await;
    ws.next_of("pong").await;
    tcp.send(r#"{"type":"ping"}"#).await;
    assert_eq!(tcp.json().await["type"], "pong");
    node.signal("TERM");
    witness.next_of(Kind::Bye).await;
    // This command comes too late: the server no longer reads it, and so does not answer it.
    ws.try_send(&frame(0x81, br#"{"type":"publish","channel":"other","data":4,"ref":4}"#)).await;
    redis.thaw();
    for n in 1..=3 {
        let (by_ws, by_tcp) = (ws.frame().await.expect("an answer").json(), tcp.json().await);
        assert_eq!((&by_ws["type"], &by_ws["ref"]), (&"ack".into(), &n.into()), "{by_ws}");
        assert_eq!((&by_tcp["type"], &by_tcp["ref"]), (&"ack".into(), &n.into()), "{by_tcp}");
    }
    assert_eq!(ws.next_of("bye").await["code"], 4001);
    assert_eq!(ws.close_code().await, 4001);
    assert_eq!(tcp.json().await["code"], 4001);
    assert_eq!(node.exit_code().await, 0);
    assert_eq!(redis.number(&["XLEN", "longtail:log"]).await, 6);
}

/// A client that has connected in time gets an answer, even if the server has not accepted it yet.
#[tokio::test]
async fn the_backlog_is_served() {
    let World { mut node, .. } = World::start(Log::Memory, &[]).await;
    node.signal("STOP");
    let mut waiting = Vec::new();
    for n in 0..400 {
        let mut stream = TcpStream::connect(node.http).await.expect("connect");
        let publish =
            format!("POST /publish?channel=todo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\n{n:03}");
        stream.write_all(publish.as_bytes()).await.expect("write");
        waiting.push(stream);
    }
    node.signal("TERM");
    node.signal("CONT");
    for stream in waiting {
        let mut answer = Response::new(stream, false);
        within(SOON, "an answer", answer.read_head()).await.expect("an answer, not a reset");
        answer.finish().await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(node.exit_code().await, 0);
}

/// A client that reads nothing is disconnected when the drain's time is up.
#[tokio::test]
async fn who_does_not_go_is_cut() {
    let World { mut node, .. } = World::start(Log::Memory, &["--drain-seconds", "1"]).await;
    let mut stuck = TcpStream::connect(node.http).await.expect("connect");
    stuck.write_all(b"GET /sse?channel=todo HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("write");
    within(SOON, "its hello", stuck.readable()).await.expect("readable");
    let batch = vec![format!("\"{}\"", "x".repeat(60_000)); 16];
    // These are more bytes than the sockets hold.
    for _ in 0..20 {
        node.publish_all("todo", &batch).await;
    }
    let began = Instant::now();
    node.signal("TERM");
    assert_eq!(node.exit_code().await, 0);
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(900) && took < Duration::from_secs(15), "it took {took:?} in place of 1 s");
    node.logged("drain timeout").await;
}

/// With `--drain-delay` a load balancer sees that the node is not ready while the node still serves.
#[tokio::test]
async fn a_drain_may_be_announced_before_it_begins() {
    let World { mut node, .. } = World::start(Log::Memory, &["--drain-delay", "3"]).await;
    let ndjson = node.transport("ndjson").await;
    let mut reader = Reader::open(&node, &ndjson, Subscription::to(&["todo"])).await;
    reader.next_of(Kind::Hello).await;
    let began = Instant::now();
    node.signal("TERM");
    eventually("/readyz to answer 503", async || {
        let answer = node.get("/readyz").await;
        (answer.status == 503 && answer.text().contains("draining")).then_some(())
    })
    .await;
    assert_eq!(node.metric("longtail_draining").await, 1.0);
    // New connections are served, and old ones get no farewell.
    let mut late = Reader::open(&node, &ndjson, Subscription::to(&["todo"])).await;
    late.next_of(Kind::Hello).await;
    let published = node.publish_numbers("todo", 3).await;
    reader.expect(&published).await;
    late.expect(&published).await;
    for reader in [&mut reader, &mut late] {
        assert_eq!(reader.next_of(Kind::Bye).await.number("code"), Some(4001));
    }
    assert!(began.elapsed() >= Duration::from_millis(2900), "the drain began after {:?}", began.elapsed());
    assert_eq!(node.exit_code().await, 0);
}

/// A supervisor that signals a process and its group sends a signal twice. This does not count as a second signal.
#[tokio::test]
async fn two_equal_signals_at_once_are_one() {
    for (signals, is_at_once) in [
        (&["TERM", "TERM"][..], false),
        (&["INT", "INT"], false),
        (&["TERM", "INT"], true),
        (&["TERM", "", "TERM"], true),
    ] {
        let World { mut node, .. } = World::start(Log::Memory, &["--drain-delay", "2"]).await;
        let ndjson = node.transport("ndjson").await;
        let mut reader = Reader::open(&node, &ndjson, Subscription::to(&["todo"])).await;
        reader.next_of(Kind::Hello).await;
        for signal in signals {
            match *signal {
                "" => tokio::time::sleep(Duration::from_millis(300)).await,
                name => node.signal(name),
            }
        }
        assert_eq!(node.exit_code().await, 0, "{signals:?}");
        let log = node.log();
        assert_eq!(log.contains("second signal"), is_at_once, "{signals:?}: {log}");
        if !is_at_once {
            assert_eq!(reader.next_of(Kind::Bye).await.number("code"), Some(4001), "{signals:?}");
        }
    }
}
