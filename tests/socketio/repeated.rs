//! Polls whose requests are repeated, and namespaces that end and begin again in between.

use super::polling::{P4, Poller, change};
use super::*;
use crate::support::guarded::{guarded, may};
use crate::support::{RedisServer, SOON, within, world};

/// The target of the next request of a poller, and an answer to it that is asked for meanwhile.
fn post_at(node: &Node, target: &str, body: &str) -> tokio::task::JoinHandle<Response> {
    let (address, target, body) = (node.http, target.to_owned(), body.to_owned());
    tokio::spawn(async move { Request::post(&target, body.as_bytes()).send(address).await })
}

/// Two nodes with the application and these flags.
async fn two_nodes(flags: &[&str]) -> (RedisServer, Node, Node, Application) {
    let (redis, application) = (RedisServer::start().await, application().await);
    let own = ["--socketio", "--hook-url", &application.url, "--hook-notify", "connect,event,ack,disconnect"];
    let all = [&own, flags].concat();
    let (one, two) = (world::start_on(&redis, &all).await, world::start_on(&redis, &all).await);
    for node in [&one, &two] {
        crate::sessions::settled(node).await;
    }
    (redis, one, two, application)
}

#[tokio::test]
async fn a_post_that_is_repeated_meanwhile_is_carried_out_once() {
    let (_redis, one, two, application) = two_nodes(&["--socketio-on", "pub=publish"]).await;
    let (mut poller, _) = Poller::open(one.http, P4).await;
    let target = poller.stamped();
    let first = post_at(&one, &target, "40{\"slow\":1}");
    application.wait("connect", 1).await;
    let second = post_at(&two, &target, "40{\"slow\":1}");
    for answer in [first, second] {
        let answer = within(SOON, "the answer", answer).await.expect("no panic");
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    }
    let packets = poller.packets(2).await;
    assert!(packets[0].starts_with("40{\"sid\":\"") && packets[1] == "42[\"auth\",{\"slow\":1}]", "{packets:?}");
    one.publish_with("channel=%2F&event=end", "1").await;
    assert_eq!(poller.packets(1).await, ["42[\"end\",1]"]);
    assert_eq!(application.calls("connect").len(), 1);
}

#[tokio::test]
async fn a_post_goes_on_at_another_node_when_its_node_has_died() {
    let (redis, one, two, application) = two_nodes(&["--socketio-on", "pub=publish"]).await;
    let (mut poller, _) = Poller::open(two.http, P4).await;
    let (connect, publish) = (poller.stamped(), "421[\"pub\",\"once\"]\u{1e}422[\"slow\"]");
    let body = "40\u{1e}40/custom,{\"slow\":1}";
    drop(post_at(&one, &connect, body));
    let calls = application.wait("connect", 2).await;
    let send = poller.stamped();
    drop(one);
    // The node that has died holds the post for a moment.
    let answer = within(SOON, "the answer", post_at(&two, &connect, body)).await.expect("no panic");
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    let again = application.wait("connect", 3).await;
    let ids = |call: &Value| (call["id"].clone(), call["session"].clone(), call["client"].clone());
    assert_eq!((again.len(), ids(&again[2])), (3, ids(&calls[1])), "the same call");
    let packets = poller.packets(4).await;
    let count = |start: &str| packets.iter().filter(|packet| packet.starts_with(start)).count();
    assert_eq!((count("40{"), count("40/custom,{"), count("42[\"auth\"")), (1, 1, 1), "{packets:?}");
    two.publish_with("channel=%2F&event=hi", "1").await;
    assert_eq!(poller.packets(1).await, ["42[\"hi\",1]"], "once");

    // The same for events and rules.
    let flags = ["--socketio", "--socketio-on", "pub=publish", "--hook-url", &application.url];
    let three = world::start_on(&redis, &flags).await;
    crate::sessions::settled(&three).await;
    drop(post_at(&three, &send, publish));
    let calls = application.wait("event", 1).await;
    drop(three);
    let answer = within(SOON, "the answer", post_at(&two, &send, publish)).await.expect("no panic");
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    let again = application.wait("event", 2).await;
    assert_eq!((again.len(), &again[1]["id"]), (2, &calls[0]["id"]));
    two.publish_with("channel=%2F&event=end", "1").await;
    let mut packets = Vec::new();
    while packets.last().is_none_or(|packet| packet != "42[\"end\",1]") {
        packets.extend(poller.packets(1).await);
    }
    assert_eq!(packets.iter().filter(|packet| **packet == "42[\"pub\",\"once\"]").count(), 1, "{packets:?}");
}

