//! The order of what the application answers, the ends that it causes, and requests during an outage of Redis.

use super::polling::Poller;
use super::*;
use crate::support::{RedisServer, SOON, within, world};
use std::time::Duration;

/// An application whose answers have several parts.
async fn application() -> Application {
    Application::start(|call| match (call["type"].as_str(), call["event"].as_str()) {
        (Some("connect"), _) => (200, json!({ "user": { "id": "7" }, "rooms": ["room"] })),
        (_, Some("all")) => {
            let sent: Vec<Value> = (1..=3).map(|n| json!({ "event": "sent", "args": [n] })).collect();
            let told = json!({ "channel": "new", "event": "told", "data": 4 });
            (200, json!({ "rooms": ["new"], "send": sent, "publish": [told], "ack": ["done"] }))
        }
        (_, Some("end")) => {
            let sent = json!({ "event": "sent", "args": [1] });
            (200, json!({ "send": [sent], "ack": ["bye"], "disconnect": "namespace" }))
        }
        _ => (204, Value::Null),
    })
    .await
}

const ALL: [&str; 5] = ["42[\"sent\",1]", "42[\"sent\",2]", "42[\"sent\",3]", "42[\"told\",4]", "431[\"done\"]"];
const END: [&str; 3] = ["42[\"sent\",1]", "432[\"bye\"]", "41"];

#[tokio::test]
async fn an_answer_comes_after_what_was_sent_before_it_and_before_the_end() {
    let application = application().await;
    let node = Node::start(&["--socketio", "--hook-url", &application.url]).await;
    let (mut client, _) = Client::connected(&node).await;
    client.send("421[\"all\"]").await;
    client.expect(&ALL).await;
    client.send("422[\"end\"]").await;
    client.expect(&END).await;
    let mut poller = Poller::connected(node.http).await;
    for _ in 0..3 {
        poller.post("421[\"all\"]").await;
        assert_eq!(poller.packets(5).await, ALL);
    }
    poller.post("422[\"end\"]").await;
    assert_eq!(poller.packets(3).await, END);
}

#[tokio::test]
async fn whoever_is_named_a_closed_transport_ends_the_connection() {
    let application = application().await;
    let node = Node::start(&["--socketio", "--hook-url", &application.url]).await;
    for selector in ["user", "client", "channel"] {
        // The end may be found by a poll, or by a post before it.
        for posts in [false, true] {
            let mut poller = Poller::open(node.http, polling::P4).await.0;
            poller.post("40\u{1e}40/two,").await;
            let packets = poller.packets(2).await;
            let main = packets.iter().find_map(|packet| packet.strip_prefix("40{")).expect("the main namespace");
            let object: Value = serde_json::from_str(&format!("{{{main}")).expect("JSON");
            let value = match selector {
                "user" => json!("7"),
                "client" => object["sid"].clone(),
                _ => json!("room"),
            };
            let change = json!({ selector: value, "disconnect": "transport" }).to_string();
            let request = Request::post("/sessions", change.as_bytes()).header("Content-Type", "application/json");
            assert_eq!(request.send(node.http).await.status, 200);
            if posts {
                poller.post("42[\"event\"]").await;
                eventually("the session to be over", async || {
                    let listed = node.get("/sessions?channel=room").await.json();
                    (listed["sessions"] == json!([])).then_some(())
                })
                .await;
            }
            let mut packets = poller.packets(3).await;
            packets.sort_unstable();
            assert_eq!(packets, ["1", "41", "41/two,"], "{selector} {posts}");
            let target = poller.stamped();
            assert_eq!(poller.status(Request::get(&target)).await, 400, "{selector} {posts}");
        }
    }
}

#[tokio::test]
async fn the_users_of_clients_that_poll_are_members() {
    let application = application().await;
    let flags = ["--socketio", "--hook-url", &application.url, "--presence", "room", "--away-seconds", "1"];
    let node = Node::start(&flags).await;
    let mut poller = Poller::connected(node.http).await;
    let waiting = tokio::spawn(async move { poller.packets(1).await });
    let members = async || node.get("/channels/room/members").await.json()["members"].clone();
    let is_there = async || (members().await == json!([{ "id": "7", "info": null }])).then_some(());
    eventually("the member", is_there).await;
    node.publish_with("channel=room&event=hi", "1").await;
    assert_eq!(within(SOON, "the message", waiting).await.expect("no panic"), ["42[\"hi\",1]"]);
    is_there().await.expect("it is a member between two polls, too");
    eventually("the member to be gone", async || (members().await == json!([])).then_some(())).await;
}

#[tokio::test]
async fn a_short_outage_of_redis_is_not_noted() {
    let redis = RedisServer::start().await;
    let application = application().await;
    let times = ["--socketio-ping-interval", "1", "--socketio-ping-timeout", "8"];
    let flags = [&["--socketio", "--socketio-join", "todo", "--hook-url", &application.url][..], &times].concat();
    let node = world::start_on(&redis, &flags).await;
    crate::sessions::settled(&node).await;
    let mut poller = Poller::connected(node.http).await;
    let (get, post) = (poller.stamped(), poller.stamped());
    let address = node.http;
    let parked = tokio::spawn(async move { Request::get(&get).send(address).await });
    redis.freeze();
    let posted = tokio::spawn(async move { Request::post(&post, b"421[\"all\"]").send(address).await });
    // The outage is longer than the time between two pings.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    redis.thaw();
    let answers = (
        within(SOON, "the answer to the GET", parked).await.expect("no panic"),
        within(SOON, "the answer to the POST", posted).await.expect("no panic"),
    );
    assert_eq!((answers.0.status, answers.1.status), (200, 200));
    let mut seen: Vec<String> = answers.0.text().split('\u{1e}').map(str::to_owned).collect();
    while seen.last().is_none_or(|packet| !packet.starts_with("431[")) {
        seen.extend(poller.packets(1).await);
    }
    seen.retain(|packet| !matches!(packet.as_str(), "2" | "6"));
    assert_eq!(seen, ALL);
}
