//! Commands over WebSocket and raw TCP: one table of cases for both.

use crate::support;

use serde_json::{Value, json};
use std::time::Duration;
use support::websocket::frame;
use support::{LineClient, Log, Node, RawWebSocket, Reader, Subscription, World, within};

on_both_logs! {
    subscribing_in_steps
    publishing
    acknowledgements_come_in_order
}

/// A connection that takes commands, of either kind.
enum Duplex {
    Ws(RawWebSocket),
    Tcp(LineClient),
}

const KINDS: [&str; 2] = ["ws", "tcp"];

impl Duplex {
    async fn connect(node: &Node, kind: &str) -> Duplex {
        match kind {
            "ws" => Duplex::Ws(RawWebSocket::open(node, "/ws").await),
            _ => Duplex::Tcp(LineClient::connect(node.tcp).await),
        }
    }

    /// A connection that has subscribed, with its `hello` and `ack` read.
    async fn subscribed(node: &Node, kind: &str, channels: &[&str]) -> Duplex {
        let mut duplex = Duplex::connect(node, kind).await;
        duplex.send(&json!({"type": "subscribe", "channels": channels})).await;
        assert_eq!(duplex.next().await["type"], "hello");
        assert_eq!(duplex.next().await["type"], "ack");
        duplex
    }

    async fn send(&mut self, command: &Value) {
        self.text(&command.to_string()).await;
    }

    async fn text(&mut self, command: &str) {
        match self {
            Duplex::Ws(socket) => socket.text(command).await,
            Duplex::Tcp(client) => client.send(command).await,
        }
    }

    async fn next_text(&mut self) -> Option<String> {
        match self {
            Duplex::Ws(socket) => {
                let frame = socket.frame().await?;
                (frame.opcode() == 1).then(|| String::from_utf8(frame.payload).expect("UTF-8"))
            }
            Duplex::Tcp(client) => client.line().await,
        }
    }

    async fn next(&mut self) -> Value {
        let text = self.next_text().await.expect("an object, not the end");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    async fn ask(&mut self, command: &Value) -> Value {
        self.send(command).await;
        self.next().await
    }

    /// Checks that the connection works, with a ping.
    async fn pings(&mut self) {
        let pong = self.ask(&json!({"type": "ping", "ref": "alive"})).await;
        assert_eq!(pong, json!({"type": "pong", "ref": "alive"}));
    }
}

async fn subscribing_in_steps(log: Log) {
    let World { node, redis: _redis } = World::start(log, &[]).await;
    for kind in KINDS {
        let (a, b) = (format!("{kind}-a"), format!("{kind}-b"));
        let old = node.publish_numbers(&a, 3).await;
        node.publish(&b, "0").await;
        let mut duplex = Duplex::connect(&node, kind).await;
        let client = uuid::Uuid::new_v4().to_string();
        let subscribe = json!({"type": "subscribe", "channels": [&a], "cursor": old[0].id,
            "client": client, "ref": 1});
        duplex.send(&subscribe).await;
        let hello = duplex.next().await;
        assert_eq!((&hello["type"], &hello["transport"]), (&json!("hello"), &json!(kind)));
        if kind == "tcp" {
            assert_eq!(hello["cursor"], old[0].id.as_str());
            assert_eq!(hello["client"], client.as_str());
        }
        let ack = duplex.next().await;
        assert_eq!(ack, json!({"type": "ack", "ref": 1, "cursor": old[0].id}));
        for want in &old[1..] {
            assert_eq!(duplex.next().await["id"], want.id.as_str(), "{kind}");
        }

        // A cursor counts in the first subscribe only.
        for field in ["cursor", "last"] {
            let value = if field == "last" { json!(1) } else { json!("earliest") };
            let late = json!({"type": "subscribe", "channels": [&b], field: value, "ref": 2});
            let error = duplex.ask(&late).await;
            assert_eq!((&error["type"], &error["ref"]), (&json!("error"), &json!(2)), "{kind}");
            assert_eq!(error["code"], "cursor_fixed", "{kind}: {error}");
            assert!(error["message"].is_string(), "{kind}: {error}");
        }

        // A channel that is added joins at the connection's present position.
        let ack = duplex.ask(&json!({"type": "subscribe", "channels": [&b], "ref": "three"})).await;
        assert_eq!((&ack["type"], &ack["ref"]), (&json!("ack"), &json!("three")), "{kind}");
        let joined = ack["cursor"].as_str().expect("a cursor").to_owned();
        let new = node.publish_numbers(&b, 2).await;
        for want in &new {
            assert_eq!(duplex.next().await["id"], want.id.as_str(), "{kind}");
        }
        let transport = node.transport("poll").await;
        let from_there = Subscription::to(&[&b]).from(&joined);
        Reader::open(&node, &transport, from_there).await.expect(&new).await;

        // A channel that the client left is silent; leaving a channel that was never joined is not an error.
        for channels in [json!([&b]), json!([&b]), json!(["never"])] {
            let leave = json!({"type": "unsubscribe", "channels": channels, "ref": 4});
            let ack = duplex.ask(&leave).await;
            assert_eq!((&ack["type"], &ack["ref"]), (&json!("ack"), &json!(4)), "{kind}: {ack}");
        }
        node.publish(&b, "0").await;
        let id = node.publish(&a, "0").await;
        assert_eq!(duplex.next().await["id"], id.as_str(), "{kind}");
        duplex.pings().await;
    }
}

#[tokio::test]
async fn a_websocket_says_hello_before_any_command() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    let published = node.publish_numbers("todo", 3).await;
    let mut duplex = Duplex::connect(&node, "ws").await;
    assert_eq!(duplex.next().await["type"], "hello");
    duplex.pings().await;
    let subscribe = json!({"type": "subscribe", "channels": ["todo"], "last": 2, "ref": 1});
    assert_eq!(duplex.ask(&subscribe).await["type"], "ack");
    for want in &published[1..] {
        assert_eq!(duplex.next().await["id"], want.id.as_str());
    }

