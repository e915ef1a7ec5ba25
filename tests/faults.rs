//! Redis dies, stalls, loses its data and comes back while messages flow.

use crate::support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use support::world::start_on;
use support::{
    Kind, LONG, Node, Published, Reader, RedisServer, Request, Response, Subscription, each_transport, eventually,
    within,
};

/// Publishes one message with its own key until the answer is 200.
async fn publish_until_acknowledged(node: &Node, channel: &str, payload: &str) -> Published {
    let query = format!("channel={channel}&key=flow-{}", payload.trim_matches('"'));
    let id = acknowledged(node, &query, payload).await;
    Published { id, channel: channel.to_owned(), data: payload.to_owned() }
}

/// Publishes until the log takes the message. Returns its id.
async fn acknowledged(node: &Node, query: &str, payload: &str) -> String {
    eventually("an acknowledgement", async || {
        let answer = node.try_publish(query, payload).await;
        if answer.status != 200 {
            refused_for_now(&answer);
            return None;
        }
        answer.json()["messages"][0]["id"].as_str().map(str::to_owned)
    })
    .await
}

/// A refusal after which a publisher tries again; true if the message is proven not to be in the log.
fn refused_for_now(answer: &Response) -> bool {
    assert_eq!(answer.status, 503, "{}", answer.text());
    let wait = answer.header("Retry-After").expect("Retry-After");
    assert!(wait.parse::<u32>().is_ok(), "{wait}");
    match answer.error_code().as_str() {
        "log_unavailable" => true,
        "outcome_unknown" => false,
        other => panic!("{other}"),
    }
}

const FLOW: usize = 300;

/// The id of a message without its epoch. A message that no node has read when Redis ends belongs to the next epoch:
/// its publisher was told an id of the previous one.
fn without_epoch(id: &str) -> String {
    id.split('.').next().unwrap_or_default().to_owned()
}

/// Reads to the message `"end"`. Returns the transport, payloads and ids without their epochs.
async fn read_to_end(mut reader: Reader) -> (String, Vec<(String, String)>) {
    let mut seen = Vec::new();
    loop {
        let message = reader.next_message().await;
        seen.push((message.data().to_owned(), without_epoch(&message.id().expect("an id"))));
        if message.data() == "\"end\"" {
            return (reader.transport.name.clone(), seen);
        }
    }
}

