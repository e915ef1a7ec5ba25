//! Polls with sealed ids: the client brings what the next GET has to know, so a GET makes no call to Redis.

use super::polling::{P4, three_nodes};
use super::*;
use crate::support::{RedisServer, SOON, within};
use futures_util::future::join_all;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

const P3: &str = "/socket.io/?EIO=3&transport=polling";
const TIMES: [&str; 4] = ["--socketio-ping-interval", "0.1", "--socketio-ping-timeout", "8"];

/// The length of the id of a record.
const PLAIN: usize = 27;

async fn application() -> Application {
    Application::start(|call| match (call["type"].as_str(), call["event"].as_str()) {
        (Some("connect"), _) => (200, json!({ "user": { "id": "7" }, "rooms": ["room"] })),
        (_, Some("ask")) => (200, json!({ "send": [{ "event": "sent", "args": [1] }], "ack": call["args"] })),
        (_, Some("many")) => (200, json!({ "rooms": (0..90).map(|n| format!("room {n}")).collect::<Vec<_>>() })),
        (_, Some("later")) => (200, json!({ "ttl": 60 })),
        (_, Some("meet")) => (200, json!({ "rooms": ["members"] })),
        _ => (204, Value::Null),
    })
    .await
}

/// A page that polls, as the published clients do: it uses the newest id.
struct Page {
    base: &'static str,
    /// The nodes, which get one request after the other.
    nodes: Vec<SocketAddr>,
    sid: String,
    stamp: usize,
    follows: bool,
}

impl Page {
    async fn open(nodes: &[SocketAddr], base: &'static str) -> Page {
        let (nodes, sid) = (nodes.to_vec(), String::new());
        let mut page = Page { base, nodes, sid, stamp: 0, follows: true };
        let body = page.send(Request::get(base)).await.1;
        page.read(&body);
        page
    }

    /// A page whose main namespace is connected, and which has a sealed id.
    async fn sealed(nodes: &[SocketAddr]) -> Page {
        let mut page = Page::open(nodes, P4).await;
        page.post("40").await;
        page.until("40{").await;
        while page.sid.len() <= PLAIN {
            page.get().await;
        }
        page
    }

    fn target(&mut self) -> String {
        self.stamp += 1;
        format!("{}&sid={}&t=s{}", self.base, self.sid, self.stamp)
    }

    async fn send(&mut self, request: Request) -> (u16, String) {
        self.nodes.rotate_left(1);
        let answer = request.header("User-Agent", "Mozilla/5.0").send(self.nodes[0]).await;
        (answer.status, answer.text())
    }

    /// The packets of an answer. A new id is used from now on.
    fn read(&mut self, body: &str) -> Vec<String> {
        let mut packets: Vec<String> = match self.base {
            P3 => body.split_inclusive('}').map(|part| part.split_once(':').map_or("", |it| it.1).to_owned()).collect(),
            _ => body.split('\u{1e}').map(str::to_owned).collect(),
        };
        if packets[0].starts_with("0{") {
            let open: Value = serde_json::from_str(&packets.remove(0)[1..]).expect("JSON");
            if self.follows || self.sid.is_empty() {
                self.sid = open["sid"].as_str().expect("an id").to_owned();
            }
        }
        packets
    }

    async fn get(&mut self) -> Vec<String> {
        let target = self.target();
        let (status, body) = self.send(Request::get(&target)).await;
        assert_eq!(status, 200, "{body}");
        let mut packets = self.read(&body);
        packets.retain(|packet| !matches!(packet.as_str(), "2" | "6" | ""));
        packets
    }

    async fn post(&mut self, body: &str) {
        let target = self.target();
        assert_eq!(self.send(Request::post(&target, body.as_bytes())).await, (200, "ok".to_owned()));
    }

    /// Polls up to a packet that begins like this, and returns all that have come.
    async fn until(&mut self, start: &str) -> Vec<String> {
        let mut packets: Vec<String> = Vec::new();
        within(SOON, start, async {
            while !packets.iter().any(|packet| packet.starts_with(start)) {
                packets.extend(self.get().await);
            }
        })
        .await;
        packets
    }
}

fn addresses(nodes: &[Node]) -> Vec<SocketAddr> {
    nodes.iter().map(|node| node.http).collect()
}

