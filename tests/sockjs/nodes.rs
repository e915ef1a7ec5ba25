//! Several nodes without sticky sessions: each request reaches another one.

use super::*;
use crate::support::RedisServer;
use crate::support::world::start_on;
use std::time::{Duration, Instant};

async fn nodes(redis: &RedisServer, count: usize) -> Vec<Node> {
    let mut nodes = Vec::new();
    for _ in 0..count {
        let flags = ["--sockjs", ECHO, "--sockjs", CLOSE, "--sockjs", "/room=room on-message=publish origins=*"];
        nodes.push(start_on(redis, &flags).await);
    }
    nodes
}

#[tokio::test]
async fn each_request_may_reach_another_node() {
    let redis = RedisServer::start().await;
    let mut nodes = nodes(&redis, 3).await;
    let at = |turn: usize, nodes: &[Node]| nodes[turn % nodes.len()].http;
    let session = Session::open("/echo", at(0, &nodes)).await;
    for turn in 1..7 {
        session.send(at(turn, &nodes), &format!("[\"{turn}\"]")).await;
        assert_eq!(session.next(at(turn + 1, &nodes)).await, format!("a[\"{turn}\"]\n"));
    }
    let closed = Session::open("/close", at(0, &nodes)).await;
    for turn in 1..4 {
        assert_eq!(closed.xhr(at(turn, &nodes)).await, "c[3000,\"Go away!\"]\n");
    }
    // A stream at one node, and sends at the others.
    let streaming = Session::new("/room");
    let mut stream = streaming.stream(at(0, &nodes)).await;
    stream.expect("o\n").await;
    for turn in 1..5 {
        streaming.send(at(turn, &nodes), &format!("[\"{turn}\"]")).await;
        stream.expect(&format!("a[\"{turn}\"]\n")).await;
    }
    // A node dies between two polls. Nothing is lost, and nothing comes twice.
    let room = Session::open("/room", at(0, &nodes)).await;
    nodes[1].publish("room", "1").await;
    assert_eq!(room.next(at(0, &nodes)).await, "a[\"1\"]\n");
    nodes[1].publish("room", "2").await;
    nodes.remove(0);
    assert_eq!(room.next(at(0, &nodes)).await, "a[\"2\"]\n");
    nodes[0].publish("room", "3").await;
    assert_eq!(room.next(at(1, &nodes)).await, "a[\"3\"]\n");
}

#[tokio::test]
async fn a_claim_at_another_node_holds_while_that_node_lives() {
    let redis = RedisServer::start().await;
    let mut nodes = nodes(&redis, 2).await;
    let session = Session::new("/room");
    let mut stream = session.stream(nodes[0].http).await;
    stream.expect("o\n").await;
    nodes[0].publish("room", "1").await;
    stream.expect("a[\"1\"]\n").await;
    assert_eq!(session.xhr(nodes[1].http).await, "c[2010,\"Another connection still open\"]\n");
    if std::env::var_os("LONGTAIL_LONG").is_none() {
        return;
    }
    // A node that dies in the middle of a response holds the session no longer than its claim. The next request goes on
    // from the last response that has ended.
    nodes.remove(0);
    let began = Instant::now();
    assert_eq!(session.xhr(nodes[0].http).await, "a[\"1\"]\n");
    assert!(began.elapsed() < Duration::from_secs(14), "{:?}", began.elapsed());
}
