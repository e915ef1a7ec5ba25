//! The calls to the application for sessions, and its answers.

use super::application::Application;
use super::*;
use support::websocket::handshake;
use support::{RawWebSocket, each_transport};

on_both_logs! {
    a_new_session_asks_the_application_and_gets_its_answer
    a_refused_connection_gets_the_words_of_the_application
    events_carry_the_session_and_answers_change_it
    an_acknowledgement_comes_back_once
    the_application_is_asked_again_after_the_ttl
}

async fn a_new_session_asks_the_application_and_gets_its_answer(log: Log) {
    let application = Application::start(|call| match call["type"].as_str() {
        Some("connect") => {
            let answer = json!({"user": {"id": 7, "info": {"name": "Ann"}}, "data": {"n": 1}, "join": ["lobby"],
                "send": [{"event": "welcome", "data": call["client"]}],
                "publish": [{"channel": "lobby", "data": "hello", "exclude": "self"}]});
            (200, answer)
        }
        _ => (204, Value::Null),
    })
    .await;
    let world = start(log, &["--hook-url", &application.url, "--hook-timeout", "20"]).await;
    let node = &world.node;
    each_transport(
        node,
        |_| true,
        async |transport| {
            let own = format!("own-{}", transport.name);
            let client = format!("client-{}", transport.name);
            let mut subscription = Subscription::to(&[&own]).with("session", "1").with("client", &client);
            if transport.is_poll() {
                subscription = subscription.from(&node.latest(&own).await);
            }
            if matches!(transport.name.as_str(), "jsonp" | "forever-frame") {
                subscription = subscription.with("callback", "cb");
            }
            let mut reader = Reader::open(node, &transport, subscription).await;
            // Others may come to the lobby at the same time.
            until(&mut reader, &event("welcome", json!(client))).await;
            change(node, &json!({"client": client, "send": [{"event": "mark"}]})).await;
            // Others may come to the lobby at the same time. The own message is excluded.
            until(&mut reader, &event("mark", json!([]))).await;
            let calls = application.calls("connect");
            let call = calls.iter().find(|call| call["client"] == client).expect("a call");
            assert_eq!((&call["protocol"], &call["endpoint"]), (&json!("longtail"), &json!("/")));
            assert_eq!(call["session"], reader.subscription.session(), "{call}");
            assert_eq!((&call["ip"], &call["transport"]), (&json!("127.0.0.1"), &json!(transport.name)));
            assert!(call.get("user").is_none() && call.get("channels").is_none(), "{call}");
            if transport.name != "tcp" {
                assert_eq!(
                    (&call["query"]["channel"], &call["query"]["session"]),
                    (&json!(own), &Value::Null),
                    "{call}"
                );
            }
            let answer = post_event(node, reader.subscription.session(), &json!(null)).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
        },
    )
    .await;
    for call in application.calls("event") {
        assert_eq!(call["user"], json!({"id": "7", "info": {"name": "Ann"}}));
        assert_eq!(call["data"], json!({"n": 1}));
        let channels = call["channels"].as_array().expect("channels");
        assert!(channels.len() == 2 && channels.contains(&json!("lobby")), "{call}");
    }
    // A reader without a session does not cause a call.
    let count = application.calls("connect").len();
    drop(Reader::open(node, &node.transport("sse").await, Subscription::to(&["plain"])).await);
    assert_eq!(application.calls("connect").len(), count);
}

async fn a_refused_connection_gets_the_words_of_the_application(log: Log) {
    let application = Application::start(|call| match call["client"].as_str() {
        Some("refused") => (200, json!({"refuse": {"message": "not you", "data": {"try": 2}}})),
        Some("cut") => (200, json!({"disconnect": true})),
        _ => (500, Value::Null),
    })
    .await;
    let world = start(log, &["--hook-url", &application.url, "--hook-timeout", "20"]).await;
    let node = &world.node;
    for (client, status, code) in
        [("refused", 403, "forbidden"), ("cut", 403, "forbidden"), ("other", 502, "application_failed")]
    {
        for path in ["poll", "long-poll", "sse", "xhr-stream"] {
            let answer = node.get(&format!("/{path}?channel=a&session=1&client={client}&cursor=earliest")).await;
            assert_eq!((answer.status, answer.error_code().as_str()), (status, code), "{path} {client}");
            if client == "refused" {
                let error = &answer.json()["error"];
                assert_eq!((&error["message"], &error["data"]), (&json!("not you"), &json!({"try": 2})));
            }
        }
        let answer = handshake(&format!("/ws?channel=a&session=1&client={client}")).open(node.http).await;
        assert_eq!(answer.status, status, "{client}");
    }
    assert_eq!(node.get("/sessions?channel=a").await.json(), json!({"sessions": []}));
}

