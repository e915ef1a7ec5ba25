//! One PUBLISH is one message, even if nodes that listen fail.

use crate::support;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::world::start_on;
use support::{LONG, Node, RedisServer, eventually, within};

const MESSAGES: usize = 20_000;
const PUBLISHERS: usize = 4;

/// The value of one line of `/metrics`.
async fn metric(node: &Node, name: &str) -> Option<u64> {
    let answer = support::Request::get("/metrics").try_send(node.http).await?;
    let text = answer.text();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    value.parse().ok()
}

async fn holder(nodes: &[Node]) -> usize {
    eventually("one node to hold the lease", async || {
        let mut holders = Vec::new();
        for (index, node) in nodes.iter().enumerate() {
            if metric(node, "longtail_bridge_holds_lease").await? == 1 {
                holders.push(index);
            }
        }
        (holders.len() == 1).then(|| holders[0])
    })
    .await
}

/// Publishes the numbers of one publisher, at about 250 a second and in bursts.
async fn publish(redis: &RedisServer, publisher: usize, sent: &AtomicUsize) {
    let mut connection = redis.connect().await.expect("Redis");
    let numbers: Vec<usize> = (0..MESSAGES / PUBLISHERS).collect();
    for burst in numbers.chunks(25) {
        let began = Instant::now();
        let mut pipeline = redis::pipe();
        for n in burst {
            // Every tenth payload is the same: equal payloads are separate messages.
            let payload = if n % 10 == 9 { "\"same\"".to_owned() } else { (publisher * MESSAGES + n).to_string() };
            pipeline.cmd("PUBLISH").arg(format!("push:p{publisher}")).arg(payload);
        }
        let heard: Vec<usize> = pipeline.query_async(&mut connection).await.expect("PUBLISH");
        assert!(heard.iter().all(|nodes| *nodes >= 1), "nobody listened: {heard:?}");
        sent.fetch_add(burst.len(), Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(100).saturating_sub(began.elapsed())).await;
    }
}

/// Three nodes listen. The holder of the lease is killed, stalled and started again in turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_thousand_publishes() {
    let redis = RedisServer::start().await;
    let mut nodes = vec![start_on(&redis, &[]).await, start_on(&redis, &[]).await, start_on(&redis, &[]).await];
    let (sent, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    let flow = async {
        futures_util::future::join_all((0..PUBLISHERS).map(|publisher| publish(&redis, publisher, &sent))).await;
        done.store(true, Ordering::Relaxed);
    };
    let mut faults = Vec::new();
    let strike = async {
        while !done.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let index = holder(&nodes).await;
            if faults.len() % 2 == 0 {
                nodes[index].signal("KILL");
                faults.push("killed");
                tokio::time::sleep(Duration::from_millis(300)).await;
                nodes[index] = start_on(&redis, &[]).await;
            } else {
                // The pause is longer than the lease: the node wakes up and finds another holder.
                nodes[index].signal("STOP");
                faults.push("stalled");
                tokio::time::sleep(Duration::from_secs(5)).await;
                nodes[index].signal("CONT");
            }
        }
    };
    let began = Instant::now();
    within(LONG, "the flow", async { tokio::join!(flow, strike) }).await;
    eventually("all to be in the log", async || {
        (redis.number(&["XLEN", "longtail:log"]).await >= MESSAGES as i64).then_some(())
    })
    .await;
    // A message that was appended twice would come now.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let entries = redis.command(&["XRANGE", "longtail:log", "-", "+"]).await;
    let entries: Vec<(String, HashMap<String, String>)> = redis::from_redis_value(entries).expect("entries");
    println!(
        "{} PUBLISHes, {} in the log, {:?}, holder {}",
        MESSAGES,
        entries.len(),
        began.elapsed(),
        faults.join(", ")
    );
    assert_eq!(entries.len(), MESSAGES);
    assert!(faults.len() >= 3, "{faults:?}");
    for publisher in 0..PUBLISHERS {
        let channel = format!("p{publisher}");
        let data: Vec<&str> = entries
            .iter()
            .filter(|(_, fields)| fields["channel"] == channel)
            .map(|(_, f)| f["data"].as_str())
            .collect();
        let wanted: Vec<String> = (0..MESSAGES / PUBLISHERS)
            .map(|n| if n % 10 == 9 { "\"same\"".to_owned() } else { (publisher * MESSAGES + n).to_string() })
            .collect();
        assert_eq!(data, wanted, "in the publisher's order");
    }
}

