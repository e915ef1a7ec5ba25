//! How sessions end, and that the application is told once.

use super::application::Application;
use super::*;
use std::time::{Duration, Instant};
use support::RawWebSocket;

on_both_logs! {
    the_application_is_told_once_when_a_client_is_gone
    a_session_lives_while_its_client_comes_back
}

async fn the_application_is_told_once_when_a_client_is_gone(log: Log) {
    let application = Application::start(|call| match call["type"].as_str() {
        Some("disconnect") => (200, json!({"publish": [{"channel": "log", "data": call["client"]}]})),
        _ => (204, Value::Null),
    })
    .await;
    let flags =
        ["--hook-timeout", "20", "--hook-url", &application.url, "--hook-notify", "disconnect", "--away-seconds", "2"];
    let world = start(log, &flags).await;
    let node = &world.node;
    let cursor = node.latest("log").await;
    let (ws, poll) = (node.transport("ws").await, node.transport("poll").await);
    let closed = open(node, &ws, "a", &[("client", "closed")]).await;
    let polling = open(node, &poll, "b", &[("client", "polling")]).await;
    let kicked = open(node, &ws, "c", &[("client", "kicked")]).await;
    let between = open(node, &poll, "e", &[("client", "between")]).await;
    // It does not poll any more, so nobody reads the end before its time.
    change(node, &json!({"session": between.subscription.session(), "disconnect": true})).await;
    let mut stays = open(node, &ws, "d", &[("client", "stays")]).await;
    change(node, &json!({"client": "kicked", "disconnect": true})).await;
    let began = Instant::now();
    drop((closed, polling, between));
    let calls = application.wait("disconnect", 4).await;
    assert!(began.elapsed() >= Duration::from_secs(2));
    let mut reasons: Vec<_> = calls.iter().map(|call| (call["client"].as_str(), call["reason"].as_str())).collect();
    reasons.sort_unstable();
    let reason = |client, reason| (Some(client), Some(reason));
    let disconnected = [reason("between", "disconnected"), reason("kicked", "disconnected")];
    assert_eq!(reasons, [disconnected[0], reason("closed", "gone"), disconnected[1], reason("polling", "gone")]);
    assert!(calls.iter().all(|call| call["session"].is_string() && call["channels"].is_array()), "{calls:?}");
    eventually("the messages of the answers", async || {
        let batch = node.get(&format!("/poll?channel=log&cursor={cursor}")).await.json();
        (batch["messages"].as_array().expect("messages").len() == 4).then_some(())
    })
    .await;
    publish(node, "d", "1").await;
    expect(&mut stays, &message("d", 1)).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(application.calls("disconnect").len(), 4);
    drop(kicked);
}

async fn a_session_lives_while_its_client_comes_back(log: Log) {
    let world = start(log, &["--away-seconds", "2"]).await;
    let node = &world.node;
    let mut socket = RawWebSocket::open(node, "/ws?channel=a&session=1&client=me").await;
    let session = socket.next_of("hello").await["session"].as_str().expect("a session").to_owned();
    let path = format!("/poll?channel=a&session={session}");
    // Longer than any deadline, each time with less than that between two requests.
    let until = Instant::now() + Duration::from_secs(14);
    let mut turn = 0;
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(1200)).await;
        turn += 1;
        match turn % 3 {
            0 => socket = RawWebSocket::open(node, &format!("/ws?channel=a&session={session}")).await,
            _ => assert_eq!(node.get(&path).await.status, 200),
        }
    }
    drop(socket);
    eventually("the end of the session", async || {
        (node.get("/sessions?channel=a").await.json()["sessions"] == json!([])).then_some(())
    })
    .await;
    assert_eq!(node.get(&path).await.error_code(), "no_session");
}
