//! Nodes of one log know each other, and do not misinterpret entries of a newer node.

use crate::support;

use std::collections::HashMap;
use std::time::Duration;
use support::world::{each_transport, start_on};
use support::{Kind, Node, Reader, RedisServer, Subscription, eventually};

const LOG: &str = "longtail:log";
const PEERS: &str = "{longtail:log}:peers";

async fn says(node: &Node, words: &[&str]) {
    eventually(&format!("a line with {words:?} of {}", node.http), async || {
        node.log().lines().any(|line| words.iter().all(|word| line.contains(word))).then_some(())
    })
    .await;
}

async fn records(redis: &RedisServer) -> HashMap<String, String> {
    redis::from_redis_value(redis.command(&["HGETALL", PEERS]).await).expect("records")
}

async fn now_ms(redis: &RedisServer) -> u64 {
    let time: (u64, u64) = redis::from_redis_value(redis.command(&["TIME"]).await).expect("the time");
    time.0 * 1000 + time.1 / 1000
}

/// Renews a record that belongs to no node until `holds` returns a value.
async fn renew_until<T>(redis: &RedisServer, record: &str, what: &str, holds: impl AsyncFn() -> Option<T>) -> T {
    eventually(what, async || {
        let record = format!("{} 65536 {record}", now_ms(redis).await);
        redis.command(&["HSET", PEERS, "forged", &record]).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        holds().await
    })
    .await
}

/// Readers get a gap in place of the entry. Before and after it they miss no message, live and from the log.
#[tokio::test]
async fn an_entry_of_a_format_that_a_node_does_not_read_is_a_gap() {
    let redis = RedisServer::start().await;
    let node = start_on(&redis, &[]).await;
    let start = node.publish("other", "0").await;
    let mut live = Vec::new();
    for transport in node.transports().await.into_iter().filter(|transport| transport.is_stream()) {
        let mut reader = Reader::open(&node, &transport, Subscription::to(&["todo"])).await;
        reader.next_of(Kind::Hello).await;
        live.push(reader);
    }
    node.publish("todo", "1").await;
    for reader in &mut live {
        assert_eq!(reader.next_message().await.data(), "1", "{}", reader.transport.name);
    }
    // Its fields may mean something else: two channels, a list of arguments.
    redis.command(&["XADD", LOG, "*", "v", "2", "channel", "todo", "data", "garbled"]).await;
    redis.command(&["XADD", LOG, "*", "v", "7", "channels", "todo other", "data", "garbled"]).await;
    let last = redis.text(&["XADD", LOG, "*", "channel", "todo", "data", "2", "v", "1"]).await;
    for reader in &mut live {
        let name = reader.transport.name.clone();
        let mut news = vec![reader.next_news().await];
        while news.last().is_some_and(|item| item.kind == Kind::Gap) {
            news.push(reader.next_news().await);
        }
        let kinds: Vec<_> = news.iter().map(|item| item.kind).collect();
        assert!(kinds.len() >= 2 && kinds[0] == Kind::Gap, "{name}: expected a gap and a message, came {kinds:?}");
        let message = news.pop().expect("news");
        assert_eq!(message.data(), "2", "{name}: what is behind the gap");
        assert!(message.id().is_some_and(|id| id.starts_with(&last)), "{name}: {}", message.text);
    }
    let second = start_on(&redis, &[]).await;
    for node in [&node, &second] {
        each_transport(
            node,
            |_| true,
            async |transport| {
                let mut reader = Reader::open(node, &transport, Subscription::to(&["todo"]).from(&start)).await;
                let mut seen = Vec::new();
                while seen.last().is_none_or(|seen| seen != "2") {
                    let item = reader.next_news().await;
                    seen.push(if item.kind == Kind::Gap { "gap".to_owned() } else { item.data().to_owned() });
                }
                seen.dedup();
                assert_eq!(seen, ["1", "gap", "2"], "{}", transport.name);
            },
        )
        .await;
        let unreadable = node.metric("longtail_log_unreadable_entries_total").await;
        assert!(unreadable >= 2.0, "expected both to be counted, came {unreadable}");
        assert_eq!(node.metric("longtail_log_skipped_entries_total").await, 0.0, "they are not skipped");
        says(node, &["WARN", "a format that this node does not read", "upgrade this node"]).await;
        assert_eq!(node.get("/readyz").await.status, 200);
    }
}

