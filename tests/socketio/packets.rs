//! Packets over a WebSocket, in both versions of Engine.IO.

use super::*;

#[tokio::test]
async fn a_handshake_names_the_times_and_limits() {
    let flags = ["--socketio-ping-interval", "0.3", "--socketio-ping-timeout", "0.2", "--socketio-max-payload", "1000"];
    let (node, _application) = with_application(&flags).await;
    let client = Client::open(&node, V4).await;
    let mut keys: Vec<_> = client.open.as_object().expect("an object").keys().cloned().collect();
    keys.sort_unstable();
    assert_eq!(keys, ["maxPayload", "pingInterval", "pingTimeout", "sid", "upgrades"]);
    assert_eq!(client.open["upgrades"], json!([]));
    assert_eq!((&client.open["pingInterval"], &client.open["pingTimeout"]), (&json!(300), &json!(200)));
    assert_eq!(client.open["maxPayload"], 1000);
    let info = node.get("/info").await.json();
    assert_eq!((&info["socketio"]["engine"], &info["socketio"]["max_payload"]), (&json!([3, 4]), &json!(1000)));
    let off = Node::start(&[]).await;
    assert_eq!(off.get(V4).await.status, 404);
    assert!(off.get("/info").await.json().get("socketio").is_none());
}

#[tokio::test]
async fn bad_requests_get_the_codes_of_engine_io() {
    let node = Node::start(&["--socketio"]).await;
    for (method, query, code, message) in [
        ("GET", "", 0, "Transport unknown"),
        ("GET", "EIO=4&transport=abc", 0, "Transport unknown"),
        ("GET", "transport=websocket", 5, "Unsupported protocol version"),
        ("GET", "EIO=abc&transport=websocket", 5, "Unsupported protocol version"),
        ("GET", "EIO=4&transport=polling&sid=abc", 1, "Session ID unknown"),
        ("POST", "EIO=4&transport=polling", 2, "Bad handshake method"),
        ("GET", "EIO=4&transport=websocket", 3, "Bad request"),
    ] {
        let request = Request::new(method, &format!("/socket.io/?{query}")).header("Origin", "http://localhost:3000");
        let answer = request.send(node.http).await;
        assert_eq!(answer.status, 400, "{query}");
        assert_eq!(answer.json(), json!({ "code": code, "message": message }), "{query}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("http://localhost:3000"), "{query}");
        assert_eq!(answer.header("access-control-allow-credentials"), Some("true"), "{query}");
    }
    let upgrade = handshake("/socket.io/?EIO=4&transport=websocket&sid=abc").send(node.http).await;
    assert_eq!((upgrade.status, upgrade.text().as_str()), (400, "Session ID unknown"));
    assert_eq!(upgrade.header("content-type"), Some("text/html"));
}

#[tokio::test]
async fn a_star_lets_pages_in_without_their_cookies() {
    let application = application().await;
    let flags = ["--socketio", "--allow-origin", "*", "--publish-key", "k", "--hook-url", &application.url];
    let node = Node::start(&flags).await;
    let request = Request::get("/socket.io/?EIO=3&transport=abc").header("Origin", "https://page.example");
    let answer = request.send(node.http).await;
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://page.example"));
    assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
}

#[tokio::test]
async fn namespaces_are_connected_one_by_one() {
    let (node, application) = with_application(&[]).await;
    let mut client = Client::open(&node, &format!("{V4}&shop=7&token=secret")).await;
    client.send("40/custom,{\"a\":1}").await;
    let answer = client.next().await;
    assert!(answer.starts_with("40/custom,{\"sid\":\""), "{answer}");
    assert_eq!(client.next().await, "42/custom,[\"auth\",{\"a\":1}]");
    client.send("40").await;
    let main = client.next().await;
    assert!(main.starts_with("40{\"sid\":\""), "{main}");
    assert_ne!(main["40".len()..], answer["40/custom,".len()..], "each socket has an id of its own");
    assert!(!main.contains(client.open["sid"].as_str().expect("an id")), "the id of the connection is a secret");
    assert_eq!(client.next().await, "42[\"auth\",{}]");
    client.send("40/random").await;
    client.expect(&["44/random,{\"message\":\"Invalid namespace\"}"]).await;
    let calls = application.calls("connect");
    assert_eq!((calls[0]["protocol"].as_str(), calls[0]["endpoint"].as_str()), (Some("socket.io"), Some("/custom")));
    assert_eq!((&calls[0]["query"], &calls[0]["transport"]), (&json!({ "shop": "7" }), &json!("websocket")));
    assert_eq!(calls[0]["auth"], json!({ "a": 1 }));

    client.send("42/custom,[\"message\",1,{\"b\":[\"é\"]}]").await;
    client.expect(&["42/custom,[\"message-back\",1,{\"b\":[\"é\"]}]"]).await;
    client.send("4210[\"message-with-ack\",1,\"2\"]").await;
    client.expect(&["4310[1,\"2\"]"]).await;
    client.send("41/custom").await;
    eventually("the end of the socket", async || (!application.calls("disconnect").is_empty()).then_some(())).await;
    let ended = &application.calls("disconnect")[0];
    assert_eq!((&ended["endpoint"], &ended["reason"]), (&json!("/custom"), &json!("client namespace disconnect")));
    client.send("42[\"message\"]").await;
    client.expect(&["42[\"message-back\"]"]).await;
}

#[tokio::test]
async fn binary_arguments_go_both_ways() {
    let (node, application) = with_application(&[]).await;
    let (mut client, _) = Client::connected(&node).await;
    client.expect(&["42[\"auth\",{}]"]).await;
    client
        .send("452-7[\"message-with-ack\",{\"_placeholder\":true,\"num\":0},{\"_placeholder\":true,\"num\":1}]")
        .await;
    client.binary(&[1, 2]).await;
    client.binary(&[]).await;
    let parts = "[{\"_placeholder\":true,\"num\":0},{\"_placeholder\":true,\"num\":1}]";
    client.expect(&[&format!("462-7{parts}"), "[1, 2]", "[]"]).await;
    assert_eq!(application.calls("event")[0]["args"], json!([{ "$binary": "AQI=" }, { "$binary": "" }]));
    client.send("451-[\"message\",{\"_placeholder\":true,\"num\":0}]").await;
    client.binary(b"abc").await;
    client.expect(&["451-[\"message-back\",{\"_placeholder\":true,\"num\":0}]", "[97, 98, 99]"]).await;

    let mut old = Client::open(&node, V3).await;
    old.expect(&["40", "42[\"auth\",{}]"]).await;
    old.send("451-[\"message\",{\"_placeholder\":true,\"num\":0}]").await;
    old.binary(b"\x04abc").await;
    old.expect(&["451-[\"message-back\",{\"_placeholder\":true,\"num\":0}]", "[4, 97, 98, 99]"]).await;
    let mut text = Client::open(&node, &format!("{V3}&b64=1")).await;
    text.expect(&["40", "42[\"auth\",{}]"]).await;
    text.send("451-[\"message\",{\"_placeholder\":true,\"num\":0}]").await;
    text.send("b4YWJj").await;
    text.expect(&["451-[\"message-back\",{\"_placeholder\":true,\"num\":0}]", "b4YWJj"]).await;
}

#[tokio::test]
async fn broken_packets_close_the_connection() {
    let (node, _application) = with_application(&["--socketio-max-payload", "1000"]).await;
    let long = format!("42[\"{}\"]", "x".repeat(1000));
    for packets in [
        &["4abc"][..],
        &["abc"],
        &["2"],
        &["42{}"],
        &["42[]"],
        &["42[\"connect\"]"],
        &["42abc[\"a\"]"],
        &["42/unknown,[\"a\"]"],
        &["40"],
        &["451-[\"a\",{\"_placeholder\":true,\"num\":0}]", "42[\"b\"]"],
        &["451-[\"a\",{\"_placeholder\":true,\"num\":1}]", "bAA=="],
        &["4511-[\"a\"]"],
        &[&long],
    ] {
        let (mut client, _) = Client::connected(&node).await;
        for packet in packets {
            client.send(packet).await;
        }
        client.closed().await;
    }
    // Nobody has to be connected for that.
    let mut early = Client::open(&node, V4).await;
    early.send("42[\"a\"]").await;
    early.closed().await;
}

#[tokio::test]
async fn silence_ends_a_connection() {
    let flags =
        ["--socketio-ping-interval", "0.2", "--socketio-ping-timeout", "0.2", "--socketio-connect-timeout", "1"];
    let (node, application) = with_application(&flags).await;
    let mut unused = Client::open(&node, V4).await;
    for _ in 0..3 {
        assert_eq!(text(&unused.socket.frame().await.expect("a ping")), "2");
        unused.send("3").await;
    }
    unused.closed().await;
    let (mut silent, _) = Client::connected(&node).await;
    silent.closed().await;
    eventually("the end", async || (!application.calls("disconnect").is_empty()).then_some(())).await;
    assert_eq!(application.calls("disconnect")[0]["reason"], "ping timeout");
    let mut old = Client::open(&node, V3).await;
    old.expect(&["40", "42[\"auth\",{}]"]).await;
    for n in 0..5 {
        old.send(&format!("2{n}")).await;
        old.expect(&[&format!("3{n}")]).await;
    }
    old.closed().await;
}

#[tokio::test]
async fn the_clients_of_version_3_are_in_the_main_namespace_at_once() {
    let (node, application) = with_application(&[]).await;
    let mut client = Client::open(&node, &format!("{V3}&page=1")).await;
    let sid = client.open["sid"].as_str().expect("an id").to_owned();
    assert!(client.open.get("maxPayload").is_none());
    client.send("40/custom?a=1&b=2").await;
    client.expect(&["40", "42[\"auth\",{}]"]).await;
    let custom = application.calls("connect");
    let mut seen = [client.next().await, client.next().await];
    seen.sort_unstable();
    assert_eq!(seen, ["40/custom,", "42/custom,[\"auth\",{}]"]);
    client.send("42[\"message\",\"\u{e9}\"]").await;
    client.expect(&["42[\"message-back\",\"\\u00e9\"]"]).await;
    assert_eq!(custom[0]["client"], json!(sid), "the id of the connection is that of its sockets");
    assert_eq!(application.calls("connect")[1]["query"], json!({ "page": "1", "a": "1", "b": "2" }));
    client.send("40/random").await;
    client.expect(&["44/random,\"Invalid namespace\""]).await;
}

#[tokio::test]
async fn the_application_can_ask_refuse_and_end() {
    let (node, application) = with_application(&[]).await;
    let (mut client, _) = Client::connected(&node).await;
    client.expect(&["42[\"auth\",{}]"]).await;
    client.send("42[\"ask\"]").await;
    let question = client.next().await;
    let id = question.strip_prefix("42").and_then(|rest| rest.strip_suffix("[\"question\",1]")).expect("a number");
    client.send(&format!("43{id}[\"yes\",2]")).await;
    eventually("the answer", async || (!application.calls("ack").is_empty()).then_some(())).await;
    let answer = &application.calls("ack")[0];
    assert_eq!((&answer["ref"], &answer["args"]), (&json!("the-answer"), &json!(["yes", 2])));
    client.send("421[\"no\"]").await;
    client.expect(&["431[{\"error\":{\"code\":\"forbidden\",\"message\":\"no\",\"data\":{\"why\":1}}}]"]).await;
    client.send("42[\"kick\"]").await;
    client.expect(&["41"]).await;
    // The connection goes on, and the namespace can be connected again.
    client.send("40").await;
    assert!(client.next().await.starts_with("40{"));
}
