//! What a message does, and that every reader gets the text that was sent.

use super::*;
use crate::support::{Reader, Subscription, eventually};

const TEXTS: [&str; 6] = ["a", "123", "{\"a\": 1}", " 1", "\"q\"", "[1,\n2]"];

#[tokio::test]
async fn messages_are_published() {
    let prefixes = ["/all=one,two on-message=publish", "/others=one on-message=broadcast", "/read=one"];
    let node = with(&prefixes, &[]).await;
    let transport = node.transport("ws").await;
    let mut native = Reader::open(&node, &transport, Subscription::to(&["one"])).await;
    let session = Session::open("/all", node.http).await;
    let mut socket = web_socket(node.http, "/others/0/0/websocket").await;
    let mut silent = web_socket(node.http, "/read/0/0/websocket").await;
    let mut raw = RawWebSocket::open(&node, "/all/websocket").await;
    for text in TEXTS {
        let body = serde_json::to_string(&[text]).expect("JSON");
        session.send(node.http, &body).await;
        // The message has two channels, and a reader of both of them gets it once.
        assert_eq!(session.xhr(node.http).await, format!("a{body}\n"));
        for socket in [&mut socket, &mut silent] {
            expect(socket, &format!("a{body}")).await;
        }
        expect(&mut raw, text).await;
    }
    // Native readers get JSON as JSON.
    let expected = ["\"a\"", "123", "{\"a\": 1}", "\" 1\"", "\"\\\"q\\\"\"", "\"[1,\\n2]\""];
    for (text, payload) in TEXTS.iter().zip(expected) {
        let object = native.next_message().await.text;
        assert!(object.contains(&format!("\"data\":{payload}")), "{text}: {object}");
    }
    // The sender of a broadcast does not get it. A message to a prefix that ignores messages does nothing.
    silent.text("[\"ignored\"]").await;
    socket.text("[\"b\"]").await;
    expect(&mut silent, "a[\"b\"]").await;
    raw.text("c").await;
    expect(&mut socket, "a[\"c\"]").await;
    eventually("the count of ignored messages", async || {
        (node.metric("longtail_sockjs_ignored_messages_total").await == 1.0).then_some(())
    })
    .await;
    // Messages of other publishers.
    node.publish("one", "{\"n\":1}").await;
    expect(&mut socket, "a[\"{\\\"n\\\":1}\"]").await;
}

#[tokio::test]
async fn publishing_and_reading_ask_the_rules() {
    let flags = ["--publish-key", "a-key-that-is-long-enough", "--public", "one"];
    let node = with(&["/one=one on-message=publish", "/two=two on-message=publish"], &flags).await;
    let session = Session::open("/one", node.http).await;
    session.send(node.http, "[\"a\",\"b\"]").await;
    let refused = Request::post("/two/0/0/xhr", b"").send(node.http).await;
    assert!(matches!(refused.status, 401 | 403), "{}", refused.status);
    not_cached(&refused);
    let key = "Bearer a-key-that-is-long-enough";
    let sent = Request::post(&session.path("xhr_send"), b"[\"c\"]").header("Authorization", key).send(node.http).await;
    assert_eq!(sent.status, 204);
    assert_eq!(session.xhr(node.http).await, "a[\"c\"]\n");
}

#[tokio::test]
async fn a_newcomer_gets_the_newest_messages() {
    let node = with(&["/room=room last=2"], &[]).await;
    for n in 1..=3 {
        node.publish("room", &n.to_string()).await;
    }
    let session = Session::open("/room", node.http).await;
    assert_eq!(session.xhr(node.http).await, "a[\"2\",\"3\"]\n");
    let mut socket = web_socket(node.http, "/room/0/0/websocket").await;
    expect(&mut socket, "a[\"2\"]").await;
}