/// A field `v` of another program is not one of our formats, and its entry is not a message.
#[tokio::test]
async fn an_entry_whose_format_is_no_number_is_skipped() {
    let redis = RedisServer::start().await;
    let node = start_on(&redis, &[]).await;
    let first = node.publish("todo", "1").await;
    for v in ["", "0", "x", "1.0", "-1", "99999999999999999999"] {
        redis.command(&["XADD", LOG, "*", "v", v, "channel", "todo", "data", "bad"]).await;
    }
    redis.command(&["XADD", LOG, "*", "v", "1", "channel", "todo", "data", "2"]).await;
    let mut reader = Reader::open(&node, &node.transport("sse").await, Subscription::to(&["todo"]).from(&first)).await;
    let item = reader.next_news().await;
    assert_eq!((item.kind, item.data()), (Kind::Message, "2"), "{}", item.text);
    assert_eq!(node.metric("longtail_log_skipped_entries_total").await, 6.0);
}

/// Entries of the present format are unchanged, without an additional byte.
#[tokio::test]
async fn a_node_writes_the_format_that_all_read() {
    let redis = RedisServer::start().await;
    let node = start_on(&redis, &[]).await;
    let newer = r#"{"name":"newer (process 7)","version":"9.0.0","reads":[1,2]}"#;
    // The wait is longer than the time after which a node trusts its list of the others.
    let began = tokio::time::Instant::now();
    renew_until(&redis, newer, "the node to be settled", async || {
        (began.elapsed() > Duration::from_secs(5)).then_some(())
    })
    .await;
    node.publish("todo", "1").await;
    let entries = redis.command(&["XRANGE", LOG, "-", "+"]).await;
    let entries: Vec<(String, Vec<String>)> = redis::from_redis_value(entries).expect("entries");
    assert_eq!(entries[0].1, ["channel", "todo", "data", "1"]);
    assert_eq!(node.metric("longtail_log_format").await, 1.0);
}

/// Each node reports the formats that it reads, and its record is removed when it ends.
#[tokio::test]
async fn each_node_has_a_record() {
    let redis = RedisServer::start().await;
    let mut nodes = vec![start_on(&redis, &[]).await, start_on(&redis, &[]).await];
    let there = records(&redis).await;
    assert_eq!(there.len(), 2, "{there:?}");
    for record in there.values() {
        let parts: Vec<&str> = record.splitn(3, ' ').collect();
        let (seen, record) = (parts[0], parts[2]);
        let age = now_ms(&redis).await.abs_diff(seen.parse().expect("milliseconds"));
        assert!(age < 3000, "renewed {age} ms ago");
        let record: serde_json::Value = serde_json::from_str(record).expect("JSON");
        assert_eq!(record["reads"], serde_json::json!([1]));
    }
    // Records that are invalid, or that no node renews.
    let old = format!("{} 65536 {{}}", now_ms(&redis).await - 11_000);
    let ahead = format!("{} 65536 {{}}", now_ms(&redis).await + 3_600_000);
    let long = format!("{} 65536 {}", now_ms(&redis).await, "x".repeat(5000));
    for (name, record) in [("old", old.as_str()), ("ahead", &ahead), ("long", &long), ("none", "x"), ("", "")] {
        redis.command(&["HSET", PEERS, name, record]).await;
    }
    eventually("what is no record to go", async || (records(&redis).await.len() == 2).then_some(())).await;
    // Only a forger writes this many records.
    redis.command(&["EVAL", "for i = 1, 3000 do redis.call('HSET', KEYS[1], i, 'x') end", "1", PEERS]).await;
    eventually("the forged ones to go", async || (records(&redis).await.len() == 2).then_some(())).await;
    // All keys are then deleted.
    redis.command(&["DEL", PEERS]).await;
    eventually("both to be back", async || (records(&redis).await.len() == 2).then_some(())).await;
    let mut gone = nodes.remove(0);
    gone.signal("TERM");
    gone.exit_code().await;
    assert_eq!(records(&redis).await.len(), 1, "one that ends in good order takes its record along");
    assert!(redis.number(&["PTTL", PEERS]).await <= 10_000);
    drop(nodes);
    eventually("the record of a node that was killed to go", async || {
        (redis.number(&["EXISTS", PEERS]).await == 0).then_some(())
    })
    .await;
}

