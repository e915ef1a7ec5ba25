//! Limits: clients that are slow or send too much are refused or disconnected, and other clients do not notice.

use crate::support;

use std::time::Duration;
use support::{
    Item, Kind, LineClient, Log, Node, Reader, Request, Response, SOON, Subscription, World, eventually, http::raw,
    websocket::handshake, within, write_past,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Sends `beginning`, and then a byte now and then, until the server ends the connection. Returns the server's answer.
async fn trickle(node: &Node, beginning: &[u8]) -> Vec<u8> {
    let stream = TcpStream::connect(node.http).await.expect("connect");
    let (mut read, mut write) = stream.into_split();
    write.write_all(beginning).await.expect("write");
    let send = tokio::spawn(async move {
        while write.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    let mut answer = Vec::new();
    within(SOON, "the server to end a slow request", read.read_to_end(&mut answer)).await.ok();
    send.abort();
    answer
}

#[tokio::test]
async fn slow_requests_are_ended() {
    let World { node, .. } = World::start(Log::Memory, &["--request-timeout", "1"]).await;
    let sse = node.transport("sse").await;
    let mut witness = Reader::open(&node, &sse, Subscription::to(&["todo"])).await;
    witness.next_of(Kind::Hello).await;
    let slow = [
        "GET /poll?channel=a HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
        "G",
        "POST /publish?channel=todo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nx",
        "POST /sse HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\nchannel=todo",
        "POST /publish?channel=todo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n400\r\nx",
    ];
    let answers = futures_util::future::join_all(slow.iter().map(|s| trickle(&node, s.as_bytes()))).await;
    for (request, answer) in slow.iter().zip(answers) {
        let answer = String::from_utf8_lossy(&answer);
        let fine = answer.is_empty() || answer.starts_with("HTTP/1.1 408") || answer.starts_with("HTTP/1.1 400");
        assert!(fine, "{request:?}: {answer}");
    }
    // A reader is not slow because it is silent, and a published message still comes.
    let new = node.publish_numbers("todo", 1).await;
    witness.expect(&new).await;
}

/// An event stream, unless it is refused.
async fn stream(node: &Node) -> Option<Response> {
    let mut response = Request::get("/sse?channel=todo").open(node.http).await;
    let mut text = String::new();
    while !text.contains("data: ") {
        let part = within(SOON, "hello or bye", response.read_some()).await;
        text.push_str(&String::from_utf8_lossy(&part.expect("hello or bye")));
    }
    (!text.contains("event: bye")).then_some(response)
}

/// Takes all of a node's places with event streams.
async fn fill(node: &Node, places: usize) -> Vec<Response> {
    let mut kept = Vec::new();
    while kept.len() < places {
        // The connections that asked whether the node is ready may still be open.
        kept.push(eventually("a place", async || stream(node).await).await);
    }
    assert!(stream(node).await.is_none(), "one more than the {places} places is let in");
    kept
}

#[tokio::test]
async fn connections_are_counted() {
    for flag in ["--max-connections", "--max-connections-per-ip"] {
        let World { node, .. } = World::start(Log::Memory, &[flag, "4"]).await;
        let kept = fill(&node, 4).await;
        for url in ["/poll?channel=a", "/long-poll?channel=a", "/xhr-stream?channel=a", "/multipart?channel=a"] {
            let answer = node.get(url).await;
            assert_eq!(answer.status, 503, "{flag} {url}: {}", answer.text());
            assert_eq!(answer.error_code(), "too_many_connections", "{flag} {url}");
            assert!(answer.header("Retry-After").is_some_and(|s| s.parse::<u32>().is_ok()), "{url}");
        }
        let answer = handshake("/ws?channel=a").send(node.http).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (503, "too_many_connections"));
        let answer = node.get("/jsonp?channel=a&callback=cb").await;
        assert_eq!(answer.status, 200);
        assert!(answer.text().contains("too_many_connections"), "{}", answer.text());
        let mut client = LineClient::connect(node.tcp).await;
        let bye = Item::parse(&client.line().await.expect("a bye"));
        assert_eq!((bye.kind, bye.number("code")), (Kind::Bye, Some(4004)));
        assert!(bye.number("retry").is_some(), "{}", bye.text);
        assert_eq!(client.line().await, None);

        // A client that leaves frees its place.
        drop(kept);
        eventually("room", async || (node.get("/poll?channel=a").await.status == 200).then_some(())).await;
    }
}

/// A reader that never reads is disconnected. The others get all messages in the meantime.
#[tokio::test]
async fn a_slow_reader_disturbs_nobody() {
    let args = ["--write-timeout", "1", "--retain-bytes", "4MiB"];
    let World { node, .. } = World::start(Log::Memory, &args).await;
    let mut slow = Vec::new();
    for target in ["/sse?channel=todo", "/multipart?channel=todo&max_bytes=1000000000"] {
        let mut stream = TcpStream::connect(node.http).await.expect("connect");
        let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("write");
        slow.push(stream);
    }
    let answer = handshake("/ws?channel=todo").open(node.http).await;
    slow.push(answer.into_stream().0.into_plain());
    let mut stream = TcpStream::connect(node.tcp).await.expect("connect");
    stream.write_all(b"{\"type\":\"subscribe\",\"channels\":[\"todo\"]}\n").await.expect("write");
    slow.push(stream);
    for stream in &slow {
        within(SOON, "its first bytes", stream.readable()).await.expect("readable");
    }

    let sse = node.transport("sse").await;
    let mut witness = Reader::open(&node, &sse, Subscription::to(&["todo"])).await;
    write_past(&node, &mut witness, slow).await;
    let new = node.publish_numbers("todo", 1).await;
    witness.expect(&new).await;
}

/// A reader that is slower than the log is told of the gap, or is disconnected; it never misses a message silently.
#[tokio::test]
async fn a_reader_that_falls_behind_is_told() {
    let args = ["--write-timeout", "300", "--retain-messages", "50"];
    let World { node, .. } = World::start(Log::Memory, &args).await;
    let sse = node.transport("sse").await;
    let mut reader = Reader::open(&node, &sse, Subscription::to(&["todo"])).await;
    reader.next_of(Kind::Hello).await;
    let payload = format!("\"{}\"", "x".repeat(60_000));
    let mut ids = Vec::new();
    for _ in 0..40 {
        let published = node.publish_all("todo", &vec![payload.clone(); 10]).await;
        ids.extend(published.into_iter().map(|p| p.id));
    }
    let mut next = 0;
    let mut told = false;
    while next < ids.len() {
        let item = reader.next().await.expect("an item, not the end");
        match item.kind {
            Kind::Message => {
                let place = ids.iter().position(|id| Some(id) == item.id().as_ref()).expect("published");
                assert!(place == next || (told && place > next), "message {place} in place of {next}");
                (next, told) = (place + 1, false);
            }
            Kind::Gap => told = true,
            Kind::Bye => {
                assert_eq!(item.number("code"), Some(4002), "{}", item.text);
                return;
            }
            _ => {}
        }
    }
}

/// Heads that are too large are refused, and so are bodies, before the server has read them.
#[tokio::test]
async fn large_requests() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    let many: String = (0..5000).map(|n| format!("X-{n}: y\r\n")).collect();
    let large = format!("X: {}\r\n", "y".repeat(2 << 20));
    let long = "x".repeat(1 << 20);
    for (target, headers) in [("/info", many.as_str()), ("/info", &large), (&format!("/info?{long}"), "")] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        let status = raw(node.http, request.as_bytes()).await.map_or(400, |answer| answer.status);
        assert!(matches!(status, 400 | 414 | 431), "{status}");
    }
    // The server does not read all of a body to find out that it is too large.
    let part = "x".repeat(3 << 20);
    for target in ["/publish?channel=a", "/publish", "/sse", "/poll"] {
        let request = format!(
            "POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: 10000000000\r\n\r\nchannel={part}"
        );
        let answer = raw(node.http, request.as_bytes()).await.expect("an answer, before the end of the body");
        assert_eq!((answer.status, answer.error_code().as_str()), (413, "too_large"), "{target}");
    }
    assert_eq!(node.get("/info").await.status, 200);
}