/// A node that has lost its subscription may have missed messages: it logs that and counts it.
#[tokio::test]
async fn a_deaf_node_knows_it() {
    let redis = RedisServer::start().await;
    let nodes = [start_on(&redis, &[]).await, start_on(&redis, &[]).await];
    for node in &nodes {
        assert_eq!(metric(node, "longtail_bridge_deaf_total").await, Some(0));
    }
    redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    for node in &nodes {
        eventually("it to be counted", async || (metric(node, "longtail_bridge_deaf_total").await? == 1).then_some(()))
            .await;
        node.logged("may be missed").await;
    }
    redis.listened(2).await;
    eventually("a PUBLISH to be taken", async || {
        redis.command(&["PUBLISH", "push:todo", "1"]).await;
        (redis.number(&["XLEN", "longtail:log"]).await > 0).then_some(())
    })
    .await;
    // The metrics distinguish refused, bridged and removed messages.
    redis.command(&["PUBLISH", "push:a b", "1"]).await;
    eventually("all to be accounted for", async || {
        let mut sums = [0, 0];
        for node in &nodes {
            sums[0] += metric(node, "longtail_bridge_bridged_messages_total").await?;
            sums[1] += metric(node, "longtail_bridge_struck_out_messages_total").await?;
            if metric(node, "longtail_bridge_refused_messages_total").await? != 1 {
                return None;
            }
        }
        (sums[0] > 0 && sums[0] == sums[1]).then_some(())
    })
    .await;
}

/// When all nodes are killed and started again, the new nodes continue where the old ones stopped.
#[tokio::test]
async fn new_nodes_find_a_dead_holder() {
    let redis = RedisServer::start().await;
    for round in 0..2 {
        let node = start_on(&redis, &[]).await;
        for n in 0..50 {
            let heard = redis.number(&["PUBLISH", "push:todo", &n.to_string()]).await;
            assert!(heard > 0, "{heard} nodes heard {n} of round {round}");
        }
        let wanted = (round + 1) * 50;
        eventually("all to be in the log", async || {
            (redis.number(&["XLEN", "longtail:log"]).await >= wanted).then_some(())
        })
        .await;
        node.signal("KILL");
    }
    assert_eq!(redis.number(&["XLEN", "longtail:log"]).await, 100);
}

/// While Redis accepts nothing, the pending messages are bounded, and the lost ones are counted.
#[tokio::test]
async fn too_many_wait() {
    let redis = RedisServer::start().await;
    let node = start_on(&redis, &["--redis-subscribe-queue", "100"]).await;
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    for n in 0..500 {
        redis.command(&["PUBLISH", "push:todo", &n.to_string()]).await;
    }
    eventually("the loss to be counted", async || {
        (metric(&node, "longtail_bridge_overflowed_messages_total").await? == 400).then_some(())
    })
    .await;
    node.logged("the oldest are lost").await;
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    eventually("the rest", async || (redis.number(&["XLEN", "longtail:log"]).await >= 100).then_some(())).await;
    redis.command(&["PUBLISH", "push:todo", "500"]).await;
    let data = eventually("what comes then", async || {
        let entries = redis.command(&["XRANGE", "longtail:log", "-", "+"]).await;
        let entries: Vec<(String, HashMap<String, String>)> = redis::from_redis_value(entries).expect("entries");
        let data: Vec<u32> = entries.iter().map(|(_, fields)| fields["data"].parse().expect("a number")).collect();
        (data.last() == Some(&500)).then_some(data)
    })
    .await;
    // A call to Redis that is under way may contain messages that the queue drops meanwhile. They are counted as lost,
    // although the call still appends them.
    assert!(data.ends_with(&(400..=500).collect::<Vec<u32>>()), "{data:?}");
    assert!(data.is_sorted_by(|one, next| one < next), "each once, in order: {data:?}");
}
