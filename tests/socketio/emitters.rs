//! What emitters `PUBLISH`, with the bytes that published ones have sent (tests/socketio/published), on three nodes.

use super::*;
use crate::support::world::start_on;
use crate::support::{RedisServer, decode};

/// The publications of a file: their channels and payloads.
fn recorded(file: &str) -> Vec<(String, Vec<u8>)> {
    let lines = file.lines().filter(|line| !line.starts_with("# "));
    lines
        .filter_map(|line| line.split_once("  ").map(|(channel, text)| (channel.to_owned(), unescaped(text))))
        .collect()
}

/// The bytes of a text with escapes `\xHH`, and `\\` before `x` for a backslash of JSON.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut parts = text.split("\\x");
    bytes.extend_from_slice(parts.next().unwrap_or_default().as_bytes());
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).expect("an escape"));
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    bytes
}

/// Three nodes on a Redis with one client each, and what they have published.
struct Stage {
    redis: RedisServer,
    nodes: Vec<Node>,
    /// In the rooms `room1` of `/`, and `room1` and `room2` of `/ns`.
    a: Client,
    /// In the rooms `room1` and `room3` of `/`.
    b: Client,
    /// In `/` and `/ns`, without rooms.
    c: Client,
    a_id: String,
    ends: usize,
}

impl Stage {
    async fn start() -> Stage {
        let redis = RedisServer::start().await;
        let flags =
            ["--socketio", "--socketio-emitters", "--socketio-on", "join=join", "--socketio-on", "/ns:join=join"];
        let mut nodes = Vec::new();
        for _ in 0..3 {
            nodes.push(start_on(&redis, &flags).await);
        }
        redis.listened(3).await;
        for node in &nodes {
            crate::sessions::settled(node).await;
        }
        let (mut a, a_id) = Client::connected(&nodes[0]).await;
        let (mut b, _) = Client::connected(&nodes[1]).await;
        let (mut c, _) = Client::connected(&nodes[2]).await;
        for client in [&mut a, &mut c] {
            client.send("40/ns,").await;
            assert!(client.next().await.starts_with("40/ns,{"));
        }
        for (client, rooms) in [
            (&mut a, &[("", "room1"), ("/ns,", "room1"), ("/ns,", "room2")][..]),
            (&mut b, &[("", "room1"), ("", "room3")]),
        ] {
            for (namespace, room) in rooms {
                client.send(&format!("42{namespace}1[\"join\",\"{room}\"]")).await;
                client.expect(&[&format!("43{namespace}1[]")]).await;
            }
        }
        Stage { redis, nodes, a, b, c, a_id, ends: 0 }
    }

    async fn publish(&self, channel: &str, payload: &[u8]) {
        let mut connection = self.redis.connect().await.expect("Redis");
        let heard: usize =
            redis::cmd("PUBLISH").arg(channel).arg(payload).query_async(&mut connection).await.expect("heard");
        assert_eq!(heard, 3, "all nodes listen to {channel}");
    }

    async fn publish_all(&self, publications: &[(String, Vec<u8>)]) {
        for (channel, payload) in publications {
            self.publish(channel, payload).await;
        }
    }

    /// Each client gets these packets, in their order, and no others: those of `/`, and after them those of `/ns`. The
    /// order between two namespaces is not promised.
    async fn each_gets(&mut self, a: &[&str], b: &[&str], c: &[&str]) {
        self.ends += 1;
        let end = self.ends;
        for namespace in ["/", "/ns"] {
            let event = json!({ "method": "emit", "event": "end", "data": [end], "namespace": namespace });
            self.publish("socketio", event.to_string().as_bytes()).await;
        }
        let ends = [format!("42[\"end\",{end}]"), format!("42/ns,[\"end\",{end}]")];
        for (client, ends, packets) in
            [(&mut self.a, &ends[..], a), (&mut self.b, &ends[..1], b), (&mut self.c, &ends[..], c)]
        {
            let (mut came, mut of_ns, mut is_of_ns, mut ended) = (Vec::new(), Vec::new(), false, 0);
            while ended < ends.len() {
                let packet = client.next().await;
                // A binary part follows its packet.
                is_of_ns = if packet.starts_with('[') { is_of_ns } else { packet.contains("/ns,") };
                match ends.contains(&packet) {
                    true => ended += 1,
                    false if is_of_ns => of_ns.push(packet),
                    false => came.push(packet),
                }
            }
            came.append(&mut of_ns);
            assert_eq!(came, packets);
        }
    }
}

