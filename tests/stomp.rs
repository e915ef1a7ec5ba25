//! `--stomp`: STOMP over WebSocket, frame by frame.

use crate::support;

use crate::sessions::application::Application;
use serde_json::json;
use support::guarded::may;
use support::server::run_to_end;
use support::token::SECRET;
use support::websocket::{frame as websocket_frame, handshake};
use support::{Log, Node, RawWebSocket, SOON, World, within};

/// A frame of the server.
#[derive(Debug)]
struct Frame {
    command: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Frame {
    fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}

struct Client(RawWebSocket);

impl Client {
    async fn open(node: &Node) -> Client {
        Client(RawWebSocket::open(node, "/stomp").await)
    }

    async fn connected(node: &Node, version: &str) -> Client {
        let mut client = Client::open(node).await;
        client.send(&format!("CONNECT\naccept-version:{version}\nheart-beat:0,0\nhost:localhost\n\n")).await;
        assert_eq!(client.expect("CONNECTED").await.header("version"), version);
        client
    }

    /// Sends a frame, whose NUL is added.
    async fn send(&mut self, frame: &str) {
        self.0.text(&format!("{frame}\0")).await;
    }

    async fn subscribe(&mut self, id: &str, destination: &str) {
        self.send(&format!("SUBSCRIBE\nid:{id}\ndestination:{destination}\nreceipt:of-{id}\n\n")).await;
        assert_eq!(self.expect("RECEIPT").await.header("receipt-id"), format!("of-{id}"));
    }

    /// The next frame that is not a ping of WebSocket or a heart-beat.
    async fn next(&mut self) -> Frame {
        let text = within(SOON, "a frame", async {
            loop {
                let frame = self.0.frame().await.expect("a frame, not the end");
                if frame.opcode() != 9 && frame.payload != b"\n" {
                    assert_eq!(frame.first, 0x81, "{frame:?}");
                    return String::from_utf8(frame.payload).expect("UTF-8");
                }
            }
        })
        .await;
        let (head, body) = text.split_once("\n\n").expect("an empty line");
        let mut lines = head.lines();
        let command = lines.next().expect("a command").to_owned();
        let split = |line: &str| line.split_once(':').map(|(name, value)| (name.to_owned(), value.to_owned()));
        let headers = lines.map(|line| split(line).expect("a header")).collect();
        let body = body.strip_suffix('\0').expect("a NUL").to_owned();
        Frame { command, headers, body }
    }

    async fn expect(&mut self, command: &str) -> Frame {
        let frame = self.next().await;
        assert_eq!(frame.command, command, "{frame:?}");
        frame
    }

