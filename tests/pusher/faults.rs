//! Faults: clients that vanish while events are written, and Redis that does not answer for a while.

use crate::support::pusher::{APP, PusherClient, post, trigger};
use crate::support::world::start_on;
use crate::support::{Node, RedisServer, eventually};
use serde_json::json;

#[tokio::test]
async fn clients_that_vanish_do_not_disturb_others() {
    let node = Node::start(&["--pusher-app", APP]).await;
    let mut stays = PusherClient::open(&node).await;
    stays.subscribe("a").await;
    for n in 0..40 {
        let mut gone = PusherClient::open(&node).await;
        gone.subscribe("a").await;
        // An event that the client has not read makes its host answer the next ones with a reset.
        trigger(&node, "a", "n", &(2 * n).to_string()).await;
        drop(gone);
        trigger(&node, "a", "n", &(2 * n + 1).to_string()).await;
    }
    for n in 0..80 {
        assert_eq!(stays.expect("n").await, n);
    }
    stays.expect_nothing().await;
}

/// The connections stay, and nothing has to be restarted.
#[tokio::test]
async fn events_go_on_when_redis_answers_again() {
    let redis = RedisServer::start().await;
    let node = start_on(&redis, &["--pusher-app", APP, "--publish-timeout", "1"]).await;
    let mut client = PusherClient::open(&node).await;
    client.subscribe("a").await;
    trigger(&node, "a", "before", "1").await;
    client.expect("before").await;
    redis.freeze();
    let away = post(&node, "/apps/1/events", &json!({ "name": "away", "channel": "a", "data": "1" })).await;
    assert_eq!(away.status, 503, "{}", away.text());
    assert!(away.header("retry-after").is_some());
    client.expect_nothing().await;
    redis.thaw();
    eventually("an event to be taken", async || {
        let event = json!({ "name": "after", "channel": "a", "data": "1" });
        (post(&node, "/apps/1/events", &event).await.status == 200).then_some(())
    })
    .await;
    // An event that was refused may have reached Redis, since nobody knows it.
    while client.next().await["event"] != "after" {}
}
