//! The log differs from the log that a node has read: it was moved, lost its end, was put back or was edited by others.
//! Its entries reach every reader once and in order, and lost entries are reported as a gap.

use crate::support;

use std::time::Duration;
use support::clock::Clock;
use support::proxy::{Path, Proxy};
use support::world::start_on;
use support::{Kind, Node, Reader, RedisServer, Subscription, each_transport, eventually};

/// The messages and gaps that a reader gets up to a payload, without the objects about its own state.
#[derive(Debug, PartialEq)]
struct Told {
    messages: Vec<String>,
    gaps: usize,
}

/// Reads up to a message with this payload.
async fn told(mut reader: Reader, last: &'static str) -> Told {
    let (mut messages, mut gaps) = (Vec::new(), 0);
    loop {
        let item = reader.next_news().await;
        match item.kind {
            Kind::Gap => gaps += 1,
            Kind::Message => messages.push(item.data().trim_matches('"').to_owned()),
            _ => panic!("{}: {item:?}", reader.transport.name),
        }
        if messages.last().is_some_and(|message| message == last) {
            return Told { messages, gaps };
        }
    }
}

fn expected(messages: &str, gaps: usize) -> Told {
    Told { messages: messages.split_whitespace().map(str::to_owned).collect(), gaps }
}

/// Checks that a reader from each of these cursors, on each transport of each node, gets these messages and gaps up to
/// `after`.
async fn all_are_told(nodes: &[&Node], cases: &[(&str, &str, usize)]) {
    for (index, node) in nodes.iter().enumerate() {
        for (cursor, messages, gaps) in cases {
            each_transport(
                node,
                |_| true,
                async |transport| {
                    let name = transport.name.clone();
                    let reader = Reader::open(node, &transport, Subscription::to(&["a"]).from(cursor)).await;
                    let got = told(reader, "after").await;
                    assert_eq!(got, expected(messages, *gaps), "node {index}, from {cursor} on {name}");
                },
            )
            .await;
        }
    }
}

/// A reader on each stream of a node, from a cursor.
async fn streams(node: &Node, cursor: &str) -> Vec<Reader> {
    let mut readers = Vec::new();
    for transport in node.transports().await.iter().filter(|t| t.is_stream()) {
        readers.push(Reader::open(node, transport, Subscription::to(&["a"]).from(cursor)).await);
    }
    readers
}

async fn publish(node: &Node, payload: &str) -> String {
    eventually(&format!("{payload} to be published"), async || {
        let answer = node.try_publish("channel=a", &format!("\"{payload}\"")).await;
        if answer.status == 200 { answer.json()["messages"][0]["id"].as_str().map(str::to_owned) } else { None }
    })
    .await
}

async fn publish_all(node: &Node, payloads: &[&str]) -> Vec<String> {
    let mut ids = Vec::new();
    for payload in payloads {
        ids.push(publish(node, payload).await);
    }
    ids
}

async fn xadd(redis: &RedisServer, payload: &str) {
    redis.command(&["XADD", "longtail:log", "*", "channel", "a", "data", &format!("\"{payload}\"")]).await;
    // Ids are milliseconds: each entry has its own.
    tokio::time::sleep(Duration::from_millis(3)).await;
}

/// A replica of a server, in step with it.
async fn replica_of(primary: &RedisServer) -> RedisServer {
    let replica = RedisServer::start_with(&["--repl-diskless-sync-delay", "0"]).await;
    replica.command(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()]).await;
    eventually("the replica to be in step", async || {
        replica.text(&["INFO", "replication"]).await.contains("master_link_status:up").then_some(())
    })
    .await;
    replica
}

async fn in_step(replica: &RedisServer, entries: i64) {
    eventually(&format!("the replica to have {entries} entries"), async || {
        (replica.number(&["XLEN", "longtail:log"]).await == entries).then_some(())
    })
    .await;
}

async fn ready(nodes: &[&Node]) {
    for node in nodes {
        eventually("the node to be ready", async || (node.get("/readyz").await.status == 200).then_some(())).await;
    }
}

