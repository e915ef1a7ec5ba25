//! Three nodes behind haproxy, round-robin and without stickiness: each poll may reach another node, and a node that
//! dies costs its readers a reconnect and nothing else.

use crate::support;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::world::start_on;
use support::{Haproxy, Kind, LONG, Metrics, Node, Reader, RedisServer, Request, Subscription, eventually, within};

const CHANNELS: [&str; 3] = ["c0", "c1", "c2"];

/// How many publishers publish at once.
const PUBLISHERS: usize = 4;

/// An id's place in the log: milliseconds and sequence.
fn place(id: &str) -> (u64, u64) {
    let (ms, rest) = id.split_once('-').expect("an id");
    let (seq, _) = rest.split_once('.').expect("an id");
    (ms.parse().expect("a number"), seq.parse().expect("a number"))
}

/// A node at given addresses.
async fn start_at(redis: &RedisServer, http: SocketAddr, tcp: SocketAddr) -> Node {
    let (http, tcp) = (http.to_string(), tcp.to_string());
    start_on(redis, &["--listen", &http, "--tcp-listen", &tcp]).await
}

/// Publishes one message through the balancer until it is acknowledged.
async fn publish(balancer: SocketAddr, channel: &str, payload: &str) -> String {
    let target = format!("/publish?channel={channel}&key={payload}");
    eventually("an acknowledgement", async || {
        let answer = Request::post(&target, payload.as_bytes()).try_send(balancer).await?;
        if answer.status != 200 {
            return None;
        }
        answer.json()["messages"][0]["id"].as_str().map(str::to_owned)
    })
    .await
}

/// Reads to a message `0` on each channel. Returns the messages that it saw and the number of gaps.
async fn follow(mut reader: Reader) -> (String, Vec<(String, String)>, usize) {
    let (mut seen, mut gaps, mut ends) = (Vec::new(), 0, 0);
    while ends < CHANNELS.len() {
        let item = reader.next_wherever().await;
        if item.kind == Kind::Gap {
            gaps += 1;
            continue;
        }
        if item.data() == "0" {
            ends += 1;
        }
        seen.push((item.id().expect("an id"), item.data().to_owned()));
    }
    (reader.transport.name.clone(), seen, gaps)
}

/// Runs readers over all transports through the balancer, a flow of messages, and a fault. Each reader sees all
/// messages, once and in order.
async fn nothing_is_missed(readers: usize, happens: impl AsyncFnOnce(&RedisServer, &mut Vec<Node>)) {
    let redis = RedisServer::start().await;
    let mut nodes = vec![start_on(&redis, &[]).await, start_on(&redis, &[]).await, start_on(&redis, &[]).await];
    let balancer = Haproxy::start(&nodes).await;
    let (http, tcp) = (balancer.http, balancer.tcp);
    let transports = nodes[0].transports().await;
    let start = nodes[0].latest("c0").await;
    let followers = (0..readers).map(|index| {
        let subscription = Subscription::to(&CHANNELS).from(&start).with("timeout", "5");
        Reader::follow(http, tcp, &transports[index % transports.len()], subscription)
    });
    let reading: Vec<_> = followers.map(|reader| tokio::spawn(follow(reader))).collect();
    let (done, count) = (AtomicBool::new(false), AtomicUsize::new(0));
    let publisher = async || {
        let mut published = Vec::new();
        while !done.load(Ordering::Relaxed) {
            // A number whose JSON text differs from the others, and is not 0.
            let number = 1 + count.fetch_add(1, Ordering::Relaxed);
            let (payload, channel) = (number.to_string(), CHANNELS[number % CHANNELS.len()]);
            published.push((publish(http, channel, &payload).await, payload));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        published
    };
    let flow = async {
        let mut published: Vec<(String, String)> =
            futures_util::future::join_all((0..PUBLISHERS).map(|_| publisher())).await.concat();
        for channel in CHANNELS {
            published.push((publish(http, channel, "0").await, "0".to_owned()));
        }
        // Several publishers publish at once, and the log has decided which message came first.
        published.sort_by_key(|(id, _)| place(id));
        published
    };
    let strike = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        happens(&redis, &mut nodes).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        done.store(true, Ordering::Relaxed);
    };
    let began = Instant::now();
    let (published, ()) = within(LONG, "the flow", async { tokio::join!(flow, strike) }).await;
    let all = futures_util::future::join_all(reading);
    let seen = within(LONG, "the readers", all).await;
    let (mut lost, mut doubled, mut reordered, mut gaps) = (0, 0, 0, 0);
    for outcome in &seen {
        let (name, seen, told) = outcome.as_ref().expect("a reader");
        let mut times: HashMap<&str, usize> = HashMap::new();
        seen.iter().for_each(|(id, _)| *times.entry(id).or_default() += 1);
        lost += published.iter().filter(|(id, _)| !times.contains_key(id.as_str())).count();
        doubled += times.values().filter(|times| **times > 1).count();
        let expected: Vec<&str> = published.iter().map(|(id, _)| id.as_str()).collect();
        let got: Vec<&str> = seen.iter().map(|(id, _)| id.as_str()).collect();
        if got != expected {
            reordered += 1;
            eprintln!("{name} saw {} of {}", got.len(), expected.len());
        }
        gaps += told;
    }
    println!(
        "{readers} readers, {} messages, {:?}: {lost} lost, {doubled} doubled, {reordered} out of order, {gaps} gaps",
        published.len(),
        began.elapsed()
    );
    assert_eq!((lost, doubled, reordered, gaps), (0, 0, 0, 0));
}

