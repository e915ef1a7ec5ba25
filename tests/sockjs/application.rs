//! Sessions of an application: `on-message=hook`.

use super::*;
use crate::sessions::application::Application;
use serde_json::{Value, json};

async fn with_application() -> (Node, Application) {
    let application = Application::start(|call| match (call["type"].as_str(), call["args"][0].as_str()) {
        (Some("connect"), _) if call["query"]["no"].is_string() => (200, json!({ "refuse": { "message": "no" } })),
        (Some("connect"), _) => (200, json!({ "join": ["news"], "send": [{ "event": "x", "args": ["welcome"] }] })),
        (Some("event"), Some("bye")) => (200, json!({ "disconnect": true })),
        (Some("event"), _) => (200, json!({ "send": [{ "event": "message", "args": call["args"] }] })),
        _ => (204, Value::Null),
    })
    .await;
    let flags = ["--hook-url", &application.url, "--hook-notify", "connect,event,disconnect"];
    let node = with(&["/app=room on-message=hook origins=*"], &flags).await;
    (node, application)
}

#[tokio::test]
async fn the_application_gets_messages_and_answers() {
    let (node, application) = with_application().await;
    let session = Session::open("/app", node.http).await;
    assert_eq!(session.next(node.http).await, "a[\"welcome\"]\n");
    session.send(node.http, "[\"1\",\"two\"]").await;
    let mut got = String::new();
    while got.matches('a').count() < 2 && !got.contains("two") {
        got.push_str(&session.next(node.http).await);
    }
    assert_eq!(got.replace("]\na[", ","), "a[\"1\",\"two\"]\n");
    // The channel of the prefix, and one that the application has added.
    for (channel, text) in [("room", "r"), ("news", "n")] {
        node.publish(channel, &format!("\"{text}\"")).await;
        assert_eq!(session.next(node.http).await, format!("a[\"{text}\"]\n"));
    }
    session.send(node.http, "[\"bye\"]").await;
    for _ in 0..2 {
        assert_eq!(session.next(node.http).await, "c[3000,\"Go away!\"]\n");
    }
    let connect = &application.calls("connect")[0];
    assert_eq!((&connect["protocol"], &connect["endpoint"]), (&"sockjs".into(), &"/app".into()));
    let refused = Request::post("/app/0/refused/xhr?no=1", b"").send(node.http).await;
    assert_eq!(refused.status, 403);
}

#[tokio::test]
async fn the_application_hears_of_the_end() {
    let (node, application) = with_application().await;
    let mut socket = web_socket(node.http, "/app/0/0/websocket").await;
    expect(&mut socket, "a[\"welcome\"]").await;
    socket.text("[\"a\"]").await;
    expect(&mut socket, "a[\"a\"]").await;
    let mut raw = RawWebSocket::open(&node, "/app/websocket").await;
    expect(&mut raw, "welcome").await;
    raw.text("bye").await;
    assert_eq!(raw.frame().await.expect("a close").close_code(), 3000);
    let session = Session::new("/app");
    let mut stream = session.stream(node.http).await;
    stream.expect("o\n").await;
    stream.expect("a[\"welcome\"]\n").await;
    drop(stream);
    application.wait("disconnect", 2).await;
}
