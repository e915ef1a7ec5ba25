//! Webhooks: signed, in batches, at least once, from one node, and never lost because the application was away.

use crate::support::application::ServerRequest;
use crate::support::pusher::{KEY, PusherClient, app_with, sign};
use crate::support::world::start_on;
use crate::support::{Node, RedisServer, SOON, eventually, within};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// An application that takes webhooks, or fails.
struct Receiver {
    url: String,
    events: mpsc::UnboundedReceiver<Value>,
    is_broken: Arc<AtomicBool>,
}

impl Receiver {
    async fn start() -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/webhooks", listener.local_addr().expect("an address"));
        let (sender, events) = mpsc::unbounded_channel();
        let is_broken = Arc::new(AtomicBool::new(false));
        let broken = is_broken.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let Some(request) = ServerRequest::read(&mut stream).await else { continue };
                if broken.load(Ordering::Relaxed) {
                    let _ = stream.write_all(b"HTTP/1.1 503 Away\r\nContent-Length: 0\r\n\r\n").await;
                    continue;
                }
                assert!(request.head.starts_with("POST /webhooks "), "{}", request.head);
                assert_eq!(request.header("content-type"), Some("application/json"));
                assert_eq!(request.header("x-pusher-key"), Some(KEY));
                assert_eq!(request.header("x-pusher-signature"), Some(&*sign(&request.body)));
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
                let body: Value = serde_json::from_str(&request.body).expect("JSON");
                assert!(body["time_ms"].as_u64().is_some_and(|time| time > 1_600_000_000_000), "{body}");
                for event in body["events"].as_array().expect("events") {
                    let _ = sender.send(event.clone());
                }
            }
        });
        Receiver { url, events, is_broken }
    }

    /// The environment of a node with an app that has this webhook.
    fn app(&self, name: &str, events: &Value) -> String {
        app_with(name, json!({ "client_events": true, "webhooks": [{ "url": self.url, "events": events }] }))
    }

    async fn next(&mut self) -> Value {
        within(SOON, "an event of a webhook", self.events.recv()).await.expect("an event")
    }

    /// The next events, in any order.
    async fn expect(&mut self, mut expected: Vec<Value>) {
        while !expected.is_empty() {
            let event = self.next().await;
            let found = expected.iter().position(|known| *known == event);
            expected.remove(found.unwrap_or_else(|| panic!("{event} instead of one of {expected:?}")));
        }
    }
}

fn of_channel(name: &str, channel: &str) -> Value {
    json!({ "name": name, "channel": channel })
}

fn of_member(name: &str, user: &str) -> Value {
    json!({ "name": name, "channel": "presence-a", "user_id": user })
}

/// A channel is vacated when the last node has no reader any more, and each change is told by one node.
#[tokio::test]
async fn the_application_hears_of_channels_and_members_over_all_nodes() {
    let mut receiver = Receiver::start().await;
    let names = ["channel_occupied", "channel_vacated", "member_added", "member_removed"];
    let app = receiver.app("transitions", &json!(names));
    let redis = RedisServer::start().await;
    let (one, two) = (start_on(&redis, &[&app]).await, start_on(&redis, &[&app]).await);
    let (mut here, mut there) = (PusherClient::open(&one).await, PusherClient::open(&two).await);
    let user = |id: &str| json!({ "user_id": id });
    here.join("presence-a", &user("1")).await;
    there.join("presence-a", &user("1")).await;
    there.subscribe("a,b").await;
    let occupied = |channel| of_channel("channel_occupied", channel);
    receiver.expect(vec![occupied("presence-a"), occupied("a,b"), of_member("member_added", "1")]).await;
    // The user and the readers of the other node stay.
    drop(here);
    let mut late = PusherClient::open(&one).await;
    late.join("presence-a", &user("2")).await;
    receiver.expect(vec![of_member("member_added", "2")]).await;
    drop((there, late));
    let vacated = |channel| of_channel("channel_vacated", channel);
    let removed = |user| of_member("member_removed", user);
    receiver.expect(vec![vacated("presence-a"), vacated("a,b"), removed("1"), removed("2")]).await;
    assert!(receiver.events.try_recv().is_err(), "each change is told once");
}

/// An application that is away is weather: events wait and are repeated.
#[tokio::test]
async fn events_wait_for_an_application_that_is_away() {
    let mut receiver = Receiver::start().await;
    receiver.is_broken.store(true, Ordering::Relaxed);
    let app = receiver.app("away", &json!(["channel_occupied", "client_event", "cache_miss"]));
    let node = Node::start(&[&app, "--open"]).await;
    let (mut client, mut other) = (PusherClient::open(&node).await, PusherClient::open(&node).await);
    client.subscribe("private-a").await;
    client.join("presence-a", &json!({ "user_id": "7" })).await;
    client.subscribe("cache-a").await;
    client.expect("pusher:cache_miss").await;
    other.subscribe("private-a").await;
    client.send_to("private-a", "client-x", json!({ "n": 1 })).await;
    client.send_to("presence-a", "client-y", json!("text")).await;
    other.expect("client-x").await;
    // What is refused is not told.
    client.send_to("private-b", "client-z", json!(1)).await;
    client.expect("pusher:error").await;
    eventually("a repetition", async || {
        let repeated = node.metric("longtail_pusher_webhook_events_total{outcome=\"repeated\"}").await;
        (repeated >= 4.0).then_some(())
    })
    .await;
    receiver.is_broken.store(false, Ordering::Relaxed);
    let sent = |channel, event, data| json!({ "name": "client_event", "channel": channel, "event": event, "data": data, "socket_id": client.id });
    let mut of_user = sent("presence-a", "client-y", "text");
    of_user["user_id"] = json!("7");
    let occupied = |channel| of_channel("channel_occupied", channel);
    let expected = vec![
        occupied("private-a"),
        occupied("presence-a"),
        occupied("cache-a"),
        of_channel("cache_miss", "cache-a"),
        sent("private-a", "client-x", "{\"n\":1}"),
        of_user,
    ];
    receiver.expect(expected).await;
    eventually("the events to be counted", async || {
        let sent = node.metric("longtail_pusher_webhook_events_total{outcome=\"sent\"}").await;
        (sent >= 6.0).then_some(())
    })
    .await;
    assert_eq!(node.metric("longtail_pusher_webhook_events_total{outcome=\"dropped\"}").await, 0.0);
}
