//! Redis with sentinels and replicas: an acknowledged message survives its primary.

use crate::support;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::world::start_on;
use support::{Kind, LONG, Node, Reader, RedisServer, SOON, Sentinels, Subscription, eventually, within};
use tokio::net::{TcpListener, TcpStream};

const WRITERS: usize = 8;

/// The ids and payloads that a reader saw, and the number of its gaps.
type Seen = (String, Vec<(String, String)>, usize);

/// Reads until the message `"end"`, whatever comes before it.
async fn read_to_end(mut reader: Reader) -> Seen {
    let (mut seen, mut gaps) = (Vec::new(), 0);
    loop {
        let item = reader.next_news().await;
        match item.kind {
            Kind::Message => seen.push((item.id().expect("an id"), item.data().to_owned())),
            Kind::Gap => gaps += 1,
            _ => panic!("{}: {item:?}", reader.transport.name),
        }
        if item.kind == Kind::Message && item.data() == "\"end\"" {
            return (reader.transport.name.clone(), seen, gaps);
        }
    }
}

/// Publishes numbers with keys, each until it is acknowledged. Returns payload and id.
async fn publish(node: &Node, writer: usize, stop: &AtomicBool, count: &AtomicUsize) -> Vec<(String, String)> {
    let mut acknowledged = Vec::new();
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let payload = format!("{}", writer * 1_000_000 + n);
        let query = format!("channel=todo&key=k{payload}");
        let id = eventually("an acknowledgement", async || {
            let answer = node.try_publish(&query, &payload).await;
            if answer.status != 200 {
                assert_eq!(answer.status, 503, "{}", answer.text());
                return None;
            }
            answer.json()["messages"][0]["id"].as_str().map(str::to_owned)
        })
        .await;
        acknowledged.push((payload, id));
        count.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    acknowledged
}