/// Readers that connect and leave, however abruptly, do not stay in the counts.
#[tokio::test]
async fn who_is_gone_is_not_counted() {
    let World { node, .. } = World::start(Log::Memory, &["--max-connections", "10"]).await;
    let transports = node.transports().await;
    for round in 0..200 {
        let transport = &transports[round % transports.len()];
        let (address, hello) = match transport.lifecycle.as_str() {
            "socket" => (node.tcp, "{\"type\":\"subscribe\",\"channels\":[\"todo\"]}\n".to_owned()),
            _ => (
                node.http,
                format!("GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n", transport.url("channel=todo&timeout=1")),
            ),
        };
        let mut stream = TcpStream::connect(address).await.expect("connect");
        stream.write_all(hello.as_bytes()).await.ok();
        match round % 4 {
            // The client leaves at once; after it read all; with unread data (a reset); after it shut its sending side.
            0 => {}
            1 => drop(tokio::time::timeout(Duration::from_millis(20), stream.read(&mut [0; 4096])).await),
            2 => drop(tokio::time::timeout(Duration::from_millis(20), stream.readable()).await),
            _ => stream.shutdown().await.unwrap_or_default(),
        }
    }
    eventually("all to be gone", async || {
        let mut kept = Vec::new();
        for _ in 0..9 {
            let mut response = Request::get("/sse?channel=todo").open(node.http).await;
            let first = within(SOON, "hello or bye", response.read_some()).await?;
            if String::from_utf8_lossy(&first).contains("event: bye") {
                return None;
            }
            kept.push(response);
        }
        Some(())
    })
    .await;
}

