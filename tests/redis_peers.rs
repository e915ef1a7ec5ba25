//! Nodes of one log know each other, and do not misinterpret entries of a newer node.

use crate::support;

use std::collections::HashMap;
use std::time::Duration;
use support::websocket::frame;
use support::world::{each_transport, start_on};
use support::{Kind, LineClient, Node, RawWebSocket, Reader, RedisServer, SOON, Subscription, eventually, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

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
    redis.command(&["XADD", LOG, "*", "v", "3", "channel", "todo", "data", "garbled"]).await;
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

async fn entries(redis: &RedisServer) -> Vec<Vec<String>> {
    let entries = redis.command(&["XRANGE", LOG, "-", "+"]).await;
    let entries: Vec<(String, Vec<String>)> = redis::from_redis_value(entries).expect("entries");
    entries.into_iter().map(|(_, fields)| fields).collect()
}

/// Entries of ordinary messages are unchanged, without an additional byte, whatever the nodes read. An entry that needs
/// format 2 is written when every node reads it. Until then its publisher waits, and is told why.
#[tokio::test]
async fn a_node_writes_the_format_that_all_read() {
    const SEVERAL: &str = r#"{"channels":["a","b"],"args":[1],"except":["me"]}"#;
    let redis = RedisServer::start().await;
    let node = start_on(&redis, &["--publish-timeout", "2"]).await;
    redis.listened(1).await;
    let older = r#"{"name":"older (process 7)","version":"0.0.1","reads":[1]}"#;
    // The wait is longer than the time after which a node trusts its list of the others.
    let began = tokio::time::Instant::now();
    renew_until(&redis, older, "the node to be settled", async || {
        (began.elapsed() > Duration::from_secs(5)).then_some(())
    })
    .await;
    assert_eq!(node.metric("longtail_log_format").await, 1.0);
    node.publish("todo", "1").await;
    let (began, waiting) = (tokio::time::Instant::now(), node.publish_json(SEVERAL));
    let ordinary = async {
        node.publish("todo", "2").await;
        began.elapsed()
    };
    let (refused, ordinary) = tokio::join!(waiting, ordinary);
    assert_eq!((refused.status, refused.error_code().as_str()), (503, "log_unavailable"), "{}", refused.text());
    assert!(refused.text().contains("a node of an older version runs"), "{}", refused.text());
    assert!(began.elapsed() >= Duration::from_millis(950), "refused after {:?}", began.elapsed());
    assert!(ordinary < began.elapsed(), "an ordinary message does not wait behind it: {ordinary:?}");
    // The publisher of a PUBLISH cannot be told to wait. The PUBLISH is refused, counted and logged.
    redis.number(&["PUBLISH", "push:todo", r#"{"data":1,"channels":["a","b"]}"#]).await;
    says(&node, &["WARN", "a node of an older version does not read messages with args"]).await;
    let call = ["FCALL", "longtail_publish", "1", LOG, "", "3", "channels", "a,b"];
    let error = redis.try_command(&call).await.expect_err("refused").to_string();
    assert!(error.contains("older version"), "{error}");
    assert_eq!(entries(&redis).await, [["channel", "todo", "data", "1"], ["channel", "todo", "data", "2"]]);

    // An older node that has gone does not count.
    let newer = r#"{"name":"newer (process 7)","version":"9.0.0","reads":[1,2,3]}"#;
    renew_until(&redis, newer, "the format that both read", async || {
        (node.metric("longtail_log_format").await == 2.0).then_some(())
    })
    .await;
    assert_eq!(node.publish_json(SEVERAL).await.status, 200);
    node.publish("todo", "4").await;
    let extended = ["v", "2", "channels", "a,b", "data", "[1]", "except", "me", "args", "1"];
    assert_eq!(entries(&redis).await[2..], [extended.as_slice(), &["channel", "todo", "data", "4"]]);
    redis.command(&call).await;
    redis.number(&["PUBLISH", "push:todo", r#"{"data":5,"channels":["a","b"]}"#]).await;
    eventually("both to be read", async || {
        let answer = node.get("/poll?channel=a&cursor=earliest").await.text();
        (answer.matches("\"id\"").count() == 3).then_some(())
    })
    .await;
}

/// Control entries are not messages. An unknown kind is skipped and counted, as is a change of a session outside of the
/// channels of sessions, and no reader is told of a gap.
#[tokio::test]
async fn control_entries_are_not_delivered() {
    let redis = RedisServer::start().await;
    let node = start_on(&redis, &[]).await;
    let start = node.publish("todo", "1").await;
    let mut live = Reader::open(&node, &node.transport("sse").await, Subscription::to(&["todo"]).from(&start)).await;
    live.next_of(Kind::Hello).await;
    for kind in ["member_added", "member_removed", "session", "later"] {
        redis.command(&["XADD", LOG, "*", "v", "2", "channel", "todo", "data", "{}", "kind", kind]).await;
    }
    redis.command(&["XADD", LOG, "*", "v", "2", "channel", "~s/1", "data", "{}", "kind", "session"]).await;
    node.publish("todo", "2").await;
    let item = live.next_news().await;
    assert_eq!((item.kind, item.data()), (Kind::Message, "2"), "{}", item.text);
    let second = start_on(&redis, &[]).await;
    for node in [&node, &second] {
        assert_eq!(node.metric("longtail_log_unreadable_entries_total").await, 1.0);
        assert_eq!(node.metric("longtail_log_skipped_entries_total").await, 1.0);
        let answer = node.get("/poll?channel=todo&cursor=earliest").await.text();
        assert_eq!(answer.matches("\"id\"").count(), 2, "{answer}");
        assert!(!node.get("/channels").await.text().contains('~'));
    }
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
        assert_eq!(record["reads"], serde_json::json!([1, 2]));
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
    ("--max-message-bytes", "1000", "65536", "skips payloads that are longer"),
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

/// Any client of Redis may write a record. A record whose formats make no sense counts as that of a node which reads only
/// format 1, and the nodes renew their own records.
#[tokio::test]
async fn a_forged_record_hinders_no_renewal() {
    let redis = RedisServer::start().await;
    let node = start_on(&redis, &[]).await;
    let own = async || {
        let records = records(&redis).await.into_iter().find(|(name, _)| name != "forged");
        records.and_then(|(_, record)| record.split(' ').next()?.parse::<u64>().ok())
    };
    let deep = format!("{{\"reads\":{}2{}}}", "[".repeat(1500), "]".repeat(1500));
    for record in [
        r#"{"reads":[NaN]}"#,
        r#"{"reads":[3,nan]}"#,
        r#"{"reads":[-nan,1e400,-1e400]}"#,
        r#"{"reads":[inf]}"#,
        r#"{"reads":[0x7ff,-1,0,2.5,1e300,9007199254740993]}"#,
        r#"{"reads":[null,true,"2",[2],{"2":2}]}"#,
        r#"{"reads":{"NaN":2}}"#,
        r#"{"reads":"2"}"#,
        r#"{"reads":2}"#,
        "[]",
        "NaN",
        "",
        &deep,
    ] {
        let begun = now_ms(&redis).await;
        let what = format!("the node to renew its record beside {record:.60}");
        renew_until(&redis, record, &what, async || own().await.filter(|seen| *seen > begun)).await;
        let note = redis.text(&["HGET", "{longtail:log}:settings", "format"]).await;
        assert_eq!(note.split(' ').next(), Some("1"), "the format that all read beside {record:.60}");
    }
    assert!(!node.log().contains("Redis refuses this node's record"), "{}", node.log());
    node.publish("todo", "1").await;
}

/// The publications of a connection keep their order while some of them wait until the format of their entries may be
/// written: a node that has just started waits for four seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publications_of_a_connection_keep_their_order() {
    const COUNT: usize = 12;
    let redis = RedisServer::start().await;
    let node = start_on(&redis, &["--publish-timeout", "20"]).await;
    // Numbers that 3 divides need format 1, and the others format 2.
    let object = |name: &str, n: usize| match n % 3 {
        0 => format!(r#"{{"channel":"{name}","data":{n}}}"#),
        _ => format!(r#"{{"channels":["{name}","{name}-2"],"data":{n}}}"#),
    };
    let numbers = 1..=COUNT;
    let command = |name: &str, n: usize| object(name, n).replacen('{', r#"{"type":"publish","#, 1);
    let socket = async {
        let mut socket = RawWebSocket::open(&node, "/ws").await;
        let frames: Vec<u8> = numbers.clone().flat_map(|n| frame(0x81, command("ws", n).as_bytes())).collect();
        socket.send(&frames).await;
        let mut acks = 0;
        while acks < COUNT {
            let object = socket.frame().await.expect("a frame").json();
            assert_ne!(object["type"], "error", "{object}");
            acks += usize::from(object["type"] == "ack");
        }
    };
    let lines = async {
        let mut client = LineClient::connect(node.tcp).await;
        for n in numbers.clone() {
            client.send(&command("tcp", n)).await;
        }
        let mut acks = 0;
        while acks < COUNT {
            let object = client.json().await;
            assert_ne!(object["type"], "error", "{object}");
            acks += usize::from(object["type"] == "ack");
        }
    };
    let pipeline = async {
        let request = |n: usize| {
            let body = object("http", n);
            let head = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
            format!("POST /publish HTTP/1.1\r\nHost: localhost\r\n{head}\r\n{body}")
        };
        let last = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_owned();
        let all: String = numbers.clone().map(request).chain([last]).collect();
        let mut stream = TcpStream::connect(node.http).await.expect("connect");
        stream.write_all(all.as_bytes()).await.expect("sent");
        let mut answers = String::new();
        let read = stream.read_to_string(&mut answers);
        within(SOON, "the answers", read).await.expect("answers");
        assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), COUNT + 1, "{answers}");
    };
    tokio::join!(socket, lines, pipeline);
    let mut order: HashMap<String, Vec<usize>> = HashMap::new();
    for fields in entries(&redis).await {
        let value = |name: &str| fields.chunks(2).find(|pair| pair[0] == name).map(|pair| pair[1].clone());
        let channel = value("channel").or_else(|| Some(value("channels")?.split(',').next()?.to_owned()));
        order.entry(channel.expect("a channel")).or_default().push(value("data").expect("data").parse().expect("n"));
    }
    let wanted: Vec<usize> = numbers.collect();
    for name in ["ws", "tcp", "http"] {
        assert_eq!(order[name], wanted, "{name}");
    }
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
