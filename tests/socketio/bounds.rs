//! What one client can make the server spend.

use super::polling::{P4, Poller};
use super::*;
use crate::support::{SOON, within};

#[tokio::test]
async fn a_binary_part_has_one_place() {
    let (node, _application) = with_application(&[]).await;
    let (mut client, _) = Client::connected(&node).await;
    client.expect(&["42[\"auth\",{}]"]).await;
    let place = "{\"_placeholder\":true,\"num\":0}";
    client.send(&format!("451-1[\"message-with-ack\",{place}]")).await;
    client.binary(b"a").await;
    client.expect(&["461-1[{\"_placeholder\":true,\"num\":0}]", "[97]"]).await;
    // Joined, this event would have 1.2 GB.
    client.send(&format!("451-[\"message\"{}]", format!(",{place}").repeat(3000))).await;
    client.binary(&vec![0; 300_000]).await;
    client.closed().await;
    let (mut client, _) = Client::connected(&node).await;
    client.expect(&["42[\"auth\",{}]"]).await;
    // A part that is too long for an event is refused, and the client goes on.
    client.send(&format!("451-1[\"message\",{place}]")).await;
    client.binary(&vec![0; 300_000]).await;
    let answer = client.next().await;
    assert!(answer.starts_with("431[{\"error\":{\"code\":\"too_large\""), "{answer}");
    client.send("422[\"message-with-ack\",2]").await;
    client.expect(&["432[2]"]).await;
}

#[tokio::test]
async fn rules_keep_to_the_rate_of_events() {
    let node = Node::start(&["--socketio", "--socketio-on", "pub=publish", "--event-rate", "1"]).await;
    let (mut client, _) = Client::connected(&node).await;
    let mut poller = Poller::connected(node.http).await;
    for n in 0..10 {
        client.send(&format!("42{n}[\"pub\",{n}]")).await;
    }
    let refused = |packet: &String| packet.contains("\"code\":\"rate_limited\"");
    let mut packets = Vec::new();
    while !packets.iter().any(refused) {
        packets.push(client.next().await);
    }
    let body: Vec<_> = (0..10).map(|n| format!("42{n}[\"pub\",{n}]")).collect();
    poller.post(&body.join("\u{1e}")).await;
    let mut packets = Vec::new();
    while !packets.iter().any(refused) {
        packets.extend(poller.packets(1).await);
    }
}

#[tokio::test]
async fn rules_keep_to_the_number_of_channels() {
    let node = Node::start(&["--socketio", "--socketio-on", "join=join", "--max-channels", "3"]).await;
    let (mut client, _) = Client::connected(&node).await;
    let mut poller = Poller::connected(node.http).await;
    // The namespace is the first channel. A room that is joined again is not another one.
    let rooms = ["a", "b", "a", "c"];
    for (n, room) in rooms.iter().enumerate() {
        client.send(&format!("42{n}[\"join\",\"{room}\"]")).await;
    }
    client.expect(&["430[]", "431[]", "432[]"]).await;
    assert!(client.next().await.starts_with("433[{\"error\":{\"code\":\"too_many_channels\""));
    let body: Vec<_> = rooms.iter().enumerate().map(|(n, room)| format!("42{n}[\"join\",\"{room}\"]")).collect();
    poller.post(&body.join("\u{1e}")).await;
    let packets = poller.packets(4).await;
    assert_eq!(packets[..3], ["430[]", "431[]", "432[]"]);
    assert!(packets[3].starts_with("433[{\"error\":{\"code\":\"too_many_channels\""), "{packets:?}");
}

#[tokio::test]
async fn a_client_that_polls_has_to_connect_a_namespace_in_time() {
    let node = Node::start(&["--socketio", "--socketio-connect-timeout", "1"]).await;
    let mut used = Poller::connected(node.http).await;
    let (mut unused, _) = Poller::open(node.http, P4).await;
    assert_eq!(within(SOON, "the end", unused.get()).await, "1");
    let target = unused.stamped();
    assert_eq!(unused.status(Request::get(&target)).await, 400);
    node.publish_with("channel=%2F&event=n", "1").await;
    assert_eq!(used.packets(1).await, ["42[\"n\",1]"]);
    let counted = "longtail_delivered_messages_total{transport=\"socketio-polling\"}";
    assert_eq!(node.metric(counted).await, 1.0);
}