/// A write that blocks longer than a heartbeat's interval uses the timer's only wake-up. The heartbeat is sent
/// nonetheless.
#[tokio::test]
async fn a_heartbeat_follows_a_write_that_was_waited_for() {
    let args = ["--heartbeat-seconds", "1", "--direct-writes", "false", "--send-buffer-bytes", "16KiB"];
    let World { node, .. } = World::start(Log::Memory, &args).await;
    let mut readers = Vec::new();
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (path, headers) in [("/ndjson", ""), ("/ws", upgrade)] {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        let mut stream = socket.connect(node.http).await.expect("connect");
        let request = format!("GET {path}?channel=todo HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.expect("write");
        read_to(&mut stream, "\"hello\"").await;
        readers.push(stream);
    }
    // One write of 240,000 bytes, and nothing after it.
    node.publish_all("todo", &vec![format!("\"{}\"", "x".repeat(60_000)); 4]).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    for mut stream in readers {
        let length = read_to(&mut stream, "\"heartbeat\",").await;
        assert!(length > 240_000, "the heartbeat comes behind the messages: {length}");
    }
}

/// Reads until `wanted` arrives, and returns the number of bytes before it.
async fn read_to(stream: &mut TcpStream, wanted: &str) -> usize {
    let mut text = String::new();
    within(SOON, wanted, async {
        let mut part = [0; 64 << 10];
        loop {
            let n = stream.read(&mut part).await.expect("read");
            assert!(n > 0, "the end before {wanted}");
            let old = text.len().saturating_sub(wanted.len());
            // A frame's head is not text, so it is not counted.
            text.extend(part[..n].iter().map(|byte| if byte.is_ascii() { char::from(*byte) } else { '?' }));
            if text[old..].contains(wanted) {
                return text.len();
            }
        }
    })
    .await
}
