//! A Redis that has a problem: the node logs one clear line for each, and continues to serve.

use crate::log_conformance::{log_with, redis_config};
use crate::support;

use longtail::internals::cursor::{Cursor, Epoch, Id};
use longtail::internals::log::redis::RedisConfig;
use longtail::internals::log::{AppendError, MessageLog, Retention};
use longtail::internals::message::{Draft, Payload};
use std::time::{Duration, Instant};
use support::proxy::{Path, Proxy};
use support::server::run_to_end;
use support::world::start_on;
use support::{Kind, Node, Reader, RedisServer, Subscription, eventually};
use tokio::task::JoinSet;

async fn says(node: &Node, words: &[&str]) {
    eventually(&format!("a line with {words:?} in\n{}", node.log()), async || {
        node.log().lines().any(|line| words.iter().all(|word| line.contains(word))).then_some(())
    })
    .await;
}

async fn publishes_again(node: &Node) {
    eventually("publishing to work again", async || {
        (node.try_publish("channel=todo", "1").await.status == 200).then_some(())
    })
    .await;
}

/// At start the node logs one line and exits with 69. With --wait-for-log it logs one line, and serves after the fix.
#[tokio::test]
async fn a_foreign_type_under_our_key() {
    let redis = RedisServer::start().await;
    redis.command(&["SET", "longtail:log", "mine"]).await;
    let url = redis.url();
    let (code, said) = run_to_end(&["--listen", "127.0.0.1:0", "--tcp-listen", "off", "--redis", &url]).await;
    assert_eq!(code, 69, "{said}");
    assert!(said.contains("WRONGTYPE") && said.contains("--redis-prefix"), "{said}");
    let node = Node::start_unready(&["--redis", &url, "--wait-for-log", "--publish-timeout", "1"]).await;
    says(&node, &["WRONGTYPE", "--redis-prefix"]).await;
    assert_eq!(node.try_publish("channel=todo", "1").await.error_code(), "log_unavailable");
    let lines = node.log().lines().filter(|line| line.contains("cannot be reached;")).count();
    assert!(lines <= 2, "once, and not at every try: {}", node.log());
    redis.command(&["DEL", "longtail:log"]).await;
    publishes_again(&node).await;
    // The node also recovers if the key gets the wrong type while the node runs.
    redis.command(&["DEL", "longtail:log"]).await;
    redis.command(&["SET", "longtail:log", "mine"]).await;
    let answer = node.try_publish("channel=todo", "1").await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    redis.command(&["DEL", "longtail:log"]).await;
    publishes_again(&node).await;
}

