//! Rules of Engine.IO that its own test suite checks and that no client depends on.

use super::polling::{P4, Poller, change};
use super::*;
use crate::support::{SOON, within};
use std::time::Duration;

#[tokio::test]
async fn other_methods_are_refused_in_the_words_of_the_protocol() {
    let node = Node::start(&["--socketio"]).await;
    let mut poller = Poller::connected(node.http).await;
    for method in ["PUT", "DELETE", "PATCH"] {
        let answer = Request::new(method, P4).send(node.http).await;
        assert_eq!((answer.status, answer.json()), (400, json!({ "code": 2, "message": "Bad handshake method" })));
        let target = poller.stamped();
        assert_eq!(poller.status(Request::new(method, &target)).await, 400, "{method}");
    }
    // The connection goes on.
    node.publish_with("channel=%2F&event=n", "1").await;
    assert_eq!(poller.packets(1).await, ["42[\"n\",1]"]);
}

#[tokio::test]
async fn a_client_that_closes_its_connection_gets_an_empty_answer_to_its_poll() {
    let node = Node::start(&["--socketio"]).await;
    // A poll that comes after the post finds no connection. Then the test tries again.
    eventually("a poll that waits during the post", async || {
        let mut poller = Poller::connected(node.http).await;
        let (waiting, address) = (poller.stamped(), node.http);
        let parked = tokio::spawn(async move { Request::get(&waiting).send(address).await });
        tokio::time::sleep(Duration::from_millis(50)).await;
        poller.post("1").await;
        let answer = within(SOON, "the poll", parked).await.expect("no panic");
        let target = poller.stamped();
        assert_eq!(poller.status(Request::get(&target)).await, 400);
        if answer.status == 400 {
            return None;
        }
        assert_eq!((answer.status, answer.text().as_str()), (200, "6"));
        Some(())
    })
    .await;
}

#[tokio::test]
async fn a_second_websocket_of_a_connection_is_closed() {
    let node = Node::start(&["--socketio"]).await;
    let mut poller = Poller::connected(node.http).await;
    let target = poller.stamped().replace("transport=polling", "transport=websocket");
    let mut client = change(&mut poller, node.http, P4).await;
    for second in [target, "/socket.io/?EIO=4&transport=websocket&sid=012345678901234567890123456".to_owned()] {
        let mut second = RawWebSocket::open(&node, &second).await;
        let frame = within(SOON, "the close", second.frame()).await.expect("a frame");
        assert_eq!(frame.opcode(), 8);
    }
    node.publish_with("channel=%2F&event=n", "1").await;
    client.expect(&["42[\"n\",1]"]).await;
}
