//! The REST API: statuses, bodies, signatures.

use crate::support::pusher::{APP, PusherClient, get, post, signed};
use crate::support::world::start_on;
use crate::support::{Node, RedisServer, Request, eventually};
use serde_json::{Value, json};

#[tokio::test]
async fn events_go_to_their_channels_and_leave_out_their_socket() {
    let redis = RedisServer::start().await;
    let (one, two) = (start_on(&redis, &["--pusher-app", APP]).await, start_on(&redis, &["--pusher-app", APP]).await);
    let (mut sender, mut other) = (PusherClient::open(&one).await, PusherClient::open(&two).await);
    for client in [&mut sender, &mut other] {
        client.subscribe("a").await;
        client.subscribe("b").await;
    }
    let event = json!({ "name": "x", "channels": ["a", "b", "a"], "data": "{}", "socket_id": sender.id });
    let response = post(&two, "/apps/1/events", &event).await;
    assert_eq!((response.status, response.text()), (200, "{}".to_owned()));
    // A reader of several channels gets an event for each, because clients distinguish events by their channels.
    for channel in ["a", "b"] {
        let frame = other.next().await;
        assert_eq!((&frame["event"], &frame["channel"]), (&json!("x"), &json!(channel)));
    }
    let batch = json!({ "batch": [
        { "name": "y", "channel": "a", "data": "1" },
        { "name": "z", "channel": "b", "data": "2", "socket_id": sender.id },
        { "name": "end", "channel": "b", "data": "3" },
    ] });
    let response = post(&one, "/apps/1/batch_events", &batch).await;
    assert_eq!((response.status, response.text()), (200, "{}".to_owned()));
    for event in ["y", "z", "end"] {
        other.expect(event).await;
    }
    sender.expect("y").await;
    sender.expect("end").await;
    let old = "/apps/1/channels/a/events";
    let query = signed("POST", old, &[("name", "old"), ("socket_id", &sender.id)], "{\"n\":1}");
    let response = Request::post(&format!("{old}?{query}"), b"{\"n\":1}").send(one.http).await;
    assert_eq!(response.status, 202, "{}", response.text());
    assert_eq!(other.expect("old").await, json!({ "n": 1 }));
    sender.expect_nothing().await;
}

#[tokio::test]
async fn questions_about_channels_count_all_nodes() {
    let redis = RedisServer::start().await;
    let (one, two) = (start_on(&redis, &["--pusher-app", APP]).await, start_on(&redis, &["--pusher-app", APP]).await);
    assert_eq!(get(&one, "/apps/1/channels", &[]).await.text(), "{\"channels\":{}}");
    let empty = get(&one, "/apps/1/channels/a", &[]).await;
    assert_eq!(empty.json(), json!({ "occupied": false }));
    let (mut here, mut there) = (PusherClient::open(&one).await, PusherClient::open(&two).await);
    here.subscribe("a").await;
    there.subscribe("a").await;
    there.subscribe("b,c").await;
    there.join("presence-x", &json!({ "user_id": "7" })).await;
    eventually("the counts of both nodes", async || {
        let answer = get(&one, "/apps/1/channels", &[("info", "subscription_count")]).await.json();
        let expected = json!({ "channels": {
            "a": { "subscription_count": 2 },
            "b,c": { "subscription_count": 1 },
            "presence-x": { "subscription_count": 1 },
        } });
        (answer == expected).then_some(())
    })
    .await;
    let fields = [("filter_by_prefix", "presence-"), ("info", "user_count")];
    // A new node may write entries about members when all nodes can read them.
    eventually("the count of users", async || {
        let presence = get(&one, "/apps/1/channels", &fields).await.json();
        (presence == json!({ "channels": { "presence-x": { "user_count": 1 } } })).then_some(())
    })
    .await;
    let event =
        json!({ "name": "x", "channels": ["a", "presence-x"], "data": "{}", "info": "user_count,subscription_count" });
    let info = post(&one, "/apps/1/events", &event).await.json();
    let expected = json!({ "channels": {
        "a": { "subscription_count": 2 },
        "presence-x": { "user_count": 1, "subscription_count": 1 },
    } });
    assert_eq!(info, expected);
    assert_eq!(get(&two, "/apps/1/connections", &[]).await.json(), json!({ "connections": 1 }));
    assert_eq!(one.get("/up").await.json(), json!({ "health": "OK" }));
    // Old clients send statistics.
    assert_eq!(one.get("/timeline/v2/jsonp/7?a=b").await.text(), "Pusher.ScriptReceivers[7](null,{});");
    for path in ["/timeline/v2/xhr/2", "/timeline/7", "/timeline/v2/jsonp/alert(1)"] {
        assert_eq!(one.get(path).await.text(), "{}", "{path}");
    }
}