    /// An ERROR, and the end of the connection.
    async fn refused(&mut self) -> Frame {
        let error = self.expect("ERROR").await;
        assert_eq!(self.0.close_code().await, 1002);
        error
    }
}

/// Messages of clients, of native publishers and of the other node's log reach each subscription once and in order.
#[tokio::test]
async fn destinations_are_channels() {
    for log in [Log::Memory, Log::Redis] {
        let world = World::start(log, &["--stomp=/stomp"]).await;
        let node = &world.node;
        for version in ["1.0", "1.1", "1.2"] {
            let (mut one, mut two) = (Client::connected(node, version).await, Client::connected(node, version).await);
            for client in [&mut one, &mut two] {
                client.subscribe("id-/topic/a-b", "/topic/a b").await;
            }
            one.subscribe("id-other", "other").await;
            two.subscribe("again", "/topic/a b").await;
            for body in ["hello", "\"hello\"", "{\"n\":1, \"m\":[]}", "123", "", "Käse"] {
                one.send(&format!("SEND\ndestination:/topic/a b\nreceipt:r:1\n\n{body}")).await;
                let (first, second) = (one.next().await, one.next().await);
                let (receipt, message) = if first.command == "RECEIPT" { (first, second) } else { (second, first) };
                let expected = if version == "1.0" { "r:1" } else { "r\\c1" };
                // A header of 1.1 and later escapes its colon in both directions.
                assert!([expected, "r:1"].contains(&receipt.header("receipt-id")), "{receipt:?}");
                assert_eq!((message.command.as_str(), message.body.as_str()), ("MESSAGE", body));
                assert_eq!(message.header("destination"), "/topic/a b");
                assert_eq!(message.header("subscription"), "id-/topic/a-b");
                let mut ids = Vec::new();
                for _ in 0..2 {
                    let message = two.expect("MESSAGE").await;
                    assert_eq!(
                        (message.body.as_str(), message.header("content-length")),
                        (body, &*body.len().to_string())
                    );
                    ids.push(message.header("subscription").to_owned());
                }
                assert_eq!(ids, ["id-/topic/a-b", "again"], "once for each subscription");
            }
            let id = node.publish("/topic/a=20b", "{\"from\":\"outside\"}").await;
            for client in [&mut one, &mut two] {
                let message = client.expect("MESSAGE").await;
                assert_eq!(message.header("content-type"), "application/json");
                assert_eq!(message.header("message-id").replace("\\c", ":"), id, "the id is that of the log");
            }
            two.expect("MESSAGE").await;
            two.send("UNSUBSCRIBE\nid:again\nreceipt:1\n\n").await;
            two.expect("RECEIPT").await;
            two.send("UNSUBSCRIBE\nid:id-/topic/a-b\nreceipt:2\n\n").await;
            two.expect("RECEIPT").await;
            node.publish("/topic/a=20b", "1").await;
            node.publish("other", "2").await;
            assert_eq!((one.expect("MESSAGE").await.body, one.expect("MESSAGE").await.body), ("1".into(), "2".into()));
            two.send("DISCONNECT\nreceipt:bye\n\n").await;
            assert_eq!(two.expect("RECEIPT").await.header("receipt-id"), "bye", "and no message");
            assert_eq!(two.0.close_code().await, 1000);
        }
    }
}

#[tokio::test]
async fn frames_may_be_cut_and_joined_and_acknowledged() {
    let node = Node::start(&["--stomp=/stomp", "--heartbeat-seconds=1"]).await;
    let mut client = Client::open(&node).await;
    client.send("\n\r\nSTOMP\naccept-version:1.1,1.2,3.0\nheart-beat:0,1000\n\n").await;
    let connected = client.expect("CONNECTED").await;
    assert_eq!((connected.header("version"), connected.header("heart-beat")), ("1.2", "1000,0"));
    // Two frames and a part of a third one in one message, as bytes.
    let bytes = b"SUBSCRIBE\nid:0\ndestination:a\nack:client-individual\n\n\0\nSEND\ndestination:a\n\none\0SEND\ndesti";
    client.0.send(&websocket_frame(0x82, bytes)).await;
    client.0.text("nation:a\ncontent-length:5\n\nt\0w\0").await;
    client.0.text("o\0").await;
    let messages = [client.expect("MESSAGE").await, client.expect("MESSAGE").await];
    for (message, body) in messages.iter().zip(["one", "t\0w\0o"]) {
        assert_eq!((message.body.as_str(), message.header("ack")), (body, message.header("message-id")));
        for command in ["ACK", "NACK"] {
            client.send(&format!("{command}\nid:{}\nreceipt:{command}\n\n", message.header("ack"))).await;
            assert_eq!(client.expect("RECEIPT").await.header("receipt-id"), command);
        }
    }
    let beat = loop {
        let frame = client.0.frame().await.expect("a frame");
        if frame.opcode() == 1 {
            break frame.payload;
        }
    };
    assert_eq!(beat, b"\n");
    // A client that offers subprotocols gets one of them.
    for (offered, chosen) in
        [("v12.stomp, v11.stomp", Some("v12.stomp")), ("v10.stomp", Some("v10.stomp")), ("x", None)]
    {
        let answer = handshake("/stomp/websocket").header("Sec-WebSocket-Protocol", offered).open(node.http).await;
        assert_eq!((answer.status, answer.header("Sec-WebSocket-Protocol")), (101, chosen));
    }
    node.signal("TERM");
    assert_eq!(client.0.close_code().await, 1001);
}

/// One message may have a SEND and the DISCONNECT after it.
#[tokio::test]
async fn the_end_comes_after_the_answers() {
    for log in [Log::Memory, Log::Redis] {
        let world = World::start(log, &["--stomp=/stomp"]).await;
        let mut client = Client::connected(&world.node, "1.2").await;
        let sends = ["1", "2"].map(|n| format!("SEND\ndestination:a\nreceipt:{n}\n\n{n}\0")).concat();
        client.send(&format!("{sends}DISCONNECT\nreceipt:bye\n\n")).await;
        for receipt in ["1", "2", "bye"] {
            assert_eq!(client.expect("RECEIPT").await.header("receipt-id"), receipt);
        }
        assert_eq!(client.0.close_code().await, 1000);
    }
}

#[tokio::test]
async fn a_client_that_has_missed_messages_is_told() {
    let node = Node::start(&["--stomp=/stomp", "--retain-messages=50", "--send-buffer-bytes=8KiB"]).await;
    let mut client = Client::connected(&node, "1.2").await;
    client.subscribe("1", "a").await;
    let data = json!("x".repeat(50_000)).to_string();
    for _ in 0..200 {
        node.publish("a", &data).await;
    }
    let error = loop {
        let frame = client.next().await;
        if frame.command != "MESSAGE" {
            break frame;
        }
    };
    assert!(error.command == "ERROR" && error.body.contains("connect again"), "{error:?}");
    assert_eq!(client.0.close_code().await, 1013);
}

#[tokio::test]
async fn errors_end_the_connection_and_say_why() {
    let node = Node::start(&["--stomp=/stomp", "--request-timeout=1", "--max-message-bytes=1000"]).await;
    let (long, longer) = ("x".repeat(1001), "x".repeat(20_000));
    for (frame, hint) in [
        ("SEND\ndestination:a\n\nx", "must be CONNECT"),
        ("CONNECT\naccept-version:9\n\n", "1.0, 1.1 and 1.2"),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "a command of STOMP"),
        ("CONNECT", "an empty line"),
    ] {
        let mut client = Client::open(&node).await;
        client.send(frame).await;
        let error = client.refused().await;
        assert!(error.body.contains(hint), "{frame}: {error:?}");
    }
    for (frame, hint) in [
        ("BEGIN\ntransaction:1\nreceipt:7\n\n", "does not have transactions"),
        ("SEND\ndestination:a\ntransaction:1\nreceipt:7\n\nx", "does not have transactions"),
        ("SUBSCRIBE\nid:1\nreceipt:7\n\n", "destination is missing"),
        ("UNSUBSCRIBE\nid:1\nreceipt:7\n\n", "no subscription"),
        ("SUBSCRIBE\nid:1\ndestination:a\nack:maybe\nreceipt:7\n\n", "ack is auto"),
        (&format!("SEND\ndestination:a\nreceipt:7\n\n{long}"), "at most 1000 bytes"),
    ] {
        let mut client = Client::connected(&node, "1.2").await;
        client.send(frame).await;
        let error = client.refused().await;
        assert!(error.body.contains(hint) && error.header("receipt-id") == "7", "{frame}: {error:?}");
        assert!(error.header("message").contains(hint));
    }
    let mut client = Client::connected(&node, "1.2").await;
    client.send("SEND\ndestination:a\ncontent-length:1\n\nxy").await;
    assert!(client.refused().await.body.contains("count the bytes"));
    let mut client = Client::connected(&node, "1.2").await;
    client.send(&format!("SEND\ndestination:a\n\n{longer}")).await;
    client.expect("ERROR").await;
    assert_eq!(client.0.close_code().await, 1009);
    // A client that does not send CONNECT is not kept.
    let mut silent = Client::open(&node).await;
    silent.0.ended().await;
    assert!(node.get("/healthz").await.status == 200);
}

