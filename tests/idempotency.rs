//! Idempotency keys within `--key-bytes`: the log refuses a publisher whose keys take its whole share, and does not
//! forget any key, in memory and in Redis.

use crate::support;

use serde_json::json;
use support::token::{SECRET, token};
use support::world::start_on;
use support::{Log, Node, RedisServer, Request, Response, World, eventually};

const KEY: &str = "server-key-0123456789abcdef";

on_both_logs! {
    a_flood_of_keys_is_refused_and_no_key_is_forgotten
    publishers_of_an_open_server_have_shares_by_address
}

fn bearer(sub: &str) -> String {
    format!("Bearer {}", token(&json!({"publish": ["a"], "sub": sub})))
}

/// Publishes an array of messages with these keys.
async fn publish(node: &Node, credential: &str, keys: impl Iterator<Item = String>) -> Response {
    let messages: Vec<_> = keys.map(|key| json!({"channel": "a", "data": 1, "key": key})).collect();
    let body = json!(messages).to_string();
    let request = Request::post("/publish", body.as_bytes()).header("Content-Type", "application/json");
    request.header("Authorization", credential).send(node.http).await
}

async fn one(node: &Node, credential: &str, key: &str) -> Response {
    publish(node, credential, std::iter::once(key.to_owned())).await
}

/// Publishes with new keys until the publisher's share is used up. Returns the refusal.
async fn flood(node: &Node, credential: &str) -> Response {
    for round in 0..1000 {
        let answer = publish(node, credential, (0..20).map(|n| format!("{round:0>180}-{n}"))).await;
        if answer.status != 200 {
            return answer;
        }
    }
    panic!("20,000 keys are within the bound");
}

async fn a_flood_of_keys_is_refused_and_no_key_is_forgotten(log: Log) {
    let args = ["--key-bytes", "64KiB", "--token-secret", SECRET, "--publish-key", KEY];
    let World { node, redis: _redis } = World::start(log, &args).await;
    let (ann, bob, eve) = (bearer("ann"), bearer("bob"), bearer("eve"));
    let order = one(&node, &bob, "order-17").await;
    assert_eq!(order.status, 200);
    let first = one(&node, &ann, "first").await;
    for publisher in [&ann, &eve] {
        let refused = flood(&node, publisher).await;
        assert_eq!((refused.status, refused.error_code().as_str()), (429, "rate_limited"), "{}", refused.text());
        assert!(refused.text().contains("--key-bytes"), "{}", refused.text());
        let wait: u64 = refused.header("Retry-After").and_then(|wait| wait.parse().ok()).expect("Retry-After");
        assert!((200..=361).contains(&wait), "Retry-After: {wait}");
    }
    // Neither flood has made the server forget a key, neither its own keys nor those of another publisher.
    assert_eq!(one(&node, &bob, "order-17").await.text(), order.text());
    assert_eq!(one(&node, &ann, "first").await.text(), first.text());
    assert_eq!(one(&node, &ann, "another").await.status, 429);
    // The other publishers still have their shares, and a message without a key does not need a share.
    for publisher in [bob.as_str(), &format!("Bearer {KEY}"), &bearer("newcomer")] {
        assert_eq!(one(&node, publisher, "order-18").await.status, 200);
    }
    let plain = Request::post("/publish?channel=a", b"1").header("Authorization", &ann).send(node.http).await;
    assert_eq!(plain.status, 200);
    // If an array has more keys than a share can ever hold, the answer does not tell the publisher to wait. No message
    // of the array is appended.
    let latest = async || {
        let poll = Request::get("/poll?channel=a&cursor=earliest&limit=1000");
        poll.header("Authorization", &format!("Bearer {KEY}")).send(node.http).await.text()
    };
    let before = latest().await;
    let answer = publish(&node, &bearer("many"), (0..1000).map(|n| format!("k{n}"))).await;
    assert_eq!((answer.status, answer.error_code().as_str()), (413, "too_large"), "{}", answer.text());
    assert_eq!(latest().await, before);
}

async fn publishers_of_an_open_server_have_shares_by_address(log: Log) {
    let World { node, redis: _redis } =
        World::start(log, &["--key-bytes", "16KiB", "--trusted-proxy", "127.0.0.1"]).await;
    let from = async |ip: &str, key: &str| {
        let request = Request::post(&format!("/publish?channel=a&key={key}"), b"1").header("X-Forwarded-For", ip);
        request.send(node.http).await
    };
    let order = from("192.0.2.1", "order-17").await.text();
    let mut taken = 0;
    while from("192.0.2.2", &format!("flood-{taken}")).await.status == 200 {
        taken += 1;
        assert!(taken < 1000, "1,000 keys are within 16 KiB");
    }
    assert_eq!(from("192.0.2.1", "order-18").await.status, 200);
    // The publishers still have the same keys in common: only the room is separate.
    assert_eq!(from("192.0.2.3", "order-17").await.text(), order);
    assert_eq!(from("192.0.2.2", "order-17").await.text(), order);
}

