//! PUBLISH during a fault: if a node that survives has received a message, the message is soon in the log, and only
//! once.

use crate::support;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};
use support::world::start_on;
use support::{Node, RedisServer, eventually};

/// How long a message that a node has received may wait, in ms.
const SOON_ENOUGH: i64 = 1000;

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock");
    i64::try_from(since.as_millis()).expect("a time")
}

/// One PUBLISH.
struct Sent {
    number: usize,
    at: i64,
    /// The time at which Redis answered, or at which the publisher stopped waiting.
    answered: i64,
    /// The number of listeners, if Redis has answered.
    heard: Option<i64>,
}

/// Publishes numbers, each once, one about every 10 ms, until `stop` is set. It uses the `servers` in turn.
async fn publish(servers: &[&RedisServer], stop: &AtomicBool) -> Vec<Sent> {
    let mut connections = HashMap::new();
    let mut sent = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let number = sent.len();
        let server = servers[number % servers.len()];
        let connection = match connections.remove(&server.port()) {
            Some(connection) => Some(connection),
            None => server.connect().await.ok(),
        };
        let at = now_ms();
        let mut heard = None;
        if let Some(mut connection) = connection {
            let mut command = redis::cmd("PUBLISH");
            command.arg("push:flow").arg(number);
            heard = command.query_async::<i64>(&mut connection).await.ok();
            if heard.is_some() {
                connections.insert(server.port(), connection);
            }
        }
        sent.push(Sent { number, at, answered: now_ms(), heard });
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    sent
}

/// The outcome of a flow.
#[derive(Debug)]
struct Verdict {
    sent: usize,
    /// The messages that are not in the log, and for which Redis reported no listener or did not answer.
    unheard: usize,
    /// The messages that are not in the log, although at least `enough` nodes listened.
    lost: Vec<usize>,
    doubled: Vec<usize>,
    /// The longest time until a message was in the log, in ms, and that message's number.
    worst: (i64, usize),
}

/// Compares a flow with the log. The wait of a message that was sent before `ready` counts from `ready`.
async fn judge(redis: &RedisServer, sent: &[Sent], enough: i64, ready: &[(i64, i64)]) -> Verdict {
    let entries = redis.command(&["XRANGE", "longtail:log", "-", "+"]).await;
    let entries: Vec<(String, HashMap<String, String>)> = redis::from_redis_value(entries).expect("entries");
    let mut places: HashMap<usize, Vec<i64>> = HashMap::new();
    for (id, fields) in &entries {
        let number = fields["data"].parse().expect("a number");
        let at = id.split_once('-').and_then(|(ms, _)| ms.parse().ok()).expect("an id");
        places.entry(number).or_default().push(at);
    }
    let mut verdict = Verdict { sent: sent.len(), unheard: 0, lost: vec![], doubled: vec![], worst: (0, 0) };
    for one in sent {
        match places.get(&one.number) {
            None if one.heard.is_some_and(|heard| heard >= enough) => verdict.lost.push(one.number),
            None => verdict.unheard += 1,
            Some(at) => {
                if at.len() > 1 {
                    verdict.doubled.push(one.number);
                }
                // A PUBLISH may itself have to wait for Redis, and a message that a node receives before an outage
                // waits for the end of the outage.
                let outages = ready.iter().filter(|(down, up)| one.at > down - SOON_ENOUGH && *up <= at[0]);
                let from = outages.map(|(_, up)| *up).max().unwrap_or(0).max(one.answered);
                verdict.worst = verdict.worst.max((at[0] - from, one.number));
            }
        }
    }
    verdict
}

/// Waits until these nodes have no pending messages, and a little longer, so that a second copy would be in the log.
async fn settled(nodes: &[Node]) {
    eventually("nothing to wait", async || {
        for node in nodes {
            let text = support::Request::get("/metrics").try_send(node.http).await?.text();
            let line = text.lines().find_map(|line| line.strip_prefix("longtail_bridge_waiting_messages "))?;
            if line != "0" {
                return None;
            }
        }
        Some(())
    })
    .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
}

async fn holder(nodes: &[Node]) -> usize {
    eventually("one node to hold the lease", async || {
        for (index, node) in nodes.iter().enumerate() {
            let text = support::Request::get("/metrics").try_send(node.http).await?.text();
            if text.lines().any(|line| line == "longtail_bridge_holds_lease 1") {
                return Some(index);
            }
        }
        None
    })
    .await
}

async fn three(redis: &RedisServer) -> Vec<Node> {
    let nodes = vec![start_on(redis, &[]).await, start_on(redis, &[]).await, start_on(redis, &[]).await];
    redis.listened(3).await;
    nodes
}

/// Runs a flow during a fault and for some time after it.
async fn under_flow<T>(servers: &[&RedisServer], fault: impl Future<Output = T>) -> (Vec<Sent>, T) {
    let stop = AtomicBool::new(false);
    let fault = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let value = fault.await;
        tokio::time::sleep(Duration::from_millis(1500)).await;
        stop.store(true, Ordering::Relaxed);
        value
    };
    tokio::join!(publish(servers, &stop), fault)
}

