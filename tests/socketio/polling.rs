//! Polls, posts and the change to a WebSocket: the rules of both versions of Engine.IO.

use super::*;
use crate::support::{Haproxy, RedisServer, SOON, eventually, within, world};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const TIMES: [&str; 4] = ["--socketio-ping-interval", "1", "--socketio-ping-timeout", "1"];
pub const P4: &str = "/socket.io/?EIO=4&transport=polling";
const P3: &str = "/socket.io/?EIO=3&transport=polling";

/// A connection that polls.
pub struct Poller {
    pub address: SocketAddr,
    url: String,
    sid: String,
    stamp: usize,
}

impl Poller {
    pub async fn open(address: SocketAddr, base: &str) -> (Poller, String) {
        let answer = Request::get(base).send(address).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let body = answer.text();
        let object = &body[body.find('{').expect("an object")..=body.find('}').expect("an object")];
        let open: Value = serde_json::from_str(object).expect("JSON");
        assert_eq!(open["upgrades"], json!(["websocket"]));
        let sid = open["sid"].as_str().expect("an id").to_owned();
        (Poller { address, url: format!("{base}&sid={sid}"), sid, stamp: 0 }, body)
    }

    /// A client of version 4 in the main namespace.
    pub async fn connected(address: SocketAddr) -> Poller {
        let (mut poller, _) = Poller::open(address, P4).await;
        poller.post("40").await;
        let answer = poller.get().await;
        assert!(answer.starts_with("40{\"sid\":\""), "{answer}");
        poller
    }

    pub fn stamped(&mut self) -> String {
        self.stamp += 1;
        format!("{}&t=s{}", self.url, self.stamp)
    }

    pub async fn get(&mut self) -> String {
        let target = self.stamped();
        let answer = Request::get(&target).send(self.address).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.text()
    }

    /// The packets of answers, until there are this many that are neither pings nor noops.
    pub async fn packets(&mut self, count: usize) -> Vec<String> {
        let mut packets = Vec::new();
        while packets.len() < count {
            let body = self.get().await;
            packets.extend(body.split('\u{1e}').filter(|packet| !matches!(*packet, "2" | "6")).map(str::to_owned));
        }
        packets
    }

    pub async fn post(&mut self, body: &str) {
        let target = self.stamped();
        let answer = Request::post(&target, body.as_bytes()).send(self.address).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
        assert_eq!(answer.header("content-type"), Some("text/html"));
    }

    pub async fn status(&mut self, request: Request) -> u16 {
        request.send(self.address).await.status
    }
}

#[tokio::test]
async fn packets_go_both_ways() {
    let (node, application) = with_application(&[]).await;
    let (mut poller, body) = Poller::open(node.http, &format!("{P4}&page=1")).await;
    assert!(body.starts_with("0{\"sid\":\""), "{body}");
    poller.post("40{\"a\":1}\u{1e}40/custom,").await;
    let packets = poller.packets(4).await;
    let has = |start: &str| packets.iter().any(|packet| packet.starts_with(start));
    assert!(has("40{\"sid\":\"") && has("40/custom,{\"sid\":\""), "{packets:?}");
    assert!(has("42[\"auth\",{\"a\":1}]") && has("42/custom,[\"auth\",{}]"), "{packets:?}");
    assert_eq!(application.calls("connect")[0]["transport"], "polling");
    assert_eq!(application.calls("connect")[0]["query"], json!({ "page": "1" }));
    // The parts of a packet may come in another post.
    poller
        .post("452-1[\"message-with-ack\",{\"_placeholder\":true,\"num\":0},{\"_placeholder\":true,\"num\":1}]")
        .await;
    poller.post("bAQI=").await;
    poller.post("bAw==\u{1e}42[\"message\",\"é\"]").await;
    let mut packets = poller.packets(4).await;
    packets.retain(|packet| packet != "42[\"message-back\",\"é\"]");
    let parts = "[{\"_placeholder\":true,\"num\":0},{\"_placeholder\":true,\"num\":1}]";
    assert_eq!(packets, [format!("462-1{parts}"), "bAQI=".to_owned(), "bAw==".to_owned()]);
    poller.post("42[\"ask\"]").await;
    let question = poller.packets(1).await.remove(0);
    let id = question.strip_prefix("42").and_then(|rest| rest.strip_suffix("[\"question\",1]")).expect("a number");
    poller.post(&format!("43{id}[\"yes\"]")).await;
    eventually("the answer", async || (!application.calls("ack").is_empty()).then_some(())).await;
    poller.post("42[\"kick\"]").await;
    assert_eq!(poller.packets(1).await, ["41"]);
    poller.post("41/custom,\u{1e}1").await;
    let gone = Request::get(&poller.url).send(node.http).await;
    assert_eq!((gone.status, gone.json()["code"].clone()), (400, json!(1)));
}