const PLACE: &str = "{\"_placeholder\":true,\"num\":0}";

#[tokio::test]
async fn what_published_emitters_have_sent_arrives_once() {
    let mut stage = Stage::start().await;
    let (node, python) = (recorded(include_str!("published/node.txt")), recorded(include_str!("published/python.txt")));
    let (hi, room) = ("42[\"ev\",\"hi\",{\"a\":1}]", "42[\"ev\",\"é\"]");
    let (bytes, newer) =
        (format!("451-/ns,[\"ev\",{PLACE}]"), "42[\"ev\",\"hi\",{\"a\":1},null,\"1970-01-01T00:00:00.000Z\"]");
    let of_ns = [&bytes[..], "[1, 2]"];

    // The emitters 1.0 and 2.0 publish once for each room, and 3.2 forgets the rooms of another namespace.
    stage.publish_all(&node[..11]).await;
    let (main, thrice) = ([hi, room, hi, room, hi, room], [of_ns, of_ns, of_ns].concat());
    stage.each_gets(&[&main[..], &thrice].concat(), &main, &[hi, hi, hi, of_ns[0], of_ns[1]]).await;
    // Version 5.1: all, and two rooms of the other namespace.
    stage.publish_all(&[node[11].clone(), node[13].clone()]).await;
    stage.each_gets(&[newer, of_ns[0], of_ns[1]], &[newer], &[newer]).await;
    // A volatile event does not wait for those before it, and leaves out the room3.
    stage.publish_all(&node[12..13]).await;
    stage.a.expect(&[room]).await;
    stage.publish_all(&python).await;
    let to_all = [&format!("451-[\"ev\",{PLACE}]")[..], "[1, 2]"];
    let (to_room, to_ns) = ("42[\"ev\",{\"a\": \"\\u00e9\"}]", "42/ns,[\"ev\",\"x\", 2]");
    let (a, b) = ([to_room, to_all[0], to_all[1], to_ns], [to_room, to_all[0], to_all[1]]);
    stage.each_gets(&a, &b, &[to_all[0], to_all[1], to_ns]).await;

    // Commands: those in room1 join r5, an event between servers, and the connections of room1 end.
    stage.publish_all(&[node[14].clone(), node[16].clone()]).await;
    stage.each_gets(&[], &[], &[]).await;
    stage.nodes[2].publish_with("channel=r5&event=joined", "1").await;
    stage.each_gets(&["42[\"joined\",1]"], &["42[\"joined\",1]"], &[]).await;
    stage.publish_all(&node[15..16]).await;
    stage.a.closed().await;
    stage.b.closed().await;
    let refused: f64 = stage.nodes[0].metric("longtail_bridge_refused_messages_total").await;
    assert_eq!(refused, 0.0, "{}", stage.nodes[0].log());
}

