//! Socket.IO 0.9: the handshake, its transports and its packets.

use super::*;

const HANDSHAKE: &str = "/socket.io/1/?t=1400000000000";

/// Shakes hands, and returns the id of the connection.
async fn shake_hands(node: &Node) -> String {
    let answer = Request::get(HANDSHAKE).send(node.http).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let line = answer.text();
    let fields: Vec<&str> = line.split(':').collect();
    assert_eq!(
        (fields[1..].join(":").as_str(), fields.len()),
        ("45:45:websocket,xhr-polling,jsonp-polling", 4),
        "{line}"
    );
    fields[0].to_owned()
}

/// The packets of the body of an answer.
fn packets(body: &str) -> Vec<String> {
    if !body.starts_with('\u{fffd}') {
        return vec![body.to_owned()];
    }
    body.split('\u{fffd}').skip(2).step_by(2).map(str::to_owned).collect()
}

#[tokio::test]
async fn a_websocket_has_one_packet_in_a_frame() {
    let (node, application) = with_application(&["--socketio-join", "todo"]).await;
    let sid = shake_hands(&node).await;
    let mut socket = RawWebSocket::open(&node, &format!("/socket.io/1/websocket/{sid}")).await;
    let mut next = async |sent: Option<&str>| {
        if let Some(sent) = sent {
            socket.text(sent).await;
        }
        text(&socket.frame().await.expect("a packet"))
    };
    assert_eq!(next(None).await, "1::");
    assert_eq!(next(None).await, r#"5:::{"name":"auth","args":[{}]}"#);
    assert_eq!(next(Some("3:::hi é")).await, r#"5:::{"name":"message-back","args":["hi é"]}"#);
    assert_eq!(next(Some("4:::{\"a\":1}")).await, r#"5:::{"name":"message-back","args":[{"a":1}]}"#);
    assert_eq!(next(Some(r#"5:1+::{"name":"message-with-ack","args":[1,"2"]}"#)).await, r#"6:::1+[1,"2"]"#);
    assert_eq!(next(Some("3:2::hi")).await, "6:::2", "the receipt comes at once");
    assert_eq!(next(None).await, r#"5:::{"name":"message-back","args":["hi"]}"#);
    assert_eq!(next(Some("1::/custom?a=1")).await, "1::/custom");
    assert_eq!(next(None).await, r#"5::/custom:{"name":"auth","args":[{}]}"#);
    assert_eq!(application.calls("connect")[1]["query"], json!({ "a": "1" }));
    assert_eq!(next(Some("1::/random")).await, "7::/random:2");
    node.publish_with("channel=todo&event=addItem", "{\"title\":\"milk\"}").await;
    assert_eq!(next(None).await, r#"5:::{"name":"addItem","args":[{"title":"milk"}]}"#);
    node.publish("todo", "\"a text\"").await;
    assert_eq!(next(None).await, "3:::a text");
    let question = next(Some(r#"5:::{"name":"ask"}"#)).await;
    let id = question.strip_prefix("5:").and_then(|rest| rest.split_once("+::")).expect("a number").0.to_owned();
    assert_eq!(question, format!("5:{id}+::{{\"name\":\"question\",\"args\":[1]}}"));
    socket.text(&format!("6:::{id}+[\"yes\"]")).await;
    eventually("the answer", async || (!application.calls("ack").is_empty()).then_some(())).await;
    assert_eq!(application.calls("ack")[0]["args"], json!(["yes"]));
    socket.text("0::").await;
    socket.ended().await;
}

#[tokio::test]
async fn a_repeated_poll_gets_the_same_answer() {
    let node = Node::start(&["--socketio", "--socketio-join", "todo"]).await;
    let sid = shake_hands(&node).await;
    let mut time = 1_400_000_000_000_u64;
    let mut target = || {
        time += 100;
        format!("/socket.io/1/xhr-polling/{sid}?t={time}")
    };
    let first = Request::get(&target()).send(node.http).await.text();
    assert_eq!(packets(&first), ["1::"]);
    for n in 0..3 {
        let target = target();
        let asking = Request::get(&target).send(node.http);
        let telling = async {
            // The poll waits for some time, as most do.
            tokio::time::sleep(std::time::Duration::from_millis(60)).await;
            node.publish_with("channel=todo&event=n", &n.to_string()).await;
        };
        let (answer, ()) = tokio::join!(asking, telling);
        let event = format!("5:::{{\"name\":\"n\",\"args\":[{n}]}}");
        assert_eq!(packets(&answer.text()), [event.as_str()]);
        // Its node may have died before the answer was on its way.
        assert_eq!(packets(&Request::get(&target).send(node.http).await.text()), [event]);
    }
}

#[tokio::test]
async fn polls_and_posts() {
    let (node, application) = with_application(&["--socketio-join", "todo", "--socketio-ping-interval", "1"]).await;
    let handshake = Request::get(HANDSHAKE).header("Origin", "http://localhost:3000").send(node.http).await;
    assert_eq!(handshake.header("access-control-allow-origin"), Some("http://localhost:3000"));
    assert_eq!(handshake.header("access-control-allow-credentials"), Some("true"));
    let sid = handshake.text().split(':').next().expect("an id").to_owned();
    let target = format!("/socket.io/1/xhr-polling/{sid}?t=1");
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.extend(packets(&Request::get(&target).send(node.http).await.text()));
    }
    assert_eq!(seen, ["1::", r#"5:::{"name":"auth","args":[{}]}"#]);
    // Two requests may have the same time stamp.
    let two = "\u{fffd}8\u{fffd}3:1::one\u{fffd}6\u{fffd}3:::é2";
    let answer = Request::post(&target, two.as_bytes()).send(node.http).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "1"));
    let mut seen = Vec::new();
    while seen.len() < 3 {
        seen.extend(packets(&Request::get(&target).send(node.http).await.text()));
    }
    seen.sort_unstable();
    let back = |text: &str| format!("5:::{{\"name\":\"message-back\",\"args\":[\"{text}\"]}}");
    assert_eq!(seen, [back("one"), back("é2"), "6:::1".to_owned()]);
    assert_eq!(packets(&Request::get(&target).send(node.http).await.text()), ["8::"]);
    // JSONP.
    let jsonp = format!("/socket.io/1/jsonp-polling/{sid}?t=1&i=3");
    let answer = Request::form(&jsonp, "d=%225%3A4%2B%3A%3A%7B%5C%22name%5C%22%3A%5C%22message-with-ack%5C%22%7D%22");
    assert_eq!(answer.send(node.http).await.text(), "1");
    let script = Request::get(&jsonp).send(node.http).await;
    assert_eq!(script.header("content-type"), Some("text/javascript; charset=UTF-8"));
    assert!(script.text().starts_with("io.j[3](\"") && script.text().contains("6:::4+[]"), "{}", script.text());
    // A page that is about to be closed.
    assert_eq!(node.get(&format!("/socket.io/1//{sid}/?disconnect=1")).await.status, 200);
    let gone = node.get(&target).await;
    assert_eq!((gone.status, gone.text().as_str()), (200, "7:::1+0"));
    eventually("the end", async || (!application.calls("disconnect").is_empty()).then_some(())).await;
}

#[tokio::test]
async fn unknown_sessions_and_refused_handshakes() {
    let application = Application::start(|_| (200, json!({ "refuse": { "message": "no" } }))).await;
    let node = Node::start(&["--socketio", "--hook-url", &application.url]).await;
    let refused = node.get(HANDSHAKE).await;
    assert_eq!((refused.status, refused.text().as_str()), (403, "handshake unauthorized"));
    let script = node.get(&format!("{HANDSHAKE}&jsonp=0")).await;
    assert_eq!((script.status, script.text().as_str()), (200, "io.j[0](new Error(\"handshake unauthorized\"));"));
    let unknown = "x".repeat(27);
    for sid in ["abc", &unknown] {
        for name in ["xhr-polling", "jsonp-polling"] {
            let answer = node.get(&format!("/socket.io/1/{name}/{sid}?t=1")).await;
            assert_eq!((answer.status, answer.text().as_str()), (200, "7:::1+0"), "{name} {sid}");
        }
    }
    let mut socket = RawWebSocket::open(&node, &format!("/socket.io/1/websocket/{unknown}")).await;
    assert_eq!(text(&socket.frame().await.expect("a packet")), "7:::1+0");
    socket.ended().await;
    assert_eq!(node.get("/socket.io/1/flashsocket/abc").await.status, 404);
}
