//! A node whose tail is behind the log, while its other connections to Redis work.

use super::application::Application;
use super::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::world::start_on;
use support::{RawWebSocket, RedisServer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A proxy in front of Redis that can stop the connections of the tail.
async fn stalling(upstream: u16) -> (String, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (url, stalled) =
        (format!("redis://{}/", listener.local_addr().expect("an address")), Arc::<AtomicBool>::default());
    let flag = stalled.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(("127.0.0.1", upstream)).await else { continue };
            let (is_tail, flag) = (Arc::<AtomicBool>::default(), flag.clone());
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            let (tail, stall) = (is_tail.clone(), flag.clone());
            tokio::spawn(async move {
                let mut bytes = vec![0; 64 << 10];
                while let Ok(read @ 1..) = from_client.read(&mut bytes).await {
                    if bytes[..read].windows(5).any(|word| word.eq_ignore_ascii_case(b"XREAD")) {
                        tail.store(true, Ordering::Relaxed);
                    }
                    if to_server.write_all(&bytes[..read]).await.is_err() {
                        return;
                    }
                }
            });
            tokio::spawn(async move {
                let mut bytes = vec![0; 64 << 10];
                while let Ok(read @ 1..) = from_server.read(&mut bytes).await {
                    while is_tail.load(Ordering::Relaxed) && stall.load(Ordering::Relaxed) {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                    if to_client.write_all(&bytes[..read]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (url, stalled)
}

#[tokio::test]
async fn a_node_that_is_behind_does_not_move_a_session_back() {
    let application = Application::start(|call| match call["type"].as_str() {
        Some("event") => (200, json!({"data": call["data"].as_u64().unwrap_or(0) + 1})),
        _ => (204, Value::Null),
    })
    .await;
    let redis = RedisServer::start().await;
    let (url, stalled) = stalling(redis.port()).await;
    let flags = ["--hook-url", &application.url, "--hook-timeout", "20", "--hook-notify", "connect,event,ack"];
    let fast = start_on(&redis, &flags).await;
    let slow = Node::start(&[&["--redis", &url][..], &flags[..]].concat()).await;
    settled(&fast).await;
    settled(&slow).await;
    let batch = fast.get("/poll?channel=a&session=1").await.json();
    let session = batch["session"].as_str().expect("a session").to_owned();
    let get = async |node: &Node, path: &str, cursor: &str| {
        node.get(&format!("{path}?channel=a&session={session}&timeout=2&cursor={cursor}")).await
    };
    stalled.store(true, Ordering::Relaxed);
    publish(&fast, "a", "\"m1\"").await;
    let batch = get(&fast, "/long-poll", batch["cursor"].as_str().expect("a cursor")).await.json();
    let cursor = batch["cursor"].as_str().expect("a cursor").to_owned();
    assert_eq!(batch["messages"][0]["data"], "m1");
    let began = Instant::now();
    let behind = get(&slow, "/long-poll", &cursor).await;
    assert_eq!((behind.status, behind.error_code().as_str()), (503, "not_ready"), "{}", behind.text());
    assert!(began.elapsed() < Duration::from_secs(4), "the wait is a part of the poll: {:?}", began.elapsed());
    for n in 0..3 {
        assert_eq!(post_event(&fast, &session, &json!(n)).await.status, 200);
    }
    change(&fast, &json!({"session": session, "send": [{"event": "ask", "ack": "q"}]})).await;
    // The slow node gets there while these requests wait.
    let later = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        stalled.store(false, Ordering::Relaxed);
    };
    let three = json!(3);
    let event = post_event(&slow, &session, &three);
    assert_eq!(tokio::join!(later, event).1.status, 200);
    let seen: Vec<_> = application.calls("event").iter().map(|call| call["data"].as_u64().unwrap_or(0)).collect();
    assert_eq!(seen, [0, 1, 2, 3], "each call has what the answer before it has set");
    let body = json!({"ack": "q", "data": "yes", "session": session}).to_string();
    let ack = Request::post("/event", body.as_bytes()).header("Content-Type", "application/json").send(slow.http).await;
    assert_eq!(ack.status, 200, "{}", ack.text());
    let rest = get(&slow, "/poll", &cursor).await.json();
    let names: Vec<_> = rest["messages"].as_array().expect("messages").iter().map(|it| it["event"].clone()).collect();
    assert_eq!(names, ["ask"], "m1 does not come again");
}

#[tokio::test]
async fn a_slow_redis_does_not_add_up_waits() {
    let world = start(Log::Redis, &[]).await;
    let (node, redis) = (&world.node, world.redis.as_ref().expect("Redis"));
    let session = node.get("/poll?channel=a&session=1").await.json()["session"].as_str().expect("a session").to_owned();
    let path = format!("/poll?channel=a&session={session}");
    redis.freeze();
    let began = Instant::now();
    let answers = futures_util::future::join_all((0..40).map(|_| node.get(&path))).await;
    redis.thaw();
    println!("40 polls while Redis is frozen: {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    assert!(answers.iter().all(|answer| answer.status == 503));
    eventually("an answer", async || (node.get(&path).await.status == 200).then_some(())).await;
}

/// The record goes while a node is paused, for example. The node notices it, and its stream ends.
#[tokio::test]
async fn a_stream_ends_when_its_session_is_not_known_any_more() {
    let world = start(Log::Redis, &[]).await;
    let (node, redis) = (&world.node, world.redis.as_ref().expect("Redis"));
    let mut socket = RawWebSocket::open(node, "/ws?channel=a&session=1").await;
    let session = socket.next_of("hello").await["session"].as_str().expect("a session").to_owned();
    redis.command(&["DEL", &format!("{{longtail:log}}:session:{session}")]).await;
    let bye = socket.next_of("bye").await;
    assert!(bye["retry"].is_number(), "it may come back: {bye}");
    assert_eq!(node.get(&format!("/poll?channel=a&session={session}")).await.error_code(), "no_session");
}