#[tokio::test]
async fn wrong_credentials() {
    let mut redis = RedisServer::start_with(&["--requirepass", "sesame"]).await;
    redis.set_login(":sesame@");
    let right = redis.url();
    let wrong = right.replace("sesame", "simsim");
    let none = right.replace(":sesame@", "");
    for (url, words) in [(&wrong, "the user or the password"), (&none, "requires a password")] {
        let (code, said) = run_to_end(&["--listen", "127.0.0.1:0", "--tcp-listen", "off", "--redis", url]).await;
        assert!(code == 69 && said.contains(words), "{code} {said}");
        assert!(!said.contains("simsim"), "a password in the log: {said}");
    }
    let node = Node::start(&["--redis", &right]).await;
    publishes_again(&node).await;
    redis.command(&["CONFIG", "SET", "requirepass", "other"]).await;
    redis.set_login(":other@");
    redis.command(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    says(&node, &["the user or the password"]).await;
    redis.command(&["CONFIG", "SET", "requirepass", "sesame"]).await;
    redis.set_login(":sesame@");
    publishes_again(&node).await;
    assert!(!node.log().contains("sesame"), "a password in the log: {}", node.log());
}

#[tokio::test]
async fn a_full_memory_and_a_replica() {
    let redis = RedisServer::start().await;
    let node = start_on(&redis, &["--publish-timeout", "2"]).await;
    publishes_again(&node).await;
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let answer = node.try_publish("channel=todo", "2").await;
    assert_eq!(answer.error_code(), "log_unavailable");
    // Any client may publish: it gets only the kind of the error, and the server's log has the error and its fix.
    assert!(answer.text().contains("(the memory of Redis is full)"), "{}", answer.text());
    says(&node, &["WARN", "an append failed", "raise maxmemory"]).await;
    let answer = node.try_publish("channel=todo&volatile=1", "2").await;
    assert!(answer.status == 200 || answer.text().contains("(the memory of Redis is full)"), "{}", answer.text());
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    publishes_again(&node).await;

    redis.command(&["REPLICAOF", "127.0.0.1", "1"]).await;
    let answer = node.try_publish("channel=todo", "3").await;
    assert_eq!(answer.error_code(), "log_unavailable");
    let texts = ["(Redis is a replica)", "(Redis has no primary at the moment)"];
    assert!(texts.iter().any(|text| answer.text().contains(text)), "{}", answer.text());
    assert!(!answer.text().contains("127.0.0.1"), "{}", answer.text());
    says(&node, &["WARN", "replica"]).await;
    redis.command(&["REPLICAOF", "NO", "ONE"]).await;
    publishes_again(&node).await;
    let url = redis.url();
    redis.command(&["REPLICAOF", "127.0.0.1", "1"]).await;
    let (code, said) = run_to_end(&["--listen", "127.0.0.1:0", "--tcp-listen", "off", "--redis", &url]).await;
    assert!(code == 69 && said.contains("is a replica"), "{code} {said}");
}

/// Settings that break the guarantees are logged at start, with the fix.
#[tokio::test]
async fn settings_that_break_promises() {
    let redis = RedisServer::start().await;
    let node = start_on(&redis, &[]).await;
    says(&node, &["WARN", "CONFIG SET appendonly yes"]).await;
    assert!(!node.log().contains("maxmemory-policy"), "{}", node.log());

    let evicting = ["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru", "--appendonly", "yes"];
    let redis = RedisServer::start_with(&evicting).await;
    let node = start_on(&redis, &[]).await;
    says(&node, &["WARN", "CONFIG SET maxmemory-policy noeviction"]).await;
    says(&node, &["WARN", "--retain-bytes"]).await;
    assert!(!node.log().contains("appendonly"), "{}", node.log());

    let durable = RedisServer::start_durable().await;
    let node = start_on(&durable, &[]).await;
    node.publish("todo", "1").await;
    assert!(!node.log().contains("WARN"), "{}", node.log());
}

/// While Redis reads its append-only file it reports that it has none.
#[tokio::test]
async fn a_redis_that_is_loading_is_not_said_to_have_no_append_only_file() {
    // Redis answers once in 1,024 commands while it loads; each command takes half a millisecond.
    let slow = ["--appendonly", "yes", "--appendfsync", "always", "--key-load-delay", "500"];
    let mut redis = RedisServer::start_with(&slow).await;
    let node = start_on(&redis, &[]).await;
    redis.command(&["EVAL", "for i = 1, 6000 do redis.call('SET', 'filler:' .. i, i) end", "0"]).await;
    redis.kill();
    // This returns when the file is read.
    redis.restart().await;
    publishes_again(&node).await;
    let log = node.log();
    assert!(log.contains("loading"), "expected the node to have met a Redis that is loading:\n{log}");
    assert!(!log.contains("append-only file"), "expected no word about the append-only file, which there is:\n{log}");
    // After Redis has loaded its file, the node checks the settings of Redis, and reports a setting that breaks a guarantee.
    drop(node);
    let mut redis =
        RedisServer::start_with(&[&slow[..], &["--maxmemory", "1gb", "--maxmemory-policy", "allkeys-lru"]].concat())
            .await;
    let node = start_on(&redis, &[]).await;
    redis.command(&["EVAL", "for i = 1, 6000 do redis.call('SET', 'filler:' .. i, i) end", "0"]).await;
    redis.kill();
    redis.restart().await;
    eventually("the advice a second time, of the process that has loaded", async || {
        (node.log().matches("CONFIG SET maxmemory-policy noeviction").count() == 2).then_some(())
    })
    .await;
}

/// Redis gives no id after the greatest possible one: publishing ends, and the node logs the fix.
#[tokio::test]
async fn an_entry_with_the_greatest_id() {
    const GREATEST: &str = "18446744073709551615-18446744073709551615";
    for mend in [["RENAME", "longtail:log", "aside"].as_slice(), &["DEL", "longtail:log"]] {
        let redis = RedisServer::start().await;
        let node = start_on(&redis, &["--publish-timeout", "2"]).await;
        node.publish("todo", "1").await;
        redis.command(&["XADD", "longtail:log", GREATEST, "channel", "todo", "data", "2"]).await;
        for query in ["channel=todo", "channel=todo&key=k"] {
            let answer = node.try_publish(query, "3").await;
            assert_eq!((answer.status, answer.error_code().as_str()), (503, "log_unavailable"), "{}", answer.text());
            assert!(answer.text().contains("(the log in Redis has used up its ids)"), "{}", answer.text());
        }
        says(&node, &["WARN", "greatest", "XSETID", "RENAME"]).await;
        redis.command(mend).await;
        eventually(&format!("publishing to work after {mend:?}"), async || {
            (node.try_publish("channel=todo", "4").await.status == 200).then_some(())
        })
        .await;
        eventually(&format!("the message to be read after {mend:?}"), async || {
            node.get("/poll?channel=todo&cursor=earliest").await.text().contains("\"data\":4").then_some(())
        })
        .await;
    }
}

/// The numbers of a script cannot distinguish ids whose milliseconds are the greatest possible.
#[tokio::test]
async fn ids_near_the_greatest_one() {
    let redis = RedisServer::start().await;
    let node = start_on(&redis, &["--retain-messages", "3"]).await;
    node.publish("todo", "1").await;
    let near = "18446744073709551615-7";
    redis.command(&["XADD", "longtail:log", near, "channel", "todo", "data", "2"]).await;
    for (data, seq) in [("3", 8), ("4", 9), ("5", 10), ("6", 11)] {
        let id = node.publish("todo", data).await;
        assert!(id.starts_with(&format!("18446744073709551615-{seq}.")), "expected number {seq}, came {id}");
    }
    // Another program trims, and a node starts: it has to determine which entries are gone.
    redis.command(&["XTRIM", "longtail:log", "MAXLEN", "2"]).await;
    let second = start_on(&redis, &["--retain-messages", "3"]).await;
    for node in [&node, &second] {
        let id = node.publish("todo", "7").await;
        let answer = node
            .get(&format!("/poll?channel=todo&cursor={}", id.replace("-12.", "-10.").replace("-13.", "-10.")))
            .await;
        assert!(!answer.text().contains("gap") && answer.text().contains("\"data\":6"), "{}", answer.text());
        redis.command(&["XTRIM", "longtail:log", "MAXLEN", "3"]).await;
    }
    assert_eq!(node.metric("longtail_log_lag_seconds").await, 0.0, "an entry of the far future has no age");
}

#[tokio::test]
async fn urls_that_name_no_redis() {
    for url in
        ["127.0.0.1:6379", "http://h", "redis+sentinel://secret@h", "redis://:secret@h/x", "rediss://h/#insecure"]
    {
        let (code, said) = run_to_end(&["--listen", "127.0.0.1:0", "--tcp-listen", "off", "--redis", url]).await;
        assert_eq!((code, said.lines().count()), (64, 1), "{url}: {said}");
        assert!(said.contains("--redis") && !said.contains("secret"), "{said}");
    }
}

/// A running node loses a privilege: it logs which one, is not ready, and continues when it has the privilege again.
#[tokio::test]
async fn a_tail_that_may_not_read() {
    let redis = RedisServer::start().await;
    let node = start_on(&redis, &[]).await;
    redis.command(&["ACL", "SETUSER", "default", "-xread"]).await;
    redis.command(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    says(&node, &["the log cannot be read", "xread", "docs/redis.md"]).await;
    eventually("not to be ready", async || (node.get("/readyz").await.status == 503).then_some(())).await;
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(node.get("/readyz").await.status, 503, "it stays so");
    }
    assert_eq!(node.log().matches("the log cannot be read").count(), 1);
    redis.command(&["ACL", "SETUSER", "default", "+xread"]).await;
    eventually("to be ready", async || (node.get("/readyz").await.status == 200).then_some(())).await;
    publishes_again(&node).await;
}

/// On a slow path, entries that take longer to arrive than the node waits for an answer do not stop the tail: an entry
/// that is far too large, and many large messages after an outage.
#[tokio::test]
async fn entries_that_arrive_more_slowly_than_an_answer_may_take() {
    let redis = RedisServer::start_with(&["--proto-max-bulk-len", "512mb"]).await;
    let path = Proxy::start(redis.port()).await;
    // Redis estimates the size of a stream from a few of its entries, so the large one seems to stand for many.
    let limits = ["--max-message-bytes", "128KiB", "--retain-bytes", "64GiB"];
    let node = Node::start(&[&["--redis", path.url().as_str()], &limits[..]].concat()).await;
    let mut reader = Reader::open(&node, &node.transport("sse").await, Subscription::to(&["todo"])).await;
    reader.next_of(Kind::Hello).await;
    path.set(Path::Slow(10 << 20));
    redis.command(&["XADD", "longtail:log", "*", "channel", "other", "data", &"x".repeat(40 << 20)]).await;
    redis.command(&["XADD", "longtail:log", "*", "channel", "todo", "data", "0"]).await;
    assert_eq!(reader.next_message().await.data(), "0");
    assert_eq!(node.metric("longtail_log_skipped_entries_total").await, 1.0);
    // A page of the log that begins before the entry.
    let page = node.get("/poll?channel=todo&cursor=earliest").await;
    assert!(page.text().contains(r#""data":0"#), "{}", page.text());

    path.set(Path::Reset);
    says(&node, &["the log cannot be reached"]).await;
    for n in 1..=400 {
        let data = format!(r#"["{}",{n}]"#, "x".repeat(100 << 10));
        redis.command(&["XADD", "longtail:log", "*", "channel", "todo", "data", &data]).await;
    }
    path.set(Path::Slow(10 << 20));
    for n in 1..=400 {
        let message = reader.next_message().await;
        assert!(message.data().ends_with(&format!(",{n}]")), "message {n}: …{}", &message.data()[100 << 10..]);
    }
}

/// A volatile message waits as long as any publish, but does not wait for all publishers before it.
#[tokio::test]
async fn a_stall_with_many_in_the_line() {
    let redis = RedisServer::start().await;
    let retention = Retention { age: Duration::from_secs(600), messages: 1000, bytes: 1 << 20, control: 10 };
    let timeout = Duration::from_secs(1);
    let log = log_with(&redis, RedisConfig { timeout, max_payload: 1000, ..redis_config(retention) });
    let page = log.read(Cursor { id: Id::ZERO, epoch: Epoch::random() }, 1).await.expect("read");
    redis.freeze();
    let mut readers = JoinSet::new();
    for _ in 0..10 {
        let (log, cursor) = (log.clone(), Cursor { id: page.upto, epoch: page.extent.lineage.epoch });
        readers.spawn(async move { log.read(cursor, 1).await.is_ok() });
    }
    // These publishers wait in the queue.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let append = async || {
        let begun = Instant::now();
        let draft = Draft { volatile: true, ..Draft::new("c".parse().expect("a channel"), Payload::from_any("1")) };
        (log.append(vec![draft]).await, begun.elapsed())
    };
    let (refused, took) = append().await;
    assert!(matches!(&refused, Err(AppendError::Unavailable(_))), "{refused:?}");
    // A wait for the ten others would take eleven seconds.
    assert!(took < timeout * 5, "refused after {took:?}");
    readers.shutdown().await;
    redis.thaw();
    assert_eq!(append().await.0, Ok(vec![None]));
    // The command is sent, and a Redis that was stopped executes it when it continues.
    redis.freeze();
    assert_eq!(append().await.0, Err(AppendError::OutcomeUnknown));
    redis.thaw();
}

/// When the node has seen that Redis ended, it sends nothing to it: the outcome of a publish is known.
#[tokio::test]
async fn the_first_publish_after_redis_has_ended() {
    let mut redis = RedisServer::start_durable().await;
    let node = start_on(&redis, &["--publish-timeout", "8"]).await;
    for round in 0..2 {
        // The appender and the connection for volatile messages are in use.
        node.publish("todo", "1").await;
        assert_eq!(node.try_publish("channel=todo&volatile=1", "1").await.status, 200);
        redis.kill();
        eventually("the node to notice", async || (node.get("/readyz").await.status == 503).then_some(())).await;
        let began = Instant::now();
        let answer = node.try_publish("channel=todo&volatile=1", "1").await;
        assert_eq!(answer.error_code(), "log_unavailable", "volatile, round {round}: {}", answer.text());
        let answer = node.try_publish("channel=todo", "2").await;
        assert_eq!(answer.error_code(), "log_unavailable", "round {round}: {}", answer.text());
        // It waits for half of --publish-timeout, in case Redis comes back.
        assert!(began.elapsed() < Duration::from_millis(7500), "round {round}: it took {:?}", began.elapsed());
        redis.restart().await;
        eventually("the node to be ready", async || (node.get("/readyz").await.status == 200).then_some(())).await;
    }
    // A publish that waits while Redis is away is carried out when it is back.
    redis.kill();
    eventually("the node to notice", async || (node.get("/readyz").await.status == 503).then_some(())).await;
    let (answer, ()) = tokio::join!(node.try_publish("channel=todo", "3"), redis.restart());
    assert_eq!(answer.status, 200, "{}", answer.text());
}
