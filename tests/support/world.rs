//! The environment of a rule of the contract: a node over one of the two logs.

use super::{LONG, Node, RedisServer, Transport, within};
use futures_util::FutureExt;
use futures_util::future::join_all;
use std::panic::AssertUnwindSafe;

/// The kind of the log.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Log {
    Memory,
    Redis,
}

/// A node, and its Redis if it has one. (Fields drop in order: the node goes first.)
pub struct World {
    pub node: Node,
    pub redis: Option<RedisServer>,
}

impl World {
    pub async fn start(log: Log, args: &[&str]) -> World {
        match log {
            Log::Memory => World { node: Node::start(args).await, redis: None },
            Log::Redis => {
                let redis = RedisServer::start().await;
                let node = start_on(&redis, args).await;
                World { node, redis: Some(redis) }
            }
        }
    }
}

/// A node on this Redis.
pub async fn start_on(redis: &RedisServer, args: &[&str]) -> Node {
    let url = redis.url();
    let mut all = vec!["--redis", url.as_str()];
    all.extend(args);
    Node::start(&all).await
}

/// Runs a rule for every transport of the node at once, and reports all transports that broke it.
pub async fn each_transport(node: &Node, concerned: impl Fn(&Transport) -> bool, rule: impl AsyncFn(Transport)) {
    let transports = node.transports().await;
    assert!(transports.len() >= 9, "WIRE.md has nine transports: {transports:?}");
    let runs = transports.into_iter().filter(|t| concerned(t)).map(|transport| {
        let name = transport.name.clone();
        let run = within(LONG, "the whole rule", rule(transport));
        // The futures are on the heap: ten of them at once need too much of a test thread's stack.
        let run = AssertUnwindSafe(Box::pin(run)).catch_unwind();
        async move { (name, run.await) }
    });
    let results = join_all(runs).await;
    assert!(!results.is_empty(), "no transport is concerned");
    let broken: Vec<String> = results
        .into_iter()
        .filter_map(|(name, result)| {
            let panic = result.err()?;
            let text = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            Some(format!("{name}: {}", text.unwrap_or_default()))
        })
        .collect();
    assert!(broken.is_empty(), "broken by {}:\n{}", broken.len(), broken.join("\n"));
}