#[tokio::test]
async fn access_rules_decide() {
    let node = Node::start(&[&format!("--token-secret={SECRET}"), "--stomp=/stomp", "--public=news"]).await;
    let connect = async |header: &str| {
        let mut client = Client::open(&node).await;
        client.send(&format!("CONNECT\naccept-version:1.2\n{header}\n")).await;
        client
    };
    for header in [
        format!("login:me\npasscode:{}\n", may(&["a"], &["a"])),
        format!("login:{}\n", may(&["a"], &["a"])),
        format!("Authorization:Bearer {}\n", may(&["a"], &["a"])),
    ] {
        let mut client = connect(&header).await;
        client.expect("CONNECTED").await;
        client.subscribe("1", "a").await;
        client.send("SEND\ndestination:a\n\nhello").await;
        assert_eq!(client.expect("MESSAGE").await.body, "hello");
        client.send("SUBSCRIBE\nid:2\ndestination:b\n\n").await;
        assert!(client.refused().await.body.contains("not allowed: b"));
    }
    let mut forged = connect("passcode:a.b.c\n").await;
    forged.refused().await;
    let mut nobody = connect("").await;
    nobody.expect("CONNECTED").await;
    nobody.subscribe("1", "news").await;
    nobody.send("SEND\ndestination:news\n\nhello").await;
    nobody.refused().await;
    let origin = handshake("/stomp").header("Origin", "https://evil.example").open(node.http).await;
    assert_eq!(origin.status, 403);
}