/// A copy of the log as it is now.
async fn dump(redis: &RedisServer) -> Vec<u8> {
    let mut connection = redis.connect().await.expect("a connection");
    redis::cmd("DUMP").arg("longtail:log").query_async(&mut connection).await.expect("DUMP")
}

async fn put_back(redis: &RedisServer, copy: &[u8]) {
    let mut connection = redis.connect().await.expect("a connection");
    let mut restore = redis::cmd("RESTORE");
    restore.arg("longtail:log").arg(0).arg(copy).arg("REPLACE");
    let _: redis::Value = restore.query_async(&mut connection).await.expect("RESTORE");
}

/// A cursor from a faster node is ahead of this node, and more messages follow than nodes retain.
#[tokio::test]
async fn a_reader_ahead_of_its_node_goes_on_when_the_node_has_come_as_far() {
    let redis = RedisServer::start().await;
    let proxy = Proxy::start(redis.port()).await;
    let retain = ["--retain-messages", "100", "--heartbeat-seconds", "1"];
    let fast = start_on(&redis, &retain).await;
    let url = proxy.url();
    let slow = Node::start(&[&["--redis", url.as_str()], &retain[..]].concat()).await;
    proxy.set(Path::Late(Duration::from_millis(25)));
    let transports = slow.transports().await;
    for transport in transports.iter().filter(|transport| transport.name != "poll") {
        let fresh = publish(&fast, "x").await;
        let subscription = Subscription::to(&["a"]).from(&fresh).with("timeout", "20");
        let reader = Reader::open(&slow, transport, subscription).await;
        let reading = tokio::spawn(told(reader, "after"));
        // The reader learns that its cursor is valid before the burst, and waits for its node.
        tokio::time::sleep(Duration::from_millis(400)).await;
        let burst: Vec<String> = (0..300).map(|n| format!(r#"{{"channel":"a","data":{n}}}"#)).collect();
        let answer = fast.publish_json(&format!("[{}]", burst.join(","))).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        publish(&fast, "after").await;
        let got = reading.await.expect("the reader reads");
        // The node may drop messages again while the reader reads on.
        assert!((1..=3).contains(&got.gaps), "{}: {got:?}", transport.name);
    }
}

/// An orderly failover: the replica takes appends before the nodes leave the old primary, and the old primary takes one
/// more append.
#[tokio::test]
async fn a_fork_before_the_last_entry_that_was_seen_is_found() {
    let old = RedisServer::start().await;
    let proxy = Proxy::start(old.port()).await;
    let url = proxy.url();
    let args = ["--redis", url.as_str(), "--heartbeat-seconds", "1"];
    let nodes = [Node::start(&args).await, Node::start(&args).await];
    let new = replica_of(&old).await;
    let ids = publish_all(&nodes[0], &["x0", "x1", "x2"]).await;
    in_step(&new, 3).await;
    let mut live = Vec::new();
    for node in &nodes {
        live.extend(streams(node, &ids[2]).await);
    }
    new.command(&["REPLICAOF", "NO", "ONE"]).await;
    for n in 0..5 {
        xadd(&new, &format!("n{n}")).await;
    }
    xadd(&old, "lost").await;
    for reader in &mut live {
        assert_eq!(reader.next_message().await.data(), "\"lost\"", "{}", reader.transport.name);
    }
    let beyond = live[0].cursor();
    proxy.lead(new.port());
    ready(&[&nodes[0], &nodes[1]]).await;
    publish(&nodes[1], "after").await;
    for reader in live {
        let name = reader.transport.name.clone();
        assert_eq!(told(reader, "after").await, expected("n0 n1 n2 n3 n4 after", 1), "live on {name}");
    }
    let cases = [
        (ids[0].as_str(), "x1 x2 n0 n1 n2 n3 n4 after", 1),
        (ids[2].as_str(), "n0 n1 n2 n3 n4 after", 1),
        (beyond.as_str(), "n0 n1 n2 n3 n4 after", 1),
        ("earliest", "x0 x1 x2 n0 n1 n2 n3 n4 after", 0),
    ];
    all_are_told(&[&nodes[0], &nodes[1]], &cases).await;
}

/// No message was lost: a failover to a replica in step, and a restart with the same file, are not a gap for any
/// reader.
#[tokio::test]
async fn a_server_that_has_everything_is_no_gap() {
    let mut old = RedisServer::start_durable().await;
    let proxy = Proxy::start(old.port()).await;
    let url = proxy.url();
    let args = ["--redis", url.as_str(), "--heartbeat-seconds", "1"];
    let nodes = [Node::start(&args).await, Node::start(&args).await];
    let ids = publish_all(&nodes[0], &["x0", "x1"]).await;
    // No append has marked the entry: only the reads of the nodes prove that it is there.
    xadd(&old, "x2").await;
    let mut live = Vec::new();
    for node in &nodes {
        for mut reader in streams(node, &ids[1]).await {
            assert_eq!(reader.next_message().await.data(), "\"x2\"", "{}", reader.transport.name);
            live.push(reader);
        }
    }
    let newest = live[0].cursor();
    old.kill();
    old.restart().await;
    ready(&[&nodes[0], &nodes[1]]).await;
    let after_restart = publish(&nodes[0], "x3").await;
    let new = replica_of(&old).await;
    in_step(&new, 4).await;
    new.command(&["REPLICAOF", "NO", "ONE"]).await;
    proxy.lead(new.port());
    ready(&[&nodes[0], &nodes[1]]).await;
    publish(&nodes[1], "after").await;
    for reader in live {
        let name = reader.transport.name.clone();
        assert_eq!(told(reader, "after").await, expected("x3 after", 0), "live on {name}");
    }
    let cases = [
        (ids[0].as_str(), "x1 x2 x3 after", 0),
        (newest.as_str(), "x3 after", 0),
        (after_restart.as_str(), "after", 0),
    ];
    let fresh = Node::start(&args).await;
    all_are_told(&[&nodes[0], &fresh], &cases).await;
}

/// Two primaries have a common past, and each has a node with readers. Then the node of the old one is moved to the new
/// one.
#[tokio::test]
async fn two_histories_are_told_apart() {
    let old = RedisServer::start().await;
    let proxy = Proxy::start(old.port()).await;
    let url = proxy.url();
    let stays = Node::start(&["--redis", url.as_str(), "--heartbeat-seconds", "1"]).await;
    let new = replica_of(&old).await;
    let ids = publish_all(&stays, &["x0", "x1"]).await;
    in_step(&new, 2).await;
    new.command(&["REPLICAOF", "NO", "ONE"]).await;
    let moved = start_on(&new, &["--heartbeat-seconds", "1"]).await;
    let (on_old, on_new) = (streams(&stays, &ids[1]).await, streams(&moved, &ids[1]).await);
    let (mut lost, mut kept) = (Vec::new(), Vec::new());
    for n in 0..3 {
        kept.push(publish(&moved, &format!("n{n}")).await);
        lost.push(publish(&stays, &format!("o{n}")).await);
    }
    proxy.lead(new.port());
    ready(&[&stays, &moved]).await;
    publish(&moved, "after").await;
    for reader in on_old {
        let name = reader.transport.name.clone();
        assert_eq!(told(reader, "after").await, expected("o0 o1 o2 n0 n1 n2 after", 1), "on the old side, {name}");
    }
    for reader in on_new {
        let name = reader.transport.name.clone();
        assert_eq!(told(reader, "after").await, expected("n0 n1 n2 after", 0), "on the new side, {name}");
    }
    let cases = [
        (lost[0].as_str(), "n0 n1 n2 after", 1),
        (lost[2].as_str(), "n0 n1 n2 after", 1),
        (kept[0].as_str(), "n1 n2 after", 0),
        (kept[2].as_str(), "after", 0),
        ("earliest", "x0 x1 n0 n1 n2 after", 0),
    ];
    let fresh = start_on(&new, &[]).await;
    all_are_told(&[&stays, &moved, &fresh], &cases).await;
}

/// The machine's power is cut: Redis loses its last second, and no node remembers the lost entries.
#[tokio::test]
async fn an_end_that_nobody_remembers_is_a_gap() {
    let mut redis = RedisServer::start().await;
    let node = start_on(&redis, &[]).await;
    let kept = publish_all(&node, &["1", "2"]).await;
    let copy = dump(&redis).await;
    let lost = publish_all(&node, &["3", "4"]).await;
    drop(node);
    redis.kill();
    redis.restart().await;
    put_back(&redis, &copy).await;
    // This entry is added before any node runs.
    xadd(&redis, "5").await;
    let node = start_on(&redis, &[]).await;
    publish(&node, "after").await;
    let cases = [
        (kept[0].as_str(), "2 5 after", 0),
        (kept[1].as_str(), "5 after", 0),
        (lost[0].as_str(), "5 after", 1),
        (lost[1].as_str(), "5 after", 1),
    ];
    all_are_told(&[&node], &cases).await;
}

/// An older copy is put back under live nodes, which keep their connections.
#[tokio::test]
async fn an_older_copy_is_another_history() {
    let redis = RedisServer::start().await;
    let node = start_on(&redis, &["--heartbeat-seconds", "1"]).await;
    let kept = publish_all(&node, &["1", "2", "3"]).await;
    let copy = dump(&redis).await;
    let lost = publish_all(&node, &["4", "5"]).await;
    let mut live = streams(&node, &lost[0]).await;
    for reader in &mut live {
        assert_eq!(reader.next_message().await.data(), "\"5\"", "{}", reader.transport.name);
    }
    put_back(&redis, &copy).await;
    for reader in &mut live {
        assert_eq!(reader.next_news().await.kind, Kind::Gap, "{}", reader.transport.name);
    }
    publish_all(&node, &["6", "after"]).await;
    for reader in live {
        let name = reader.transport.name.clone();
        assert_eq!(told(reader, "after").await, expected("6 after", 0), "live on {name}");
    }
    let cases = [
        (kept[1].as_str(), "3 6 after", 1),
        (kept[2].as_str(), "6 after", 1),
        (lost[0].as_str(), "6 after", 1),
        ("earliest", "1 2 3 6 after", 0),
    ];
    let fresh = start_on(&redis, &[]).await;
    all_are_told(&[&node, &fresh], &cases).await;
}

/// A copy is put back, and others PUBLISH as many messages as the copy lacks. These get the ids of the lost messages,
/// because the last id is ahead of the clock. So neither ids nor numbers distinguish the two histories.
#[tokio::test]
async fn an_older_copy_that_was_filled_again_is_another_history() {
    let redis = RedisServer::start().await;
    let node = start_on(&redis, &["--heartbeat-seconds", "1"]).await;
    let other = start_on(&redis, &[]).await;
    redis.listened(2).await;
    publish(&node, "1").await;
    redis.command(&["XSETID", "longtail:log", "99999999999999-0"]).await;
    publish_all(&node, &["2", "3"]).await;
    for mut reader in streams(&other, "earliest").await {
        while reader.next_message().await.data() != "\"3\"" {}
    }
    other.signal("STOP");
    let copy = dump(&redis).await;
    let lost = publish_all(&node, &["4", "5"]).await;
    let mut live = streams(&node, &lost[0]).await;
    for reader in &mut live {
        assert_eq!(reader.next_message().await.data(), "\"5\"", "{}", reader.transport.name);
    }
    node.signal("STOP");
    put_back(&redis, &copy).await;
    for payload in ["\"6\"", "\"7\""] {
        redis.command(&["PUBLISH", "push:a", payload]).await;
    }
    other.signal("CONT");
    eventually("the PUBLISHes to be appended", async || {
        (redis.number(&["XLEN", "longtail:log"]).await == 5).then_some(())
    })
    .await;
    node.signal("CONT");
    publish(&other, "after").await;
    for reader in live {
        let name = reader.transport.name.clone();
        assert_eq!(told(reader, "after").await, expected("6 7 after", 1), "live on {name}");
    }
    all_are_told(&[&node, &other], &[(lost[0].as_str(), "6 7 after", 1), ("earliest", "1 2 3 6 7 after", 0)]).await;
}

/// The log is moved away, others write a new log, and the old one comes back: a reader continues where its node had
/// been.
#[tokio::test]
async fn a_log_that_comes_back_goes_on_where_it_was() {
    let redis = RedisServer::start().await;
    let node = start_on(&redis, &["--heartbeat-seconds", "1"]).await;
    let ids = publish_all(&node, &["1", "2"]).await;
    let mut live = streams(&node, &ids[1]).await;
    redis.command(&["RENAME", "longtail:log", "elsewhere"]).await;
    for reader in &mut live {
        assert_eq!(reader.next_news().await.kind, Kind::Gap, "{}", reader.transport.name);
    }
    let other = publish(&node, "3").await;
    for reader in &mut live {
        assert_eq!(reader.next_message().await.data(), "\"3\"", "{}", reader.transport.name);
    }
    redis.command(&["RENAME", "elsewhere", "longtail:log"]).await;
    for reader in &mut live {
        assert_eq!(reader.next_news().await.kind, Kind::Gap, "{}", reader.transport.name);
    }
    publish(&node, "after").await;
    for reader in live {
        let name = reader.transport.name.clone();
        assert_eq!(told(reader, "after").await, expected("after", 0), "live on {name}");
    }
    all_are_told(&[&node], &[(ids[0].as_str(), "2 after", 0), (other.as_str(), "1 2 after", 1)]).await;
}

/// Others change the stream between two reads of a node in ways that the remaining entries do not show.
#[tokio::test]
async fn entries_that_vanish_before_a_node_has_read_them_are_a_gap() {
    let add = |n: usize| format!("redis.call('XADD', KEYS[1], '*', 'channel', 'a', 'data', '\"{n}\"')");
    let cases = [
        (
            "added and trimmed in one step",
            format!("{} {} {} redis.call('XTRIM', KEYS[1], 'MAXLEN', 1)", add(1), add(2), add(3)),
            "3",
        ),
        (
            "XADD with a bound, several times",
            format!(
                "for i = 1, 50 do redis.call('XADD', KEYS[1], 'MAXLEN', 1, '*', 'channel', 'a', 'data', '\"9\"') end {}",
                add(3)
            ),
            "9 3",
        ),
        (
            "added and deleted in one step",
            format!("local id = {} {} redis.call('XDEL', KEYS[1], id)", add(1), add(3)),
            "3",
        ),
        ("all of it deleted", format!("local id = {} redis.call('XDEL', KEYS[1], id)", add(1)), ""),
    ];
    for (case, script, left) in cases {
        let redis = RedisServer::start().await;
        let node = start_on(&redis, &["--heartbeat-seconds", "1"]).await;
        let before = publish(&node, "x").await;
        let live = streams(&node, &before).await;
        redis.command(&["EVAL", &script, "1", "longtail:log"]).await;
        let after = publish(&node, "after").await;
        for reader in live {
            let name = reader.transport.name.clone();
            let got = told(reader, "after").await;
            assert_eq!(got, expected(&format!("{left} after"), 1), "{case}: live on {name}");
        }
        // The gap is reported once.
        publish(&node, "after").await;
        all_are_told(&[&node], &[(after.as_str(), "after", 0)]).await;
    }
}

/// An entry is deleted from the middle. A node that has read it still returns it; a node that has not read it reports a
/// gap and returns the others.
#[tokio::test]
async fn an_entry_deleted_from_the_middle_is_a_gap_where_nobody_has_it() {
    let redis = RedisServer::start().await;
    let has_it = start_on(&redis, &[]).await;
    let ids = publish_all(&has_it, &["1", "2", "3", "4"]).await;
    let deleted = ids[2].split('.').next().expect("an id");
    assert_eq!(redis.number(&["XDEL", "longtail:log", deleted]).await, 1);
    let fresh = start_on(&redis, &[]).await;
    let after = publish(&has_it, "after").await;
    all_are_told(&[&has_it], &[(ids[0].as_str(), "2 3 4 after", 0)]).await;
    all_are_told(&[&fresh], &[(ids[0].as_str(), "2 4 after", 1), (ids[2].as_str(), "4 after", 0)]).await;
    publish(&has_it, "after").await;
    all_are_told(&[&has_it, &fresh], &[(after.as_str(), "after", 0)]).await;
}

/// The log's last id does not belong to an entry: a node that starts is still ready, and no reader is told of a gap.
#[tokio::test]
async fn a_last_id_without_an_entry_is_an_end_like_any_other() {
    type Edit = fn(&[String]) -> Vec<String>;
    let edits: [(&str, Edit); 2] = [
        ("the newest entry is deleted", |ids| {
            vec!["XDEL".into(), "longtail:log".into(), ids[2].split('.').next().unwrap_or_default().into()]
        }),
        ("XSETID an hour ahead", |ids| {
            let ms: u64 = ids[2].split('-').next().and_then(|ms| ms.parse().ok()).expect("milliseconds");
            vec!["XSETID".into(), "longtail:log".into(), format!("{}-0", ms + 3_600_000)]
        }),
    ];
    for (case, edit) in edits {
        let redis = RedisServer::start().await;
        let node = start_on(&redis, &["--heartbeat-seconds", "1"]).await;
        let ids = publish_all(&node, &["1", "2", "3"]).await;
        let live = streams(&node, &ids[2]).await;
        let words = edit(&ids);
        redis.command(&words.iter().map(String::as_str).collect::<Vec<_>>()).await;
        let fresh = start_on(&redis, &[]).await;
        // A reconnect checks the log again.
        redis.command(&["CLIENT", "KILL", "TYPE", "normal"]).await;
        ready(&[&node, &fresh]).await;
        publish(&node, "after").await;
        for reader in live {
            let name = reader.transport.name.clone();
            assert_eq!(told(reader, "after").await, expected("after", 0), "{case}: live on {name}");
        }
        all_are_told(&[&node, &fresh], &[(ids[2].as_str(), "after", 0)]).await;
    }
}

/// A node's wall clock steps (NTP after boot, a virtual machine that resumes): entries age by the log's clock.
#[tokio::test]
async fn a_node_whose_clock_steps_serves_as_before() {
    let redis = RedisServer::start().await;
    let writer = start_on(&redis, &[]).await;
    for step in [7200, -7200] {
        let clock = Clock::new();
        let args = [&["--retain-seconds", "600", "--heartbeat-seconds", "1"], &clock.variables()[..]].concat();
        let node = start_on(&redis, &args).await;
        let ids = publish_all(&writer, &["1", "2"]).await;
        let live = streams(&node, &ids[1]).await;
        clock.set(step);
        publish_all(&writer, &["3", "after"]).await;
        for reader in live {
            let name = reader.transport.name.clone();
            assert_eq!(told(reader, "after").await, expected("3 after", 0), "{step} s: live on {name}");
        }
        let reads = async || redis.number_in("commandstats", "cmdstat_xrange:calls=").await;
        let before = reads().await;
        all_are_told(&[&node], &[(ids[0].as_str(), "2 3 after", 0), (ids[1].as_str(), "3 after", 0)]).await;
        assert_eq!(reads().await, before, "{step} s: polls are answered from the node's memory");
    }
}

/// `earliest` begins with the oldest entry of the log, whatever was trimmed or deleted before.
#[tokio::test]
async fn earliest_never_has_a_gap() {
    let redis = RedisServer::start().await;
    let node = start_on(&redis, &[]).await;
    let ids = publish_all(&node, &["1", "2", "3", "4", "5"]).await;
    redis.command(&["XTRIM", "longtail:log", "MAXLEN", "4"]).await;
    let trimmed = start_on(&redis, &[]).await;
    // An entry that no node has read is deleted: readers before it ask the log, whose floor has moved on since.
    let script = "redis.call('XDEL', KEYS[1], (redis.call('XADD', KEYS[1], '*', 'channel', 'a', 'data', '0')))";
    redis.command(&["EVAL", script, "1", "longtail:log"]).await;
    publish(&node, "6").await;
    redis.command(&["XTRIM", "longtail:log", "MAXLEN", "3"]).await;
    publish(&node, "after").await;
    all_are_told(&[&trimmed], &[("earliest", "4 5 6 after", 0)]).await;
    let deleted = ids[3].split('.').next().expect("an id");
    redis.command(&["XDEL", "longtail:log", deleted]).await;
    let fresh = start_on(&redis, &[]).await;
    all_are_told(&[&fresh], &[("earliest", "5 6 after", 0)]).await;
}
