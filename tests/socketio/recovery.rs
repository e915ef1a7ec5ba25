//! Connection state recovery, and the library of the page.

use super::polling::three_nodes;
use super::*;
use std::net::SocketAddr;

/// Connects the main namespace with what a client remembers, and returns its id and its secret.
async fn connect(address: SocketAddr, remembered: &Value) -> (Client, String, String) {
    let mut client = Client { socket: RawWebSocket::open_at(address, V4).await, open: Value::Null };
    assert!(client.next().await.starts_with('0'));
    client.send(&format!("40{remembered}")).await;
    let answer = client.next().await;
    let object: Value = serde_json::from_str(answer.strip_prefix("40").expect("a connect")).expect("JSON");
    let field = |name: &str| object[name].as_str().unwrap_or_else(|| panic!("{object}")).to_owned();
    let (sid, pid) = (field("sid"), field("pid"));
    assert_ne!(sid, pid);
    (client, sid, pid)
}

/// The last argument of an event: its position.
fn offset(event: &str) -> String {
    let values: Vec<Value> = serde_json::from_str(event.strip_prefix("42").expect("an event")).expect("JSON");
    values.last().and_then(Value::as_str).expect("an offset").to_owned()
}

#[tokio::test]
async fn a_client_goes_on_at_another_node_with_what_it_has_missed() {
    let flags = ["--socketio", "--socketio-recovery", "--socketio-join", "todo", "--socketio-on", "subscribe=join"];
    let (_redis, nodes, _proxy) = three_nodes(&flags).await;
    let (mut client, sid, pid) = connect(nodes[0].http, &json!({})).await;
    client.send("421[\"subscribe\",\"room\"]").await;
    client.expect(&["431[]"]).await;
    nodes[2].publish_with("channel=todo&event=n", "1").await;
    let first = client.next().await;
    assert!(first.starts_with("42[\"n\",1,\""), "{first}");
    drop(client);
    nodes[2].publish_with("channel=todo&event=n", "2").await;
    nodes[2].publish_with("channel=room&event=n", "3").await;
    let remembered = json!({ "pid": pid, "offset": offset(&first), "more": 1 });
    let (mut client, again, same) = connect(nodes[1].http, &remembered).await;
    assert_eq!((again, same), (sid, pid), "it is the same socket");
    for n in [2, 3] {
        let missed = client.next().await;
        assert!(missed.starts_with(&format!("42[\"n\",{n},\"")), "{missed}");
    }
    nodes[0].publish_with("channel=room&event=n", "4").await;
    assert!(client.next().await.starts_with("42[\"n\",4,\""));
}

#[tokio::test]
async fn what_cannot_be_recovered_begins_anew() {
    let node = Node::start(&["--socketio", "--socketio-recovery"]).await;
    let (client, sid, pid) = connect(node.http, &json!({})).await;
    drop(client);
    node.publish_with("channel=%2F&event=n", "1").await;
    // A client that has got no event has missed all since it has connected.
    let (mut client, again, _) = connect(node.http, &json!({ "pid": pid })).await;
    assert_eq!(again, sid);
    assert!(client.next().await.starts_with("42[\"n\",1,\""));
    for remembered in [
        json!({ "pid": "unknown", "offset": "1-1.a" }),
        json!({ "pid": pid, "offset": "no offset" }),
        json!({ "pid": pid, "offset": "1-1.zzzzzzzz" }),
    ] {
        let (_, other, _) = connect(node.http, &remembered).await;
        assert_ne!(other, sid, "{remembered}");
    }
    // A client that leaves its namespace does not come back.
    client.send("41").await;
    eventually("the end of the socket", async || {
        let (_, other, _) = connect(node.http, &json!({ "pid": pid })).await;
        (other != sid).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_library_of_the_page() {
    let dir = support::redis::fresh_dir("socketio-client");
    std::fs::write(dir.join("socket.io.js"), "the library").expect("written");
    std::fs::write(dir.join("other.js"), "a secret").expect("written");
    let folder = dir.to_str().expect("a path");
    let node = Node::start(&["--socketio", "--socketio-client", folder]).await;
    for name in ["socket.io.js", "socket.io.v0.9.16.js", "socket.io+websocket.js"] {
        let answer = node.get(&format!("/socket.io/{name}")).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "the library"), "{name}");
        assert_eq!(answer.header("content-type"), Some("text/javascript; charset=utf-8"));
        let tag = answer.header("etag").expect("a tag").to_owned();
        let again = Request::get(&format!("/socket.io/{name}")).header("If-None-Match", &tag).send(node.http).await;
        assert_eq!(again.status, 304);
    }
    for name in ["socket.io.min.js", "other.js", "socket.io.js/../other.js"] {
        assert_eq!(node.get(&format!("/socket.io/{name}")).await.status, 404, "{name}");
    }
    let node = Node::start(&["--socketio", "--socketio-client", "https://cdn.example/4/"]).await;
    let answer = node.get("/socket.io/socket.io.min.js").await;
    assert_eq!((answer.status, answer.header("location")), (302, Some("https://cdn.example/4/socket.io.min.js")));
    let node = Node::start(&["--socketio"]).await;
    let answer = node.get("/socket.io/socket.io.js").await;
    assert!(answer.status == 404 && answer.text().contains("--socketio-client"), "{}", answer.text());
    std::fs::remove_dir_all(dir).ok();
}
