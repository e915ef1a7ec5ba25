//! The four ways to publish. Each has its own numbers.

use crate::support::publisher::{self, Connection, Outcome};
use crate::support::{Node, RedisServer};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// The ways to publish.
pub const WAYS: [&str; 4] = ["HTTP", "FCALL", "XADD", "PUBLISH"];

/// The time between two messages of one way.
const PACE: Duration = Duration::from_millis(20);

/// The messages that one way has sent.
#[derive(Debug, Default)]
pub struct Sent {
    /// The payloads of messages that were acknowledged, or received by at least one node, in their order.
    pub good: Vec<String>,
    /// The payloads of messages that were sent and got no answer.
    pub unknown: Vec<String>,
    /// The number of messages that were refused, or that no node received.
    pub refused: usize,
}

/// The addresses that publishers connect to. A failover changes them.
pub struct Targets {
    pub http: Vec<SocketAddr>,
    /// A URL of Redis for each try, in turn.
    pub redis: Vec<String>,
}

impl Targets {
    pub fn of(nodes: &[Node], servers: &[&RedisServer]) -> Targets {
        let http = nodes.iter().map(|node| node.http).collect();
        Targets { http, redis: servers.iter().map(|server| server.url()).collect() }
    }
}

/// Publishes by one way until `stop` is set.
pub async fn send(way: &str, targets: &Targets, stop: &AtomicBool, count: &AtomicUsize) -> Sent {
    let mut sent = Sent::default();
    let mut connection = None;
    let mut turn = 0;
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let payload = format!("{way}-{n}");
        // Messages by HTTP and FCALL have a key, so they are repeated until an answer comes. The others are not
        // repeated.
        loop {
            turn += 1;
            let outcome = match way {
                "HTTP" => {
                    let query = format!("channel=flow&key={payload}");
                    publisher::post(targets.http[turn % targets.http.len()], &query, &payload).await
                }
                _ => command(way, &mut connection, &targets.redis[turn % targets.redis.len()], &payload).await,
            };
            match outcome {
                Outcome::Good(_) => {
                    sent.good.push(payload);
                    count.fetch_add(1, Ordering::Relaxed);
                    break;
                }
                _ if matches!(way, "HTTP" | "FCALL") && !stop.load(Ordering::Relaxed) => {
                    tokio::time::sleep(PACE * 2).await;
                }
                Outcome::Unknown => {
                    sent.unknown.push(payload);
                    break;
                }
                Outcome::Refused(_) => {
                    sent.refused += 1;
                    break;
                }
            }
        }
        tokio::time::sleep(PACE).await;
    }
    sent
}

async fn command(way: &str, slot: &mut Option<Connection>, url: &str, payload: &str) -> Outcome {
    let words: Vec<&str> = match way {
        "PUBLISH" => vec!["PUBLISH", "push:flow", payload],
        "XADD" => vec!["XADD", "longtail:log", "*", "channel", "flow", "data", payload],
        _ => vec!["FCALL", "longtail_publish", "1", "longtail:log", "flow", payload, "key", payload],
    };
    publisher::command(slot, url, &words).await
}
