//! Channels, rooms and the rules of flags, without an application.

use super::*;

#[tokio::test]
async fn channels_reach_the_sockets_of_their_namespace() {
    let flags = ["--socketio", "--socketio-join", "todo", "--socketio-join", "/chat=board"];
    let node = Node::start(&flags).await;
    let (mut main, _) = Client::connected(&node).await;
    let mut chat = Client::open(&node, V4).await;
    chat.send("40/chat").await;
    chat.next().await;
    for (channel, event, data) in
        [("todo", "addItem", "{\"title\":\"milk\"}"), ("/", "all", "1"), ("board", "b", "2"), ("/chat", "c", "3")]
    {
        node.publish_with(&format!("channel={}&event={event}", channel.replace('/', "%2F")), data).await;
    }
    main.expect(&["42[\"addItem\",{\"title\":\"milk\"}]", "42[\"all\",1]"]).await;
    chat.expect(&["42/chat,[\"b\",2]", "42/chat,[\"c\",3]"]).await;
    // A name that the library uses itself is skipped.
    node.publish_with("channel=todo&event=connect", "1").await;
    node.publish_with("channel=todo&event=next", "{\"$binary\":\"AQ==\"}").await;
    main.expect(&["451-[\"next\",{\"_placeholder\":true,\"num\":0}]", "[1]"]).await;
    assert_eq!(node.metric("longtail_socketio_skipped_messages_total").await, 1.0);
}

#[tokio::test]
async fn rules_join_leave_publish_and_broadcast() {
    let rules = ["subscribe=join", "unsubscribe=leave", "say=publish", "shout=broadcast"];
    let mut flags = vec!["--socketio"];
    rules.iter().for_each(|rule| flags.extend(["--socketio-on", rule]));
    let node = Node::start(&flags).await;
    let (mut one, id) = Client::connected(&node).await;
    let (mut two, _) = Client::connected(&node).await;
    one.send("421[\"subscribe\",\"room 1\"]").await;
    one.expect(&["431[]"]).await;
    node.publish_with("channel=room%3D201&event=in", "1").await;
    one.expect(&["42[\"in\",1]"]).await;
    one.send("422[\"unsubscribe\",\"room 1\"]").await;
    one.expect(&["432[]"]).await;
    node.publish_with("channel=room%3D201&event=in", "2").await;
    one.send("42[\"say\",\"a\",\"b\"]").await;
    one.send("42[\"shout\",{\"x\":1}]").await;
    one.send("423[\"say\",1]").await;
    two.expect(&["42[\"say\",\"a\",\"b\"]", "42[\"shout\",{\"x\":1}]", "42[\"say\",1]"]).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(one.next().await);
    }
    seen.sort_unstable();
    assert_eq!(seen, ["42[\"say\",\"a\",\"b\"]", "42[\"say\",1]", "433[]"], "the sender does not get its broadcast");
    node.publish_with(&format!("channel=%2F&event=others&exclude={id}"), "1").await;
    two.expect(&["42[\"others\",1]"]).await;
    // An event that nobody takes has no effect.
    one.send("42[\"other\"]").await;
    one.send("424[\"subscribe\",{}]").await;
    assert!(one.next().await.starts_with("434[{\"error\":{\"code\":\"bad_request\""));
    assert_eq!(node.metric("longtail_socketio_ignored_events_total").await, 1.0);
}

#[tokio::test]
async fn rules_ask_the_access_rules() {
    let flags = ["--socketio", "--public", "open:*", "--socketio-on", "subscribe=join", "--socketio-on", "say=publish"];
    let node = Node::start(&flags).await;
    let (mut client, _) = Client::connected(&node).await;
    for (packet, answer) in [
        ("421[\"subscribe\",\"open:1\"]", "431[]"),
        ("422[\"subscribe\",\"closed\"]", "432[{\"error\":{\"code\":\"unauthorized\""),
        ("423[\"say\",1]", "433[{\"error\":{\"code\":\"unauthorized\""),
    ] {
        client.send(packet).await;
        let answered = client.next().await;
        assert!(answered.starts_with(answer), "{packet}: {answered}");
    }
    client.send("40/other").await;
    client.expect(&["44/other,{\"message\":\"Invalid namespace\"}"]).await;
}

#[tokio::test]
async fn the_server_changes_and_ends_sockets_by_their_public_id() {
    let node = Node::start(&["--socketio"]).await;
    let (mut client, id) = Client::connected(&node).await;
    let change = async |change: Value| -> Response {
        let request = Request::post("/sessions", change.to_string().as_bytes());
        request.header("Content-Type", "application/json").send(node.http).await
    };
    let send = json!({ "client": id, "rooms": ["r"], "send": [{ "event": "hello", "args": [1, 2] }] });
    assert_eq!(change(send).await.status, 200);
    client.expect(&["42[\"hello\",1,2]"]).await;
    node.publish_with("channel=r&event=e", "1").await;
    client.expect(&["42[\"e\",1]"]).await;
    let listed = eventually("the socket in the list", async || {
        node.get("/sessions?channel=r").await.json()["sessions"].get(0).cloned()
    })
    .await;
    assert_eq!((&listed["client"], &listed["endpoint"]), (&json!(id), &json!("/")));
    assert_eq!(change(json!({ "client": id, "disconnect": true })).await.status, 200);
    client.expect(&["41"]).await;
}