/// Publishes through two nodes with readers on every transport, and a failover in the middle: every
/// acknowledged message is in the log, and every reader sees it once and in order.
async fn nothing_acknowledged_is_lost(wait_replicas: &str, fault: impl AsyncFnOnce(&mut Sentinels)) {
    let mut sentinels = Sentinels::start(2).await;
    let url = sentinels.url();
    let args = ["--redis", url.as_str(), "--redis-wait-replicas", wait_replicas];
    let nodes = [Node::start(&args).await, Node::start(&args).await];
    let mut readers = Vec::new();
    for node in &nodes {
        for transport in node.transports().await {
            readers.push(Reader::open(node, &transport, Subscription::to(&["todo"])).await);
        }
    }
    let (stop, count) = (AtomicBool::new(false), AtomicUsize::new(0));
    let writers = (0..WRITERS).map(|writer| publish(&nodes[writer % 2], writer, &stop, &count));
    let strike = async {
        while count.load(Ordering::Relaxed) < 300 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let began = Instant::now();
        let old = sentinels.primary().await.port();
        fault(&mut sentinels).await;
        while sentinels.primary().await.port() == old {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let elected = began.elapsed();
        let before = count.load(Ordering::Relaxed);
        while count.load(Ordering::Relaxed) <= before + WRITERS {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let publishing = began.elapsed();
        while count.load(Ordering::Relaxed) < before + 300 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stop.store(true, Ordering::Relaxed);
        (elected, publishing)
    };
    let flow = async {
        let (written, times) = tokio::join!(futures_util::future::join_all(writers), strike);
        nodes[0].publish("todo", "\"end\"").await;
        (written, times)
    };
    let reading = futures_util::future::join_all(readers.into_iter().map(|reader| Box::pin(read_to_end(reader))));
    let ((written, (elected, publishing)), seen) =
        within(LONG, "the flow and its readers", async { tokio::join!(flow, reading) }).await;
    let acknowledged: HashMap<String, String> = written.into_iter().flatten().collect();
    let batch = nodes[1].get("/poll?channel=todo&cursor=earliest&limit=1000").await.json();
    assert!(batch["messages"].as_array().is_some_and(|messages| !messages.is_empty()), "{batch}");
    let (mut gaps, mut repeated) = (0, 0);
    for (name, seen, told) in &seen {
        gaps += told;
        let mut times: HashMap<&str, usize> = HashMap::new();
        for (_, data) in seen {
            *times.entry(data).or_default() += 1;
        }
        let lost = acknowledged.keys().filter(|payload| !times.contains_key(payload.as_str())).count();
        // An entry that was read and then lost with its primary was not acknowledged: the publisher's next try appends
        // it again, after the gap that its readers get.
        let again = times.values().filter(|times| **times > 1).count();
        let is_ordered = seen.is_sorted_by(|a, b| position(&a.0) < position(&b.0));
        assert_eq!(lost, 0, "on {name}");
        assert!(*told > 0 || (again == 0 && is_ordered), "{again} doubled on {name} and no gap was told of");
        assert!(again <= WRITERS, "{again} doubled on {name}, more than were under way");
        repeated = repeated.max(again);
    }
    println!(
        "{} acknowledged, 0 lost; elected after {elected:?}, publishing again after {publishing:?}; \
         {repeated} unacknowledged repeated behind a gap, {gaps} gaps over {} readers",
        acknowledged.len(),
        seen.len()
    );
}

fn position(id: &str) -> (u64, u64) {
    let (ms, seq) = id.split('.').next().and_then(|id| id.split_once('-')).expect("an id");
    (ms.parse().expect("a time"), seq.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_primary_is_killed() {
    nothing_acknowledged_is_lost("1", async |sentinels| {
        sentinels.kill_primary().await;
    })
    .await;
}

/// `SENTINEL FAILOVER` lets the old primary write for up to some seconds after the new one has left it. A replica that
/// has not left yet would prove nothing, so both replicas must have the message.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_primary_is_replaced_in_good_order() {
    nothing_acknowledged_is_lost("2", async |sentinels| {
        sentinels.fail_over().await;
    })
    .await;
}

/// With fewer replicas than required, the message is in the log, but no publisher may get an acknowledgement.
#[tokio::test]
async fn too_few_replicas_leave_the_outcome_unknown() {
    let redis = RedisServer::start().await;
    let url = redis.url();
    let args = ["--redis", url.as_str(), "--redis-wait-replicas", "1", "--publish-timeout", "2"];
    let node = Node::start(&args).await;
    let answer = node.try_publish("channel=todo&key=k", "1").await;
    assert_eq!((answer.status, answer.error_code().as_str()), (503, "outcome_unknown"), "{}", answer.text());
    assert!(answer.header("Retry-After").is_some(), "no Retry-After in {:?}", answer.headers);

    // With a replica the same key is acknowledged, and was appended once.
    let replica = RedisServer::start_with(&["--repl-diskless-sync-delay", "0"]).await;
    replica.command(&["REPLICAOF", "127.0.0.1", &redis.port().to_string()]).await;
    eventually("the replica to be there", async || {
        let answer = node.try_publish("channel=todo&key=k", "1").await;
        (answer.status == 200).then_some(())
    })
    .await;
    assert_eq!(redis.number(&["XLEN", "longtail:log"]).await, 1);
    assert_eq!(replica.number(&["XLEN", "longtail:log"]).await, 1);
}

/// A repeated batch also has to wait for replicas: the answer in its record does not prove replication.
#[tokio::test]
async fn a_stopped_replica_is_no_replica() {
    let redis = RedisServer::start().await;
    let replica = RedisServer::start_with(&["--repl-diskless-sync-delay", "0"]).await;
    replica.command(&["REPLICAOF", "127.0.0.1", &redis.port().to_string()]).await;
    let url = redis.url();
    let args = ["--redis", url.as_str(), "--redis-wait-replicas", "1", "--publish-timeout", "3"];
    let node = Node::start(&args).await;
    eventually("the replica to be there", async || {
        (node.try_publish("channel=todo", "1").await.status == 200).then_some(())
    })
    .await;
    let length = redis.number(&["XLEN", "longtail:log"]).await;
    replica.freeze();
    let cut = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        // The batch is repeated on another connection.
        redis.command(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    };
    let (answer, ()) = tokio::join!(node.try_publish("channel=todo", "2"), cut);
    assert_eq!(answer.error_code(), "outcome_unknown", "{}", answer.text());
    replica.thaw();
    assert_eq!(redis.number(&["XLEN", "longtail:log"]).await, length + 1, "once");
}

/// An address whose server can be changed (a virtual IP, a name). Existing connections keep their server.
struct Address {
    port: u16,
    leads_to: Arc<AtomicU16>,
}

impl Address {
    async fn of(redis: &RedisServer) -> Address {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let leads_to = Arc::new(AtomicU16::new(redis.port()));
        let to = leads_to.clone();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut server = TcpStream::connect(("127.0.0.1", to.load(Ordering::Relaxed))).await.expect("Redis");
                tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut server).await });
            }
        });
        Address { port, leads_to }
    }

    fn lead_to(&self, redis: &RedisServer) {
        self.leads_to.store(redis.port(), Ordering::Relaxed);
    }
}

