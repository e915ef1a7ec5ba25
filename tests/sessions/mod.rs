//! Client sessions: what the server and the application know about a client, and how the application changes it.

pub mod application;
mod bad_input;
mod calls;
mod changes;
mod endings;
mod killed_nodes;
mod lagging;
mod nodes;
mod positions;
mod store;
mod upkeep;

use crate::support;

use serde_json::{Value, json};
use support::{Kind, Log, Node, Reader, Request, Response, SOON, Subscription, Transport, World, eventually, within};

/// A node on one of the logs. Over Redis it writes control entries only when all nodes are known to read them.
async fn start(log: Log, args: &[&str]) -> World {
    let world = World::start(log, args).await;
    if log == Log::Redis {
        settled(&world.node).await;
    }
    world
}

pub async fn settled(node: &Node) {
    let what = "the node to write control entries";
    eventually(what, async || {
        let page = node.get("/metrics").await.text();
        let format = page.lines().find_map(|line| line.strip_prefix("longtail_log_format "));
        (format.and_then(|format| format.parse::<f64>().ok()) >= Some(2.0)).then_some(())
    })
    .await;
}

/// Publishes a message, and returns its id.
async fn publish(node: &Node, channel: &str, data: &str) -> String {
    let answer = Request::post(&format!("/publish?channel={channel}"), data.as_bytes()).send(node.http).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["messages"][0]["id"].as_str().expect("an id").to_owned()
}

async fn try_change(node: &Node, change: &Value) -> Response {
    Request::post("/sessions", change.to_string().as_bytes())
        .header("Content-Type", "application/json")
        .send(node.http)
        .await
}

/// Changes sessions, and returns the cursor from which on the change is done.
async fn change(node: &Node, change: &Value) -> String {
    let answer = try_change(node, change).await;
    assert_eq!(answer.status, 200, "{change}: {}", answer.text());
    answer.json()["cursor"].as_str().expect("a cursor").to_owned()
}

/// A reader with a session, after the server has named it.
async fn open(node: &Node, transport: &Transport, channel: &str, fields: &[(&str, &str)]) -> Reader {
    let mut subscription = Subscription::to(&[channel]).with("session", "1");
    for (name, value) in fields {
        subscription = subscription.with(name, value);
    }
    if transport.is_poll() {
        // The first answer of a long poll comes with the first message.
        let cursor = node.latest(channel).await;
        subscription = subscription.from(&cursor).with("timeout", "20");
        publish(node, channel, "\"first\"").await;
    }
    if transport.name == "jsonp" || transport.name == "forever-frame" {
        subscription = subscription.with("callback", "cb");
    }
    let mut reader = Reader::open(node, transport, subscription).await;
    let named = if transport.is_poll() { Kind::Batch } else { Kind::Hello };
    reader.next_of(named).await;
    assert_eq!(reader.subscription.session().len(), 27, "{}", transport.name);
    reader
}

/// The next message or event: its channel or `event:<name>`, and its data.
async fn next(reader: &mut Reader) -> (String, Value) {
    loop {
        let item = reader.next().await.unwrap_or_else(|| panic!("{} has ended", reader.transport.name));
        match item.kind {
            Kind::Message => return (item.str("channel").expect("a channel"), data(item.data())),
            Kind::Event => {
                assert!(item.id().is_some(), "{}", item.text);
                return (format!("event:{}", item.str("event").expect("a name")), data(item.data()));
            }
            Kind::Batch | Kind::Heartbeat | Kind::Hello => {}
            Kind::Bye if item.number("code") == Some(4000) => panic!("a rollover: {}", item.text),
            _ => panic!("{}: {}", reader.transport.name, item.text),
        }
    }
}

/// Reads the next message or event, which has to be this one.
async fn expect(reader: &mut Reader, expected: &(String, Value)) {
    let what = format!("{expected:?} on {}", reader.transport.name);
    let got = within(SOON, &what, next(reader)).await;
    assert_eq!(&got, expected, "{}", reader.transport.name);
}

/// Reads until this message or event comes.
async fn until(reader: &mut Reader, expected: &(String, Value)) {
    let what = format!("{expected:?} on {}", reader.transport.name);
    within(SOON, &what, async { while next(reader).await != *expected {} }).await;
}

fn data(json: &str) -> Value {
    serde_json::from_str(json).expect("JSON")
}

fn message(channel: &str, data: impl Into<Value>) -> (String, Value) {
    (channel.to_owned(), data.into())
}

fn event(name: &str, data: impl Into<Value>) -> (String, Value) {
    (format!("event:{name}"), data.into())
}

/// Sends an event by `POST /event` for a session.
async fn post_event(node: &Node, session: &str, data: &Value) -> Response {
    let body = json!({"event": "e", "data": data, "session": session});
    Request::post("/event", body.to_string().as_bytes())
        .header("Content-Type", "application/json")
        .send(node.http)
        .await
}
