//! Calls to the application about channels that get their first reader or lose their last one, and about users that join
//! or leave a channel.

mod application_trouble;
mod channels;
mod members;
mod nodes;
mod store_trouble;

use crate::sessions::application::Application;
use crate::support;

use serde_json::{Value, json};
use std::time::{Duration, Instant};
use support::guarded::{KEY, bearer};
use support::token::{SECRET, token};
use support::world::start_on;
use support::{Log, Node, RawWebSocket, RedisServer, Request, World, eventually, within};

/// Longer than any wait here takes.
const WAIT: Duration = Duration::from_secs(40);

/// An application that accepts each call.
async fn accepting() -> Application {
    Application::start(|_| (204, Value::Null)).await
}

fn flags<'a>(application: &'a Application, types: &'a str) -> Vec<&'a str> {
    vec!["--hook-url", &application.url, "--hook-notify", types, "--hook-timeout", "5", "--away-seconds", "3"]
}

/// The calls about a channel so far: their types, in order.
fn calls_of(application: &Application, channel: &str) -> Vec<String> {
    let calls = application.all().into_iter().filter(|call| call["channel"] == channel);
    calls.map(|call| call["type"].as_str().expect("a type").to_owned()).collect()
}

/// Waits until the calls about a channel are these.
async fn until(application: &Application, channel: &str, expected: &[&str]) {
    within(WAIT, &format!("{expected:?} of {channel}"), async {
        while calls_of(application, channel) != expected {
            support::came(|| format!("{:?}", calls_of(application, channel)));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

async fn read(node: &Node, channel: &str) -> RawWebSocket {
    let mut socket = RawWebSocket::open(node, &format!("/ws?channel={channel}")).await;
    socket.next_of("hello").await;
    socket
}

/// Opens a channel with presence as a user, with other information.
async fn join(node: &Node, channel: &str, user: &str, info: Value) -> RawWebSocket {
    let end = support::token::seconds(600);
    let token = token(&json!({"sub": user, "info": info, "subscribe": ["*"], "exp": end}));
    let mut socket = RawWebSocket::open(node, &format!("/ws?channel={channel}&token={token}")).await;
    socket.next_of("hello").await;
    socket
}

const PRESENCE: [&str; 6] = ["--token-secret", SECRET, "--publish-key", KEY, "--presence", "room:*"];

/// The value of a metric.
async fn metric(node: &Node, name: &str) -> f64 {
    let page = Request::get("/metrics").header("Authorization", &bearer(KEY)).send(node.http).await.text();
    let line = page.lines().find(|line| line.starts_with(name) && !line.starts_with('#'));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
}

/// Waits until a node writes entries about members.
async fn settled(node: &Node) {
    let what = "the node to write entries about members";
    eventually(what, async || (metric(node, "longtail_log_format").await >= 2.0).then_some(())).await;
}

/// Waits until exactly one of the nodes is the sender, and returns its index.
async fn sender(nodes: &[Node]) -> usize {
    eventually("one sender", async || {
        let mut senders = Vec::new();
        for (index, node) in nodes.iter().enumerate() {
            if metric(node, "longtail_transitions_sender").await == 1.0 {
                senders.push(index);
            }
        }
        (senders.len() == 1).then(|| senders[0])
    })
    .await
}