/// All three nodes are killed in turn, 1.7 s apart, and started again: two nodes that have received a message survive.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_are_killed_in_turn_lose_nothing() {
    let redis = RedisServer::start().await;
    let mut nodes = three(&redis).await;
    let (sent, nodes) = under_flow(&[&redis], async {
        for turn in 0..6 {
            let next = tokio::time::Instant::now() + Duration::from_millis(1700);
            nodes[turn % 3].signal("KILL");
            nodes[turn % 3] = start_on(&redis, &[]).await;
            tokio::time::sleep_until(next).await;
            redis.listened(3).await;
        }
        nodes
    })
    .await;
    settled(&nodes).await;
    let verdict = judge(&redis, &sent, 2, &[]).await;
    println!("killed in turn: {verdict:?}");
    assert!(verdict.lost.is_empty() && verdict.doubled.is_empty(), "expected none lost and none doubled: {verdict:?}");
    assert!(verdict.worst.0 <= SOON_ENOUGH, "expected {SOON_ENOUGH} ms at most: {verdict:?}");
}

/// The commands that cause each cut.
const CUTS: [(&str, &[&[&str]]); 2] = [
    ("all subscriptions are cut", &[&["CLIENT", "KILL", "TYPE", "pubsub"]]),
    ("all connections are cut", &[&["CLIENT", "KILL", "TYPE", "normal"], &["CLIENT", "KILL", "TYPE", "pubsub"]]),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_heard_is_soon_in_the_log() {
    let redis = RedisServer::start().await;
    let mut nodes = three(&redis).await;
    let (sent, index) = under_flow(&[&redis], async {
        let index = holder(&nodes).await;
        nodes[index].signal("KILL");
        index
    })
    .await;
    drop(nodes.remove(index));
    settled(&nodes).await;
    let verdict = judge(&redis, &sent, 2, &[]).await;
    println!("the holder is killed: {verdict:?}");
    assert!(verdict.lost.is_empty() && verdict.doubled.is_empty(), "expected none lost and none doubled: {verdict:?}");
    assert!(verdict.worst.0 <= SOON_ENOUGH, "expected {SOON_ENOUGH} ms at most: {verdict:?}");
    for (name, commands) in CUTS {
        redis.command(&["DEL", "longtail:log"]).await;
        let (sent, ()) = under_flow(&[&redis], async {
            for command in commands {
                // The connection of this command may be among those that are cut.
                redis.try_command(command).await.ok();
            }
        })
        .await;
        settled(&nodes).await;
        let verdict = judge(&redis, &sent, 1, &[]).await;
        println!("{name}: {verdict:?}");
        assert!(verdict.doubled.is_empty(), "expected none doubled when {name}: {verdict:?}");
        // Redis still counts a listener that it cuts at the same moment. And it counts a new one before that has joined,
        // for about a millisecond (docs/redis.md). One message can fall into each of these two moments.
        assert!(verdict.lost.len() <= 2, "expected at most two lost when {name}: {verdict:?}");
        assert!(verdict.worst.0 <= SOON_ENOUGH, "expected {SOON_ENOUGH} ms at most when {name}: {verdict:?}");
    }
}

/// Redis is killed and started again, and once more before the nodes have recovered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_killed_twice() {
    for pause in [0, 300, 1000, 3000] {
        let mut redis = RedisServer::start_durable().await;
        let nodes = three(&redis).await;
        // The flow continues while Redis is down, on a handle of its own.
        let publisher = redis.handle();
        let (sent, outages) = under_flow(&[&publisher], async {
            let mut outages = Vec::new();
            for _ in 0..2 {
                let down = now_ms();
                redis.kill();
                redis.restart().await;
                outages.push((down, now_ms()));
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            outages
        })
        .await;
        settled(&nodes).await;
        let verdict = judge(&redis, &sent, 1, &outages).await;
        println!("Redis is killed twice, {pause} ms apart: {verdict:?}");
        assert!(verdict.doubled.is_empty(), "expected none doubled: {verdict:?}");
        // Redis also counts listeners whose bytes are lost in its own buffers when it dies.
        assert!(verdict.lost.len() <= 2, "expected none lost but one at each kill: {verdict:?}");
        assert!(verdict.worst.0 <= SOON_ENOUGH, "expected {SOON_ENOUGH} ms at most: {verdict:?}");
    }
}

/// Redis is back, and nodes subscribe while the flow continues: messages that a node receives before it has joined also
/// count.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_heard_before_the_join_is_kept() {
    let mut redis = RedisServer::start_durable().await;
    let nodes = three(&redis).await;
    let mut sent = Vec::new();
    for _ in 0..8 {
        redis.kill();
        redis.restart().await;
        let mut connection = redis.connect().await.expect("a connection");
        let end = tokio::time::Instant::now() + Duration::from_millis(1500);
        while tokio::time::Instant::now() < end {
            let (number, at) = (sent.len(), now_ms());
            let mut command = redis::cmd("PUBLISH");
            command.arg("push:flow").arg(number);
            let heard = command.query_async::<i64>(&mut connection).await.ok();
            sent.push(Sent { number, at, answered: now_ms(), heard });
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        // Redis's own buffers are empty when it is killed.
        settled(&nodes).await;
    }
    let verdict = judge(&redis, &sent, 1, &[]).await;
    println!("eight restarts: {verdict:?}");
    assert!(verdict.lost.is_empty() && verdict.doubled.is_empty(), "expected none lost and none doubled: {verdict:?}");
}

/// Three primaries, the owner of the log's slot first, and then a replica of that owner.
async fn cluster() -> Vec<RedisServer> {
    let mut members = Vec::new();
    for _ in 0..4 {
        members.push(RedisServer::start_with(&["--cluster-enabled", "yes", "--cluster-node-timeout", "1500"]).await);
    }
    let slot = members[0].number(&["CLUSTER", "KEYSLOT", "longtail:log"]).await;
    members[0].command(&["CLUSTER", "ADDSLOTS", &slot.to_string()]).await;
    let (below, above) = ([0, slot - 1], [slot + 1, 16383]);
    for (member, [first, last]) in members[1..].iter().zip([below, above]) {
        member.command(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]).await;
    }
    for (epoch, member) in members.iter().enumerate() {
        member.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(epoch + 1).to_string()]).await;
    }
    for member in &members[1..] {
        members[0].command(&["CLUSTER", "MEET", "127.0.0.1", &member.port().to_string()]).await;
    }
    eventually("the Cluster", async || {
        for member in &members {
            let info = member.text(&["CLUSTER", "INFO"]).await;
            if !info.contains("cluster_state:ok") || !info.contains("cluster_known_nodes:4") {
                return None;
            }
        }
        Some(())
    })
    .await;
    let owner = members[0].text(&["CLUSTER", "MYID"]).await;
    members[3].command(&["CLUSTER", "REPLICATE", &owner]).await;
    in_sync(&members[3]).await;
    members
}