#[tokio::test]
async fn requests_that_break_a_rule_are_refused_with_a_text() {
    let node = Node::start(&["--pusher-app", APP, "--max-message-bytes", "1KiB"]).await;
    let event = |change: Value| {
        let mut event = json!({ "name": "x", "channel": "a", "data": "{}" });
        event.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
        event
    };
    for (body, status) in [
        (event(json!({})), 200),
        (event(json!({ "socket_id": "" })), 200),
        (event(json!({ "socket_id": null })), 200),
        (event(json!({ "data": { "n": 1 } })), 200),
        (json!({}), 400),
        (json!([]), 400),
        (json!({ "name": "x", "data": "{}" }), 400),
        (event(json!({ "channels": [] })), 400),
        (event(json!({ "channels": vec!["a"; 101] })), 400),
        (event(json!({ "channel": "a b" })), 400),
        (event(json!({ "channel": "x".repeat(201) })), 400),
        (event(json!({ "name": "error" })), 200),
        (event(json!({ "name": "pusher:error" })), 400),
        (event(json!({ "name": "pusher_internal:member_removed" })), 400),
        (event(json!({ "name": "x".repeat(201) })), 400),
        (event(json!({ "socket_id": "abc" })), 400),
        (event(json!({ "data": "x".repeat(1025) })), 413),
        (event(json!({ "data": "x".repeat(1024) })), 200),
    ] {
        let response = post(&node, "/apps/1/events", &body).await;
        assert_eq!(response.status, status, "{body}: {}", response.text());
        assert!(status == 200 || !response.text().is_empty(), "{body}");
    }
    let many = json!({ "batch": vec![event(json!({})); 11] });
    assert_eq!(post(&node, "/apps/1/batch_events", &many).await.status, 400);
    for (path, fields, status) in [
        ("/apps/1/channels", &[("info", "user_count")][..], 400),
        ("/apps/1/channels/a", &[("info", "user_count")], 400),
        ("/apps/1/channels/a/users", &[], 400),
        ("/apps/2/channels", &[], 404),
        ("/apps/1/nothing", &[], 404),
    ] {
        let response = get(&node, path, fields).await;
        assert_eq!(response.status, status, "{path}: {}", response.text());
    }
    assert_eq!(node.get("/apps/1/events").await.status, 405);
}

#[tokio::test]
async fn only_signed_requests_are_carried_out() {
    // With --open, /metrics does not need a key.
    let node = Node::start(&["--pusher-app", APP, "--open"]).await;
    let path = "/apps/1/events";
    let body = json!({ "name": "x", "channel": "a", "data": "{}" }).to_string();
    let query = signed("POST", path, &[], &body);
    let other = body.replace("{}", "[]");
    for (query, body, status) in [
        (query.clone(), &body, 200),
        (String::new(), &body, 401),
        (query.clone(), &other, 401),
        (query.replace("auth_key=app-key", "auth_key=other"), &body, 401),
        (query.replace("auth_timestamp=1", "auth_timestamp=2"), &body, 401),
        (format!("{query}&socket_id=1.2"), &body, 401),
        (signed("POST", "/apps/1/batch_events", &[], &body), &body, 401),
        (signed("GET", path, &[], &body), &body, 401),
    ] {
        let response = Request::post(&format!("{path}?{query}"), body.as_bytes()).send(node.http).await;
        assert_eq!(response.status, status, "{query}: {}", response.text());
    }
    assert!(node.metric("longtail_pusher_refused_total{reason=\"request\"}").await >= 7.0);
}

/// A large body is read whole before its digest is checked.
#[tokio::test]
async fn large_events_are_whole() {
    let node = Node::start(&["--pusher-app", APP]).await;
    let mut client = PusherClient::open(&node).await;
    client.subscribe("a").await;
    let data = json!("x".repeat(60_000)).to_string();
    let response = post(&node, "/apps/1/events", &json!({ "name": "x", "channel": "a", "data": data })).await;
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(client.next().await["data"], data);
}
