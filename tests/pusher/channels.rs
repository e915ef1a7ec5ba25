//! Channels: who may read them, what a new reader gets first, and events of clients.

use crate::support::pusher::{APP, KEY, PusherClient, app_with, get, sign, trigger};
use crate::support::world::start_on;
use crate::support::{Log, Node, RedisServer, Request, World};
use serde_json::{Value, json};

#[tokio::test]
async fn events_reach_the_readers_of_a_channel_in_order() {
    for log in [Log::Memory, Log::Redis] {
        let world = World::start(log, &["--pusher-app", APP]).await;
        let (node, mut client) = (&world.node, PusherClient::open(&world.node).await);
        trigger(node, "a", "early", "{}").await;
        assert_eq!(client.subscribe("a").await, json!({}));
        for data in ["{\"n\":1}", "2", "text", "\"quoted\"", "[3]"] {
            trigger(node, "a", "App\\Events\\Added", data).await;
            let frame = client.next().await;
            assert_eq!((&frame["event"], &frame["channel"]), (&json!("App\\Events\\Added"), &json!("a")));
            assert_eq!(frame["data"], data, "the text is as it was sent");
            assert!(frame["id"].is_string(), "{frame}");
        }
        trigger(node, "b", "other", "{}").await;
        // A second subscription is answered, and does not double events.
        client.subscribe("a").await;
        trigger(node, "a", "once", "{}").await;
        client.expect("once").await;
        client.expect_nothing().await;
        client.send("pusher:unsubscribe", json!({ "channel": "a" })).await;
        client.expect_nothing().await;
        trigger(node, "a", "late", "{}").await;
        client.expect_nothing().await;
        client.subscribe("a,b;c=@d").await;
        trigger(node, "a,b;c=@d", "odd", "{}").await;
        client.expect("odd").await;
    }
}

/// No event is lost between the answer and the first event, however often clients subscribe while events arrive.
#[tokio::test]
async fn the_answer_comes_first_and_nothing_is_lost_after_it() {
    let node = Node::start(&["--pusher-app", APP]).await;
    let publisher = async {
        for n in 0..200 {
            trigger(&node, "a", "n", &n.to_string()).await;
        }
    };
    let reader = async {
        let mut client = PusherClient::open(&node).await;
        client.subscribe("other").await;
        client.send("pusher:subscribe", json!({ "channel": "a" })).await;
        // An event before the answer would not have this name.
        client.expect("pusher_internal:subscription_succeeded").await;
        let mut expected = client.expect("n").await.as_u64().expect("a number");
        while expected < 199 {
            expected += 1;
            assert_eq!(client.expect("n").await, expected);
        }
    };
    tokio::join!(publisher, reader, async {
        let mut client = PusherClient::open(&node).await;
        for _ in 0..20 {
            client.send("pusher:subscribe", json!({ "channel": "a" })).await;
            client.expect("pusher_internal:subscription_succeeded").await;
            client.send("pusher:unsubscribe", json!({ "channel": "a" })).await;
            // Events may come until the server has read the command; then the ping is answered.
            client.send("pusher:ping", json!({})).await;
            while client.next().await["event"] != "pusher:pong" {}
        }
    });
}

#[tokio::test]
async fn private_channels_need_the_signature_of_this_socket_and_this_channel() {
    let node = Node::start(&["--pusher-app", APP]).await;
    let mut client = PusherClient::open(&node).await;
    let good = |channel: &str| format!("{KEY}:{}", sign(&format!("{}:{channel}", client.id)));
    let other_socket = format!("{KEY}:{}", sign("1.2:private-a"));
    let other_key = good("private-a").replace(KEY, "other");
    let cases = [
        ("private-a", Value::Null, false),
        ("private-a", json!(other_socket), false),
        ("private-a", json!(other_key), false),
        ("private-a", json!(good("private-b")), false),
        ("private-a", json!("app-key"), false),
        ("private-a", json!(""), false),
        ("presence-a", json!(good("presence-a")), false),
        ("#server-to-user-7", Value::Null, false),
        ("private-a", json!(good("private-a")), true),
        ("private-encrypted-a", json!(good("private-encrypted-a")), true),
    ];
    for (channel, auth, is_allowed) in cases {
        client.send("pusher:subscribe", json!({ "channel": channel, "auth": auth })).await;
        let frame = client.next().await;
        assert_eq!(frame["channel"], channel);
        if is_allowed {
            assert_eq!(frame["event"], "pusher_internal:subscription_succeeded", "{frame}");
            continue;
        }
        assert_eq!(frame["event"], "pusher:subscription_error", "{channel} {auth}: {frame}");
        let data: Value = serde_json::from_str(frame["data"].as_str().expect("a text")).expect("JSON");
        assert_eq!((&data["type"], &data["status"]), (&json!("AuthError"), &json!(401)), "{channel} {auth}");
    }
    client.send("pusher:subscribe", json!({ "channel": "a b" })).await;
    assert_eq!(client.expect("pusher:subscription_error").await["status"], 400);
    trigger(&node, "private-a", "x", "1").await;
    client.expect("x").await;
}

