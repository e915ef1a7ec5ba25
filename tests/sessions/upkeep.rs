//! What the application is asked and told without a request of a client, and in which order its calls come.

use super::application::Application;
use super::*;
use std::time::{Duration, Instant};
use support::RawWebSocket;

on_both_logs! {
    calls_that_wait_carry_what_earlier_answers_have_set
    an_answer_counts_once_and_belongs_to_its_event
    the_ttl_begins_with_the_answer
    a_full_server_does_not_ask_the_application
    ends_are_told_a_few_at_a_time
}

async fn calls_that_wait_carry_what_earlier_answers_have_set(log: Log) {
    let application = Application::start(|call| match call["type"].as_str() {
        Some("event") => {
            let n = call["data"]["n"].as_u64().unwrap_or(0) + 1;
            (200, json!({"data": {"n": n}, "ack": [n], "join": [format!("room-{n}")]}))
        }
        _ => (204, Value::Null),
    })
    .await;
    let world = start(log, &["--hook-url", &application.url, "--hook-timeout", "20"]).await;
    let mut socket = RawWebSocket::open(&world.node, "/ws?channel=a&session=1").await;
    socket.next_of("hello").await;
    for n in 1..=5 {
        socket.text(&json!({"type": "event", "event": "inc", "ref": n}).to_string()).await;
    }
    for n in 1..=5 {
        let ack = socket.next_of("ack").await;
        assert_eq!((&ack["ref"], &ack["data"]), (&json!(n), &json!([n])));
    }
    let last = application.calls("event").pop().expect("a call");
    assert_eq!(last["channels"], json!(["a", "room-1", "room-2", "room-3", "room-4"]));
}

async fn an_answer_counts_once_and_belongs_to_its_event(log: Log) {
    let application = Application::start(|_| (200, json!({}))).await;
    let flags = ["--hook-timeout", "20", "--hook-url", &application.url, "--hook-notify", "ack"];
    let world = start(log, &flags).await;
    let node = &world.node;
    let mut socket = RawWebSocket::open(node, "/ws?channel=a&session=1").await;
    let session = socket.next_of("hello").await["session"].clone();
    for round in 0..2 {
        change(node, &json!({"session": session, "send": [{"event": "ask", "ack": "q"}]})).await;
        socket.next_of("event").await;
        for n in 0..2 {
            socket.text(&json!({"type": "ack", "ack": "q", "data": n, "ref": n}).to_string()).await;
        }
        assert_eq!(socket.next_of("ack").await["ref"], 0);
        assert_eq!(socket.next_of("error").await["code"], "bad_request");
        assert_eq!(application.calls("ack").len(), round + 1);
    }
    let calls = application.calls("ack");
    assert_eq!((&calls[0]["args"], &calls[1]["args"]), (&json!([0]), &json!([0])));
    assert_ne!(calls[0]["id"], calls[1]["id"]);
}

async fn the_ttl_begins_with_the_answer(log: Log) {
    let application = Application::start(|_| (200, json!({"ttl": 3}))).await;
    let world = start(log, &["--hook-url", &application.url, "--hook-timeout", "20"]).await;
    let node = &world.node;
    // The last entry of the log is older than the ttl.
    publish(node, "a", "1").await;
    tokio::time::sleep(Duration::from_millis(3500)).await;
    let began = Instant::now();
    let mut socket = RawWebSocket::open(node, "/ws?channel=a&session=1").await;
    socket.next_of("hello").await;
    application.wait("connect", 2).await;
    assert!(began.elapsed() >= Duration::from_millis(2900), "{:?}", began.elapsed());
    // Over an outage.
    if let Some(redis) = &world.redis {
        redis.freeze();
        tokio::time::sleep(Duration::from_secs(5)).await;
        let before = application.calls("connect").len();
        redis.thaw();
        application.wait("connect", before + 1).await;
        eventually("the stream", async || {
            (node.try_publish("channel=a", "\"still\"").await.status == 200).then_some(())
        })
        .await;
        while socket.frame().await.expect("an object").json()["data"] != "still" {}
    }
}

async fn a_full_server_does_not_ask_the_application(log: Log) {
    let application = Application::start(|call| match call["client"].as_str() {
        Some("refused") => (200, json!({"refuse": {"message": "no"}})),
        _ => (204, Value::Null),
    })
    .await;
    let flags = ["--hook-url", &application.url, "--hook-timeout", "20", "--hook-notify", "connect,disconnect"];
    let world = start(log, &[&flags[..], &["--max-sessions", "1"]].concat()).await;
    let get = async |client: &str| world.node.get(&format!("/poll?channel=a&session=1&client={client}")).await;
    // A session that is refused does not keep its place, and does not end.
    for _ in 0..2 {
        assert_eq!(get("refused").await.status, 403);
    }
    assert_eq!(get("first").await.status, 200);
    assert_eq!(get("second").await.error_code(), "too_many_connections");
    assert_eq!((application.calls("connect").len(), application.calls("disconnect").len()), (3, 0));
}

/// The application is slow to hear of ends. All of them are told in the end, and the application is asked about another
/// session in time.
async fn ends_are_told_a_few_at_a_time(log: Log) {
    let application = Application::start(|call| match call["type"].as_str() {
        Some("disconnect") => (200, json!({"delay_ms": 100})),
        _ if call["client"] == "kept" => (200, json!({"ttl": 1})),
        _ => (204, Value::Null),
    })
    .await;
    let flags = ["--hook-url", &application.url, "--hook-timeout", "20", "--hook-notify", "connect,disconnect"];
    let world = start(log, &flags).await;
    let node = &world.node;
    let mut sockets = Vec::new();
    for _ in 0..60 {
        let mut socket = RawWebSocket::open(node, "/ws?channel=a&session=1").await;
        socket.next_of("hello").await;
        sockets.push(socket);
    }
    let mut kept = RawWebSocket::open(node, "/ws?channel=k&session=1&client=kept").await;
    kept.next_of("hello").await;
    change(node, &json!({"channel": "a", "disconnect": true})).await;
    let calls = application.wait("disconnect", 60).await;
    assert!(calls.iter().all(|call| call["reason"] == "disconnected"), "{:?}", calls[0]);
    assert!((2..=16).contains(&application.at_once()), "{} at a time", application.at_once());
    publish(node, "k", "\"still\"").await;
    while kept.frame().await.expect("an object").json()["data"] != "still" {}
}