/// Every few seconds a node is killed and started again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_are_killed() {
    // `tests/run --all` runs the whole minute, with 300 readers.
    let is_long = std::env::var_os("LONGTAIL_LONG").is_some();
    let (readers, kills, every) = if is_long { (300, 12, 5) } else { (60, 3, 2) };
    nothing_is_missed(readers, async |redis, nodes| {
        for kill in 0..kills {
            let index = kill % nodes.len();
            let (http, tcp) = (nodes[index].http, nodes[index].tcp);
            nodes[index].signal("KILL");
            tokio::time::sleep(Duration::from_millis(every * 500)).await;
            nodes[index] = start_at(redis, http, tcp).await;
            tokio::time::sleep(Duration::from_millis(every * 500)).await;
        }
    })
    .await;
}

/// An upgrade replaces all nodes under load, one after the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart() {
    // `tests/run --all` runs the longer test, with 300 readers.
    let is_long = std::env::var_os("LONGTAIL_LONG").is_some();
    let (readers, rounds) = if is_long { (300, 3) } else { (60, 1) };
    nothing_is_missed(readers, async |redis, nodes| {
        let count = nodes.len();
        for index in (0..rounds).flat_map(|_| 0..count) {
            let (http, tcp) = (nodes[index].http, nodes[index].tcp);
            let began = Instant::now();
            nodes[index].signal("TERM");
            assert_eq!(nodes[index].exit_code().await, 0);
            println!("node {index} drained in {:?}", began.elapsed());
            assert!(!nodes[index].log().contains("drain timeout"), "{}", nodes[index].log());
            nodes[index] = start_at(redis, http, tcp).await;
            // The node takes readers again before the next one stops.
            eventually("it to have readers", async || {
                let metrics = Metrics::try_of(&nodes[index]).await?;
                (metrics.sum("longtail_connections") > 0.0).then_some(())
            })
            .await;
        }
    })
    .await;
}

/// A node that was stalled is behind the others. It waits for its own tail, and does not answer with an old state.
#[tokio::test]
async fn a_node_behind_the_others_waits() {
    let redis = RedisServer::start().await;
    let nodes = [start_on(&redis, &[]).await, start_on(&redis, &[]).await];
    nodes[1].publish("todo", "1").await;
    nodes[1].signal("STOP");
    let ids = nodes[0].publish_numbers("todo", 2000).await;
    let newer = &ids[ids.len() - 1].id;
    // The questions are sent while the node is stopped, so it has them before it reads the log again.
    let target = format!("/poll?channel=todo&cursor={newer}");
    let asked: Vec<_> = (0..20).map(|_| tokio::spawn(Request::get(&target).send(nodes[1].http))).collect();
    tokio::time::sleep(Duration::from_secs(2)).await;
    nodes[1].signal("CONT");
    for answer in asked {
        let batch = answer.await.expect("an answer").json();
        assert_eq!((&batch["cursor"], batch["messages"].as_array().map(Vec::len)), (&newer.as_str().into(), Some(0)));
        assert!(batch["gap"].is_null(), "no gap: {batch}");
    }
    let sse = nodes[1].transport("sse").await;
    let mut reader = Reader::open(&nodes[1], &sse, Subscription::to(&["todo"]).from(newer)).await;
    let next = nodes[0].publish("todo", "\"next\"").await;
    assert_eq!(reader.next_message().await.id(), Some(next));
}