#[tokio::test]
async fn messages_wait_for_the_next_poll() {
    let node = Node::start(&["--socketio", "--socketio-join", "todo"]).await;
    let mut poller = Poller::connected(node.http).await;
    for n in 0..3 {
        node.publish_with("channel=todo&event=n", &n.to_string()).await;
    }
    assert_eq!(poller.packets(3).await, ["42[\"n\",0]", "42[\"n\",1]", "42[\"n\",2]"]);
    let waiting = tokio::spawn(async move { poller.packets(1).await });
    node.publish_with("channel=todo&event=n", "3").await;
    assert_eq!(within(SOON, "the message", waiting).await.expect("no panic"), ["42[\"n\",3]"]);
}

#[tokio::test]
async fn pings_come_on_schedule_and_silence_ends_a_connection() {
    let node = Node::start(&[&["--socketio"][..], &TIMES].concat()).await;
    let mut poller = Poller::connected(node.http).await;
    let began = Instant::now();
    for _ in 0..3 {
        assert_eq!(poller.get().await, "2");
        poller.post("3").await;
    }
    assert!(began.elapsed() >= Duration::from_secs(2), "three pings in {:?}", began.elapsed());
    // A client that is silent for as long as both times is gone.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let target = poller.stamped();
    assert_eq!(poller.status(Request::get(&target)).await, 400);
}

#[tokio::test]
async fn what_breaks_a_rule_ends_the_connection() {
    let node = Node::start(&["--socketio", "--socketio-ping-interval", "5"]).await;
    // Two GETs at once.
    let mut poller = Poller::connected(node.http).await;
    let (first, second) = (poller.stamped(), poller.stamped());
    let address = node.http;
    let waiting = tokio::spawn(async move { Request::get(&first).send(address).await.text() });
    eventually("the second GET to be refused", async || {
        (Request::get(&second).send(address).await.status == 400).then_some(())
    })
    .await;
    // Either of them may have come first.
    let first = within(SOON, "the first GET", waiting).await.expect("no panic");
    assert!(matches!(first.as_str(), "1" | "2" | "{\"code\":3,\"message\":\"Bad request\"}"), "{first}");
    let again = Request::get(&second).send(node.http).await;
    assert_eq!(again.status, 400, "{} after {first}", again.text());
    // Broken posts.
    let many = vec!["3"; 10_001].join("\u{1e}");
    for body in ["abc", "2", "4abc", "42[\"a\"]\u{1e}x", &many] {
        let mut poller = Poller::connected(node.http).await;
        let target = poller.stamped();
        let status = poller.status(Request::post(&target, body.as_bytes())).await;
        assert_eq!(status, 400, "{}", &body[..body.len().min(20)]);
        let target = poller.stamped();
        assert_eq!(poller.status(Request::get(&target)).await, 400);
    }
    let mut poller = Poller::connected(node.http).await;
    let target = poller.stamped();
    let octets = Request::post(&target, b"3").header("Content-Type", "application/octet-stream");
    assert_eq!(poller.status(octets).await, 400);
    let mut poller = Poller::connected(node.http).await;
    let target = poller.stamped();
    let long = vec![b'x'; 1_000_001];
    assert_eq!(poller.status(Request::post(&target, &long)).await, 413);
}

#[tokio::test]
async fn repeated_requests_have_no_further_effect() {
    let (node, application) = with_application(&["--socketio-join", "todo"]).await;
    let mut poller = Poller::connected(node.http).await;
    node.publish_with("channel=todo&event=n", "1").await;
    let target = poller.stamped();
    let first = Request::get(&target).send(node.http).await.text();
    assert_eq!(Request::get(&target).send(node.http).await.text(), first);
    assert_ne!(first, "2");
    let target = poller.stamped();
    for _ in 0..3 {
        let answer = Request::post(&target, b"42[\"message\",1]").send(node.http).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    }
    assert_eq!(application.calls("event").len(), 1);
}

/// Tries a WebSocket, and changes to it. Returns the WebSocket.
pub async fn change(poller: &mut Poller, socket_at: SocketAddr, base: &str) -> Client {
    let target = format!("{}&sid={}", base.replace("polling", "websocket"), poller.sid);
    let mut socket = RawWebSocket::open_at(socket_at, &target).await;
    let waiting = poller.stamped();
    let address = poller.address;
    let parked = tokio::spawn(async move { Request::get(&waiting).send(address).await.text() });
    socket.text("2probe").await;
    assert_eq!(text(&socket.frame().await.expect("a packet")), "3probe");
    let began = Instant::now();
    let answer = within(SOON, "the GET that waits", parked).await.expect("no panic");
    assert!(answer.ends_with('6'), "{answer}");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    // Any other GET before the change is answered at once, too.
    let target = poller.stamped();
    assert!(Request::get(&target).send(poller.address).await.text().ends_with('6'));
    socket.text("5").await;
    Client { socket, open: Value::Null }
}