/// The application hears of CONNECT, and gets what is sent to its destinations, like a controller of Spring.
#[tokio::test]
async fn the_application_answers() {
    let application = Application::start(|call| match (call["type"].as_str(), call["event"].as_str()) {
        (Some("connect"), _) if call["query"]["name"] == "mallory" => (200, json!({"refuse": {"message": "no"}})),
        (Some("connect"), _) => (200, json!({"user": {"id": "7"}})),
        (Some("event"), Some("/app/hello")) => {
            let greeting =
                json!({"content": format!("Hello, {}!", call["args"][0]["name"].as_str().unwrap_or_default())});
            let send = json!([{"event": "/user/queue/reply", "args": [greeting]}]);
            (200, json!({"publish": [{"channel": "/topic/greetings", "data": greeting}], "send": send}))
        }
        _ => (200, json!({"refuse": {"message": "there is no such destination"}})),
    })
    .await;
    let flags = [
        "--stomp=/stomp",
        "--stomp-app=/app/",
        &format!("--hook-url={}", application.url),
        "--hook-notify=connect,event,disconnect",
    ];
    let node = Node::start(&flags).await;
    let mut refused = Client(RawWebSocket::open(&node, "/stomp?name=mallory").await);
    refused.send("CONNECT\naccept-version:1.2\n\n").await;
    refused.refused().await;
    let mut client = Client::connected(&node, "1.2").await;
    client.subscribe("0", "/topic/greetings").await;
    client.subscribe("1", "/user/queue/reply").await;
    client.send("SEND\ndestination:/app/hello\nreceipt:5\n\n{\"name\":\"Ann\"}").await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        let frame = client.next().await;
        seen.push((frame.header("subscription").to_owned(), frame.header("receipt-id").to_owned(), frame.body));
    }
    seen.sort();
    let greeting = "{\"content\":\"Hello, Ann!\"}";
    let expected = [("", "5", ""), ("0", "", greeting), ("1", "", greeting)];
    assert_eq!(seen, expected.map(|(one, two, three)| (one.to_owned(), two.to_owned(), three.to_owned())));
    let connect = &application.calls("connect")[1];
    assert_eq!((&connect["protocol"], &connect["endpoint"]), (&json!("stomp"), &json!("/stomp")));
    let event = &application.calls("event")[0];
    assert_eq!((&event["user"]["id"], &event["session"]), (&json!("7"), &connect["session"]));
    client.send("SEND\ndestination:/app/other\nreceipt:6\n\nx").await;
    let error = client.refused().await;
    assert_eq!(error.header("receipt-id"), "6", "{error:?}");
    let ended = application.wait("disconnect", 1).await;
    assert_eq!(ended[0]["reason"], "close");
}

/// Connections with the same subscriptions share the bytes of a message.
#[tokio::test]
async fn a_message_is_encoded_once_for_equal_subscribers() {
    let node = Node::start(&["--stomp=/stomp"]).await;
    let mut clients = Vec::new();
    for _ in 0..10 {
        let mut client = Client::connected(&node, "1.2").await;
        client.subscribe("sub-0", "/topic/a").await;
        clients.push(client);
    }
    let encoded = async || node.metric("longtail_encodings_total").await;
    let before = encoded().await;
    for n in 0..20 {
        node.publish("/topic/a", &n.to_string()).await;
        for client in &mut clients {
            let message = client.expect("MESSAGE").await;
            assert_eq!((message.header("subscription"), &*message.body), ("sub-0", &*n.to_string()));
        }
    }
    assert_eq!(encoded().await - before, 20.0, "once for each message");
}

#[tokio::test]
async fn mistakes_in_the_flags_are_named() {
    for (flags, mistake) in [
        (&["--stomp=stomp"][..], "use a path such as /stomp"),
        (&["--stomp=/a", "--stomp=/a"], "twice"),
        (&["--stomp=/ws"], "for something else"),
        (&["--stomp=/a", "--raw-websocket=/a=b"], "for something else"),
        (&["--stomp=/a", "--stomp-app=/app/"], "set --hook-url or --hook-stream"),
        (&["--stomp-app=/app/", "--hook-url=http://127.0.0.1:1/"], "needs --stomp"),
    ] {
        // A path that is in use is found only when the server listens.
        let flags = [flags, &["--listen=127.0.0.1:0", "--tcp-listen=off"]].concat();
        let (code, said) = run_to_end(&flags).await;
        assert!(said.contains(mistake), "{flags:?}: {code:?} {said}");
    }
}
