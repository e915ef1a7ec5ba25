//! The connection of a client: its beginning, its end, and frames that are not those of the protocol.

use crate::support::pusher::{APP, KEY, PusherClient, trigger};
use crate::support::server::run_to_end;
use crate::support::websocket::{RawWebSocket, frame};
use crate::support::{Node, Request, eventually};
use serde_json::json;
use std::time::{Duration, Instant};

const APPS: &str = r#"[
    {"id":1,"key":"app-key","secret":"app-secret"},
    {"id":2,"key":"off","secret":"s","enabled":false},
    {"id":3,"key":"small","secret":"s","max_connections":1}
]"#;

/// A file with apps, which is removed at the end.
struct Apps(std::path::PathBuf);

impl Apps {
    fn new(name: &str, text: &str) -> Apps {
        let path = std::env::temp_dir().join(format!("longtail-{}-{name}.json", std::process::id()));
        std::fs::write(&path, text).expect("written");
        Apps(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("a path")
    }
}

impl Drop for Apps {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Each refusal is an error and a close frame, since scripts cannot read the status of a handshake.
#[tokio::test]
async fn refused_connections_get_the_code_that_their_library_obeys() {
    let apps = Apps::new("refused", APPS);
    let node = Node::start(&["--pusher-apps", apps.path()]).await;
    let _first = RawWebSocket::open(&node, "/app/small?protocol=7").await;
    for (target, code) in [
        ("/app/unknown?protocol=7", 4001),
        ("/app/off?protocol=7", 4003),
        ("/app/small?protocol=7", 4004),
        ("/app/app-key?protocol=x", 4006),
        ("/app/app-key?protocol=4", 4007),
        ("/app/app-key?protocol=8", 4007),
        ("/app/app-key", 4008),
    ] {
        let mut socket = RawWebSocket::open(&node, target).await;
        let error = socket.frame().await.expect("an error").json();
        assert_eq!((&error["event"], &error["data"]["code"]), (&json!("pusher:error"), &json!(code)), "{target}");
        assert_eq!(socket.close_code().await, code, "{target}");
        assert!(socket.frame().await.is_none(), "{target}");
    }
    for version in [5, 6, 7] {
        let mut socket = RawWebSocket::open(&node, &format!("/app/app-key?protocol={version}")).await;
        let frame = socket.frame().await.expect("a frame").json();
        assert_eq!(frame["event"], "pusher:connection_established", "{version}");
    }
    // A connection that has ended does not count any more.
    drop(_first);
    eventually("room for a connection", async || {
        let mut socket = RawWebSocket::open(&node, "/app/small?protocol=7").await;
        let frame = socket.frame().await?.json();
        (frame["event"] == "pusher:connection_established").then_some(())
    })
    .await;
    assert_eq!(node.get("/app/app-key?protocol=7").await.status, 400, "not a handshake");
    assert_eq!(node.get("/app/").await.status, 404);
}

#[tokio::test]
async fn pages_of_every_origin_may_connect_and_pings_are_answered() {
    // With --open, /metrics does not need a key.
    let node = Node::start(&["--pusher-app", APP, "--open"]).await;
    let handshake = crate::support::websocket::handshake(&format!("/app/{KEY}?protocol=7"));
    let mut socket = RawWebSocket::open_by(node.http, handshake.header("Origin", "https://app.example")).await;
    assert_eq!(socket.frame().await.expect("a frame").json()["event"], "pusher:connection_established");
    let (mut one, mut other) = (PusherClient::open(&node).await, PusherClient::open(&node).await);
    assert_ne!(one.id, other.id);
    one.expect_nothing().await;
    // Events of newer versions are ignored, and mistakes do not end the connection.
    one.send("pusher:new_event", json!({})).await;
    one.send("pusher:pong", json!({})).await;
    for text in ["", "[]", "{", r#"{"event":"pusher:subscribe","data":{}}"#, r#"{"event":5}"#] {
        one.socket.text(text).await;
        let error = one.expect("pusher:error").await;
        assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{text}: {error}");
    }
    one.expect_nothing().await;
    let long = json!({ "event": "client-a", "data": "x".repeat(200_000) }).to_string();
    other.socket.text(&long).await;
    assert_eq!(other.socket.close_code().await, 1009);
    let info = node.get("/info").await.json();
    assert_eq!(info["pusher"], json!({ "path": "/app", "protocols": [5, 6, 7] }));
    assert!(node.metric("longtail_pusher_refused_total{reason=\"frame\"}").await >= 5.0);
}

/// The codes 4000 to 4004 mean something else to these clients. They come back at once, so their ends are spread.
#[tokio::test]
async fn a_drain_tells_clients_one_by_one_to_come_back_at_once() {
    let mut node = Node::start(&["--pusher-app", APP, "--drain-seconds", "4"]).await;
    let mut clients = Vec::new();
    for n in 0..16 {
        let mut client = PusherClient::open(&node).await;
        if n % 2 == 0 {
            client.subscribe("a").await;
        }
        clients.push(client);
    }
    let began = Instant::now();
    node.signal("TERM");
    let ends = clients.iter_mut().map(async |client| {
        assert_eq!(client.socket.close_code().await, 4200);
        began.elapsed()
    });
    let mut ends = futures_util::future::join_all(ends).await;
    ends.sort_unstable();
    let spread = ends[15] - ends[0];
    assert!(spread > Duration::from_secs(1) && ends[15] < Duration::from_secs(4), "{ends:?}");
    node.exit_code().await;
}

/// A client that is silent does not stay a member. One that only answers pings stays.
#[tokio::test]
async fn a_client_that_does_not_answer_pings_is_left() {
    let node = Node::start(&["--pusher-app", APP, "--heartbeat-seconds", "1"]).await;
    let (mut silent, mut alive) = (PusherClient::open(&node).await, PusherClient::open(&node).await);
    silent.subscribe("a").await;
    alive.subscribe("a").await;
    let began = Instant::now();
    let (code, ()) = tokio::join!(silent.socket.close_code(), async {
        // Messages are not a reason for the server to be silent: without its pings, the client has nothing to answer.
        while began.elapsed() < Duration::from_secs(6) {
            trigger(&node, "a", "n", "1").await;
            let until = tokio::time::Instant::now() + Duration::from_millis(200);
            while let Ok(Some(got)) = tokio::time::timeout_at(until, alive.socket.frame()).await {
                if got.opcode() == 9 {
                    alive.socket.send(&frame(0x8a, b"")).await;
                }
            }
        }
    });
    assert_eq!(code, 4200);
    alive.expect_nothing().await;
}

/// A client that has missed messages gets everything anew with a new connection: no frame could tell it.
#[tokio::test]
async fn a_client_that_has_missed_messages_comes_back() {
    let flags = ["--pusher-app", APP, "--retain-messages", "50", "--send-buffer-bytes", "8KiB"];
    let node = Node::start(&flags).await;
    let (mut slow, mut other) = (PusherClient::open(&node).await, PusherClient::open(&node).await);
    slow.subscribe("a").await;
    other.subscribe("b").await;
    let data = json!("x".repeat(50_000)).to_string();
    for _ in 0..200 {
        trigger(&node, "a", "n", &data).await;
    }
    assert_eq!(slow.socket.close_code().await, 4200);
    trigger(&node, "b", "n", "1").await;
    other.expect("n").await;
}

/// Client libraries do not repeat a command that was refused.
#[tokio::test]
async fn commands_over_the_rate_limit_wait() {
    let node = Node::start(&["--pusher-app", APP, "--request-rate", "5"]).await;
    let mut client = PusherClient::open(&node).await;
    for n in 0..12 {
        client.send("pusher:subscribe", json!({ "channel": format!("a{n}") })).await;
    }
    for n in 0..12 {
        let frame = client.next().await;
        assert_eq!(frame["event"], "pusher_internal:subscription_succeeded", "{frame}");
        assert_eq!(frame["channel"], format!("a{n}"));
    }
}

#[tokio::test]
async fn mistakes_in_flags_and_files_are_told_at_start() {
    for (text, fix) in [
        ("[", "EOF while parsing"),
        (r#"[{"id":"1","key":"a"}]"#, "missing field `secret` at line 1"),
        (r#"[{"id":"1","key":"a","secret":"s","webhook":[]}]"#, "unknown field `webhook`"),
        (r#"[{"id":"1","key":"a","secret":"s","webhooks":[{"url":"ftp://a"}]}]"#, "use a URL such as"),
        (r#"[{"id":"1","key":"a","secret":"s"},{"id":"1","key":"b","secret":"s"}]"#, "have the id 1"),
    ] {
        let apps = Apps::new("mistakes", text);
        let (code, said) = run_to_end(&["--pusher-apps", apps.path()]).await;
        assert!(code == 64 && said.contains(fix), "{text}: {code} {said}");
    }
    let apps = Apps::new("pattern", r#"[{"id":"1","key":"a","secret":"s","redis_pattern":"push:a*"}]"#);
    let (code, said) = run_to_end(&["--pusher-apps", apps.path()]).await;
    assert!(code == 64 && said.contains("redis_pattern needs --redis"), "{code} {said}");
    let (code, said) = run_to_end(&["--pusher-apps", apps.path(), "--redis", "redis://127.0.0.1:1/"]).await;
    assert!(code == 64 && said.contains("`push:*` and `push:a*` overlap"), "{code} {said}");
    let (code, said) = run_to_end(&["--pusher-apps", "/nowhere.json"]).await;
    assert!(code == 64 && said.contains("/nowhere.json"), "{code} {said}");
    let (code, said) = run_to_end(&["--pusher-app", "1:key:"]).await;
    assert!(code == 64 && said.contains("the secret is empty"), "{code} {said}");
    let (code, said) = run_to_end(&["--pusher-app", "1:key"]).await;
    assert!(code == 64 && !said.contains("1:key'"), "a secret is not repeated: {code} {said}");
}

/// The keys of apps are not credentials for native paths.
#[tokio::test]
async fn native_paths_are_closed_without_an_access_flag() {
    let node = Node::start(&["--listen", "0.0.0.0:0", "--pusher-app", APP]).await;
    assert_eq!(node.get("/poll?channel=a").await.status, 401);
    assert_eq!(Request::post("/publish?channel=1/a", b"1").send(node.http).await.status, 401);
    PusherClient::open(&node).await.subscribe("a").await;
}