/// Counts the commands that Redis gets.
async fn monitor(redis: &RedisServer) -> Arc<AtomicUsize> {
    let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", redis.port())).await.expect("connect"));
    stream.write_all(b"MONITOR\r\n").await.expect("write");
    let mut line = String::new();
    stream.read_line(&mut line).await.expect("an answer");
    assert_eq!(line.trim(), "+OK");
    let count = Arc::<AtomicUsize>::default();
    let counted = count.clone();
    tokio::spawn(async move {
        let mut lines = stream.lines();
        while let Ok(Some(line)) = lines.next_line().await {
            // Calls within a script are a part of it, and the nodes read the tail of the log all the time.
            if !line.contains(" lua] ") && !line.contains("\"XREAD\"") && !line.contains("\"XRANGE\"") {
                counted.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    count
}

#[tokio::test]
async fn sealed_polls_go_on_at_any_node_without_a_call_to_redis() {
    let application = application().await;
    let flags = [&["--socketio", "--socketio-join", "todo", "--hook-url", &application.url][..], &TIMES].concat();
    let (redis, mut nodes, _proxy) = three_nodes(&flags).await;
    // Clients of version 3 of Engine.IO follow, too.
    let mut old = Page::open(&addresses(&nodes), P3).await;
    while old.sid.len() <= PLAIN + 21 {
        old.get().await;
    }
    nodes[0].publish_with("channel=todo&event=n", "1").await;
    assert_eq!(old.until("42").await, ["42[\"n\",1]"]);
    let all = addresses(&nodes);
    let mut pages = join_all((0..25).map(|_| Page::sealed(&all))).await;

    // As long as the polls take, nothing is stored: what is counted is the lease of the nodes and their reports.
    let count = monitor(&redis).await;
    let before = count.load(Ordering::SeqCst);
    let polls = pages.iter_mut().map(|page| async {
        for _ in 0..40 {
            page.get().await;
            page.post("3").await;
        }
    });
    join_all(polls).await;
    let calls = count.load(Ordering::SeqCst) - before;
    println!("{calls} calls to Redis during 1,000 sealed polls and 1,000 pongs");
    assert!(calls < 400, "{calls} calls");

    // Messages come once and in order. A node that dies between two polls is not missed.
    let page = &mut pages[0];
    let mut seen = Vec::new();
    for n in 0..30 {
        if n == 15 {
            drop(nodes.remove(0));
            page.nodes = addresses(&nodes);
        }
        nodes[n % nodes.len()].publish_with("channel=todo&event=n", &n.to_string()).await;
        if n % 3 == 0 {
            seen.extend(page.get().await);
        }
    }
    seen.extend(page.until("42[\"n\",29]").await);
    assert_eq!(seen, (0..30).map(|n| format!("42[\"n\",{n}]")).collect::<Vec<_>>());

    // A repeated GET gets the same again. Events and namespaces work as before.
    let target = page.target();
    nodes[0].publish_with("channel=room&event=again", "1").await;
    for _ in 0..2 {
        let body = page.send(Request::get(&target)).await.1;
        // A ping may follow.
        assert!(body.trim_end_matches("\u{1e}2").ends_with("42[\"again\",1]"), "{body}");
    }
    page.until("42[\"again\",1]").await;
    for n in 0..3 {
        page.post(&format!("42{n}[\"ask\",{n}]")).await;
        assert_eq!(page.until(&format!("43{n}[{n}]")).await, ["42[\"sent\",1]".to_owned(), format!("43{n}[{n}]")]);
    }
    page.post("40/two,").await;
    page.until("40/two,{").await;
    nodes[0].publish_with("channel=%2Ftwo&event=n", "1").await;
    page.until("42/two,[\"n\",1]").await;
    page.post("427[\"ask\",7]\u{1e}42/two,8[\"ask\",8]").await;
    page.until("43/two,8[8]").await;
    page.post("41/two,").await;
    nodes[0].publish_with("channel=%2Ftwo&event=n", "2").await;
    nodes[0].publish_with("channel=todo&event=last", "1").await;
    let last = page.until("42[\"last\",1]").await;
    assert!(!last.iter().any(|packet| packet.starts_with("42/two")), "{last:?}");
    assert!(page.sid.len() > PLAIN);

    // While Redis is away, the page gets its pings.
    redis.freeze();
    for _ in 0..3 {
        assert!(page.get().await.is_empty());
    }
    redis.thaw();
    nodes[0].publish_with("channel=todo&event=back", "1").await;
    page.until("42[\"back\",1]").await;

    // The end of the connection holds for all its ids, at every node.
    let old = page.target();
    page.post("1").await;
    for _ in 0..2 {
        assert_eq!(page.send(Request::get(&old)).await.0, 400);
        assert_eq!(page.send(Request::post(&old, b"42[\"ask\",1]")).await.0, 400);
    }
}

#[tokio::test]
async fn a_replayed_id_is_refused_after_a_kick() {
    let application = application().await;
    let node = Node::start(&[&["--socketio", "--hook-url", &application.url][..], &TIMES].concat()).await;
    let kick = async |what: &str| {
        let change = json!({ "channel": "room", "disconnect": what }).to_string();
        let request = Request::post("/sessions", change.as_bytes()).header("Content-Type", "application/json");
        assert_eq!(request.send(node.http).await.status, 200);
    };
    // Of the namespace: what comes after the kick is not for the client.
    let mut page = Page::sealed(&[node.http]).await;
    let old = page.sid.clone();
    node.publish_with("channel=room&event=before", "1").await;
    kick("namespace").await;
    node.publish_with("channel=room&event=after", "1").await;
    let calls = application.calls("event").len();
    for _ in 0..2 {
        page.sid = old.clone();
        let packets = page.until("41").await;
        assert_eq!(packets, ["42[\"before\",1]", "41"]);
        page.sid = old.clone();
        page.post("42[\"ask\",1]").await;
    }
    assert_eq!(application.calls("event").len(), calls, "an event of a socket that is gone");
    // Of the transport: the connection is over.
    let mut page = Page::sealed(&[node.http]).await;
    let old = page.target();
    kick("transport").await;
    assert_eq!(page.until("1").await, ["41", "1"]);
    assert_eq!(page.send(Request::get(&old)).await.0, 400);
    assert_eq!(page.send(Request::post(&old, b"42[\"ask\",1]")).await.0, 400);
    // An id that nobody has made.
    let forged = format!("{P4}&sid={}", "A".repeat(200));
    assert_eq!(page.send(Request::get(&forged)).await.0, 400);
    // A WebSocket cannot take over any more.
    let page = Page::sealed(&[node.http]).await;
    let target = format!("{}&sid={}", P4.replace("polling", "websocket"), page.sid);
    assert_eq!(handshake(&target).send(node.http).await.status, 400);
}

#[tokio::test]
async fn some_connections_need_a_record() {
    let application = application().await;
    let flags = [&["--socketio", "--socketio-join", "todo", "--hook-url", &application.url][..], &TIMES].concat();
    let node = Node::start(&[&flags[..], &["--presence", "members"]].concat()).await;
    // A client that keeps its first id.
    let mut page = Page::open(&[node.http], P4).await;
    page.follows = false;
    page.post("40").await;
    page.until("40{").await;
    for n in 0..8 {
        node.publish_with("channel=todo&event=n", &n.to_string()).await;
        assert_eq!(page.until("42").await, [format!("42[\"n\",{n}]")]);
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    assert_eq!(page.sid.len(), PLAIN);
    // One whose rooms do not fit into an id. Its session is in the record.
    let mut page = Page::sealed(&[node.http]).await;
    page.post("42[\"many\"]").await;
    within(SOON, "the session in the record", async {
        while node.metric("longtail_sealed_sessions_moved_total{reason=\"size\"}").await < 1.0 {
            page.get().await;
        }
    })
    .await;
    node.publish_with("channel=room%3D2089&event=n", "1").await;
    page.until("42[\"n\",1]").await;
    page.post("421[\"ask\",1]").await;
    page.until("431[1]").await;
    assert!(page.sid.len() > PLAIN);
    // One whose token does not fit. The whole connection goes on with a record.
    let token = "x".repeat(1100);
    page.post(&format!("40/two,{{\"token\":\"{token}\"}}")).await;
    page.until("40/two,{").await;
    within(SOON, "the id of a record", async {
        while page.sid.len() > PLAIN {
            page.get().await;
        }
    })
    .await;
    for channel in ["todo", "%2Ftwo"] {
        node.publish_with(&format!("channel={channel}&event=n"), "2").await;
    }
    page.until("42/two,[\"n\",2]").await;
    page.post("422[\"ask\",2]\u{1e}42/two,3[\"ask\",3]").await;
    page.until("43/two,3[3]").await;
    // One about which the application wants to be asked again.
    let mut page = Page::sealed(&[node.http]).await;
    page.post("42[\"later\"]").await;
    within(SOON, "the session in the record", async {
        while node.metric("longtail_sealed_sessions_moved_total{reason=\"ttl\"}").await < 1.0 {
            page.get().await;
        }
    })
    .await;
    page.post("421[\"ask\",1]").await;
    page.until("431[1]").await;
    // One that reads a channel with presence. Only its session is in the record.
    let mut page = Page::sealed(&[node.http]).await;
    page.post("42[\"meet\"]").await;
    let members = async || node.get("/channels/members/members").await.json()["members"].clone();
    within(SOON, "the member", async {
        while members().await != json!([{ "id": "7", "info": null }]) {
            page.get().await;
        }
    })
    .await;
    page.post("421[\"ask\",1]").await;
    page.until("431[1]").await;
    // A client that has no browser is not asked to follow, and neither is one of an application that hears of ends.
    let told = Node::start(&[&flags[..], &["--hook-notify", "connect,event,disconnect"]].concat()).await;
    // Nor is one whose bookmark would outlive its key.
    let slow = Node::start(&["--socketio", TIMES[0], TIMES[1], "--socketio-ping-timeout", "1800"]).await;
    for node in [told, slow] {
        let mut page = Page::open(&[node.http], P4).await;
        page.post("40").await;
        page.until("40{").await;
        for _ in 0..4 {
            page.get().await;
        }
        assert_eq!(page.sid.len(), PLAIN);
    }
}
