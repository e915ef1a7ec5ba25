//! Nothing that a client or another program sends can change the sessions of others.

use super::*;
use support::RawWebSocket;
use support::guarded::{KEY, bearer};

on_both_logs! {
    sessions_that_do_not_exist_are_refused_everywhere
    there_are_so_many_sessions_and_no_more
    an_address_has_so_many_sessions_and_no_more
    a_client_cannot_read_or_write_the_channels_of_the_server
}

const FORGED: [&str; 6] = [
    "x",
    "AAAAAAAAAAAAAAAAAAAAAAAAAAA",
    "~s/AAAAAAAAAAAAAAAAAAAAAAAAAAA",
    "AAAAAAAAAAAAAAAAAAAAAAAAAAA,AAAAAAAAAAAAAAAAAAAAAAAAAAA",
    "../../../../../../../../etc",
    "%00%0d%0a",
];

async fn sessions_that_do_not_exist_are_refused_everywhere(log: Log) {
    let application = super::application::Application::start(|_| (204, Value::Null)).await;
    let world = start(log, &["--hook-url", &application.url]).await;
    let node = &world.node;
    for forged in FORGED {
        for path in ["poll", "long-poll", "sse", "xhr-stream", "multipart", "ndjson"] {
            let answer = node.get(&format!("/{path}?channel=a&cursor=earliest&session={forged}")).await;
            assert_eq!((answer.status, answer.error_code().as_str()), (409, "no_session"), "{path} {forged}");
            assert!(!answer.text().contains(forged) || forged == "x", "the error repeats the id");
        }
        let answer = post_event(node, forged, &json!(1)).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (409, "no_session"), "{forged}");
        let mut socket = RawWebSocket::open(node, "/ws").await;
        socket.next_of("hello").await;
        socket.text(&json!({"type": "subscribe", "channels": ["a"], "session": forged, "ref": 1}).to_string()).await;
        assert_eq!(socket.next_of("error").await["code"], "no_session", "{forged}");
        // The connection lives on, without a session.
        socket.text(&json!({"type": "subscribe", "channels": ["a"], "ref": 2}).to_string()).await;
        assert_eq!(socket.next_of("ack").await["ref"], 2);
    }
    // Another client id: the session is not another client's.
    let mut socket = RawWebSocket::open(node, "/ws?channel=a&session=1&client=me").await;
    let session = socket.next_of("hello").await["session"].as_str().expect("a session").to_owned();
    let other = node.get(&format!("/poll?channel=a&session={session}&client=you")).await;
    assert_eq!((other.status, other.error_code().as_str()), (403, "forbidden"));
    assert_eq!(application.calls("event").len(), 0);
    // The log and the metrics do not tell the ids.
    let metrics = node.get("/metrics").await.text();
    assert!(!metrics.contains(&session) && metrics.contains("longtail_sessions_opened_total{outcome=\"unknown\"}"));
    let channels = node.get("/channels?prefix=").await.text();
    assert!(!channels.contains('~') && !channels.contains(&session), "{channels}");
}

async fn there_are_so_many_sessions_and_no_more(log: Log) {
    let world = start(log, &["--max-sessions", "3", "--away-seconds", "1"]).await;
    let node = &world.node;
    let (mut sockets, mut ids) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let mut socket = RawWebSocket::open(node, "/ws?channel=a&session=1").await;
        ids.push(socket.next_of("hello").await["session"].clone());
        sockets.push(socket);
    }
    let full = node.get("/poll?channel=a&session=1").await;
    assert_eq!((full.status, full.error_code().as_str()), (503, "too_many_connections"));
    assert!(full.header("retry-after").is_some());
    // Readers without a session and the sessions that are there are not concerned.
    assert_eq!(node.get("/poll?channel=a").await.status, 200);
    change(node, &json!({"session": ids[0], "disconnect": true})).await;
    sockets[0].next_of("bye").await;
    eventually("room for another session", async || {
        (node.get("/poll?channel=a&session=1").await.status == 200).then_some(())
    })
    .await;
    publish(node, "a", "1").await;
    assert_eq!(sockets[1].frame().await.expect("an object").json()["data"], 1);
    assert_eq!(node.get("/info").await.json()["limits"]["max_sessions"], 3);
}

