//! The parts that the black-box tests share: a server process, a Redis, a raw HTTP client and one reader
//! for every transport. They depend on the wire, and not on the server's code.
#![allow(dead_code, reason = "each test program uses its own part of this")]
#![allow(unused_macros, reason = "each test program uses its own part of this")]
#![allow(unused_imports, reason = "each test program uses its own part of this")]

/// Makes a test of each rule over each log. A rule is `async fn rule(log: Log)`.
macro_rules! on_both_logs {
    ($($rule:ident)*) => {
        mod memory {
            $(#[tokio::test] async fn $rule() { super::$rule(super::Log::Memory).await; })*
        }
        mod redis {
            $(#[tokio::test] async fn $rule() { super::$rule(super::Log::Redis).await; })*
        }
    };
}

pub mod application;
pub mod caddy;
pub mod clock;
pub mod command;
pub mod decode;
pub mod door;
pub mod frames;
pub mod guarded;
pub mod haproxy;
pub mod http;
pub mod json;
pub mod lines;
pub mod metrics;
pub mod nginx;
pub mod php;
pub mod ports;
pub mod proxy;
pub mod publisher;
pub mod pusher;
pub mod quiet;
pub mod reader;
pub mod redis;
pub mod seen;
pub mod sentinel;
pub mod server;
pub mod token;
pub mod websocket;
pub mod world;

pub use caddy::Caddy;
pub use door::{Certificate, Door, door};
pub use haproxy::Haproxy;
pub use http::{Request, Response};
pub use json::{Published, message_ids, same_payload};
pub use lines::LineClient;
pub use metrics::Metrics;
pub use nginx::Nginx;
pub use reader::{Item, Kind, Reader, Subscription};
pub use redis::RedisServer;
pub use seen::{Answer, came};
pub use sentinel::Sentinels;
pub use server::{Node, Transport};
pub use websocket::RawWebSocket;
pub use world::{Log, World, each_transport};

use std::future::Future;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// How long a step may take that should complete at once. The limit is generous: the tests share a small machine, and a
/// test that passes never waits for it.
pub const SOON: Duration = Duration::from_secs(60);

/// How long a whole scenario of many steps may take: a flow of messages with faults in it. The limit is also generous.
pub const LONG: Duration = Duration::from_secs(300);

/// Awaits `future`, or fails with the name of the wait and the objects that came in place of the result.
pub async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = T>) -> T {
    match seen::watched(limit, future).await {
        (Some(value), _) => value,
        (None, seen) => panic!("waited {limit:?} for {what}; {seen}"),
    }
}

/// Asks again and again until the answer is `Some` or `Ok`, or fails with the name of the wait and the answers that
/// came instead.
pub async fn eventually<A: Answer>(what: &str, ask: impl AsyncFn() -> A) -> A::Value {
    within(SOON, what, async {
        loop {
            if let Some(value) = ask().await.wanted() {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

/// Publishes to `todo` for longer than a write may take (1 s in the nodes of these tests), and more than any socket
/// buffer holds: a client that reads gets all of it, and clients that do not read are disconnected.
pub async fn write_past<S: AsyncRead + Unpin>(node: &Node, witness: &mut Reader, slow: Vec<S>) {
    let batch = vec![format!("\"{}\"", "x".repeat(60_000)); 10];
    let begun = Instant::now();
    let mut sent = 0;
    while sent < 400 || begun.elapsed() < Duration::from_secs(6) {
        let published = node.publish_all("todo", &batch).await;
        witness.expect(&published).await;
        sent += published.len();
    }
    for mut stream in slow {
        let mut rest = Vec::new();
        within(SOON, "the end of a slow reader", stream.read_to_end(&mut rest)).await.ok();
        let all = sent * 60_000;
        assert!(rest.len() < all, "it was ended before it had all {all} bytes");
    }
}

/// The last lines of a program's log.
pub fn last_lines(log: &std::path::Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// Percent-encodes every byte of a query value that is not a letter or a digit.
pub fn quote(value: &str) -> String {
    form_urlencoded::byte_serialize(value.as_bytes()).collect()
}
