//! `--raw-websocket`: pages with a plain WebSocket, byte by byte.

use crate::support;

use crate::sessions::application::Application;
use serde_json::json;
use support::guarded::may;
use support::server::run_to_end;
use support::token::SECRET;
use support::websocket::{frame, handshake};
use support::{Log, Node, RawWebSocket, SOON, World, eventually, within};

const TEXT: u8 = 0x81;

/// The next frame that is not a ping: the text of a message.
async fn text(socket: &mut RawWebSocket) -> String {
    within(SOON, "a text", async {
        loop {
            let frame = socket.frame().await.expect("a frame");
            if frame.opcode() != 9 {
                assert_eq!(frame.first, TEXT, "{frame:?}");
                return String::from_utf8(frame.payload).expect("UTF-8");
            }
        }
    })
    .await
}

async fn readers(node: &Node, path: &str, count: usize) -> Vec<RawWebSocket> {
    let mut sockets = Vec::new();
    for _ in 0..count {
        sockets.push(RawWebSocket::open(node, path).await);
    }
    sockets
}

/// What each value of `on-message` does, on both logs. A text comes back as it was sent, whatever it looks like.
#[tokio::test]
async fn a_text_does_what_the_flag_says() {
    let flags = [
        "--raw-websocket=/publish-me=a,b on-message=publish",
        "--raw-websocket=/chat=a on-message=broadcast",
        "--raw-websocket=/echo=e on-message=echo",
        "--raw-websocket=/read=a",
    ];
    let texts =
        ["hello", "\"hello\"", "123", "{\"a\":1, \"b\" : [2]}", "[1,\n2]", "", "null", "Käse \u{1f600}\u{2028}"];
    for log in [Log::Memory, Log::Redis] {
        let world = World::start(log, &flags).await;
        let node = &world.node;
        let mut everybody = readers(node, "/publish-me", 2).await;
        let mut chat = readers(node, "/chat", 2).await;
        for said in texts {
            everybody[0].text(said).await;
            for socket in everybody.iter_mut().chain(&mut chat) {
                assert_eq!(text(socket).await, said, "a reader of two channels gets it once");
            }
            chat[0].text(said).await;
            for socket in everybody.iter_mut().chain(&mut chat[1..]) {
                assert_eq!(text(socket).await, said);
            }
            node.publish("a", "\"from elsewhere\"").await;
            for socket in everybody.iter_mut().chain(&mut chat) {
                assert_eq!(text(socket).await, "from elsewhere", "the sender has not got its own text");
            }
        }
        let mut echo = readers(node, "/echo", 2).await;
        for said in texts {
            echo[0].text(said).await;
            assert_eq!(text(&mut echo[0]).await, said);
        }
        node.publish("e", "1").await;
        for socket in &mut echo {
            assert_eq!(text(socket).await, "1", "an echo is for its sender alone");
        }
        let mut reader = RawWebSocket::open(node, "/read").await;
        reader.text("nobody gets this").await;
        let ignored = "longtail_refused_total{reason=\"ignored\"}";
        eventually("the count", async || (node.metric(ignored).await == 1.0).then_some(())).await;
        node.publish("a", "{\"x\":1}").await;
        assert_eq!(text(&mut reader).await, "{\"x\":1}");
    }
}

/// A path may name a channel, and newcomers get the newest messages. Pings and closes are those of WebSocket.
#[tokio::test]
async fn paths_name_channels_and_frames_are_those_of_the_rfc() {
    let flags = [
        "--raw-websocket=/room/{channel}=room-{channel} on-message=publish last=2",
        "--raw-websocket=/=front",
        "--raw-websocket=/bye=front on-open=close:3000:Go away!",
        "--heartbeat-seconds=1",
    ];
    let node = Node::start(&flags).await;
    for n in 0..3 {
        node.publish("room-blue=20sky", &n.to_string()).await;
    }
    let mut socket = RawWebSocket::open(&node, "/room/blue%20sky").await;
    assert_eq!((text(&mut socket).await, text(&mut socket).await), ("1".into(), "2".into()));
    socket.text("three").await;
    assert_eq!(text(&mut socket).await, "three");
    let ping = loop {
        let frame = socket.frame().await.expect("a frame");
        if frame.opcode() == 9 {
            break frame;
        }
    };
    assert_eq!(ping.first, 0x89, "a ping of WebSocket, which scripts do not see");
    socket.send(&frame(0x8a, &ping.payload)).await;
    socket.send(&frame(0x89, b"are you there?")).await;
    let pong = socket.frame().await.expect("a frame");
    assert_eq!((pong.first, &*pong.payload), (0x8a, &b"are you there?"[..]));
    socket.send(&frame(0x82, &[1])).await;
    assert_eq!(socket.close_code().await, 1003, "binary");

    let mut closed = RawWebSocket::open(&node, "/bye").await;
    let farewell = closed.frame().await.expect("a frame");
    assert_eq!((farewell.close_code(), &farewell.payload[2..]), (3000, &b"Go away!"[..]));

    assert_eq!(node.get("/").await.status, 400, "the path belongs to the flag");
    assert_eq!(node.get("/room/a/b").await.status, 404);
    assert_eq!(node.get("/info").await.json()["raw_websocket"], json!({"paths": ["/room/{channel}", "/", "/bye"]}));
    let mut front = RawWebSocket::open(&node, "/").await;
    node.signal("TERM");
    assert_eq!(front.close_code().await, 1001);
}