#[tokio::test]
async fn a_namespace_that_the_client_has_left_can_be_connected_at_once() {
    let (_redis, one, two, _application) = two_nodes(&[]).await;
    let mut poller = Poller::connected(one.http).await;
    poller.post("40/custom,").await;
    let mut packets = Vec::new();
    while packets.last().is_none_or(|packet| packet != "42/custom,[\"auth\",{}]") {
        packets.extend(poller.packets(1).await);
    }
    for n in 0..10 {
        poller.address = if n % 2 == 0 { two.http } else { one.http };
        poller.post("41/custom,").await;
        poller.post("40/custom,").await;
        one.publish_with("channel=%2F&event=n", "1").await;
        let mut packets = Vec::new();
        while !packets.iter().any(|packet: &String| packet == "42/custom,[\"auth\",{}]") {
            packets.extend(poller.packets(1).await);
        }
        assert!(!packets.iter().any(|packet| packet == "41/custom,"), "{packets:?}");
        assert_eq!(packets.iter().filter(|packet| packet.starts_with("40/custom,{")).count(), 1, "{packets:?}");
        while !packets.iter().any(|packet| packet == "42[\"n\",1]") {
            packets.extend(poller.packets(1).await);
        }
    }
    // The same over a change to a WebSocket.
    poller.post("41/custom,").await;
    poller.address = one.http;
    let mut client = change(&mut poller, two.http, P4).await;
    one.publish_with("channel=%2F&event=n", "2").await;
    client.expect(&["42[\"n\",2]"]).await;
}

#[tokio::test]
async fn a_namespace_that_the_application_has_ended_can_be_connected_again() {
    let (node, application) = with_application(&[]).await;
    for target in [P4, "/socket.io/?EIO=3&transport=polling"] {
        let (mut poller, _) = Poller::open(node.http, target).await;
        let is_old = target != P4;
        let body = |packet: &str| if is_old { format!("{}:{packet}", packet.len()) } else { packet.to_owned() };
        let wait = async |poller: &mut Poller, part: &str| {
            let mut came = String::new();
            while !came.contains(part) {
                came += &poller.get().await;
            }
        };
        if !is_old {
            poller.post("40").await;
        }
        wait(&mut poller, "42[\"auth\"").await;
        poller.post(&body("40/custom,")).await;
        wait(&mut poller, "42/custom,[\"auth\"").await;
        poller.post(&body("42/custom,[\"kick\"]")).await;
        wait(&mut poller, "41/custom").await;
        poller.post(&body("40/custom,")).await;
        wait(&mut poller, "42/custom,[\"auth\"").await;
        poller.post(&body("42[\"message\",1]")).await;
        wait(&mut poller, "42[\"message-back\",1]").await;
    }
    assert_eq!(application.calls("connect").len(), 6);
}

#[tokio::test]
async fn large_answers_come_whole() {
    let (_redis, one, two, _application) = two_nodes(&[]).await;
    let mut poller = Poller::connected(one.http).await;
    assert_eq!(poller.packets(1).await, ["42[\"auth\",{}]"]);
    poller.address = two.http;
    poller.post("421[\"text\",500000]").await;
    let answer = poller.packets(1).await.remove(0);
    assert!(answer.starts_with("431[\"é") && answer.ends_with("é\"]"));
    assert_eq!(answer.chars().count(), 500_000 + 7);
    poller.post("422[\"bytes\",750000]").await;
    let mut packets = poller.packets(1).await;
    while packets.len() < 2 {
        packets.extend(poller.packets(1).await);
    }
    assert_eq!(packets[0], "461-2[{\"_placeholder\":true,\"num\":0}]");
    assert_eq!((&packets[1][..1], packets[1].len()), ("b", 1_000_001));
}