#[tokio::test]
async fn a_client_changes_to_a_websocket() {
    let (node, _application) = with_application(&["--socketio-join", "todo"]).await;
    let mut poller = Poller::connected(node.http).await;
    assert_eq!(poller.packets(1).await, ["42[\"auth\",{}]"]);
    let mut client = change(&mut poller, node.http, P4).await;
    node.publish_with("channel=todo&event=n", "1").await;
    client.expect(&["42[\"n\",1]"]).await;
    client.send("42[\"message\",2]").await;
    client.expect(&["42[\"message-back\",2]"]).await;
    let target = poller.stamped();
    assert_eq!(poller.status(Request::get(&target)).await, 400);
    let (mut old, body) = Poller::open(node.http, P3).await;
    assert!(body.contains("2:40"), "{body}");
    assert_eq!(old.get().await, "13:42[\"auth\",{}]");
    let mut client = change(&mut old, node.http, P3).await;
    client.send("42[\"message\",2]").await;
    client.expect(&["42[\"message-back\",2]"]).await;
    // Another first frame ends the trial, and the client polls on.
    let mut poller = Poller::connected(node.http).await;
    let target = format!("{}&sid={}", P4.replace("polling", "websocket"), poller.sid);
    let mut socket = RawWebSocket::open(&node, &target).await;
    socket.text("5").await;
    socket.ended().await;
    assert_eq!(poller.packets(1).await, ["42[\"auth\",{}]"]);
}

#[tokio::test]
async fn version_3_has_payloads_of_three_forms() {
    let (node, _application) = with_application(&["--socketio-ping-interval", "0.5"]).await;
    let (mut text, body) = Poller::open(node.http, P3).await;
    let (length, rest) = body.split_once(':').expect("a length");
    assert_eq!(rest[length.parse().expect("a number")..], *"2:40");
    let read = text.get().await;
    assert_eq!(read, "13:42[\"auth\",{}]");
    text.post("13:42[\"message\"]").await;
    assert_eq!(text.get().await, "18:42[\"message-back\"]");
    text.post("2:2x").await;
    assert_eq!(text.get().await, "2:3x");
    assert_eq!(text.get().await, "1:3", "a pong that nobody has asked for");
    // `é`, encoded twice.
    text.post("18:42[\"message\",\"Ã©\"]").await;
    assert_eq!(text.get().await, "27:42[\"message-back\",\"\\u00e9\"]");

    let target = "/socket.io/?EIO=3&transport=polling&t=1400000000000-0";
    let octets = Request::get(target).send(node.http).await;
    assert_eq!(octets.header("content-type"), Some("application/octet-stream"));
    let body = octets.body.clone();
    assert!(body.starts_with(&[0, 1]) && body.ends_with(b"\0\x02\xff40"), "{body:?}");

    let jsonp = Request::get(&format!("{P3}&j=7")).send(node.http).await;
    assert_eq!(jsonp.header("content-type"), Some("text/javascript; charset=UTF-8"));
    let script = jsonp.text();
    assert!(script.starts_with("___eio[7](\"") && script.ends_with("\");"), "{script}");
    let sid = script.split("\\\"sid\\\":\\\"").nth(1).and_then(|rest| rest.split("\\\"").next()).expect("an id");
    let target = format!("{P3}&j=0&sid={sid}");
    let answer = Request::form(&target, "d=19%3A42%5B%22message%22%2C%22a%5C%5Cn%22%5D").send(node.http).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    let script = Request::get(&target).send(node.http).await.text();
    assert!(script.starts_with("___eio[0](\"") && script.contains("auth"), "{script}");
}

#[tokio::test]
async fn every_answer_may_be_read_by_pages_of_allowed_origins() {
    let node = Node::start(&["--socketio"]).await;
    let mut poller = Poller::connected(node.http).await;
    let origin = "http://localhost:1234";
    let (get, post) = (poller.stamped(), poller.stamped());
    for request in [
        Request::post(&post, b"3"),
        Request::get(&get).http10(),
        Request::get(&format!("{P4}&sid=unknown")),
        Request::new("OPTIONS", P4),
    ] {
        let answer = request.header("Origin", origin).send(node.http).await;
        assert_eq!(answer.header("access-control-allow-origin"), Some(origin), "{}", answer.status);
        assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
        assert_eq!(answer.header("set-cookie"), None);
    }
}