/// The counted bytes of the keys match the memory that they take in Redis.
#[tokio::test]
async fn keys_take_no_more_of_redis_than_their_share() {
    let redis = RedisServer::start().await;
    let node = start_on(&redis, &["--key-bytes", "4MiB", "--retain-messages", "10"]).await;
    let used = async || redis.number_in("memory", "used_memory:").await;
    node.publish("a", "1").await;
    let before = used().await;
    for round in 0.. {
        let messages: Vec<_> =
            (0..500).map(|n| json!({"channel": "a", "data": 1, "key": format!("{round}-{n}")})).collect();
        let answer = node.publish_json(&json!(messages).to_string()).await;
        if answer.status == 429 {
            break;
        }
        assert!(answer.status == 200 && round < 100, "{}: {}", answer.status, answer.text());
    }
    let taken = used().await.saturating_sub(before);
    assert!(taken <= 2 << 20, "half of --key-bytes is 2 MiB; the keys took {taken} bytes");
    assert!(taken >= 1 << 19, "the keys took only {taken} bytes");
}

/// A key that is written again, because the log does not hold its message any more, counts once.
#[tokio::test]
async fn a_key_that_is_written_again_counts_once() {
    let redis = RedisServer::start().await;
    let node = start_on(&redis, &["--key-bytes", "64KiB"]).await;
    redis.listened(1).await;
    let counted = async || -> i64 {
        let mut sum = 0;
        let keys: Vec<String> =
            ::redis::from_redis_value(redis.command(&["KEYS", "*:key:bytes:*"]).await).expect("keys");
        for key in keys {
            let bytes: Vec<i64> = ::redis::from_redis_value(redis.command(&["HVALS", &key]).await).expect("counts");
            assert!(bytes.iter().all(|bytes| *bytes >= 0), "{key}: {bytes:?}");
            assert!(redis.number(&["PTTL", &key]).await > 0, "{key} expires");
            sum += bytes.iter().sum::<i64>();
        }
        sum
    };
    for way in ["POST", "array", "FCALL", "PUBLISH"] {
        let length = async || redis.number(&["XLEN", "longtail:log"]).await;
        let publish = async || {
            let before = length().await;
            let message = format!(r#"{{"channel":"{way}","data":1,"key":"k"}}"#);
            match way {
                "POST" => assert_eq!(node.publish_json(&message).await.status, 200),
                "array" => {
                    let other = message.replace("\"k\"", "\"other\"");
                    assert_eq!(node.publish_json(&format!("[{message},{other},{message}]")).await.status, 200);
                }
                "FCALL" => {
                    let words = ["FCALL", "longtail_publish", "1", "longtail:log", way, "1", "key", "k"];
                    eventually("the function", async || redis.try_command(&words).await.ok()).await;
                }
                _ => drop(redis.command(&["PUBLISH", "push:PUBLISH", r#"{"data":1,"key":"k"}"#]).await),
            }
            eventually("the entry", async || (length().await > before).then_some(())).await;
        };
        let before = counted().await;
        publish().await;
        let once = counted().await - before;
        assert!(once > 0, "{way}: {once}");
        for round in 0..3 {
            for id in ids(&redis, way).await {
                redis.command(&["XDEL", "longtail:log", &id]).await;
            }
            publish().await;
            assert_eq!(counted().await - before, once, "{way}: written {} times", round + 2);
        }
    }
}

/// The entries of a channel in the log.
async fn ids(redis: &RedisServer, channel: &str) -> Vec<String> {
    let entries: Vec<(String, Vec<String>)> =
        ::redis::from_redis_value(redis.command(&["XRANGE", "longtail:log", "-", "+"]).await).expect("entries");
    entries.into_iter().filter(|(_, fields)| fields[1] == channel).map(|(id, _)| id).collect()
}

/// The publishers through Redis share their keys and their room. An `FCALL` beyond it is refused. A `PUBLISH` cannot be
/// refused, so it is delivered.
#[tokio::test]
async fn publishers_through_redis_have_one_share() {
    let redis = RedisServer::start().await;
    let node = start_on(&redis, &["--key-bytes", "8KiB"]).await;
    redis.listened(1).await;
    let call = async |key: &str| {
        redis.try_command(&["FCALL", "longtail_publish", "1", "longtail:log", "todo", "1", "key", key]).await
    };
    let first = eventually("the function", async || call("first").await.ok()).await;
    let mut taken = 0;
    let refused = loop {
        match call(&format!("flood-{taken}")).await {
            Ok(_) => taken += 1,
            Err(error) => break error.to_string(),
        }
        assert!(taken < 100, "100 keys are within 8 KiB");
    };
    assert!(refused.contains("--key-bytes") && refused.contains("try again in"), "{refused}");
    assert_eq!(call("first").await.ok(), Some(first));
    assert_eq!(node.try_publish("channel=a&key=mine", "1").await.status, 200, "another publisher");
    let metric = "longtail_bridge_forgotten_keys_total";
    assert_eq!(node.metric(metric).await, 0.0);
    redis.command(&["PUBLISH", "push:todo", r#"{"data":"kept","key":"one more"}"#]).await;
    eventually("the PUBLISH", async || {
        node.get("/poll?channel=todo&cursor=earliest&limit=1000").await.text().contains("kept").then_some(())
    })
    .await;
    eventually("a count", async || (node.metric(metric).await == 1.0).then_some(())).await;
    node.logged("--key-bytes").await;
}