#[tokio::test]
async fn a_cache_channel_begins_with_its_last_event() {
    let node = Node::start(&["--pusher-app", APP, "--open"]).await;
    let mut client = PusherClient::open(&node).await;
    client.subscribe("cache-a").await;
    let miss = client.next().await;
    assert_eq!((&miss["event"], &miss["channel"]), (&json!("pusher:cache_miss"), &json!("cache-a")));
    trigger(&node, "cache-a", "first", "1").await;
    trigger(&node, "cache-a", "second", "2").await;
    client.expect("first").await;
    client.expect("second").await;
    let cached = get(&node, "/apps/1/channels/cache-a", &[("info", "cache")]).await.json();
    let ttl = cached["cache"]["ttl"].as_u64().expect("seconds");
    assert!((1700..=1800).contains(&ttl) && cached["cache"]["data"] == "2", "{cached}");
    let none = get(&node, "/apps/1/channels/private-cache-b", &[("info", "cache")]).await.json();
    assert_eq!(none, json!({ "occupied": false }));
    let mut late = PusherClient::open(&node).await;
    late.subscribe("private-cache-b").await;
    late.expect("pusher:cache_miss").await;
    late.subscribe("cache-a").await;
    assert_eq!(late.expect("second").await, 2);
    late.expect_nothing().await;
    // An event that is not for clients is not the last one.
    let request = Request::post("/publish?channel=1/cache-a&event=pusher:x", b"1");
    assert_eq!(request.send(node.http).await.status, 200);
    late.send("pusher:unsubscribe", json!({ "channel": "cache-a" })).await;
    late.subscribe("cache-a").await;
    assert_eq!(late.expect("second").await, 2);
    trigger(&node, "cache-a", "third", "3").await;
    late.expect("third").await;
}

#[tokio::test]
async fn a_connection_reads_a_bounded_number_of_channels() {
    let node = Node::start(&["--pusher-app", APP, "--max-channels", "2"]).await;
    let mut client = PusherClient::open(&node).await;
    client.subscribe("a").await;
    client.subscribe("b").await;
    client.subscribe("a").await;
    client.send("pusher:subscribe", json!({ "channel": "c" })).await;
    let error = client.expect("pusher:subscription_error").await;
    assert_eq!((&error["type"], &error["status"]), (&json!("LimitReached"), &json!(4100)));
}

#[tokio::test]
async fn events_of_clients_reach_the_others_on_every_node() {
    let redis = RedisServer::start().await;
    let apps = app_with("client-events", json!({ "client_events": true }));
    let (one, two) = (start_on(&redis, &[&apps]).await, start_on(&redis, &[&apps]).await);
    redis.listened(2).await;
    let (mut sender, mut near, mut far) =
        (PusherClient::open(&one).await, PusherClient::open(&one).await, PusherClient::open(&two).await);
    for client in [&mut sender, &mut near, &mut far] {
        client.subscribe("private-a").await;
    }
    let data = json!({ "typing": true });
    sender.send_to("private-a", "client-typing", data.clone()).await;
    for client in [&mut near, &mut far] {
        assert_eq!(client.expect("client-typing").await, data);
    }
    sender.expect_nothing().await;
    // A text comes out as it was sent. Some libraries send all data so.
    for (data, text) in [(json!("{\"a\":1}"), "{\"a\":1}"), (json!("hello"), "hello"), (json!("\"x\""), "\"x\"")] {
        sender.send_to("private-a", "client-text", data).await;
        assert_eq!(near.next().await["data"], text);
        far.expect("client-text").await;
    }
    for (channel, event) in [("private-b", "client-x"), ("public", "client-x"), ("private-encrypted-a", "client-x")] {
        sender.send_to(channel, event, json!({})).await;
        assert_eq!(sender.expect("pusher:error").await["code"], 4301, "{channel}");
    }
    // Only the first ten events of a second are passed on. The connection goes on.
    let mut refused = 0;
    for n in 0..30 {
        sender.send_to("private-a", "client-n", json!(n)).await;
    }
    sender.send("pusher:ping", json!({})).await;
    loop {
        let frame = sender.next().await;
        match frame["event"].as_str() {
            Some("pusher:pong") => break,
            _ => assert_eq!(frame["data"]["code"], 4301, "{frame}"),
        }
        refused += 1;
    }
    // Three have gone before.
    assert!((1..=24).contains(&refused), "{refused}");
}

#[tokio::test]
async fn events_of_clients_are_off_by_default() {
    let node = Node::start(&["--pusher-app", APP]).await;
    let mut client = PusherClient::open(&node).await;
    client.subscribe("private-a").await;
    client.send_to("private-a", "client-x", json!({})).await;
    let error = client.expect("pusher:error").await;
    assert_eq!(error["code"], 4301);
    assert!(error["message"].as_str().is_some_and(|text| text.contains("client_events")), "{error}");
}
