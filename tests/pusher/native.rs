//! Native publishers and readers, and the channels of apps.

use crate::support::pusher::{APP, PusherClient, trigger};
use crate::support::{Node, Request};
use serde_json::json;

const SERVER_KEY: &str = "server-key-of-the-operator";

async fn publish(node: &Node, query: &str, payload: &str) -> u16 {
    let request = Request::post(&format!("/publish?{query}"), payload.as_bytes());
    request.header("Authorization", &format!("Bearer {SERVER_KEY}")).send(node.http).await.status
}

#[tokio::test]
async fn native_messages_are_events_of_the_app() {
    let node = Node::start(&["--pusher-app", APP, "--publish-key", SERVER_KEY]).await;
    let mut client = PusherClient::open(&node).await;
    client.subscribe("a").await;
    assert_eq!(publish(&node, "channel=1/a&event=added", "{\"n\":1}").await, 200);
    assert_eq!(client.expect("added").await, json!({ "n": 1 }));
    // Nobody speaks in the name of the server.
    assert_eq!(publish(&node, "channel=1/a&event=pusher:error", "{}").await, 200);
    assert_eq!(publish(&node, "channel=1/a&event=pusher_internal:member_removed", "{}").await, 200);
    let excluded = format!("channel=1/a&event=others&exclude={}", client.id);
    assert_eq!(publish(&node, &excluded, "1").await, 200);
    assert_eq!(publish(&node, "channel=1/a&event=last", "1").await, 200);
    client.expect("last").await;
}

/// A pattern reaches the channels of an app only if it spells the prefix, and private ones only if it spells that.
#[tokio::test]
async fn patterns_spell_the_channels_of_an_app() {
    for (pattern, allowed, denied) in [
        ("*", &["other"][..], &["1/a", "1/private-a", "1/presence-a"][..]),
        ("1*", &["12"], &["1/a", "1/private-a"]),
        ("1/*", &["1/a", "1/privat"], &["1/private-a", "1/presence-a", "other"]),
        ("1/p*", &["1/public"], &["1/private-a", "1/presence-a"]),
        ("1/private-*", &["1/private-a"], &["1/presence-a", "1/a"]),
        ("1/private-a", &["1/private-a"], &["1/private-b"]),
    ] {
        let node = Node::start(&["--pusher-app", APP, "--public", pattern]).await;
        for channel in allowed {
            assert_eq!(node.get(&format!("/poll?channel={channel}")).await.status, 200, "{pattern} {channel}");
        }
        for channel in denied {
            assert_eq!(node.get(&format!("/poll?channel={channel}")).await.status, 401, "{pattern} {channel}");
        }
    }
}

#[tokio::test]
async fn native_readers_get_the_events_of_the_app() {
    let node = Node::start(&["--pusher-app", APP, "--public", "1/*"]).await;
    trigger(&node, "a", "added", "{\"n\":1}").await;
    let batch = node.get("/poll?channel=1/a&cursor=earliest").await.json();
    let message = &batch["messages"][0];
    assert_eq!((&message["channel"], &message["event"]), (&json!("1/a"), &json!("added")));
    assert_eq!(message["data"], json!({ "n": 1 }));
}