/// Two servers, the second a replica of the first; a node behind an address of the first, and a reader at that node.
async fn behind_an_address() -> (RedisServer, RedisServer, Address, Node, Reader) {
    let first = RedisServer::start().await;
    let second = RedisServer::start_with(&["--repl-diskless-sync-delay", "0"]).await;
    let address = Address::of(&first).await;
    let node = Node::start(&["--redis", &format!("redis://127.0.0.1:{}/", address.port)]).await;
    let sse = node.transport("sse").await;
    let mut reader = Reader::open(&node, &sse, Subscription::to(&["a"])).await;
    // All connections of the node lead to the first server.
    for (query, data) in [("channel=a", "1"), ("channel=a&volatile=1", "2")] {
        assert_eq!(node.try_publish(query, data).await.status, 200);
        let message = within(SOON, "what was published", reader.next_message()).await;
        assert_eq!(message.data(), data);
    }
    second.command(&["REPLICAOF", "127.0.0.1", &first.port().to_string()]).await;
    eventually("the replica to have it", async || (second.number(&["XLEN", "longtail:log"]).await == 1).then_some(()))
        .await;
    second.command(&["REPLICAOF", "NO", "ONE"]).await;
    address.lead_to(&second);
    (first, second, address, node, reader)
}

/// The old primary still answers, as a replica, and its own connections are not cut.
#[tokio::test]
async fn all_connections_follow_to_the_new_primary() {
    let (first, second, _address, node, mut reader) = behind_an_address().await;
    first.command(&["REPLICAOF", "127.0.0.1", &second.port().to_string()]).await;
    eventually("publishing at the new primary", async || {
        (node.try_publish("channel=a", "3").await.status == 200).then_some(())
    })
    .await;
    let message = within(SOON, "what was published", reader.next_message()).await;
    assert_eq!(message.data(), "3");
    second.listened(1).await;
    assert_eq!(node.try_publish("channel=a&volatile=1", "4").await.status, 200);
    let message = within(SOON, "what is volatile", reader.next_message()).await;
    assert_eq!(message.data(), "4");
}

/// The old primary still accepts writes, because it does not know of the new one. One connection that has reached the
/// new primary makes the node move the others.
#[tokio::test]
async fn no_connection_stays_with_a_primary_that_was_left() {
    let (first, second, _address, node, mut reader) = behind_an_address().await;
    let clients = first.text(&["CLIENT", "LIST", "TYPE", "normal"]).await;
    let tail = clients.lines().find(|client| client.contains(" cmd=xread ")).expect("the tail's connection");
    let id = tail.split_once("id=").and_then(|(_, rest)| rest.split(' ').next()).expect("its id");
    first.command(&["CLIENT", "KILL", "ID", id]).await;
    eventually("the tail to be elsewhere", async || {
        let clients = second.text(&["CLIENT", "LIST", "TYPE", "normal"]).await;
        clients.contains(" cmd=xread ").then_some(())
    })
    .await;
    // Volatile messages are lost while no node listens.
    second.listened(1).await;
    for (query, data) in [("channel=a", "3"), ("channel=a&volatile=1", "4"), ("channel=a", "5")] {
        assert_eq!(node.try_publish(query, data).await.status, 200);
        let message = within(SOON, "what was published", reader.next_message()).await;
        assert_eq!(message.data(), data);
    }
    assert_eq!(second.number(&["XLEN", "longtail:log"]).await, 3);
}

/// The counts of readers are not in the log: the nodes send them to the new primary again.
#[tokio::test]
async fn the_new_primary_is_told_of_all_readers() {
    let (first, second, _address, node, _reader) = behind_an_address().await;
    let sse = node.transport("sse").await;
    let counts = async |at: &Node| at.get("/channels/late").await.json()["readers"]["total"].as_u64();
    let _late = Reader::open(&node, &sse, Subscription::to(&["late"])).await;
    let beside = start_on(&first, &[]).await;
    eventually("the other node to know of it", async || (counts(&beside).await == Some(1)).then_some(())).await;
    first.command(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    let new = start_on(&second, &[]).await;
    eventually("a node at the new primary to know of it", async || (counts(&new).await == Some(1)).then_some(())).await;
}
