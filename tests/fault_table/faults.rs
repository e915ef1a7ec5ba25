//! The faults. Each is a row of docs/faults.md.

use super::flow::Targets;
use super::verdict::{Expectation, judge, log_of};
use crate::support::clock::Clock;
use crate::support::proxy::{Path, Proxy};
use crate::support::world::start_on;
use crate::support::{Node, RedisServer, Request, Sentinels, eventually};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

const FINE: Expectation = Expectation { log_is_lost: false, all_deaf: false, is_waited_for: false };
/// Every subscription is cut: no node receives a PUBLISH in the meantime.
const DEAF: Expectation = Expectation { log_is_lost: false, all_deaf: true, is_waited_for: false };
/// The log loses its entries.
const LOST: Expectation = Expectation { log_is_lost: true, all_deaf: true, is_waited_for: false };

async fn pause(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

async fn three_on(redis: &RedisServer) -> Vec<Node> {
    vec![start_on(redis, &[]).await, start_on(redis, &[]).await, start_on(redis, &[]).await]
}

/// Runs a fault of Redis, or of all connections to it.
async fn of_redis(name: &str, expectation: Expectation, fault: impl AsyncFnOnce(&mut RedisServer)) {
    of_this_redis(name, expectation, RedisServer::start_durable().await, fault).await;
}

async fn of_this_redis(
    name: &str,
    expectation: Expectation,
    redis: RedisServer,
    fault: impl AsyncFnOnce(&mut RedisServer),
) {
    let mut nodes = three_on(&redis).await;
    let targets = Targets::of(&nodes, &[&redis]);
    let redis = Arc::new(Mutex::new(redis));
    let happens = async |_: &mut Vec<Node>| fault(&mut *redis.lock().await).await;
    judge(name, expectation, &mut nodes, targets, happens, async || log_of(&*redis.lock().await).await).await;
}

/// Runs a fault of nodes.
async fn of_nodes(name: &str, fault: impl AsyncFnOnce(&RedisServer, &mut Vec<Node>)) {
    let redis = RedisServer::start_durable().await;
    let mut nodes = three_on(&redis).await;
    let targets = Targets::of(&nodes, &[&redis]);
    let happens = async |nodes: &mut Vec<Node>| fault(&redis, nodes).await;
    judge(name, FINE, &mut nodes, targets, happens, async || log_of(&redis).await).await;
}

/// Starts a node again at its addresses.
async fn start_again(redis: &RedisServer, node: &mut Node) {
    let (http, tcp) = (node.http.to_string(), node.tcp.to_string());
    *node = start_on(redis, &["--listen", &http, "--tcp-listen", &tcp]).await;
}

/// The node that appends PUBLISHes.
async fn holder(nodes: &[Node]) -> usize {
    eventually("one node to hold the lease", async || {
        for (index, node) in nodes.iter().enumerate() {
            let metrics = Request::get("/metrics").try_send(node.http).await?.text();
            if metrics.contains("longtail_bridge_holds_lease 1") {
                return Some(index);
            }
        }
        None
    })
    .await
}

macro_rules! faults {
    ($($test:ident $run:block)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            #[ignore = "minutes of waiting: tests/fault_table/run runs them side by side"]
            async fn $test() $run
        )*
    };
}