/// A path asks the access rules, and its own list of origins.
#[tokio::test]
async fn access_rules_and_origins_decide() {
    let flags = [
        &format!("--token-secret={SECRET}"),
        "--public=news",
        "--raw-websocket=/room/{channel}={channel} on-message=publish",
        "--raw-websocket=/anybody=news origins=*",
        "--raw-websocket=/partner=news origins=https://partner.example",
    ];
    let node = Node::start(&flags).await;
    let status =
        async |target: &str, origin: &str| handshake(target).header("Origin", origin).open(node.http).await.status;
    let here = format!("http://{}", node.http);
    let reads = may(&["a"], &[]);
    for (target, origin, expected) in [
        ("/room/a", &*here, 401),
        (&format!("/room/b?token={reads}"), &here, 403),
        (&format!("/room/a?token={reads}"), &here, 101),
        ("/room/news", &here, 101),
        ("/room/news", "https://partner.example", 403),
        ("/anybody", "https://partner.example", 101),
        ("/anybody", "null", 101),
        ("/partner", "https://partner.example", 101),
        ("/partner", &here, 101),
        ("/partner", "https://other.example", 403),
    ] {
        assert_eq!(status(target, origin).await, expected, "{target} {origin}");
    }
    let mut reader = RawWebSocket::open(&node, &format!("/room/a?token={reads}")).await;
    let mut writer = RawWebSocket::open(&node, &format!("/room/a?token={}", may(&["a"], &["a"]))).await;
    reader.text("not allowed").await;
    // The pong comes after the text was refused.
    reader.send(&frame(0x89, b"")).await;
    assert_eq!(reader.frame().await.expect("a pong").opcode(), 10);
    writer.text("allowed").await;
    for socket in [&mut reader, &mut writer] {
        assert_eq!(text(socket).await, "allowed");
    }
}

/// The application hears of a page as Ratchet's `onOpen`, `onMessage` and `onClose` do, and answers it.
#[tokio::test]
async fn the_application_gets_texts() {
    let application = Application::start(|call| match (call["type"].as_str(), call["args"][0].as_str()) {
        (Some("connect"), _) if call["query"]["name"] == "mallory" => (200, json!({"refuse": {"message": "no"}})),
        (Some("connect"), _) => (200, json!({"send": [{"event": "welcome", "args": ["hello"]}], "join": ["extra"]})),
        (Some("event"), Some("bye")) => (200, json!({"disconnect": true})),
        (Some("event"), Some(said)) => {
            let data = json!({"said": said});
            (200, json!({"publish": [{"channel": "chat", "data": data, "exclude": "self"}], "send": [{"event": "sent", "args": [data]}]}))
        }
        _ => (204, json!(null)),
    })
    .await;
    let flags = [
        "--raw-websocket=/chat=chat on-message=hook",
        &format!("--hook-url={}", application.url),
        "--hook-notify=connect,event,disconnect",
    ];
    let node = Node::start(&flags).await;
    let refused = handshake("/chat?name=mallory").open(node.http).await;
    assert_eq!(refused.status, 403);
    let opened =
        handshake("/chat?name=ann").header("Cookie", "sid=1").header("Origin", &format!("http://{}", node.http));
    let mut ann = RawWebSocket::open_by(node.http, opened).await;
    let mut ben = RawWebSocket::open(&node, "/chat").await;
    for socket in [&mut ann, &mut ben] {
        assert_eq!(text(socket).await, "hello");
    }
    node.publish("extra", "\"joined\"").await;
    for socket in [&mut ann, &mut ben] {
        assert_eq!(text(socket).await, "joined");
    }
    ann.text("[1, 2").await;
    for socket in [&mut ann, &mut ben] {
        assert_eq!(text(socket).await, "{\"said\":\"[1, 2\"}");
    }
    let connect = &application.calls("connect")[1];
    assert_eq!((&connect["protocol"], &connect["endpoint"]), (&json!("websocket"), &json!("/chat")));
    assert_eq!((&connect["query"]["name"], &connect["transport"]), (&json!("ann"), &json!("raw-websocket")));
    let event = &application.calls("event")[0];
    assert_eq!(
        (&event["event"], &event["args"], &event["session"]),
        (&json!("message"), &json!(["[1, 2"]), &connect["session"])
    );
    ann.text("bye").await;
    assert_eq!(ann.close_code().await, 1000);
    drop(ben);
    // A page that connects again has a new session, so the old one ends at once.
    let ended = application.wait("disconnect", 2).await;
    let mut reasons: Vec<_> = ended.iter().map(|call| call["reason"].as_str().expect("a reason")).collect();
    reasons.sort_unstable();
    assert_eq!(reasons, ["close", "disconnected"]);
}

#[tokio::test]
async fn mistakes_in_the_flag_are_named() {
    for (flags, mistake) in [
        (&["--raw-websocket=/a=b on-message=hook"][..], "set --hook-url or --hook-stream"),
        (&["--raw-websocket=/a=b", "--raw-websocket=/a=c"], "twice"),
        (&["--raw-websocket=/ws=b"], "for something else"),
        (&["--raw-websocket=/a=b origins=example.com"], "origins=example.com"),
        (&["--raw-websocket=/a"], "write PATH=CHANNEL"),
    ] {
        // A path that is in use is found only when the server listens.
        let flags = [flags, &["--listen=127.0.0.1:0", "--tcp-listen=off"]].concat();
        let (code, said) = run_to_end(&flags).await;
        assert!(said.contains(mistake) && said.contains("--raw-websocket"), "{flags:?}: {code:?} {said}");
    }
}