async fn in_sync(replica: &RedisServer) {
    eventually("the replica to be in sync", async || {
        let info = replica.text(&["INFO", "replication"]).await;
        (info.contains("role:slave") && info.contains("master_link_status:up")).then_some(())
    })
    .await;
}

/// Makes a replica take over in an orderly way. Redis gives up after five seconds if the votes do not come in time.
async fn fail_over(replica: &RedisServer) {
    for _ in 0..3 {
        replica.command(&["CLUSTER", "FAILOVER"]).await;
        for _ in 0..120 {
            if replica.text(&["INFO", "replication"]).await.contains("role:master") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    panic!("expected the replica to be the primary after CLUSTER FAILOVER, and it is not");
}

/// `CLUSTER FAILOVER` back and forth, PUBLISHes at all members: each is in the log once, whatever its answer was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_fails_over() {
    let mut members = cluster().await;
    let seeds: Vec<String> = members.iter().map(|member| format!("127.0.0.1:{}", member.port())).collect();
    let url = format!("redis+cluster://{}", seeds.join(","));
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(Node::start(&["--redis", &url]).await);
    }
    members[0].listened(3).await;
    let handles: Vec<RedisServer> = members.iter().map(RedisServer::handle).collect();
    let all: Vec<&RedisServer> = handles.iter().collect();
    let (sent, ()) = under_flow(&all, async {
        for turn in 0..4 {
            let (old, new) = if turn % 2 == 0 { (0, 3) } else { (3, 0) };
            fail_over(&members[new]).await;
            in_sync(&members[old]).await;
            // A node that joins now listens to the same server as the others.
            nodes.remove(0);
            nodes.push(Node::start(&["--redis", &url]).await);
            // The other members vote for a replica of the same primary only once in two node timeouts.
            tokio::time::sleep(Duration::from_millis(1800)).await;
        }
    })
    .await;
    settled(&nodes).await;
    let verdict = judge(&members[0], &sent, 0, &[]).await;
    let unheard = sent.iter().filter(|one| one.heard == Some(0)).count();
    println!("four failovers of a Cluster: {verdict:?}, {unheard} answered 0");
    assert!(verdict.lost.is_empty() && verdict.doubled.is_empty(), "expected none lost and none doubled: {verdict:?}");
    assert!(unheard > verdict.sent / 2, "a member answers 0 where nobody listens at itself: {unheard}");

    // The server that all nodes listen to is killed: they all connect to the new owner.
    let before = sent.len();
    let others = [&handles[1], &handles[2]];
    let (sent, killed) = under_flow(&others, async {
        let killed = now_ms();
        members[0].kill();
        eventually("the replica to take over", async || {
            members[3].text(&["INFO", "replication"]).await.contains("role:master").then_some(())
        })
        .await;
        members[3].listened(3).await;
        (killed, now_ms())
    })
    .await;
    settled(&nodes).await;
    members[3].command(&["XTRIM", "longtail:log", "MINID", &killed.0.to_string()]).await;
    let after: Vec<Sent> = sent.into_iter().filter(|one| one.at > killed.1).collect();
    let verdict = judge(&members[3], &after, 0, &[]).await;
    println!("the server that is listened to is killed ({before} before): {verdict:?}");
    assert!(verdict.lost.is_empty() && verdict.doubled.is_empty(), "expected none lost and none doubled: {verdict:?}");
}