/// A node that is older than the others logs that, and only while it is older.
#[tokio::test]
async fn a_node_that_is_too_old_says_so() {
    let redis = RedisServer::start().await;
    let node = start_on(&redis, &[]).await;
    let newer = r#"{"name":"web\u001b7 (process 9)","version":"9.0.0","reads":[2,3],"more":[{}]}"#;
    let outgrown = async || {
        let log = node.log();
        log.contains("this node is older than the others").then_some(log)
    };
    let log = renew_until(&redis, newer, "a word about it", outgrown).await;
    let line = log.lines().find(|line| line.contains("older than the others")).expect("the line");
    for word in ["WARN", "9.0.0", "web7 (process 9)", "upgrade this node", "format=3"] {
        assert!(line.contains(word), "expected {word} in {line}");
    }
    for _ in 0..20 {
        renew_until(&redis, newer, "another second", async || Some(())).await;
    }
    assert_eq!(node.log().matches("older than the others").count(), 1, "once: {}", node.log());
    let same = r#"{"reads":[1]}"#;
    renew_until(&redis, same, "a word that it is over", async || {
        node.log().contains("this node reads the entries of the other nodes again").then_some(())
    })
    .await;
    node.publish("todo", "1").await;
    // A node that ended a moment ago no longer counts, whatever formats it read.
    redis.command(&["HDEL", PEERS, "forged"]).await;
    let second = start_on(&redis, &[]).await;
    let record = format!("{} 65536 {newer}", now_ms(&redis).await);
    redis.command(&["HSET", PEERS, "gone", &record]).await;
    eventually("the record to go", async || (!records(&redis).await.contains_key("gone")).then_some(())).await;
    assert!(!second.log().contains("older than the others"), "{}", second.log());
}

/// (flag, its value on one node, on the other, the consequence)
const DIFFERENCES: [(&str, &str, &str, &str); 5] = [
    ("--max-message-bytes", "1000", "65536", "skips what is longer"),
    ("--redis-subscribe", "other:*", "push:*", "appended twice"),
    ("--retain-seconds", "60", "600", "the lowest of the values"),
    ("--retain-messages", "100", "1000", "the lowest of the values"),
    ("--retain-bytes", "10000000", "20000000", "the lowest of the values"),
];

/// Both nodes log it once, with the other's value and the fix, and log when it is over.
#[tokio::test]
async fn nodes_that_are_set_differently_say_so() {
    let redis = RedisServer::start().await;
    let of = |pick: fn(&(&'static str, &'static str, &'static str, &'static str)) -> &'static str| {
        DIFFERENCES.iter().flat_map(|difference| [difference.0, pick(difference)]).collect::<Vec<_>>()
    };
    let mut one = start_on(&redis, &of(|difference| difference.1)).await;
    let two = start_on(&redis, &of(|difference| difference.2)).await;
    for (flag, first, second, consequence) in DIFFERENCES {
        for (node, here, there) in [(&one, first, second), (&two, second, first)] {
            let (here, there) = (format!("{flag} is {here} on this node"), format!("and {there} on "));
            says(node, &["WARN", &here, &there, consequence, "(process ", "give all nodes"]).await;
        }
    }
    // A third node with the settings of the second one does not cause a new line.
    let third = start_on(&redis, &of(|difference| difference.2)).await;
    says(&third, &["WARN", "--max-message-bytes is 65536 on this node and 1000 on"]).await;
    for node in [&one, &two] {
        let lines = node.log().matches("give all nodes of the log the same").count();
        assert_eq!(lines, DIFFERENCES.len(), "one line each: {}", node.log());
    }
    one.signal("TERM");
    one.exit_code().await;
    for (flag, ..) in DIFFERENCES {
        says(&two, &["INFO", "all nodes of the log have the same", flag, "again"]).await;
    }
    // Nodes with the same settings do not differ, and a node that ended a moment ago does not count.
    let fourth = start_on(&redis, &of(|difference| difference.2)).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!fourth.log().contains("give all nodes"), "{}", fourth.log());
}

/// The text of other nodes' records is bounded and harmless in the log.
#[tokio::test]
async fn a_forged_record_is_said_in_bounds() {
    let redis = RedisServer::start().await;
    let node = start_on(&redis, &[]).await;
    let value = |n: usize| format!("1\\u001b[31m{}{n}", "x".repeat(3000));
    let record = |n: usize| format!(r#"{{"settings":{{"--max-message-bytes":"{}"}}}}"#, value(n));
    renew_until(&redis, &record(0), "a word about it", async || {
        node.log().contains("--max-message-bytes is 65536 on this node").then_some(())
    })
    .await;
    for n in 1..30 {
        renew_until(&redis, &record(n), "another value", async || Some(())).await;
    }
    let log = node.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("give all nodes")).collect();
    assert_eq!(lines.len(), 1, "however often it changes: {lines:?}");
    assert!(lines[0].len() < 500 && !lines[0].contains('\u{1b}'), "{}", lines[0]);
}