faults! {
    redis_is_killed {
        of_redis("Redis is killed (`kill -9`) and started again", DEAF, async |redis| {
            redis.kill();
            pause(500).await;
            redis.restart().await;
        }).await;
    }
    redis_stalls_shortly {
        of_redis("Redis is stopped for 1 s", FINE, async |redis| {
            redis.freeze();
            pause(1000).await;
            redis.thaw();
        }).await;
    }
    redis_stalls_long {
        of_redis("Redis is stopped for 12 s", DEAF, async |redis| {
            redis.freeze();
            pause(12_000).await;
            redis.thaw();
        }).await;
    }
    connections_are_killed {
        of_redis("`CLIENT KILL` of all connections, five times", DEAF, async |redis| {
            for _ in 0..5 {
                redis.command(&["CLIENT", "KILL", "TYPE", "normal"]).await;
                redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
                pause(100).await;
            }
        }).await;
    }
    clients_are_paused {
        of_redis("`CLIENT PAUSE 3000 ALL`", FINE, async |redis| {
            redis.command(&["CLIENT", "PAUSE", "3000", "ALL"]).await;
            pause(3000).await;
        }).await;
    }
    writes_are_paused {
        of_redis("`CLIENT PAUSE 3000 WRITE`", FINE, async |redis| {
            redis.command(&["CLIENT", "PAUSE", "3000", "WRITE"]).await;
            pause(3000).await;
        }).await;
    }
    everything_is_flushed {
        of_redis("`FLUSHALL`", LOST, async |redis| {
            redis.command(&["FLUSHALL"]).await;
        }).await;
    }
    memory_is_full {
        of_redis("Redis's memory is full (`maxmemory 1`) for 3 s", FINE, async |redis| {
            redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
            pause(3000).await;
            redis.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
        }).await;
    }
    the_primary_is_a_replica {
        of_redis("Redis is a read-only replica for 3 s (`REPLICAOF`)", DEAF, async |redis| {
            redis.command(&["REPLICAOF", "127.0.0.1", "1"]).await;
            pause(3000).await;
            redis.command(&["REPLICAOF", "NO", "ONE"]).await;
        }).await;
    }
    the_clock_steps_back {
        of_clock("Redis's clock steps back by an hour", FINE, -3600).await;
    }
    the_clock_steps_forward {
        // By then all entries are older than --retain-seconds, and they are dropped.
        of_clock("Redis's clock steps forward by an hour", LOST, 3600).await;
    }
    the_network_is_silent {
        of_network("The network delivers nothing for 6 s", Path::Silent, 6000).await;
    }
    connections_are_reset {
        of_network("The network resets connections for 3 s", Path::Reset, 3000).await;
    }
    a_node_is_killed {
        of_nodes("The lease holder is killed (`kill -9`) and started again", async |redis, nodes| {
            let index = holder(nodes).await;
            nodes[index].signal("KILL");
            pause(500).await;
            start_again(redis, &mut nodes[index]).await;
        }).await;
    }
    a_node_stalls_shortly {
        of_nodes("The lease holder is stopped for 1 s", async |_, nodes| {
            let index = holder(nodes).await;
            nodes[index].signal("STOP");
            pause(1000).await;
            nodes[index].signal("CONT");
        }).await;
    }
    a_node_stalls_long {
        of_nodes("The lease holder is stopped for 8 s, longer than its lease", async |_, nodes| {
            let index = holder(nodes).await;
            nodes[index].signal("STOP");
            pause(8000).await;
            nodes[index].signal("CONT");
        }).await;
    }
    two_nodes_stall_in_turn {
        of_nodes("Two lease holders are stopped for 5 s, one after the other", async |_, nodes| {
            for _ in 0..2 {
                let index = holder(nodes).await;
                nodes[index].signal("STOP");
                pause(5000).await;
                nodes[index].signal("CONT");
            }
        }).await;
    }
    the_primary_fails_over {
        of_sentinels("Failover: the primary is killed (`kill -9`), three sentinels, `--redis-wait-replicas 1`").await;
    }
}

/// Runs Redis with a clock that can be stepped.
async fn of_clock(name: &str, expectation: Expectation, step: i64) {
    let clock = Clock::new();
    let args = [clock.variables(), vec!["--appendonly", "yes"]].concat();
    let redis = RedisServer::start_with(&args).await;
    of_this_redis(name, expectation, redis, async |redis| {
        let time = async |redis: &RedisServer| {
            let time: Vec<i64> = redis::from_redis_value(redis.command(&["TIME"]).await).expect("a time");
            time[0]
        };
        let before = time(redis).await;
        clock.set(step);
        let stepped = time(redis).await - before;
        assert!((stepped - step).abs() < 10, "the clock stepped by {stepped} s");
        pause(2000).await;
    })
    .await;
}

/// Nodes reach Redis through a proxy. Only publishers over HTTP are affected, because the others connect to Redis
/// directly.
async fn of_network(name: &str, path: Path, ms: u64) {
    let redis = RedisServer::start_durable().await;
    let proxy = Proxy::start(redis.port()).await;
    let url = format!("redis://{}/", proxy.address);
    let args = ["--redis", url.as_str()];
    let mut nodes = vec![Node::start(&args).await, Node::start(&args).await, Node::start(&args).await];
    let targets = Targets::of(&nodes, &[&redis]);
    let happens = async |_: &mut Vec<Node>| {
        proxy.set(path);
        pause(ms).await;
        proxy.set(Path::Open);
    };
    judge(name, DEAF, &mut nodes, targets, happens, async || log_of(&redis).await).await;
}

async fn of_sentinels(name: &str) {
    let sentinels = Sentinels::start(2).await;
    let url = sentinels.url();
    let args = ["--redis", url.as_str(), "--redis-wait-replicas", "1"];
    let mut nodes = vec![Node::start(&args).await, Node::start(&args).await, Node::start(&args).await];
    let http: Vec<SocketAddr> = nodes.iter().map(|node| node.http).collect();
    let targets = Targets { http, redis: sentinels.servers.iter().map(RedisServer::url).collect() };
    let sentinels = Arc::new(Mutex::new(sentinels));
    let happens = async |_: &mut Vec<Node>| {
        let mut sentinels = sentinels.lock().await;
        let old = sentinels.primary().await.port();
        sentinels.kill_primary().await;
        while sentinels.primary().await.port() == old {
            pause(50).await;
        }
    };
    // XADD, FCALL and PUBLISH do not wait for replicas: entries that only the dead primary had are gone, and readers
    // get a gap.
    let lost = Expectation { is_waited_for: true, ..LOST };
    judge(name, lost, &mut nodes, targets, happens, async || log_of(sentinels.lock().await.primary().await).await)
        .await;
}