#[tokio::test]
async fn the_token_of_a_namespace_counts_in_polls_and_after_a_change() {
    let node = guarded(&["--socketio", "--socketio-on", "join=join", "--socketio-on", "pub=publish"]).await;
    let token = may(&["/", "room:*"], &["/"]);
    let (mut poller, _) = Poller::open(node.http, P4).await;
    poller.post(&format!("40{{\"token\":\"{token}\"}}")).await;
    assert!(poller.packets(1).await[0].starts_with("40{\"sid\":\""));
    poller.post("421[\"join\",\"room:1\"]").await;
    assert_eq!(poller.packets(1).await, ["431[]"]);
    poller.post("422[\"join\",\"other\"]").await;
    assert!(poller.packets(1).await[0].starts_with("432[{\"error\""));
    let mut client = change(&mut poller, node.http, P4).await;
    client.send("423[\"join\",\"room:2\"]").await;
    client.expect(&["433[]"]).await;
    client.send("424[\"pub\",1]").await;
    let mut packets = vec![client.next().await, client.next().await];
    packets.sort_unstable();
    assert_eq!(packets, ["42[\"pub\",1]", "434[]"]);
}

#[tokio::test]
async fn parts_of_packets_that_wait_have_a_bound() {
    let (node, _application) = with_application(&[]).await;
    let text =
        |n: u8| format!("452-{n}[\"bytes\",{{\"_placeholder\":true,\"num\":0}},{{\"_placeholder\":true,\"num\":1}}]");
    // A client without a namespace cannot leave anything.
    let (mut poller, _) = Poller::open(node.http, P4).await;
    let target = poller.stamped();
    assert_eq!(poller.status(Request::post(&target, text(1).as_bytes())).await, 400);
    // What is too long for an event is refused when it is whole, and the client goes on.
    let mut poller = Poller::connected(node.http).await;
    assert_eq!(poller.packets(1).await, ["42[\"auth\",{}]"]);
    poller.post(&format!("{}\u{1e}b{}", text(1), "AAAA".repeat(180_000))).await;
    poller.post("bAAAA").await;
    let answer = poller.packets(1).await;
    assert!(answer[0].starts_with("431[{\"error\":{\"code\":\"too_large\""), "{answer:?}");
    poller.post(&format!("{}\u{1e}bAAAA", text(2))).await;
    poller.post("bAAAA\u{1e}423[\"message-with-ack\",3]").await;
    let mut answers = Vec::new();
    while !answers.iter().any(|answer| answer == "433[3]") {
        answers.extend(poller.packets(1).await);
    }
    assert!(answers.iter().any(|answer| answer.starts_with("461-2[")), "{answers:?}");
}

#[tokio::test]
async fn the_application_can_end_all_namespaces_and_the_transport() {
    let (node, application) = with_application(&[]).await;
    let (mut client, _) = Client::connected(&node).await;
    client.expect(&["42[\"auth\",{}]"]).await;
    client.send("40/custom,").await;
    assert!(client.next().await.starts_with("40/custom,{"));
    client.expect(&["42/custom,[\"auth\",{}]"]).await;
    client.send("42[\"close\"]").await;
    client.expect(&["41", "41/custom,"]).await;
    client.closed().await;
    // The first round has a GET that waits, and the second round has none.
    for is_parked in [true, false] {
        let mut poller = Poller::connected(node.http).await;
        assert_eq!(poller.packets(1).await, ["42[\"auth\",{}]"]);
        poller.post("40/custom,").await;
        assert_eq!(poller.packets(2).await[1], "42/custom,[\"auth\",{}]");
        let target = poller.stamped();
        let parked = is_parked.then(|| {
            let (address, target) = (node.http, target.clone());
            tokio::spawn(async move { Request::get(&target).send(address).await.text() })
        });
        poller.post("42[\"close\"]").await;
        let answer = match parked {
            Some(parked) => within(SOON, "the answer", parked).await.expect("no panic"),
            None => Request::get(&target).send(node.http).await.text(),
        };
        let mut packets: Vec<_> = answer.split('\u{1e}').collect();
        packets.sort_unstable();
        assert_eq!(packets, ["1", "41", "41/custom,"], "{is_parked}");
        let target = poller.stamped();
        assert_eq!(poller.status(Request::get(&target)).await, 400);
    }
    let ended = application.wait("disconnect", 6).await;
    assert!(ended.iter().all(|call| call["reason"] == "server namespace disconnect"), "{ended:?}");
}
