//! `longtail demo`: the effect of the ports of its fault proxy on the bytes that pass, over raw sockets. A server
//! without the command does not have these ports.

use crate::support;

use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use support::server::run_to_end;
use support::websocket::{RawWebSocket, handshake};
use support::{LineClient, Node, Request, Response, SOON, eventually, within};

const CLIENT: &str = "0b1c2d3e-4f50-4a6b-8c7d-9e0f1a2b3c4d";

/// A demo and its ports.
struct Demo {
    node: Node,
    info: Value,
}

impl Demo {
    async fn start() -> Demo {
        let node = Node::start(&["demo"]).await;
        let info = node.get("/info").await.json();
        Demo { node, info }
    }

    fn port(&self, lane: &str) -> SocketAddr {
        let address = self.info["demo"]["ports"][lane].as_str().unwrap_or_else(|| panic!("a port for {lane}"));
        address.parse().expect("an address")
    }

    async fn inject(&self, faults: Value) {
        let answer = Request::post("/demo/weather", faults.to_string().as_bytes()).send(self.node.http).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// A stream through its port, read up to its hello.
    async fn sse(&self) -> Response {
        let mut response = Request::get("/sse?channel=a").open(self.port("sse")).await;
        read_until(&mut response, "event: hello").await;
        response
    }
}

/// Reads until a text has arrived.
async fn read_until(response: &mut Response, text: &str) {
    within(SOON, &format!("{text:?} in a body"), async {
        while !String::from_utf8_lossy(&response.body).contains(text) {
            assert!(response.read_some().await.is_some(), "the end, without {text:?}");
        }
    })
    .await;
}

/// Reads until the connection is cut.
async fn cut(address: SocketAddr, request: Request) -> Duration {
    let began = Instant::now();
    if let Some(mut response) = within(SOON, "an answer or the cut", request.try_open(address)).await {
        response.cut_off().await;
    }
    began.elapsed()
}

#[tokio::test]
async fn without_the_demo_there_is_none_of_it() {
    let node = Node::start(&[]).await;
    for path in ["/demo/weather", "/demo/wire?client=x", "/demo/applet?channel=a", "/demo/frame"] {
        assert_eq!(node.get(path).await.error_code(), "not_found", "{path}");
    }
    assert_eq!(Request::post("/demo/weather", b"{}").send(node.http).await.error_code(), "not_found");
    let info = node.get("/info").await.json();
    assert!(info.get("demo").is_none(), "{info}");
    assert!(!node.log().contains("faults"), "{}", node.log());
}

#[tokio::test]
async fn the_switches_and_who_may_touch_them() {
    let demo = Demo::start().await;
    let none = demo.node.get("/demo/weather").await.json();
    assert_eq!(none["hold_bytes"], 0);
    demo.inject(json!({"hold_bytes": 4096, "http10": true})).await;
    let set = demo.node.get("/demo/weather").await.json();
    assert_eq!((set["hold_bytes"].as_u64(), set["http10"].as_bool()), (Some(4096), Some(true)));
    for (bad, code) in [
        ("", "bad_json"),
        ("7", "bad_json"),
        (r#"{"hold_bytes":-1}"#, "bad_json"),
        (r#"{"rain":true}"#, "bad_json"),
        (r#"{"hold_bytes":262145}"#, "bad_request"),
        (r#"{"cut_seconds":3601}"#, "bad_request"),
        (r#"{"latency_ms":10001}"#, "bad_request"),
    ] {
        let answer = Request::post("/demo/weather", bad.as_bytes()).send(demo.node.http).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (400, code), "{bad}");
        assert!(!answer.text().contains("rain"), "what was sent is not repeated: {}", answer.text());
    }
    let large = Request::post("/demo/weather", &[b' '; 5000]).send(demo.node.http).await;
    assert_eq!(large.error_code(), "too_large");
    assert_eq!(demo.node.get("/demo/weather").await.json(), set, "a refusal changes nothing");
    assert_eq!(Request::new("DELETE", "/demo/weather").send(demo.node.http).await.status, 405);

    // The same rules as everywhere, on the server's own port and through the proxy.
    for address in [demo.node.http, demo.port("sse")] {
        let wire = format!("/demo/wire?client={CLIENT}");
        for path in ["/demo/weather", "/demo/frame", "/demo/applet?channel=a", &wire] {
            let foreign = Request::get(path).header("Origin", "http://evil.example").send(address).await;
            assert_eq!(foreign.error_code(), "forbidden_origin", "{path}");
            assert_eq!(Request::get(path).host("evil.example").send(address).await.error_code(), "forbidden", "{path}");
        }
        let foreign = Request::post("/demo/weather", b"{}").header("Origin", "http://evil.example").send(address).await;
        assert_eq!(foreign.error_code(), "forbidden_origin");
    }
}

#[tokio::test]
async fn how_it_may_not_be_started() {
    let free = ["--listen", "127.0.0.1:0", "--tcp-listen", "off"];
    let cases: [(&[&str], &str); 3] = [
        (&["--weather-listen", "0.0.0.0:0"], "--weather-listen"),
        (&["--authorize-url", "http://127.0.0.1:1/"], "--authorize-url"),
        (&["--weather-listen", "127.0.0.1:65533"], "--weather-listen"),
    ];
    for (args, named) in cases {
        let (code, said) = run_to_end(&[&["demo"], &free[..], args].concat()).await;
        assert!(matches!(code, 64 | 71) && said.contains(named), "{args:?}: {code} {said}");
    }
    // A flag in front of the command would have no effect.
    let (code, said) = run_to_end(&["--listen", "127.0.0.1:0", "demo"]).await;
    assert_eq!(code, 64, "{said}");
    // The environment applies to both the server and the demo.
    let node = Node::start(&["demo", "LONGTAIL_MAX_CHANNELS=2"]).await;
    assert_eq!(node.get("/info").await.json()["limits"]["max_channels"], 2);
}

#[tokio::test]
async fn everything_passes_without_faults() {
    let demo = Demo::start().await;
    let mut sse = demo.sse().await;
    let mut tcp = LineClient::connect(demo.port("tcp")).await;
    tcp.send(r#"{"type":"subscribe","channels":["a"]}"#).await;
    assert_eq!(tcp.json().await["type"], "hello");
    assert_eq!(handshake("/ws?channel=a").open(demo.port("ws")).await.status, 101);
    demo.node.publish("a", "1").await;
    read_until(&mut sse, r#""data":1"#).await;
    // Several requests on one connection, through each port.
    for lane in ["poll", "hop", "jsonp", "long-poll"] {
        let answer = Request::get("/poll?channel=a&cursor=earliest").send(demo.port(lane)).await;
        assert_eq!(answer.json()["messages"][0]["data"], 1, "{lane}");
    }
    let posted = Request::post("/publish?channel=a", &[b'x'; 40_000]).send(demo.port("hop")).await;
    assert_eq!(posted.status, 200);
}

#[tokio::test]
async fn held_back_until_there_is_enough_or_the_end() {
    let demo = Demo::start().await;
    let mut open = demo.sse().await;
    demo.inject(json!({"hold_bytes": 8192})).await;
    // An answer that ends arrives completely, also on a connection that is kept open.
    let answer = Request::get("/poll?channel=a").send(demo.port("poll")).await;
    assert_eq!(answer.status, 200);
    // A WebSocket is not an answer.
    let mut socket = RawWebSocket::open_at(demo.port("ws"), "/ws?channel=a").await;
    assert_eq!(socket.frame().await.expect("a frame").json()["type"], "hello");
    // A stream that was open before, and a stream that is opened now.
    let opening = tokio::spawn({
        let port = demo.port("xhr-stream");
        async move { Request::get("/ndjson?channel=a").open(port).await }
    });
    demo.node.publish("a", r#""small""#).await;
    assert_eq!(socket.frame().await.expect("a frame").json()["data"], "small");
    let silent = tokio::time::timeout(Duration::from_millis(400), open.read_some()).await;
    assert!(silent.is_err(), "held back: {silent:?}");
    assert!(!opening.is_finished(), "not even the head");
    // These bytes are enough to pass the threshold.
    let large = format!("\"{}\"", "x".repeat(9000));
    demo.node.publish("a", &large).await;
    read_until(&mut open, "small").await;
    read_until(&mut open, "xxx").await;
    // The fault is switched off while bytes are held back.
    let answer = opening.await.expect("opened");
    assert_eq!(answer.status, 200);
    demo.node.publish("a", r#""then""#).await;
    let silent = tokio::time::timeout(Duration::from_millis(200), open.read_some()).await;
    assert!(silent.is_err(), "held back: {silent:?}");
    demo.inject(json!({})).await;
    read_until(&mut open, "then").await;
}

#[tokio::test]
async fn cut_after_a_time() {
    let demo = Demo::start().await;
    let mut open = demo.sse().await;
    demo.inject(json!({"cut_seconds": 2})).await;
    open.cut_off().await;
    for path in ["/sse?channel=a", "/long-poll?channel=a&timeout=20"] {
        let lived = cut(demo.port("sse"), Request::get(path)).await;
        assert!(lived > Duration::from_millis(1900) && lived < Duration::from_secs(15), "{path} lived for {lived:?}");
    }
    assert_eq!(Request::get("/poll?channel=a").send(demo.port("poll")).await.status, 200);
    let mut tcp = LineClient::connect(demo.port("tcp")).await;
    tcp.send(r#"{"type":"subscribe","channels":["a"]}"#).await;
    while tcp.line().await.is_some() {}
    demo.inject(json!({})).await;
    let mut after = demo.sse().await;
    let silent = tokio::time::timeout(Duration::from_millis(2500), after.read_some()).await;
    assert!(silent.is_err(), "not cut any more: {silent:?}");
}

#[tokio::test]
async fn old_http() {
    let demo = Demo::start().await;
    demo.inject(json!({"http10": true})).await;
    let answer = Request::get("/poll?channel=a").open(demo.port("poll")).await;
    assert_eq!((answer.status, answer.version.as_str()), (200, "HTTP/1.0"));
    let mut stream = Request::get("/sse?channel=a").open(demo.port("sse")).await;
    assert_eq!(stream.header("transfer-encoding"), None, "no chunks in HTTP/1.0");
    read_until(&mut stream, "hello").await;
    assert_ne!(handshake("/ws?channel=a").open(demo.port("ws")).await.status, 101);
}

#[tokio::test]
async fn the_upgrade_is_lost() {
    let demo = Demo::start().await;
    let mut open = RawWebSocket::open_at(demo.port("ws"), "/ws?channel=a").await;
    assert_eq!(open.frame().await.expect("a frame").json()["type"], "hello");
    demo.inject(json!({"strip_upgrade": true})).await;
    open.ended().await;
    assert_ne!(handshake("/ws?channel=a").open(demo.port("ws")).await.status, 101);
    demo.sse().await;
    demo.inject(json!({})).await;
    assert_eq!(handshake("/ws?channel=a").open(demo.port("ws")).await.status, 101);
}

#[tokio::test]
async fn websockets_die_young() {
    let demo = Demo::start().await;
    let mut sse = demo.sse().await;
    let mut open = RawWebSocket::open_at(demo.port("ws"), "/ws?channel=a").await;
    demo.inject(json!({"kill_websockets": true})).await;
    open.ended().await;
    let mut young = RawWebSocket::open_at(demo.port("ws"), "/ws?channel=a").await;
    assert_eq!(young.frame().await.expect("a frame").json()["type"], "hello", "it looks as if it worked");
    young.ended().await;
    demo.node.publish("a", "7").await;
    read_until(&mut sse, r#""data":7"#).await;
}

#[tokio::test]
async fn everything_is_late() {
    let demo = Demo::start().await;
    demo.inject(json!({"latency_ms": 300})).await;
    let began = Instant::now();
    assert_eq!(Request::get("/poll?channel=a").send(demo.port("poll")).await.status, 200);
    assert!(began.elapsed() >= Duration::from_millis(600), "there and back: {:?}", began.elapsed());
    // Bytes under way arrive in order, however the latency changes.
    let mut sse = demo.sse().await;
    for n in 0..20 {
        demo.node.publish("a", &n.to_string()).await;
        if n == 10 {
            demo.inject(json!({})).await;
        }
    }
    read_until(&mut sse, r#""data":19"#).await;
    let text = String::from_utf8_lossy(&sse.body).into_owned();
    let places: Vec<_> = (0..20).map(|n| text.find(&format!("\"data\":{n}}}")).expect("all of them")).collect();
    assert!(places.is_sorted(), "{text}");
}

#[tokio::test]
async fn nothing_but_http() {
    let demo = Demo::start().await;
    let mut tcp = LineClient::connect(demo.port("tcp")).await;
    tcp.send(r#"{"type":"subscribe","channels":["a"]}"#).await;
    assert_eq!(tcp.json().await["type"], "hello");
    demo.inject(json!({"http_only": true})).await;
    while tcp.line().await.is_some() {}
    let mut tcp = LineClient::connect(demo.port("tcp")).await;
    tcp.send(r#"{"type":"subscribe","channels":["a"]}"#).await;
    assert_eq!(tcp.line().await, None);
    demo.sse().await;
}

/// Returns the events that a watcher gets, and reads until they are enough.
async fn told(wire: &mut Response, enough: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    within(SOON, "events of the wire", async {
        loop {
            let text = String::from_utf8_lossy(&wire.body).into_owned();
            let (whole, _) = text.rsplit_once("\n\n").unwrap_or_default();
            let lines = whole.lines().filter_map(|line| line.strip_prefix("data: ["));
            let lists = lines.map(|line| serde_json::from_str::<Vec<Value>>(&format!("[{line}")).expect("JSON"));
            let events: Vec<Value> = lists.flatten().collect();
            if enough(&events) {
                return events;
            }
            assert!(wire.read_some().await.is_some(), "the end after {events:?}");
        }
    })
    .await
}

fn bytes_of(event: &Value) -> String {
    use base64::Engine as _;
    let data = event["data"].as_str().unwrap_or_default();
    let bytes = base64::engine::general_purpose::STANDARD.decode(data).expect("base64");
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn a_page_sees_the_bytes_of_its_own_requests() {
    let demo = Demo::start().await;
    let mut wire = Request::get(&format!("/demo/wire?client={CLIENT}")).open(demo.node.http).await;
    read_until(&mut wire, "event: weather").await;
    let other = "ffffffff-4f50-4a6b-8c7d-9e0f1a2b3c4d";
    Request::get(&format!("/poll?channel=a&client={other}")).send(demo.port("poll")).await;
    let path = format!("/poll?channel=a&client={CLIENT}");
    Request::get(&path).header("X-Own", "yes").header("Cookie", "session=secret").send(demo.port("poll")).await;
    let ended = |events: &[Value]| events.iter().any(|event| event["mark"] == "end");
    let events = told(&mut wire, ended).await;
    let whats: Vec<_> = events.iter().map(|event| event["what"].as_str().expect("what")).collect();
    assert_eq!(whats[..2], ["open", "sent"], "{events:?}");
    assert!(events.iter().all(|event| event["lane"] == "poll"), "of the lane poll: {events:?}");
    let sent = bytes_of(&events[1]);
    assert!(sent.starts_with(&format!("GET {path} HTTP/1.1\r\n")) && sent.contains("X-Own: yes"), "{sent}");
    assert!(!events.iter().any(|event| bytes_of(event).contains("secret")), "cookies are not shown: {events:?}");
    let answered = events.iter().find(|event| event["what"] == "answered").expect("an answer");
    assert!(bytes_of(answered).starts_with("HTTP/1.1 200 OK\r\n"), "{answered}");
    assert!(!events.iter().any(|event| bytes_of(event).contains(other)), "somebody else's: {events:?}");

    // The record also has the rewritten head and the end of the connection.
    demo.inject(json!({"http10": true})).await;
    Request::get(&path).send(demo.port("poll")).await;
    let events = told(&mut wire, |events| events.iter().any(|event| event["what"] == "rewritten")).await;
    let rewritten = events.iter().find(|event| event["what"] == "rewritten").expect("rewritten");
    assert!(bytes_of(rewritten).contains(" HTTP/1.0\r\n"), "{}", bytes_of(rewritten));
}

#[tokio::test]
async fn the_applet_is_a_tcp_client_whose_bytes_are_seen() {
    let demo = Demo::start().await;
    let mut wire = Request::get(&format!("/demo/wire?client={CLIENT}")).open(demo.node.http).await;
    let first = demo.node.publish("a", r#""kept""#).await;
    let from = demo.node.publish("a", r#""from""#).await;
    let path = format!("/demo/applet?channel=a&client={CLIENT}&cursor={first}");
    let mut applet = Request::get(&path).open(demo.node.http).await;
    read_until(&mut applet, &from).await;
    demo.node.publish("a", r#""live""#).await;
    read_until(&mut applet, "live").await;
    let text = String::from_utf8_lossy(&applet.body).into_owned();
    assert!(text.contains(r#""type":"hello""#) && !text.contains("kept"), "{text}");
    let live = |event: &Value| event["what"] == "answered" && bytes_of(event).contains("live");
    let events = told(&mut wire, |events| events.iter().any(live)).await;
    assert!(events.iter().all(|event| event["lane"] == "tcp"), "of the lane tcp: {events:?}");
    let sent = events.iter().find(|event| event["what"] == "sent").expect("the command");
    assert!(bytes_of(sent).starts_with('{') && bytes_of(sent).ends_with("}\n"), "{}", bytes_of(sent));
    // The applet ends when the page ends.
    drop(applet);
    told(&mut wire, |events| events.iter().any(|event| event["what"] == "closed")).await;
    for (query, code) in [("channel=", "bad_channel"), ("cursor=1", "bad_cursor"), ("", "bad_channel")] {
        assert_eq!(demo.node.get(&format!("/demo/applet?{query}")).await.error_code(), code, "{query}");
    }
}

#[tokio::test]
async fn watchers_have_a_bound() {
    let demo = Demo::start().await;
    let path = format!("/demo/wire?client={CLIENT}");
    let mut watching = Vec::new();
    for _ in 0..32 {
        watching.push(Request::get(&path).open(demo.node.http).await);
    }
    assert_eq!(demo.node.get(&path).await.error_code(), "too_many_connections");
    watching.clear();
    eventually("room for another", async || {
        let answer = Request::get(&path).open(demo.node.http).await;
        (answer.status == 200).then_some(())
    })
    .await;
    assert_eq!(demo.node.get("/demo/wire").await.error_code(), "bad_request");
}

/// The bytes under way on a path are bounded: the sender has to wait.
#[tokio::test]
async fn little_is_under_way_at_a_time() {
    const UNDER_WAY: u64 = (256 + 16) << 10;
    let demo = Demo::start().await;
    let mut wire = Request::get(&format!("/demo/wire?client={CLIENT}")).open(demo.node.http).await;
    let path = format!("/ndjson?channel=a&client={CLIENT}");
    let mut stream = Request::get(&path).open(demo.port("sse")).await;
    read_until(&mut stream, "hello").await;
    demo.inject(json!({"latency_ms": 2000})).await;
    let large = format!("\"{}\"", "x".repeat(60_000));
    // The batches are sent at once, so that they are under way together.
    for _ in 0..2 {
        demo.node.publish_all("a", &vec![large.clone(); 10]).await;
    }
    demo.node.publish("a", r#""the last""#).await;
    read_until(&mut stream, "the last").await;
    let sum = |events: &[Value], what: &str| -> u64 {
        let some = events.iter().filter(|event| event["what"] == what);
        some.map(|event| event["bytes"].as_u64().expect("bytes")).sum()
    };
    let events = told(&mut wire, |events| sum(events, "delivered") > 1_200_000).await;
    let most = (0..events.len()).map(|n| sum(&events[..=n], "answered") - sum(&events[..=n], "delivered")).max();
    let most = most.expect("events");
    assert!(most > 200_000, "the path was full: {most}");
    assert!(most <= UNDER_WAY, "{most} bytes under way");
}

#[tokio::test]
async fn connections_have_a_bound() {
    let demo = Demo::start().await;
    let mut open = Vec::new();
    for _ in 0..512 {
        let mut answer = Request::get("/ndjson?channel=a").open(demo.port("sse")).await;
        read_until(&mut answer, "hello").await;
        open.push(answer);
    }
    let answer = Request::get("/poll?channel=a").try_send(demo.port("poll")).await;
    assert!(answer.is_none(), "one too many is answered {:?}", answer.map(|answer| answer.status));
    open.clear();
    eventually("room for another", async || {
        let answer = Request::get("/poll?channel=a").try_send(demo.port("poll")).await?;
        (answer.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn it_drains() {
    let mut demo = Demo::start().await;
    let _open = demo.sse().await;
    let _wire = Request::get(&format!("/demo/wire?client={CLIENT}")).open(demo.node.http).await;
    let _applet = Request::get("/demo/applet?channel=a").open(demo.node.http).await;
    demo.node.signal("TERM");
    assert_eq!(demo.node.exit_code().await, 0);
}