    // If the URL named the channels, its cursor counts.
    let target = format!("/ws?channel=todo&cursor={}", published[1].id);
    let mut duplex = Duplex::Ws(RawWebSocket::open(&node, &target).await);
    assert_eq!(duplex.next().await["cursor"], published[1].id.as_str());
    assert_eq!(duplex.next().await["id"], published[2].id.as_str());
    let late = json!({"type": "subscribe", "channels": ["b"], "cursor": "earliest", "ref": 1});
    assert_eq!(duplex.ask(&late).await["code"], "cursor_fixed");
}

/// The newest messages are those of the channels, so `last` in a URL without channels waits for the first channels.
#[tokio::test]
async fn last_in_a_url_without_channels() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    let old = node.publish_numbers("a", 9).await;
    let other = node.publish_numbers("b", 1).await;
    let cases = [
        ("/ws?last=3", json!({}), 6),
        ("/ws?last=3&cursor=latest", json!({}), 6),
        ("/ws?last=3", json!({"last": 1}), 8),
        ("/ws?last=3", json!({"cursor": old[3].id}), 4),
        ("/ws?last=3", json!({"cursor": "earliest"}), 0),
        ("/ws?last=0", json!({}), 9),
    ];
    for (target, mut subscribe, first) in cases {
        let mut ws = RawWebSocket::open(&node, target).await;
        assert_eq!(ws.next_of("hello").await["cursor"], other[0].id.as_str(), "{target}");
        let fields = subscribe.as_object_mut().expect("an object");
        fields.extend([("type".to_owned(), json!("subscribe")), ("channels".to_owned(), json!(["a"]))]);
        ws.text(&subscribe.to_string()).await;
        ws.next_of("ack").await;
        for want in &old[first..] {
            assert_eq!(ws.frame().await.expect("a message").json()["id"], want.id.as_str(), "{target} {subscribe}");
        }
        ws.text(r#"{"type":"ping"}"#).await;
        assert_eq!(ws.frame().await.expect("a pong").json()["type"], "pong", "{target} {subscribe}");
    }
    // A position that was given stays valid.
    let mut ws = RawWebSocket::open(&node, &format!("/ws?cursor={}", old[7].id)).await;
    ws.text(r#"{"type":"subscribe","channels":["a"],"last":1}"#).await;
    assert_eq!(ws.next_of("error").await["code"], "cursor_fixed");
    ws.text(r#"{"type":"subscribe","channels":["a"]}"#).await;
    ws.next_of("ack").await;
    assert_eq!(ws.frame().await.expect("a message").json()["id"], old[8].id.as_str());
}

/// A name that is given twice counts as one channel.
#[tokio::test]
async fn channels_are_counted_once() {
    let World { node, .. } = World::start(Log::Memory, &["--max-channels", "2"]).await;
    for kind in KINDS {
        let mut duplex = Duplex::connect(&node, kind).await;
        assert_eq!(duplex.ask(&json!({"type": "subscribe", "channels": ["a"]})).await["type"], "hello");
        assert_eq!(duplex.next().await["type"], "ack");
        let ack = duplex.ask(&json!({"type": "subscribe", "channels": ["b", "b", "a"]})).await;
        assert_eq!(ack["type"], "ack", "{ack}");
        let error = duplex.ask(&json!({"type": "subscribe", "channels": ["c", "c"]})).await;
        assert_eq!(error["code"], "too_many_channels", "{error}");
    }
}

async fn publishing(log: Log) {
    let World { node, redis: _redis } = World::start(log, &[]).await;
    for kind in KINDS {
        let channel = format!("pub-{kind}");
        let transport = node.transport(kind).await;
        let mut witness = Reader::open(&node, &transport, Subscription::to(&[&channel])).await;
        let mut duplex = Duplex::connect(&node, kind).await;
        duplex.send(&json!({"type": "subscribe", "channels": ["elsewhere"]})).await;
        duplex.next().await;
        duplex.next().await;

        // Payloads stay as they were written.
        for data in ["1e400", "{\"z\":1, \"a\":[ 12345678901234567890 ]}", "\"\u{2028}\"", "null"] {
            let command = format!(r#"{{"type":"publish","channel":"{channel}","data":{data},"event":"e","ref":7}}"#);
            duplex.text(&command).await;
            let ack = duplex.next().await;
            assert_eq!((&ack["type"], &ack["ref"]), (&json!("ack"), &json!(7)), "{kind}: {ack}");
            let got = witness.next_message().await;
            assert_eq!(got.id().as_deref(), ack["id"].as_str(), "{kind}");
            assert_eq!((got.data(), got.str("event").as_deref()), (data, Some("e")), "{kind}");
        }
        // The same key gives the same id and appends nothing.
        let keyed = json!({"type": "publish", "channel": channel, "data": 1, "key": "k", "ref": 1});
        let first = duplex.ask(&keyed).await;
        assert_eq!(duplex.ask(&keyed).await["id"], first["id"], "{kind}");
        // A volatile message is acknowledged without an id.
        let volatile = json!({"type": "publish", "channel": channel, "data": 2, "volatile": true});
        let ack = duplex.ask(&volatile).await;
        assert_eq!(ack["type"], "ack", "{kind}: {ack}");
        assert!(ack["id"].is_null(), "{kind}: {ack}");
        let mut got = [witness.next_message().await, witness.next_message().await];
        got.sort_by_key(|item| item.data().to_owned());
        assert_eq!(got[0].id().as_deref(), first["id"].as_str(), "{kind}");
        assert_eq!((got[1].data(), got[1].id()), ("2", None), "{kind}");

        // The client that added the item gets no echo.
        let client = uuid::Uuid::new_v4().to_string();
        let subscription = Subscription::to(&[&channel]).with("client", &client);
        let mut author = Reader::open(&node, &transport, subscription).await;
        let mine = json!({"type": "publish", "channel": channel, "data": "mine", "exclude": client});
        duplex.ask(&mine).await;
        node.publish(&channel, "\"all\"").await;
        assert_eq!(author.next_message().await.data(), "\"all\"", "{kind}");
        assert_eq!(witness.next_message().await.data(), "\"mine\"", "{kind}");
    }
}

/// Publishes of one connection keep their order, also when some of them need a format that a node writes only when it
/// knows the others: right after its start, those wait, and the plain ones do not.
#[tokio::test]
async fn publishes_keep_their_order_right_after_the_start() {
    for kind in KINDS {
        let World { node, redis: _redis } = World::start(Log::Redis, &[]).await;
        let mut duplex = Duplex::subscribed(&node, kind, &["elsewhere"]).await;
        for data in 0..12 {
            let mut publish = json!({"type": "publish", "channel": "a", "data": data, "ref": data});
            match data % 4 {
                1 => publish["except"] = json!(["nobody"]),
                3 => publish = json!({"type": "publish", "channels": ["a", "b"], "data": data, "ref": data}),
                _ => {}
            }
            duplex.send(&publish).await;
        }
        for data in 0..12 {
            let ack = within(Duration::from_secs(30), "an ack", duplex.next()).await;
            assert_eq!((&ack["type"], &ack["ref"]), (&json!("ack"), &json!(data)), "{kind}: {ack}");
        }
        let batch = node.get("/poll?channel=a&cursor=earliest").await.json();
        let messages = batch["messages"].as_array().expect("messages");
        let order: Vec<&Value> = messages.iter().map(|message| &message["data"]).collect();
        assert_eq!(json!(order), json!((0..12).collect::<Vec<_>>()), "{kind}");
    }
}

async fn acknowledgements_come_in_order(log: Log) {
    let World { node, redis: _redis } = World::start(log, &[]).await;
    for kind in KINDS {
        let channel = format!("many-{kind}");
        let mut duplex = Duplex::subscribed(&node, kind, &["elsewhere"]).await;
        // More publishes than may be unacknowledged at once: the server stops reading, and then continues.
        for n in 0..300 {
            let command = json!({"type": "publish", "channel": channel, "data": n, "ref": n});
            duplex.send(&command).await;
        }
        let mut ids = Vec::new();
        for n in 0..300 {
            let ack = duplex.next().await;
            assert_eq!((&ack["type"], &ack["ref"]), (&json!("ack"), &json!(n)), "{kind}: {ack}");
            ids.push(ack["id"].as_str().expect("an id").to_owned());
        }
        let transport = node.transport("poll").await;
        let subscription = Subscription::to(&[&channel]).from("earliest");
        let mut reader = Reader::open(&node, &transport, subscription).await;
        for (n, id) in ids.iter().enumerate() {
            let got = reader.next_message().await;
            assert_eq!((got.data(), got.id().as_ref()), (n.to_string().as_str(), Some(id)));
        }
    }
}

/// An unknown or malformed command gets an error with its `ref`, and the connection stays open.
#[tokio::test]
async fn bad_commands() {
    let World { node, .. } = World::start(Log::Memory, &["--max-message-bytes", "1000"]).await;
    let many: Vec<String> = (0..101).map(|n| format!("c{n}")).collect();
    let many = json!({"type": "subscribe", "channels": many, "ref": 9}).to_string();
    let cases: Vec<(&str, &[&str])> = vec![
        ("nonsense", &["bad_json"]),
        ("{", &["bad_json"]),
        ("{}{}", &["bad_json"]),
        ("[]", &["bad_json", "bad_request", "unknown_command"]),
        ("1", &["bad_json", "bad_request", "unknown_command"]),
        ("{}", &["bad_request", "unknown_command"]),
        (r#"{"type":"nonsense","ref":9}"#, &["unknown_command"]),
        (r#"{"type":"hello","ref":9}"#, &["unknown_command"]),
        (r#"{"type":"Ping","ref":9}"#, &["unknown_command"]),
        (r#"{"type":1,"ref":9}"#, &["bad_request", "unknown_command"]),
        (r#"{"type":"subscribe","ref":9}"#, &["bad_request", "bad_channel"]),
        (r#"{"type":"subscribe","channels":[],"ref":9}"#, &["bad_request", "bad_channel"]),
        (r#"{"type":"subscribe","channels":"a","ref":9}"#, &["bad_request", "bad_channel"]),
        (r#"{"type":"subscribe","channels":[1],"ref":9}"#, &["bad_request", "bad_channel"]),
        (r#"{"type":"subscribe","channels":["a b"],"ref":9}"#, &["bad_channel"]),
        (r#"{"type":"subscribe","channels":["a,b"],"ref":9}"#, &["bad_channel"]),
        (&many, &["too_many_channels"]),
        (r#"{"type":"unsubscribe","channels":["a b"],"ref":9}"#, &["bad_channel"]),
        (r#"{"type":"publish","data":1,"ref":9}"#, &["bad_request", "bad_channel"]),
        (r#"{"type":"publish","channel":"a","ref":9}"#, &["bad_request"]),
        (r#"{"type":"publish","channel":"a b","data":1,"ref":9}"#, &["bad_channel"]),
        (r#"{"type":"publish","channel":"a","data":1,"event":"bye","ref":9}"#, &["bad_event"]),
        (r#"{"type":"publish","channel":"a","data":1,"event":"a\nb","ref":9}"#, &["bad_event"]),
    ];
    for kind in KINDS {
        let mut duplex = Duplex::subscribed(&node, kind, &["todo"]).await;
        for (command, codes) in &cases {
            duplex.text(command).await;
            let error = duplex.next().await;
            assert_eq!(error["type"], "error", "{kind}: {command:.200} gave {error}");
            let code = error["code"].as_str().expect("a code");
            assert!(codes.contains(&code), "{kind}: {command:.200} gave {error}");
            let reference = if command.contains("\"ref\":9") { json!(9) } else { Value::Null };
            assert_eq!(error["ref"], reference, "{kind}: {command:.200}");
            duplex.pings().await;
        }
        let id = node.publish("todo", "1").await;
        assert_eq!(duplex.next().await["id"], id.as_str(), "{kind}");
    }
}

#[tokio::test]
async fn a_bare_ping() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    for kind in KINDS {
        let mut duplex = Duplex::subscribed(&node, kind, &["todo"]).await;
        assert_eq!(duplex.ask(&json!({"type": "ping"})).await, json!({"type": "pong"}));
        for reference in [json!(0), json!("x"), json!(12345678901u64)] {
            let pong = duplex.ask(&json!({"type": "ping", "ref": reference})).await;
            assert_eq!(pong, json!({"type": "pong", "ref": reference}), "{kind}");
        }
    }
}

/// The length of a line without an end is also bounded.
#[tokio::test]
async fn an_oversize_line_gets_an_error_and_the_end() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    for end in ["\"}\n", ""] {
        let mut duplex = Duplex::subscribed(&node, "tcp", &["todo"]).await;
        let Duplex::Tcp(client) = &mut duplex else { unreachable!() };
        let line = format!(r#"{{"type":"ping","ref":"{}{end}"#, "x".repeat(2 << 20));
        let error = {
            // The server may stop reading in the middle.
            client.try_send(line.as_bytes()).await;
            client.json().await
        };
        assert_eq!((&error["type"], &error["code"]), (&json!("error"), &json!("too_large")));
        while let Some(line) = client.line().await {
            assert!(line.contains("\"bye\""), "{line}");
        }
    }
}

/// A page of any origin can make a browser POST to the port; the server does not handle its lines as commands.
#[tokio::test]
async fn http_on_the_tcp_port_is_refused() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    let mut client = LineClient::connect(node.tcp).await;
    let body = "{\"type\":\"publish\",\"channel\":\"todo\",\"data\":1}\n";
    client.send_bytes(format!("POST / HTTP/1.1\r\nHost: localhost\r\n\r\n{body}").as_bytes()).await;
    assert_eq!(client.json().await["code"], "bad_request");
    assert_eq!(client.line().await, None, "and the end");
    assert_eq!(node.get("/poll?channel=todo&cursor=earliest").await.json()["messages"], json!([]));
}

/// `printf … | nc`: the server still serves a client that has shut its sending side.
#[tokio::test]
async fn a_half_closed_client_is_served_on() {
    let args = ["--heartbeat-seconds", "1"];
    let World { node, .. } = World::start(Log::Memory, &args).await;
    let old = node.publish("todo", "0").await;
    let mut client = LineClient::connect(node.tcp).await;
    client.send_bytes(b"{\"type\":\"subscribe\",\"channels\":[\"todo\"],\"cursor\":\"earliest\"}\r\n").await;
    client.half_close().await;
    assert_eq!(client.json().await["type"], "hello");
    assert_eq!(client.json().await["type"], "ack");
    assert_eq!(client.json().await["id"], old.as_str());
    for _ in 0..2 {
        assert_eq!(client.json().await["type"], "heartbeat");
    }
    let new = node.publish("todo", "1").await;
    loop {
        let object = client.json().await;
        if object["type"] != "heartbeat" {
            assert_eq!(object["id"], new.as_str());
            break;
        }
    }
}

#[tokio::test]
async fn tcp_lines() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    // Several commands in one write; one command in many writes.
    let mut client = LineClient::connect(node.tcp).await;
    let subscribe = b"{\"type\":\"subscribe\",\"channels\":[\"todo\"],\"ref\":1}\n";
    let both = [subscribe, &b"{\"type\":\"ping\",\"ref\":2}\n"[..]].concat();
    for byte in &both[..20] {
        client.send_bytes(&[*byte]).await;
    }
    client.send_bytes(&both[20..]).await;
    for (kind, reference) in [("hello", Value::Null), ("ack", json!(1)), ("pong", json!(2))] {
        let object = client.json().await;
        assert_eq!((&object["type"], &object["ref"]), (&json!(kind), &reference), "{object}");
    }
    // Bytes that are not UTF-8 are one bad line.
    client.send_bytes(b"{\"type\":\"ping\",\"ref\":\"\xff\"}\n").await;
    let error = client.json().await;
    assert!(matches!(error["code"].as_str(), Some("not_utf8" | "bad_json")), "{error}");
    client.send(r#"{"type":"ping"}"#).await;
    assert_eq!(client.json().await["type"], "pong");

    // The server has no policy file unless one is configured.
    let mut client = LineClient::connect(node.tcp).await;
    client.send_bytes(b"<policy-file-request/>\0\n").await;
    client.half_close().await;
    while let Some(line) = client.line().await {
        assert!(!line.contains("cross-domain"), "{line}");
    }
}

/// A client that leaves in the middle of a command does not disturb the others.
#[tokio::test]
async fn others_are_unaffected() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    for kind in KINDS {
        let channel = format!("calm-{kind}");
        let mut calm = Duplex::subscribed(&node, kind, &[&channel]).await;
        for _ in 0..20 {
            let mut rude = Duplex::subscribed(&node, kind, &[&channel]).await;
            match &mut rude {
                Duplex::Ws(socket) => socket.send(&frame(0x81, b"{\"type\":")[..9]).await,
                Duplex::Tcp(client) => client.send_bytes(b"{\"type\":").await,
            }
            drop(rude);
            let id = node.publish(&channel, "1").await;
            assert_eq!(calm.next().await["id"], id.as_str(), "{kind}");
        }
    }
}

/// A client publishes volatile messages and reads no answer. All clients share the connection on which these go to
/// Redis. Only the next command of this client waits for its message.
#[tokio::test]
async fn a_client_that_takes_nothing_holds_up_nobody() {
    let world = World::start(Log::Redis, &[]).await;
    let node = &world.node;
    for kind in KINDS {
        let mut client = Duplex::connect(node, kind).await;
        let word = format!(r#"{{"type":"ping","ref":"{}"}}"#, "x".repeat(250));
        let mut turn = vec![r#"{"type":"publish","channel":"c","data":1,"volatile":true}"#];
        turn.extend(std::iter::repeat_n(&*word, 20));
        // Writes until the node takes no more: the kernel keeps some megabytes, and the node keeps some.
        let mut commands = turn.iter().cycle().take(100_000);
        let mut stuck =
            async |command: &str| tokio::time::timeout(Duration::from_secs(2), client.text(command)).await.is_err();
        let is_stuck = loop {
            match commands.next() {
                Some(command) if stuck(command).await => break true,
                Some(_) => {}
                None => break false,
            }
        };
        assert!(is_stuck, "{kind}: all of it was taken");
        let others = node.try_publish("channel=other&volatile=1", "1");
        let answer = within(Duration::from_secs(15), "another's answer", others).await;
        assert_eq!(answer.status, 200, "{kind}: {}", answer.text());
    }
}