#[tokio::test]
async fn emitters_reach_single_sockets_and_nothing_that_is_reserved() {
    let mut stage = Stage::start().await;
    let mut old = Client::open(&stage.nodes[2], V3).await;
    old.expect(&["40"]).await;
    let (id, secret) = (stage.a_id.clone(), old.open["sid"].as_str().expect("an id").to_owned());
    let python = |fields: Value| fields.to_string().into_bytes();
    let emit = |event: &str, data: Value, room: Value, skip: Value| {
        python(
            json!({ "method": "emit", "event": event, "data": data, "namespace": "/", "room": room, "skip_sid": skip }),
        )
    };
    for payload in [
        emit("one", json!([1]), json!([id, "room1"]), Value::Null),
        emit("two", json!([2]), json!("room1"), json!(id)),
        emit("hello", json!(["é"]), json!(["room1", "room3", id]), Value::Null),
        emit("old", json!([]), json!(secret), Value::Null),
        python(json!({ "method": "enter_room", "sid": id, "room": "r7", "namespace": "/" })),
        emit("seven", json!([7]), json!("r7"), Value::Null),
        python(json!({ "method": "leave_room", "sid": id, "room": "r7", "namespace": "/" })),
        emit("seven", json!([8]), json!("r7"), Value::Null),
    ] {
        stage.publish("socketio", &payload).await;
    }
    let hello = "42[\"hello\",\"é\"]";
    stage
        .each_gets(&["42[\"one\",1]", hello, "42[\"seven\",7]"], &["42[\"one\",1]", "42[\"two\",2]", hello], &[])
        .await;
    old.expect(&["42[\"old\"]", "42[\"end\",1]"]).await;

    // A forged change of a session, by all ways to name its channel.
    let join = json!([{ "to": { "client": id }, "rooms": ["secret"] }]);
    let of_client = (0..256).map(|n| format!("~b/{n:02x}"));
    for room in of_client.chain(["~s/1".to_owned()]) {
        stage.publish("socketio", &emit("change", join.clone(), json!(room), Value::Null)).await;
    }
    let change = format!("{{\"event\":\"change\",\"data\":{}}}", join[0]);
    stage.redis.number(&["PUBLISH", "push:~b/2e", &change]).await;
    let mut in_namespace = python(json!({ "method": "emit", "event": "change", "data": join, "namespace": "~b/2e" }));
    stage.publish("socketio", &in_namespace).await;
    in_namespace = b"\x92\x83\xa4type\x02\xa4data\x91\xa6change\xa3nsp\xa5~b/2e\x80".to_vec();
    stage.publish("socket.io#emitter", &in_namespace).await;
    stage.nodes[1].publish_with("channel=secret&event=secret", "1").await;
    stage.each_gets(&[], &[], &[]).await;

    // Pickles and other payloads are counted and named in the log, without the name of the channel, which may be a secret.
    let before = stage.nodes[0].metric("longtail_bridge_refused_messages_total").await;
    let channel = format!("socket.io#/#{secret}#");
    stage.publish("socketio", b"\x80\x04\x95\x1a\x00").await;
    stage.publish(&channel, b"\xc1").await;
    stage.publish("socket.io-request#/#", b"{\"type\":1,\"requestId\":\"x\"}").await;
    stage.each_gets(&[], &[], &[]).await;
    for node in &stage.nodes {
        assert_eq!(node.metric("longtail_bridge_refused_messages_total").await - before, 2.0, "{}", node.log());
        node.logged("Python pickle").await;
        assert_eq!(node.log().matches("Python pickle").count(), 1, "{}", node.log());
        assert!(!node.log().contains(&secret));
    }
    // The id is that of this socket alone: its other namespace stays.
    stage.publish("socketio", &python(json!({ "method": "disconnect", "sid": id, "namespace": "/" }))).await;
    stage.a.expect(&["41"]).await;
    stage.publish("socketio", b"{\"method\":\"emit\",\"event\":\"stays\",\"namespace\":\"/ns\"}").await;
    stage.a.expect(&["42/ns,[\"stays\"]"]).await;
}

#[tokio::test]
async fn a_node_may_take_only_events() {
    let redis = RedisServer::start().await;
    let node = start_on(&redis, &["--socketio", "--socketio-emitters=events"]).await;
    redis.listened(1).await;
    crate::sessions::settled(&node).await;
    let (mut client, _) = Client::connected(&node).await;
    for (channel, payload) in [
        ("socket.io-request#/#", r#"{"type":4,"opts":{"rooms":[]},"close":true}"#),
        ("socketio", r#"{"method":"emit","event":"news","data":[1],"namespace":"/"}"#),
    ] {
        redis.command(&["PUBLISH", channel, payload]).await;
    }
    client.expect(&["42[\"news\",1]"]).await;
    assert_eq!(node.metric("longtail_bridge_refused_messages_total").await, 1.0);
    node.logged("--socketio-emitters=events").await;
    // Native readers get the same messages.
    let items = decode::batch(&node.get("/poll?channel=%2F&cursor=earliest").await.text());
    assert_eq!(items.iter().filter(|item| item.str("event").as_deref() == Some("news")).count(), 1, "{items:?}");
}