async fn events_carry_the_session_and_answers_change_it(log: Log) {
    let application = Application::start(|call| match call["type"].as_str() {
        Some("event") if call["args"][0].is_object() => (200, call["args"][0].clone()),
        _ => (204, Value::Null),
    })
    .await;
    let world = start(log, &["--hook-url", &application.url, "--hook-timeout", "20"]).await;
    let node = &world.node;
    let (ws, poll) = (node.transport("ws").await, node.transport("long-poll").await);
    let mut by_post = open(node, &poll, "p", &[("client", "poller")]).await;
    let session = by_post.subscription.session().to_owned();
    for (answer, expected) in [
        (json!({"join": ["room"], "data": "x", "publish": [{"channel": "room", "data": 1}]}), message("room", 1)),
        (
            json!({"send": [{"event": "hi", "args": [[1]]}], "publish": [{"channel": "room", "data": 2, "exclude": "self"}]}),
            event("hi", json!([1])),
        ),
        (
            json!({"leave": ["room"], "publish": [{"channel": "room", "data": 3}, {"channel": "p", "data": 4}]}),
            message("p", 4),
        ),
    ] {
        let answered = post_event(node, &session, &answer).await;
        assert_eq!((answered.status, answered.json()), (200, json!({"ack": null, "send": []})), "{answer}");
        expect(&mut by_post, &expected).await;
    }
    let last = application.calls("event").pop().expect("a call");
    assert_eq!((&last["session"], &last["client"], &last["data"]), (&json!(session), &json!("poller"), &json!("x")));

    // On a socket the event does not name the session.
    let mut reader = RawWebSocket::open(node, "/ws?channel=w&session=1&client=socket").await;
    let hello = reader.next_of("hello").await;
    let join = json!({"type": "event", "event": "e", "ref": 1, "data": {"join": ["room"], "user": {"id": "9"}, "ack": [5],
        "send": [{"event": "joined"}]}});
    reader.text(&join.to_string()).await;
    let (mut events, mut acks) = (0, 0);
    let until = std::time::Instant::now() + support::SOON;
    while events + acks < 2 {
        assert!(std::time::Instant::now() < until, "{events} events and {acks} acks");
        let object = reader.frame().await.expect("an object").json();
        match object["type"].as_str() {
            Some("event") => events += 1,
            Some("ack") => acks += usize::from(object["data"] == json!([5])),
            _ => {}
        }
    }
    reader.text(&json!({"type": "event", "event": "e", "ref": 2}).to_string()).await;
    reader.next_of("ack").await;
    let last = application.calls("event").pop().expect("a call");
    assert_eq!((&last["session"], &last["user"]["id"]), (&hello["session"], &json!("9")));
    assert_eq!(last["channels"], json!(["room", "w"]));
    // By the user that the application has named.
    change(node, &json!({"user": 9, "send": [{"event": "for 9"}]})).await;
    assert_eq!(reader.next_of("event").await["event"], "for 9");
    let _ = ws;
}

async fn an_acknowledgement_comes_back_once(log: Log) {
    let application = Application::start(|call| match call["type"].as_str() {
        Some("ack") => (200, json!({"send": [{"event": "thanks", "data": call["args"]}]})),
        _ => (204, Value::Null),
    })
    .await;
    let flags = ["--hook-timeout", "20", "--hook-url", &application.url, "--hook-notify", "connect,event,ack"];
    let world = start(log, &flags).await;
    let node = &world.node;
    let mut socket = RawWebSocket::open(node, "/ws?channel=a&session=1").await;
    let session = socket.next_of("hello").await["session"].clone();
    change(
        node,
        &json!({"session": session, "send": [{"event": "ask", "data": 1, "ack": "q1"}, {"event": "ask", "ack": "q2"}]}),
    )
    .await;
    for (name, data) in [("q1", json!(1)), ("q2", json!([]))] {
        let asked = socket.next_of("event").await;
        assert_eq!((&asked["ack"], &asked["data"]), (&json!(name), &data), "{asked}");
    }
    socket.text(&json!({"type": "ack", "ack": "q1", "data": "yes", "ref": 1}).to_string()).await;
    assert_eq!(socket.next_of("event").await["data"], json!(["yes"]));
    let call = &application.wait("ack", 1).await[0];
    assert_eq!((&call["ref"], &call["args"], &call["session"]), (&json!("q1"), &json!(["yes"]), &session));
    // The other one by a request, with several values.
    let body = json!({"ack": "q2", "args": [1, 2], "session": session}).to_string();
    let post = async || {
        Request::post("/event", body.as_bytes()).header("Content-Type", "application/json").send(node.http).await
    };
    assert_eq!(post().await.status, 200);
    assert_eq!(socket.next_of("event").await["data"], json!([1, 2]));
    // Again, and for nothing.
    assert_eq!((post().await.status, post().await.error_code().as_str()), (400, "bad_request"));
    socket.text(&json!({"type": "ack", "ack": "q1", "ref": 2}).to_string()).await;
    assert_eq!(socket.next_of("error").await["code"], "bad_request");
    assert_eq!(application.calls("ack").len(), 2);
}

async fn the_application_is_asked_again_after_the_ttl(log: Log) {
    let application = Application::start(|call| {
        let is_late = call["client"] == "late" && call["transport"] == "session";
        (if is_late { 403 } else { 200 }, json!({"ttl": 1}))
    })
    .await;
    let world = start(log, &["--hook-url", &application.url, "--hook-timeout", "20"]).await;
    let node = &world.node;
    let mut good = RawWebSocket::open(node, "/ws?channel=a&session=1&client=good").await;
    let session = good.next_of("hello").await["session"].clone();
    let mut late = RawWebSocket::open(node, "/ws?channel=a&session=1&client=late").await;
    late.next_of("hello").await;
    let bye = late.next_of("bye").await;
    assert_eq!((&bye["code"], &bye["retry"]), (&json!(4003), &Value::Null));
    let calls = application.wait("connect", 5).await;
    let of_good: Vec<&Value> = calls.iter().filter(|call| call["session"] == session).collect();
    assert!(of_good.len() >= 2 && of_good[0]["id"] != of_good[1]["id"], "{of_good:?}");
    publish(node, "a", "1").await;
    assert_eq!(good.frame().await.expect("an object").json()["data"], 1);
}