#[tokio::test]
async fn a_star_lets_pages_of_all_origins_ask_with_credentials() {
    let node = Node::start(&["--socketio", "--allow-origin", "*"]).await;
    let asked = [("Access-Control-Request-Method", "POST"), ("Access-Control-Request-Headers", "x-own")];
    for method in ["OPTIONS", "GET", "PUT"] {
        let request = Request::new(method, P4).header("Origin", "https://other.example");
        let request = asked.iter().fold(request, |request, (name, value)| request.header(name, value));
        let answer = request.send(node.http).await;
        assert_eq!(answer.header("access-control-allow-origin"), Some("https://other.example"), "{method}");
        assert_eq!(answer.header("access-control-allow-credentials"), Some("true"), "{method}");
    }
}

#[tokio::test]
async fn a_second_trial_of_a_websocket_does_not_disturb_the_first() {
    let node = Node::start(&["--socketio", "--socketio-ping-interval", "5"]).await;
    let mut poller = Poller::connected(node.http).await;
    let target = format!("{}&sid={}", P4.replace("polling", "websocket"), poller.sid);
    let (mut first, mut second) = (RawWebSocket::open(&node, &target).await, RawWebSocket::open(&node, &target).await);
    first.text("2probe").await;
    assert_eq!(text(&first.frame().await.expect("a packet")), "3probe");
    second.text("2probe").await;
    while second.frame().await.is_some_and(|frame| frame.opcode() != 8) {}
    let began = Instant::now();
    assert_eq!(poller.get().await, "6");
    assert!(began.elapsed() < Duration::from_secs(2), "the trial goes on: {:?}", began.elapsed());
    first.text("5").await;
    let mut client = Client { socket: first, open: Value::Null };
    node.publish_with("channel=%2F&event=n", "1").await;
    client.expect(&["42[\"n\",1]"]).await;
}

#[tokio::test]
async fn a_trial_of_a_websocket_ends_when_the_server_shuts_down() {
    let node = Node::start(&["--socketio", "--drain-seconds", "60"]).await;
    let poller = Poller::connected(node.http).await;
    let target = format!("{}&sid={}", P4.replace("polling", "websocket"), poller.sid);
    let mut socket = RawWebSocket::open(&node, &target).await;
    socket.text("2probe").await;
    assert_eq!(text(&socket.frame().await.expect("a packet")), "3probe");
    node.signal("TERM");
    within(SOON, "the end", async { while socket.frame().await.is_some_and(|frame| frame.opcode() != 8) {} }).await;
}

#[tokio::test]
async fn a_silent_client_has_had_a_ping_timeout_and_its_tokens_stay_secret() {
    let (node, application) = with_application(&["--away-seconds", "1", "--socketio-ping-interval", "0.5"]).await;
    let (mut poller, _) = Poller::open(node.http, P3).await;
    poller.post("36:40/custom?token=secret&session=s&a=1").await;
    let calls = application.wait("connect", 2).await;
    let asked: Vec<_> = calls.iter().filter(|call| call["endpoint"] == "/custom").collect();
    assert_eq!(asked[0]["query"], json!({ "a": "1" }));
    let ended = application.wait("disconnect", 2).await;
    assert!(ended.iter().all(|call| call["reason"] == "ping timeout"), "{ended:?}");
}

/// Three nodes on one Redis, and a proxy that gives each request to another one.
pub async fn three_nodes(flags: &[&str]) -> (RedisServer, Vec<Node>, Haproxy) {
    let redis = RedisServer::start().await;
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(world::start_on(&redis, flags).await);
    }
    for node in &nodes {
        crate::sessions::settled(node).await;
    }
    let proxy = Haproxy::start(&nodes).await;
    (redis, nodes, proxy)
}

#[tokio::test]
async fn the_requests_of_a_connection_may_reach_any_node() {
    let application = application().await;
    let flags = ["--socketio", "--socketio-join", "todo", "--hook-url", &application.url];
    let (_redis, nodes, proxy) = three_nodes(&flags).await;
    let mut poller = Poller::connected(proxy.http).await;
    assert_eq!(poller.packets(1).await, ["42[\"auth\",{}]"]);
    for n in 0..10 {
        poller.post(&format!("42{n}[\"message-with-ack\",{n}]")).await;
        assert_eq!(poller.packets(1).await, [format!("43{n}[{n}]")]);
        nodes[n % 3].publish_with("channel=todo&event=n", &n.to_string()).await;
        assert_eq!(poller.packets(1).await, [format!("42[\"n\",{n}]")]);
    }
    for node in &nodes {
        eventually("every node to count the client", async || {
            let counts = node.get("/channels/todo").await.json();
            (counts["readers"]["by_transport"]["socketio-polling"] == 1).then_some(())
        })
        .await;
    }
    poller.address = nodes[0].http;
    let mut client = change(&mut poller, nodes[1].http, P4).await;
    nodes[2].publish_with("channel=todo&event=n", "10").await;
    client.expect(&["42[\"n\",10]"]).await;
}