/// Runs a flow of acknowledged publishes over two nodes, a fault in its middle, and a reader on every transport of both
/// nodes. Each reader sees all messages, once, in order, without a gap.
async fn nothing_is_lost(fault: impl AsyncFnOnce(&mut RedisServer)) {
    let mut redis = RedisServer::start_durable().await;
    let nodes = [start_on(&redis, &[]).await, start_on(&redis, &[]).await];
    let mut readers = Vec::new();
    for node in &nodes {
        for transport in node.transports().await {
            let subscription = Subscription::to(&["todo"]);
            readers.push(Reader::open(node, &transport, subscription).await);
        }
    }
    let acknowledged = AtomicUsize::new(0);
    let flow = async {
        let mut published = Vec::new();
        for n in 0..FLOW {
            let payload = format!("\"{n}\"");
            let node = &nodes[n % 2];
            published.push(publish_until_acknowledged(node, "todo", &payload).await);
            acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        published.push(publish_until_acknowledged(&nodes[0], "todo", "\"end\"").await);
        published
    };
    let strike = async {
        while acknowledged.load(Ordering::Relaxed) < FLOW / 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        fault(&mut redis).await;
    };
    let read = readers.into_iter().map(|reader| Box::pin(read_to_end(reader)));
    let (published, (), seen) = within(
        LONG,
        "the flow and its readers",
        futures_util::future::join3(flow, strike, futures_util::future::join_all(read)),
    )
    .await;
    let expected: Vec<_> = published.into_iter().map(|p| (p.data, without_epoch(&p.id))).collect();
    for (name, seen) in seen {
        assert_eq!(seen, expected, "on {name}");
    }
}

#[tokio::test]
async fn redis_is_killed_and_restarted() {
    nothing_is_lost(async |redis| {
        redis.kill();
        redis.restart().await;
    })
    .await;
}

#[tokio::test]
async fn redis_stalls_for_five_seconds() {
    nothing_is_lost(async |redis| {
        redis.freeze();
        tokio::time::sleep(Duration::from_secs(5)).await;
        redis.thaw();
    })
    .await;
}

#[tokio::test]
async fn all_connections_are_cut() {
    nothing_is_lost(async |redis| {
        for _ in 0..5 {
            for kind in ["normal", "pubsub"] {
                redis.command(&["CLIENT", "KILL", "TYPE", kind]).await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

/// While the log is not reachable, readers stay, polls are answered from memory, and publishers get an error.
#[tokio::test]
async fn the_log_is_away() {
    let mut redis = RedisServer::start_durable().await;
    let args = ["--publish-timeout", "1", "--heartbeat-seconds", "1"];
    let node = start_on(&redis, &args).await;
    let published = node.publish_numbers("todo", 20).await;
    let last = &published[19].id;
    let mut streams = Vec::new();
    for transport in node.transports().await.iter().filter(|t| t.is_stream()) {
        streams.push(Reader::open(&node, transport, Subscription::to(&["todo"]).from(last)).await);
    }
    redis.kill();
    eventually("the node to notice", async || (node.get("/readyz").await.status == 503).then_some(())).await;
    assert_eq!(node.get("/healthz").await.status, 200);
    for reader in &mut streams {
        reader.next_of(Kind::Heartbeat).await;
    }
    each_transport(
        &node,
        |_| true,
        async |transport| {
            let subscription = Subscription::to(&["todo"]).from("earliest");
            Reader::open(&node, &transport, subscription).await.expect(&published).await;
        },
    )
    .await;
    let proven = refused_for_now(&node.try_publish("channel=todo", "\"never\"").await);
    let keyed = node.try_publish("channel=todo&key=k", "\"once\"").await;
    refused_for_now(&keyed);

    redis.restart().await;
    eventually("the node to be ready", async || (node.get("/readyz").await.status == 200).then_some(())).await;
    let mut expected = Vec::new();
    for payload in ["\"once\"", "\"end\""] {
        let key = payload.trim_matches('"').replace("once", "k");
        let id = acknowledged(&node, &format!("channel=todo&key={key}"), payload).await;
        expected.push(Published { id, channel: "todo".to_owned(), data: payload.to_owned() });
    }
    if proven {
        for reader in &mut streams {
            reader.expect(&expected).await;
        }
    }
}

/// Publishes into a stalled Redis: a message whose answer is `log_unavailable` is never in the log; a message whose
/// answer is `outcome_unknown` is there at most once, even after a retry with the same key.
#[tokio::test]
async fn refusals_are_true() {
    let redis = RedisServer::start().await;
    let node = start_on(&redis, &["--publish-timeout", "1"]).await;
    let mut refused = Vec::new();
    for round in 0..3 {
        let publish = |n: usize| {
            let (node, payload) = (&node, format!("\"{round}-{n}\""));
            async move {
                // The freeze hits half of the messages at some point of their path.
                tokio::time::sleep(Duration::from_millis(n as u64)).await;
                let query = format!("channel=todo&key={round}-{n}");
                let answer = node.try_publish(&query, &payload).await;
                (query, payload, answer)
            }
        };
        let freeze = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            redis.freeze();
            tokio::time::sleep(Duration::from_millis(2500)).await;
            redis.thaw();
        };
        let publishes = futures_util::future::join_all((0..64).map(publish));
        let (answers, ()) = futures_util::future::join(publishes, freeze).await;
        refused.extend(answers.into_iter().filter(|(_, _, answer)| answer.status != 200));
    }
    assert!(!refused.is_empty(), "none of 192 publishes met the freeze");
    eventually("the node to be ready", async || (node.get("/readyz").await.status == 200).then_some(())).await;
    node.publish("todo", "\"end\"").await;

    let log = async || {
        let words = ["XRANGE", "longtail:log", "-", "+"];
        let entries: Vec<(String, Vec<String>)> =
            redis::from_redis_value(redis.command(&words).await).expect("entries");
        entries.into_iter().map(|(_, fields)| fields.join(" ")).collect::<Vec<_>>()
    };
    let count = |log: &[String], payload: &str| log.iter().filter(|e| e.contains(payload)).count();
    let before = log().await;
    for (query, payload, answer) in &refused {
        let most = if refused_for_now(answer) { 0 } else { 1 };
        assert!(count(&before, payload) <= most, "{query}: {}", answer.text());
    }
    for (query, payload, _) in &refused {
        node.publish_with(query, payload).await;
    }
    let after = log().await;
    for (query, payload, _) in &refused {
        assert_eq!(count(&after, payload), 1, "{query} after a retry with its key");
    }
}

/// Opens a reader on every stream transport and lets it read `published`.
async fn streams(node: &Node, published: &[Published]) -> Vec<Reader> {
    let mut readers = Vec::new();
    for transport in node.transports().await.iter().filter(|t| t.is_stream()) {
        let subscription = Subscription::to(&["todo"]).from("earliest");
        let mut reader = Reader::open(node, transport, subscription).await;
        reader.expect(published).await;
        readers.push(reader);
    }
    readers
}

/// The log is emptied while readers are connected: each reader gets a gap and continues.
#[tokio::test]
async fn the_log_is_emptied() {
    let redis = RedisServer::start().await;
    let nodes = [start_on(&redis, &[]).await, start_on(&redis, &[]).await];
    let old = nodes[0].publish_numbers("todo", 5).await;
    let mut readers = Vec::new();
    for node in &nodes {
        readers.extend(streams(node, &old).await);
    }
    redis.command(&["FLUSHALL"]).await;
    for reader in &mut readers {
        let gap = reader.next_of(Kind::Gap).await;
        assert_eq!(gap.str("from").as_ref(), Some(&old[4].id), "{}", reader.transport.name);
    }
    let new = nodes[1].publish_numbers("todo", 5).await;
    for reader in &mut readers {
        reader.expect(&new).await;
    }
    for node in &nodes {
        each_transport(
            node,
            |_| true,
            async |transport| {
                let subscription = Subscription::to(&["todo"]).from(&old[2].id);
                let mut reader = Reader::open(node, &transport, subscription).await;
                assert_eq!(reader.next_of(Kind::Gap).await.str("from").as_ref(), Some(&old[2].id));
                reader.expect(&new).await;
                let subscription = Subscription::to(&["todo"]).from("earliest");
                Reader::open(node, &transport, subscription).await.expect(&new).await;
            },
        )
        .await;
    }
}

/// The log is emptied and written again at once: ids above the cursors do not hide the loss.
#[tokio::test]
async fn the_log_is_replaced_at_once() {
    let redis = RedisServer::start().await;
    let node = start_on(&redis, &[]).await;
    let old = node.publish_numbers("todo", 5).await;
    let mut readers = streams(&node, &old).await;
    let mut both = redis::pipe();
    both.atomic().cmd("FLUSHALL").cmd("XADD").arg("longtail:log").arg("*");
    both.arg("channel").arg("todo").arg("data").arg("\"new\"");
    let mut connection = redis.connect().await.expect("connect");
    let _: redis::Value = both.query_async(&mut connection).await.expect("FLUSHALL and XADD");
    for reader in &mut readers {
        let name = reader.transport.name.clone();
        assert_eq!(reader.next_news().await.kind, Kind::Gap, "{name}");
        assert_eq!(reader.next_message().await.data(), "\"new\"", "{name}");
    }
}

/// Ids that restart below a cursor do not silence its reader.
#[tokio::test]
async fn ids_restart_lower() {
    let redis = RedisServer::start().await;
    let node = start_on(&redis, &[]).await;
    let old = node.publish_numbers("todo", 5).await;
    let mut readers = streams(&node, &old).await;
    redis.command(&["DEL", "longtail:log"]).await;
    // The ids are only a minute lower. Ids are times, and entries of 1970 could be trimmed by age before they are read.
    let now: u64 = old[0].id.split('-').next().and_then(|ms| ms.parse().ok()).expect("an id");
    for n in 1..=3 {
        let id = format!("{}-{n}", now - 60_000);
        let words = ["XADD", "longtail:log", &id, "channel", "todo", "data", &n.to_string()];
        redis.command(&words).await;
    }
    for reader in &mut readers {
        let name = reader.transport.name.clone();
        assert_eq!(reader.next_of(Kind::Gap).await.kind, Kind::Gap, "{name}");
        for n in 1..=3 {
            assert_eq!(reader.next_message().await.data(), n.to_string(), "{name}");
        }
    }
    let new = node.publish_numbers("todo", 1).await;
    for reader in &mut readers {
        reader.expect(&new).await;
    }
}

/// A failover that lost the log's end: readers beyond it have a gap, the other readers continue.
#[tokio::test]
async fn the_log_loses_its_end() {
    let redis = RedisServer::start().await;
    let node = start_on(&redis, &[]).await;
    let kept = node.publish_numbers("todo", 5).await;
    let mut connection = redis.connect().await.expect("connect");
    let mut dump = redis::cmd("DUMP");
    let dump: Vec<u8> = dump.arg("longtail:log").query_async(&mut connection).await.expect("DUMP");
    let lost = node.publish_numbers("todo", 5).await;
    let all = [kept.clone(), lost.clone()].concat();
    let mut readers = streams(&node, &all).await;
    let mut restore = redis::cmd("RESTORE");
    restore.arg("longtail:log").arg(0).arg(dump).arg("REPLACE");
    let _: redis::Value = restore.query_async(&mut connection).await.expect("RESTORE");
    redis.command(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    for reader in &mut readers {
        let name = reader.transport.name.clone();
        assert_eq!(reader.next_of(Kind::Gap).await.str("from").as_ref(), Some(&lost[4].id), "{name}");
    }
    let new = node.publish_numbers("todo", 3).await;
    for reader in &mut readers {
        reader.expect(&new).await;
    }
    each_transport(
        &node,
        |_| true,
        async |transport| {
            let good = Subscription::to(&["todo"]).from(&kept[1].id);
            let mut reader = Reader::open(&node, &transport, good).await;
            // The rest of the old end arrives once and in order. A gap reports the lost part, at its place or in front
            // of the batch that reaches it.
            let (mut got, mut gaps) = (Vec::new(), 0);
            while got.len() < kept.len() - 2 + new.len() {
                let item = reader.next_news().await;
                match item.kind {
                    Kind::Gap => gaps += 1,
                    _ => got.push(item.id().expect("an id")),
                }
            }
            let want: Vec<_> = kept[2..].iter().chain(&new).map(|published| published.id.clone()).collect();
            assert_eq!((got, gaps), (want, 1), "{}", transport.name);
            let beyond = Subscription::to(&["todo"]).from(&lost[4].id);
            let mut reader = Reader::open(&node, &transport, beyond).await;
            assert_eq!(reader.next_of(Kind::Gap).await.kind, Kind::Gap, "{}", transport.name);
            reader.expect(&new).await;
        },
    )
    .await;
}

/// With `--wait-for-log` a node starts without its log, waits with its readers, and is ready when the log is there.
#[tokio::test]
async fn a_node_waits_for_its_log() {
    let mut redis = RedisServer::start_durable().await;
    redis.command(&["XADD", "longtail:log", "*", "channel", "todo", "data", "1"]).await;
    redis.kill();
    let url = redis.url();
    let args = ["--redis", url.as_str(), "--wait-for-log"];
    let node = Node::start_unready(&args).await;
    assert_eq!(node.get("/healthz").await.status, 200);
    assert_eq!(node.get("/readyz").await.status, 503);
    let ask = |target: &'static str| Request::get(target).send(node.http);
    let (poll, jsonp, sse) = futures_util::future::join3(
        ask("/poll?channel=todo"),
        ask("/jsonp?channel=todo&callback=cb"),
        ask("/sse?channel=todo"),
    )
    .await;
    assert_eq!((poll.status, poll.error_code().as_str()), (503, "not_ready"));
    assert!(jsonp.status == 200 && jsonp.text().contains("not_ready"), "{}", jsonp.text());
    assert!(sse.status == 200 && sse.text().contains("event: bye"), "{}", sse.text());
    assert!(sse.text().starts_with("retry:"), "{}", sse.text());
    refused_for_now(&node.try_publish("channel=todo", "\"never\"").await);

    redis.restart().await;
    eventually("the node to be ready", async || (node.get("/readyz").await.status == 200).then_some(())).await;
    let batch = node.get("/poll?channel=todo&cursor=earliest").await.json();
    assert_eq!(batch["messages"].as_array().map(Vec::len), Some(1), "{batch}");
}

/// A node that starts finds the entries of the log.
#[tokio::test]
async fn a_node_is_warm_when_it_is_ready() {
    let redis = RedisServer::start().await;
    let published = start_on(&redis, &[]).await.publish_numbers("todo", 3000).await;
    let node = start_on(&redis, &[]).await;
    let transport = node.transport("poll").await;
    let subscription = Subscription::to(&["todo"]).from("earliest").with("limit", "1000");
    Reader::open(&node, &transport, subscription).await.expect(&published).await;
    let subscription = Subscription::to(&["todo"]).from(&published[1500].id);
    Reader::open(&node, &transport, subscription).await.expect(&published[1501..]).await;
}
