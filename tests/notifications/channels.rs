//! Channels that get their first reader or lose their last one.

use super::*;
use support::{Reader, Subscription, each_transport};

on_both_logs! {
    a_channel_is_occupied_and_vacated_once_on_every_transport
    a_reconnect_within_the_grace_is_not_an_event
    a_reader_of_many_channels_comes_and_goes
}

async fn a_channel_is_occupied_and_vacated_once_on_every_transport(log: Log) {
    let application = accepting().await;
    let world = World::start(log, &flags(&application, "occupied,vacated")).await;
    let node = &world.node;
    each_transport(
        node,
        |_| true,
        async |transport| {
            let channel = format!("own-{}", transport.name);
            let open = async || {
                let mut subscription = Subscription::to(&[&channel]).with("client", &channel);
                if transport.is_poll() {
                    let cursor = node.get("/poll?channel=other").await.json()["cursor"].clone();
                    subscription = subscription.from(cursor.as_str().expect("a cursor"));
                }
                let reader = Reader::open(node, &transport, subscription).await;
                if transport.is_poll() {
                    let query = format!("{}&timeout=1&callback=f", reader.subscription.query());
                    assert_eq!(node.get(&transport.url(&query)).await.status, 200);
                }
                reader
            };
            let first = open().await;
            until(&application, &channel, &["occupied"]).await;
            let second = open().await;
            drop(first);
            if !transport.is_poll() {
                tokio::time::sleep(Duration::from_secs(6)).await;
                assert_eq!(calls_of(&application, &channel), ["occupied"], "there is another reader");
            }
            drop(second);
            until(&application, &channel, &["occupied", "vacated"]).await;
            let _again = open().await;
            until(&application, &channel, &["occupied", "vacated", "occupied"]).await;
        },
    )
    .await;
    let all = application.all();
    for call in &all {
        assert_eq!(call["protocol"], "longtail");
        assert_eq!((&call["session"], &call["client"], &call["user"]), (&Value::Null, &Value::Null, &Value::Null));
        assert!(
            call["cursor"].is_string() && call["channel"].as_str().is_some_and(|it| !it.starts_with('~')),
            "{call}"
        );
    }
    let mut ids: Vec<&str> = all.iter().map(|call| call["id"].as_str().expect("an id")).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all.len(), "each transition has an id of its own");
}

async fn a_reconnect_within_the_grace_is_not_an_event(log: Log) {
    let application = accepting().await;
    let world = World::start(log, &flags(&application, "occupied,vacated")).await;
    let mut socket = read(&world.node, "a").await;
    until(&application, "a", &["occupied"]).await;
    for _ in 0..4 {
        drop(socket);
        tokio::time::sleep(Duration::from_millis(1500)).await;
        socket = read(&world.node, "a").await;
        // The nodes count their readers every second.
        tokio::time::sleep(Duration::from_millis(1500)).await;
    }
    assert_eq!(calls_of(&application, "a"), ["occupied"]);
    let gone = Instant::now();
    drop(socket);
    until(&application, "a", &["occupied", "vacated"]).await;
    assert!(gone.elapsed() > Duration::from_secs(3), "{:?}", gone.elapsed());
}

/// More channels than the backlog and a page hold.
async fn a_reader_of_many_channels_comes_and_goes(log: Log) {
    const CHANNELS: usize = 1500;
    let application = accepting().await;
    let flags = [&flags(&application, "occupied,vacated")[..], &["--max-channels", "1000"]].concat();
    let world = World::start(log, &flags).await;
    let mut sockets = Vec::new();
    for first in (0..CHANNELS).step_by(500) {
        let mut socket = RawWebSocket::open(&world.node, "/ws").await;
        let channels: Vec<String> = (first..first + 500).map(|n| format!("c{n:04}")).collect();
        socket.text(&json!({"type": "subscribe", "channels": channels, "ref": 1}).to_string()).await;
        socket.next_of("ack").await;
        sockets.push(socket);
    }
    application.wait("occupied", CHANNELS).await;
    drop(sockets);
    application.wait("vacated", CHANNELS).await;
    for n in 0..CHANNELS {
        assert_eq!(calls_of(&application, &format!("c{n:04}")), ["occupied", "vacated"]);
    }
}

/// Without these types, the server does nothing for them.
#[tokio::test]
async fn a_server_without_these_types_does_nothing_new() {
    let application = accepting().await;
    let redis = RedisServer::start().await;
    let node = start_on(&redis, &flags(&application, "connect,event")).await;
    let _socket = read(&node, "a").await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    let keys: Vec<String> = ::redis::from_redis_value(redis.command(&["KEYS", "*transitions*"]).await).expect("keys");
    assert_eq!(keys, Vec::<String>::new());
    let page = node.get("/metrics").await.text();
    assert!(!page.contains("longtail_transitions"), "{page}");
    assert_eq!(application.all().len(), 0);
}
