//! Native publishers and readers, and the channels of apps.

use crate::support::pusher::{APP, PusherClient, app_with, trigger};
use crate::support::world::start_on;
use crate::support::{Node, RedisServer, Request};
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
        ("1/*", &["1/a", "1/privat"], &["1/private-a", "1/presence-a", "1/=23server-to-user-7", "other"]),
        ("1/p*", &["1/public"], &["1/private-a", "1/presence-a"]),
        ("1/private-*", &["1/private-a"], &["1/presence-a", "1/a"]),
        ("1/private-a", &["1/private-a"], &["1/private-b"]),
        ("1/=23*", &["1/=23server-to-user-7"], &["1/a"]),
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

/// An application may use names that streams use for themselves: native readers get another name.
#[tokio::test]
async fn names_of_streams_do_not_confuse_native_readers() {
    let node = Node::start(&["--pusher-app", APP, "--public", "1/*"]).await;
    let mut client = PusherClient::open(&node).await;
    client.subscribe("a").await;
    for name in ["hello", "heartbeat", "gap", "bye", "error", "open", "=65rror"] {
        trigger(&node, "a", name, "1").await;
        client.expect(name).await;
    }
    let batch = node.get("/poll?channel=1/a&cursor=earliest").await.json();
    let names: Vec<_> = batch["messages"].as_array().expect("messages").iter().map(|it| it["event"].clone()).collect();
    assert_eq!(json!(names), json!(["=68ello", "=68eartbeat", "=67ap", "=62ye", "=65rror", "=6Fpen", "=3D65rror"]));
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

/// Laravel's `redis` broadcaster PUBLISHes to channels with a prefix of Laravel.
#[tokio::test]
async fn messages_of_laravels_redis_broadcaster_are_events_of_the_app() {
    let redis = RedisServer::start().await;
    let app = app_with("redis-pattern", json!({ "redis_pattern": "laravel_database_*" }));
    let node = start_on(&redis, &[&app]).await;
    redis.listened(1).await;
    let (mut one, mut two) = (PusherClient::open(&node).await, PusherClient::open(&node).await);
    one.subscribe("private-a,b").await;
    two.subscribe("private-a,b").await;
    for socket in [json!(one.id), json!(null)] {
        let message = json!({ "event": "App\\Events\\A", "data": { "n": 1 }, "socket": socket }).to_string();
        redis.command(&["PUBLISH", "laravel_database_private-a,b", &message]).await;
        assert_eq!(two.expect("App\\Events\\A").await, json!({ "n": 1 }));
    }
    one.expect("App\\Events\\A").await;
    one.expect_nothing().await;
}