async fn an_address_has_so_many_sessions_and_no_more(log: Log) {
    let flags = ["--max-sessions-per-ip", "2", "--trusted-proxy", "127.0.0.1", "--away-seconds", "1"];
    let world = start(log, &flags).await;
    let node = &world.node;
    let of = |ip: &str| support::websocket::handshake("/ws?channel=a&session=1").header("X-Forwarded-For", ip);
    let poll =
        async |ip: &str| Request::get("/poll?channel=a&session=1").header("X-Forwarded-For", ip).send(node.http).await;
    let mut kept = Vec::new();
    for (one, two, third, other) in [
        ("192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2"),
        ("2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8:0:1::1"),
    ] {
        for ip in [one, two] {
            let mut socket = RawWebSocket::open_by(node.http, of(ip)).await;
            socket.next_of("hello").await;
            kept.push(socket);
        }
        let full = poll(third).await;
        assert_eq!((full.status, full.error_code().as_str()), (503, "too_many_connections"));
        assert!(full.text().contains("--max-sessions-per-ip") && full.header("retry-after").is_some());
        assert_eq!(poll(other).await.status, 200, "another address has places of its own");
        let plain = Request::get("/poll?channel=a").header("X-Forwarded-For", third).send(node.http).await;
        assert_eq!(plain.status, 200, "a reader without a session does not take a place");
    }
    // The proxy itself is not limited, and a client that leaves makes room.
    for _ in 0..5 {
        assert_eq!(node.get("/poll?channel=a&session=1").await.status, 200);
    }
    drop(kept);
    eventually("room for another session", async || (poll("192.0.2.1").await.status == 200).then_some(())).await;
    let page = node.get("/metrics").await.text();
    assert!(page.contains("longtail_sessions_opened_total{outcome=\"full_for_address\"}"), "{page}");
}

async fn a_client_cannot_read_or_write_the_channels_of_the_server(log: Log) {
    let world = start(log, &[]).await;
    let node = &world.node;
    let mut socket = RawWebSocket::open(node, "/ws?channel=a&session=1&client=me").await;
    let session = socket.next_of("hello").await["session"].as_str().expect("a session").to_owned();
    let own = format!("~s/{session}");
    for channel in [own.as_str(), "~b/00"] {
        let answer = Request::post(&format!("/publish?channel={channel}"), b"{\"join\":[\"x\"]}").send(node.http).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (400, "bad_channel"), "{channel}");
        assert_eq!(node.get(&format!("/poll?channel={channel}")).await.error_code(), "bad_channel");
        let change = try_change(node, &json!({"client": "me", "join": [channel]})).await;
        assert_eq!(change.error_code(), "bad_channel");
        socket.text(&json!({"type": "subscribe", "channels": [channel], "ref": 1}).to_string()).await;
        assert_eq!(socket.next_of("error").await["code"], "bad_channel");
    }
    if let Some(redis) = &world.redis {
        let forged = r#"{"join":["secret"]}"#;
        for words in [
            &["XADD", "longtail:log", "*", "channel", &own, "data", forged, "event", "change"][..],
            &["XADD", "longtail:log", "*", "channel", &own, "data", forged, "event", "change", "kind", "session"],
            &["XADD", "longtail:log", "*", "v", "2", "channel", &own, "data", forged, "event", "change"],
            &[
                "XADD",
                "longtail:log",
                "*",
                "v",
                "2",
                "channel",
                "a",
                "data",
                forged,
                "event",
                "change",
                "kind",
                "session",
            ],
            &["XADD", "longtail:log", "*", "v", "2", "channel", &own, "data", forged, "kind", "member_added"],
            &["PUBLISH", &format!("push:{own}"), forged],
        ] {
            redis.command(words).await;
        }
        let skipped = eventually("the forged entries to be skipped", async || {
            let metrics = node.get("/metrics").await.text();
            let line = metrics.lines().find(|line| line.starts_with("longtail_log_skipped"))?;
            line.rsplit(' ').next()?.parse::<f64>().ok().filter(|skipped| *skipped >= 5.0)
        });
        skipped.await;
    }
    publish(node, "secret", "1").await;
    publish(node, "a", "2").await;
    let object = socket.frame().await.expect("an object").json();
    assert_eq!((&object["channel"], &object["data"]), (&json!("a"), &json!(2)));
}

#[tokio::test]
async fn the_application_s_path_needs_a_server_key_and_json() {
    let node = Node::start(&["--publish-key", KEY, "--public", "a"]).await;
    let body = br#"{"client":"me","disconnect":true}"#;
    for (key, kind, status, code) in [
        (None, "application/json", 401, "unauthorized"),
        (Some("wrong"), "application/json", 401, "unauthorized"),
        (Some(KEY), "text/plain", 400, "bad_request"),
    ] {
        let mut request = Request::post("/sessions", body).header("Content-Type", kind);
        if let Some(key) = key {
            request = request.header("Authorization", &bearer(key));
        }
        let answer = request.send(node.http).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (status, code), "{kind}");
    }
    assert_eq!(node.get("/sessions?channel=a").await.status, 401);
    let keyed = async |path: &str| Request::get(path).header("Authorization", &bearer(KEY)).send(node.http).await;
    assert_eq!(keyed("/sessions?channel=a").await.status, 200);
    assert_eq!(keyed("/sessions").await.error_code(), "bad_channel");
    assert_eq!(keyed("/sessions?channel=a&after=xyz").await.error_code(), "bad_request");
}
