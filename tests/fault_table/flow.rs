//! The four ways to publish, each with numbers of its own.

use crate::support::{Node, RedisServer, Request};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// How messages come in.
pub const WAYS: [&str; 4] = ["HTTP", "FCALL", "XADD", "PUBLISH"];

/// Between two messages of one way.
const PACE: Duration = Duration::from_millis(20);

/// What one way has sent.
#[derive(Debug, Default)]
pub struct Sent {
    /// Acknowledged, or heard by a node at least: the payloads in their order.
    pub good: Vec<String>,
    /// Sent without an answer.
    pub unknown: Vec<String>,
    /// Refused, or heard by nobody.
    pub refused: usize,
}

/// Where publishers find what they talk to. A failover changes it.
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

/// Sends by one way until it is told to stop.
pub async fn send(way: &str, targets: &Targets, stop: &AtomicBool, count: &AtomicUsize) -> Sent {
    let mut sent = Sent::default();
    let mut connection = None;
    let mut turn = 0;
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let payload = format!("{way}-{n}");
        // HTTP and FCALL have a key, so they are repeated until they are answered; the others are not.
        loop {
            turn += 1;
            let outcome = match way {
                "HTTP" => post(targets.http[turn % targets.http.len()], &payload).await,
                _ => command(way, &mut connection, &targets.redis[turn % targets.redis.len()], &payload).await,
            };
            match outcome {
                Outcome::Good => {
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
                Outcome::Refused => {
                    sent.refused += 1;
                    break;
                }
            }
        }
        tokio::time::sleep(PACE).await;
    }
    sent
}

enum Outcome {
    Good,
    Refused,
    Unknown,
}

async fn post(node: SocketAddr, payload: &str) -> Outcome {
    let request = Request::post(&format!("/publish?channel=flow&key={payload}"), payload.as_bytes());
    match tokio::time::timeout(Duration::from_secs(15), request.try_send(node)).await {
        Ok(Some(answer)) if answer.status == 200 => Outcome::Good,
        Ok(Some(answer)) if answer.error_code() == "log_unavailable" => Outcome::Refused,
        _ => Outcome::Unknown,
    }
}

type Connection = redis::aio::MultiplexedConnection;

async fn command(way: &str, slot: &mut Option<Connection>, url: &str, payload: &str) -> Outcome {
    if slot.is_none() {
        let config = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(Duration::from_secs(1)))
            .set_response_timeout(Some(Duration::from_secs(3)));
        let Ok(client) = redis::Client::open(url) else { return Outcome::Refused };
        let connecting = client.get_multiplexed_async_connection_with_config(&config);
        match tokio::time::timeout(Duration::from_secs(2), connecting).await {
            Ok(Ok(connection)) => *slot = Some(connection),
            _ => return Outcome::Refused,
        }
    }
    let Some(connection) = slot else { return Outcome::Refused };
    let words: Vec<&str> = match way {
        "PUBLISH" => vec!["PUBLISH", "push:flow", payload],
        "XADD" => vec!["XADD", "longtail:log", "*", "channel", "flow", "data", payload],
        _ => vec!["FCALL", "longtail_publish", "1", "longtail:log", "flow", payload, "key", payload],
    };
    let answer: redis::RedisResult<redis::Value> = redis::cmd(words[0]).arg(&words[1..]).query_async(connection).await;
    match answer {
        // Nobody has heard it.
        Ok(redis::Value::Int(0)) => {
            *slot = None;
            Outcome::Refused
        }
        Ok(_) => Outcome::Good,
        Err(error) => {
            *slot = None;
            // With a code it is Redis that has refused.
            if error.code().is_some() { Outcome::Refused } else { Outcome::Unknown }
        }
    }
}
