//! Sessions over several nodes of one log.

use super::application::Application;
use super::*;
use std::time::Duration;
use support::world::start_on;
use support::{RawWebSocket, RedisServer};

async fn two_nodes(args: &[&str]) -> (Node, Node, RedisServer) {
    let redis = RedisServer::start().await;
    let (one, two) = (start_on(&redis, args).await, start_on(&redis, args).await);
    settled(&one).await;
    settled(&two).await;
    (one, two, redis)
}

#[tokio::test]
async fn requests_of_a_session_reach_any_node() {
    let application = Application::start(|call| match call["type"].as_str() {
        Some("event") => (200, json!({"join": [call["args"][0]], "send": [{"event": "joined"}]})),
        _ => (204, Value::Null),
    })
    .await;
    let (one, two, _redis) = two_nodes(&["--hook-timeout", "20", "--hook-url", &application.url]).await;
    let nodes = [&one, &two];
    let mut cursor = one.latest("own").await;
    let first = one.get(&format!("/poll?channel=own&session=1&cursor={cursor}")).await.json();
    let session = first["session"].as_str().unwrap_or_else(|| panic!("{first}")).to_owned();
    let mut seen = Vec::new();
    for n in 0..20 {
        // The event at one node, the message at another one, and the poll in turn.
        let room = format!("room-{n}");
        let answer = post_event(nodes[n % 2], &session, &json!(room)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        publish(nodes[(n + 1) % 2], &room, "1").await;
        let path = format!("/long-poll?channel=own&session={session}&timeout=10&cursor={cursor}");
        let batch = nodes[n / 2 % 2].get(&path).await.json();
        assert_eq!(batch["session"], session.as_str(), "{batch}");
        cursor = batch["cursor"].as_str().expect("a cursor").to_owned();
        let names = batch["messages"].as_array().expect("messages").iter();
        seen.extend(names.map(|it| it["channel"].as_str().or(it["event"].as_str()).expect("a name").to_owned()));
    }
    let rest = two.get(&format!("/poll?channel=own&session={session}&cursor={cursor}")).await.json();
    let names = rest["messages"].as_array().expect("messages").iter();
    seen.extend(names.map(|it| it["channel"].as_str().or(it["event"].as_str()).expect("a name").to_owned()));
    let expected: Vec<String> = (0..20).flat_map(|n| ["joined".to_owned(), format!("room-{n}")]).collect();
    assert_eq!(seen, expected, "each once and in order");
}

#[tokio::test]
async fn a_change_is_done_before_a_later_message_on_every_node() {
    let (one, two, _redis) = two_nodes(&[]).await;
    let mut sockets = Vec::new();
    for n in 0..10 {
        let node = if n % 2 == 0 { &one } else { &two };
        let mut socket = RawWebSocket::open(node, &format!("/ws?channel=all&session=1&client=c{n}")).await;
        socket.next_of("hello").await;
        sockets.push(socket);
    }
    for n in 0..20 {
        let node = if n % 3 == 0 { &two } else { &one };
        let action = if n % 2 == 0 { "join" } else { "leave" };
        change(node, &json!({"channel": "all", action: ["room"]})).await;
        publish(if n % 3 == 1 { &two } else { &one }, "room", &n.to_string()).await;
    }
    publish(&one, "all", "\"end\"").await;
    for (n, socket) in sockets.iter_mut().enumerate() {
        let mut got = Vec::new();
        loop {
            let object = socket.frame().await.expect("an object").json();
            match &object["data"] {
                Value::Number(number) => got.push(number.as_u64().expect("a number")),
                Value::String(_) => break,
                _ => {}
            }
        }
        assert_eq!(got, [0, 2, 4, 6, 8, 10, 12, 14, 16, 18], "socket {n}");
    }
}

#[tokio::test]
async fn a_dead_node_s_sessions_move_or_end() {
    let application = Application::start(|_| (204, Value::Null)).await;
    let flags = [
        "--hook-timeout",
        "20",
        "--hook-url",
        &application.url,
        "--hook-notify",
        "connect,disconnect",
        "--away-seconds",
        "4",
    ];
    let (one, two, _redis) = two_nodes(&flags).await;
    let mut moves = RawWebSocket::open(&one, "/ws?channel=a&session=1&client=moves").await;
    let hello = moves.next_of("hello").await;
    let (session, cursor) =
        (hello["session"].as_str().expect("a session"), hello["cursor"].as_str().expect("a cursor"));
    let mut ends = RawWebSocket::open(&one, "/ws?channel=a&session=1&client=ends").await;
    ends.next_of("hello").await;
    change(&two, &json!({"client": "moves", "join": ["room"]})).await;
    drop(one);
    publish(&two, "room", "1").await;
    let path = format!("/ws?channel=a&session={session}&cursor={cursor}");
    let mut moved = RawWebSocket::open(&two, &path).await;
    assert_eq!(moved.next_of("hello").await["session"], session);
    assert_eq!(moved.frame().await.expect("an object").json()["data"], 1);
    let calls = application.wait("disconnect", 1).await;
    assert_eq!(calls[0]["client"], "ends");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(application.calls("disconnect").len(), 1);
    assert_eq!(application.calls("connect").len(), 2, "a session that moves does not begin again");
}
