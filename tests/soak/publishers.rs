//! All ways to publish. Each has its own numbers.

use super::history::{Place, Sent, Told, Value};
use super::readers::Address;
use crate::support::publisher::{self, Connection, Outcome};
use crate::support::reader::{WebSocket, web_socket};
use futures_util::{SinkExt, StreamExt};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::Message as Frame;

/// The ways: their letter, and the time between two messages. A hundred messages a second in all.
pub const WAYS: [(char, u64); 6] = [
    ('K', 80),  // HTTP with a key, repeated until it is answered
    ('H', 100), // HTTP, once
    ('W', 100), // WebSocket, once
    ('C', 70),  // FCALL with a key, repeated until it is answered
    ('X', 60),  // XADD, once
    ('P', 25),  // PUBLISH, once
];

/// A length beyond the limit of the nodes (`--max-message-bytes`): FCALL has to refuse it in every case.
pub const TOO_LONG: usize = 1500;

/// Ways whose messages are repeated, so that they have to make progress.
pub const REPEATED: [char; 2] = ['K', 'C'];

/// The state that publishers share.
pub struct Flow {
    pub nodes: Vec<Address>,
    /// URLs of Redis, for each try in turn.
    pub redis: Mutex<Vec<String>>,
    pub sent: Mutex<Vec<Sent>>,
    /// When a way was last acknowledged.
    pub progress: Mutex<HashMap<char, Instant>>,
    pub stopped: AtomicBool,
    pub paused: AtomicBool,
}

impl Flow {
    pub fn new(nodes: Vec<Address>, redis: Vec<String>) -> Arc<Flow> {
        Arc::new(Flow {
            nodes,
            redis: Mutex::new(redis),
            sent: Mutex::default(),
            progress: Mutex::default(),
            stopped: AtomicBool::new(false),
            paused: AtomicBool::new(false),
        })
    }

    pub fn take(&self) -> Vec<Sent> {
        std::mem::take(&mut *self.sent.lock().expect("the sent"))
    }

    pub fn lead(&self, urls: Vec<String>) {
        *self.redis.lock().expect("URLs") = urls;
    }
}

/// One way's connections.
#[derive(Default)]
struct Means {
    redis: Option<Connection>,
    /// The URL of the connection.
    url: String,
    socket: Option<WebSocket>,
}

/// Publishes by one way until the flow ends.
pub async fn publish(flow: Arc<Flow>, way: char, pace: u64, mut rng: fastrand::Rng) {
    let mut means = Means::default();
    let mut number = 0;
    while !flow.stopped.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(pace)).await;
        if flow.paused.load(Ordering::Relaxed) {
            continue;
        }
        number += 1;
        let value = Value { way, number };
        let sent = until_answered(&flow, &mut means, value, &mut rng).await;
        // The same key means the same message, whatever has happened in the meantime.
        let again = way == 'K' && matches!(sent.told, Told::Good(_)) && rng.u8(..20) == 0;
        flow.sent.lock().expect("the sent").push(sent);
        if again {
            tokio::time::sleep(Duration::from_millis(pace)).await;
            let sent = until_answered(&flow, &mut means, value, &mut rng).await;
            flow.sent.lock().expect("the sent").push(sent);
        }
    }
}

async fn until_answered(flow: &Flow, means: &mut Means, value: Value, rng: &mut fastrand::Rng) -> Sent {
    let began = Instant::now();
    loop {
        let tried = Instant::now();
        let outcome = one_try(flow, means, value, rng).await;
        let words = format!("{outcome:?}").chars().take(160).collect();
        let is_too_long = value.way == 'C' && is_long(value);
        let told = match outcome {
            Outcome::Good(id) => Told::Good(id.as_deref().and_then(Place::of)),
            Outcome::Refused(_) => Told::Never,
            Outcome::Unknown => Told::Unknown,
        };
        let is_good = matches!(told, Told::Good(_));
        if is_good {
            flow.progress.lock().expect("progress").insert(value.way, Instant::now());
        }
        let is_over = flow.stopped.load(Ordering::Relaxed) || (is_too_long && told == Told::Never);
        if is_good || is_over || !REPEATED.contains(&value.way) {
            // An earlier try of a message that is repeated may have succeeded.
            let told = if told == Told::Never && REPEATED.contains(&value.way) { Told::Unknown } else { told };
            return Sent { value, began, tried, ended: Instant::now(), told, words };
        }
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
}

/// Whether a message is too long: one in forty by FCALL is.
fn is_long(value: Value) -> bool {
    value.number.is_multiple_of(40)
}

async fn one_try(flow: &Flow, means: &mut Means, value: Value, rng: &mut fastrand::Rng) -> Outcome {
    let payload = format!("{value:?}");
    let node = flow.nodes[rng.usize(..flow.nodes.len())];
    match value.way {
        'K' => publisher::post(node.http, &format!("channel=flow&key={payload}"), &payload).await,
        'H' => publisher::post(node.http, "channel=flow", &payload).await,
        'W' => through_socket(&mut means.socket, node, &payload, rng).await,
        way => {
            let urls = flow.redis.lock().expect("URLs").clone();
            if means.redis.is_none() || !urls.contains(&means.url) {
                (means.redis, means.url) = (None, urls[rng.usize(..urls.len())].clone());
            }
            let long = format!("{payload}:{}", "x".repeat(TOO_LONG));
            let words: Vec<&str> = match way {
                'P' => vec!["PUBLISH", "push:flow", &payload],
                'X' => vec!["XADD", "longtail:log", "*", "channel", "flow", "data", &payload],
                _ => {
                    let data = if is_long(value) { &long } else { &payload };
                    vec!["FCALL", "longtail_publish", "1", "longtail:log", "flow", data, "key", &payload]
                }
            };
            publisher::command(&mut means.redis, &means.url, &words).await
        }
    }
}

/// Publishes through a WebSocket, which is kept for the next message unless it fails.
async fn through_socket(
    slot: &mut Option<WebSocket>,
    node: Address,
    payload: &str,
    rng: &mut fastrand::Rng,
) -> Outcome {
    if rng.u8(..50) == 0 {
        *slot = None; // Another node, now and then.
    }
    if slot.is_none() {
        match tokio::time::timeout(Duration::from_secs(3), web_socket(node.http, "/ws")).await {
            Ok(Ok(socket)) => *slot = Some(socket),
            _ => return Outcome::Refused("no socket".to_owned()),
        }
    }
    let Some(mut socket) = slot.take() else { return Outcome::Refused("no socket".to_owned()) };
    let command = format!(r#"{{"type":"publish","channel":"flow","data":"{payload}","ref":1}}"#);
    let exchange = async {
        socket.send(Frame::text(command)).await.ok()?;
        loop {
            let Some(Ok(frame)) = socket.next().await else { return None };
            let Frame::Text(text) = frame else { continue };
            let answer: serde_json::Value = serde_json::from_str(&text).ok()?;
            match answer["type"].as_str() {
                Some("ack") => return Some(Outcome::Good(answer["id"].as_str().map(str::to_owned))),
                Some("error") if answer["code"] == "log_unavailable" => {
                    return Some(Outcome::Refused("log_unavailable".to_owned()));
                }
                Some("error") => return Some(Outcome::Unknown),
                _ => {}
            }
        }
    };
    match tokio::time::timeout(Duration::from_secs(15), exchange).await {
        Ok(Some(outcome)) => {
            *slot = Some(socket);
            outcome
        }
        _ => Outcome::Unknown,
    }
}
