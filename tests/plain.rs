//! The server answers plain requests without hyper, and with the same bytes. The test sends each case as raw bytes, cut
//! in several ways, to a node with the fast path and to a node that gives all requests to hyper.

use crate::support;

use serde_json::Value;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use support::{Node, eventually, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const HOST: &str = "Host: localhost\r\n";

/// Heads and bodies, in which `{publish}` and similar words stand for longer texts. Each case ends its connection, by
/// its last request or because the client sends no more.
fn cases() -> Vec<(&'static str, String)> {
    let get = |target: &str, headers: &str| format!("GET {target} HTTP/1.1\r\n{HOST}{headers}\r\n");
    let post = |target: &str, headers: &str, body: &str| {
        format!("POST {target} HTTP/1.1\r\n{HOST}Content-Length: {}\r\n{headers}\r\n{body}", body.len())
    };
    let last = get("/poll?channel=z", "Connection: close\r\n");
    let publish = |n: usize| post("/publish?channel=a", "", &n.to_string());
    let with = |first: String| first + &last;
    let many: String = (0..150).map(publish).collect();
    let mixed: String = (0..20)
        .map(|n| match n % 4 {
            0 => get("/poll?channel=a&cursor=earliest&limit=1", ""),
            1 => get("/long-poll?channel=a&cursor=earliest", ""),
            2 => post("/publish", "Content-Type: application/json\r\n", "{\"channel\":\"a\",\"data\":1}"),
            _ => publish(n),
        })
        .collect();
    let then = |first: String, second: String| first + &second + &last;
    let twice = |publish: String| then(publish.clone(), publish);
    let page = |origin: &str| post("/publish?channel=a", &format!("Origin: {origin}\r\n"), "1");
    let known = publish(1);
    vec![
        ("a poll", with(get("/poll?channel=a", ""))),
        ("a poll of what is there", with(get("/poll?channel=old&cursor=earliest", ""))),
        ("one that the client has", with(get("/poll?channel=old&cursor=earliest", "If-None-Match: {etag}\r\n"))),
        ("a long poll of what is there", with(get("/long-poll?channel=old&cursor=earliest", ""))),
        ("jsonp", with(get("/jsonp?channel=old&cursor=earliest&callback=a.b&mode=poll", ""))),
        ("from a page", with(get("/poll?channel=old&cursor=earliest", "Origin: http://localhost\r\n"))),
        ("from a page that may not", with(get("/poll?channel=old", "Origin: http://evil.example\r\n"))),
        ("a bad channel", with(get("/poll?channel=a%20b", ""))),
        ("a bad cursor", with(get("/long-poll?channel=a&cursor=x", ""))),
        ("no channel", with(get("/long-poll", ""))),
        ("a bad callback", with(get("/jsonp?channel=a&callback=alert(1)", ""))),
        ("a publish", with(publish(1))),
        ("bad JSON", with(post("/publish", "Content-Type: application/json\r\n", "{"))),
        ("not UTF-8", with(post("/publish?channel=%ff", "", "1"))),
        ("nothing to publish", with(post("/publish", "", ""))),
        ("an old browser's form", with(post("/publish?channel=a", FORM, "data=x"))),
        ("a pipeline", with(many)),
        ("all of them", with(mixed)),
        ("keep-alive", with(get("/poll?channel=a", "Connection: Keep-Alive\r\n"))),
        ("close", get("/poll?channel=a", "Connection: close\r\n")),
        ("no Host", with(get("/poll?channel=a", "").replace(HOST, ""))),
        ("two Hosts", with(get("/poll?channel=a", HOST))),
        ("HTTP/1.0", get("/poll?channel=a", "").replace("HTTP/1.1", "HTTP/1.0")),
        ("HTTP/1.2", get("/poll?channel=a", "").replace("HTTP/1.1", "HTTP/1.2")),
        ("an absolute target", with(get("http://localhost/poll?channel=a", ""))),
        ("HEAD", with(get("/poll?channel=a", "").replace("GET", "HEAD"))),
        ("OPTIONS", with(get("/publish", "").replace("GET", "OPTIONS"))),
        ("a GET of the publish path", with(get("/publish?channel=a", ""))),
        ("a POST of a poll", with(post("/poll", FORM, "channel=a"))),
        ("a GET with a body", with(get("/poll?channel=a", "Content-Length: 3\r\n") + "abc")),
        ("no length", with(get("/publish?channel=a", "").replace("GET", "POST"))),
        ("a length that is none", post("/publish?channel=a", "", "1").replace(": 1\r\n", ": +1\r\n")),
        ("two lengths", post("/publish?channel=a", "Content-Length: 2\r\n", "1")),
        ("the same length twice", post("/publish?channel=a", "Content-Length: 1\r\n", "1")),
        ("a list of lengths", post("/publish?channel=a", "", "1").replace(": 1\r\n", ": 1, 1\r\n")),
        ("a length and chunks", post("/publish?channel=a", "Transfer-Encoding: chunked\r\n", "1\r\n1\r\n0\r\n\r\n")),
        ("chunks", with(get("/publish?channel=a", CHUNKED).replace("GET", "POST") + "1\r\n1\r\n0\r\n\r\n")),
        ("Expect", with(post("/publish?channel=a", "Expect: 100-continue\r\n", "1"))),
        ("an upgrade", with(get("/poll?channel=a", "Connection: upgrade\r\nUpgrade: h2c\r\n"))),
        ("a folded line", get("/poll?channel=a", "X: a\r\n b\r\n")),
        ("a space before the colon", get("/poll?channel=a", "X : a\r\n")),
        ("a bare CR", get("/poll?channel=a", "X: a\rb\r\n")),
        ("a bare LF", get("/poll?channel=a", "").replace("\r\n", "\n")),
        ("a NUL", get("/poll?channel=a", "X: \0\r\n")),
        ("a space in the target", get("/poll?channel=a b", "")),
        ("100 lines", with(get("/poll?channel=a", &"X: a\r\n".repeat(90)))),
        ("a large head", with(get("/poll?channel=a", &format!("X: {}\r\n", "x".repeat(20_000))))),
        ("too large a head", get("/poll?channel=a", &format!("X: {}\r\n", "x".repeat(80_000)))),
        ("a large body", with(post("/publish?channel=a", "", &"x".repeat(60_000)))),
        ("a larger one", with(post("/publish?channel=a", "", &"x".repeat(66_000)))),
        ("too large a body", with(post("/publish?channel=a", "", &"x".repeat(70_000)))),
        ("half a request", "GET /poll?channel=a HT".to_owned()),
        ("half a body", post("/publish?channel=a", "", "1").replace(": 1\r\n", ": 2\r\n")),
        ("a page between", with(get("/poll?channel=a", "") + &get("/healthz", "") + &get("/poll?channel=a", ""))),
        ("no HTTP", "hello\r\n\r\n".to_owned()),
        ("a name in small letters", with(known.replace("Host", "host"))),
        ("one header more", with(post("/publish?channel=a", "X: a\r\n", "1"))),
        ("chunks, and a length", known.replace("Content", "Transfer-Encoding: chunked\r\nContent") + "0\r\n\r\n"),
        ("leading zeros", with(known.replace(": 1\r\n", ": 0001\r\n"))),
        ("a negative length", known.replace(": 1\r\n", ": -1\r\n")),
        ("a space behind the length", with(known.replace(": 1\r\n", ": 1 \r\n"))),
        ("a longer body than its length", with(known.clone() + "x")),
        ("a length beyond all", known.replace(": 1\r\n", ": 99999999999999999999\r\n")),
        ("an empty line first", with("\r\n".to_owned() + &known)),
        ("a body of nothing", twice(post("/publish?channel=a", "", ""))),
        ("a body that is no text", with(post("/publish?channel=a", "", "{no-utf8}"))),
        ("no query", twice(post("/publish", "", "{\"channel\":\"a\",\"data\":1}"))),
        ("an empty query", twice(post("/publish?", "", "{\"channel\":\"a\",\"data\":1}"))),
        ("another path behind it", with(post("/publisher?channel=a", "", "1"))),
        ("a query with a space", post("/publish?channel=a b", "", "1")),
        ("a query that is encoded", twice(post("/publish?channel=%61&event=a+b", "", "1"))),
        ("two channels", twice(post("/publish?channel=a&channel=b&&x&=y", "", "1"))),
        ("a bad channel to publish to", twice(post("/publish?channel=a,b", "", "1"))),
        ("a reserved event", twice(post("/publish?channel=a&event=hello", "", "1"))),
        ("how many read", twice(post("/publish?channel=a&counts=1", "", "1"))),
        ("a bad flag", twice(post("/publish?channel=a&counts=2", "", "1"))),
        ("a key", twice(post("/publish?channel=a&key=k", "", "1"))),
        ("a volatile one", twice(post("/publish?channel=a&volatile=1", "", "1"))),
        ("as text", twice(post("/publish?channel=a&as=text", "", "1"))),
        ("a token that nobody asks for", twice(post("/publish?channel=a&token=t", "", "1"))),
        (
            "several at once",
            twice(post("/publish", JSON, "[{\"channel\":\"a\",\"data\":1},{\"channel\":\"b\",\"data\":2}]")),
        ),
        (
            "bad JSON behind good",
            then(post("/publish", JSON, "{\"channel\":\"a\",\"data\":1}"), post("/publish", JSON, "{")),
        ),
        ("a form", twice(post("/publish", FORM, "channel=a&data=1"))),
        (
            "a hidden form behind a form",
            then(post("/publish?channel=a", FORM, "1"), post("/publish?channel=a", FORM, "data=x")),
        ),
        (
            "a form behind a hidden form",
            then(post("/publish?channel=a", FORM, "data=x"), post("/publish?channel=a", FORM, "1")),
        ),
        ("a coding", twice(post("/publish?channel=a", "Content-Encoding: gzip\r\n", "1"))),
        ("no coding", twice(post("/publish?channel=a", "Content-Encoding: identity\r\n", "1"))),
        ("Expect twice", twice(post("/publish?channel=a", "Expect: 100-continue\r\n", "1"))),
        ("keep-alive twice", twice(post("/publish?channel=a", "Connection: keep-alive\r\n", "1"))),
        ("an end behind keep-alive", known.clone() + &post("/publish?channel=a", "Connection: close\r\n", "1")),
        ("a page twice", twice(page("http://localhost"))),
        ("a page that may not twice", twice(page("http://evil.example"))),
        ("a page behind one that may", then(page("http://localhost"), page("http://evil.example"))),
        ("a page behind one that may not", then(page("http://evil.example"), page("http://localhost"))),
        ("a page behind none", then(known.clone(), page("http://evil.example"))),
        ("another host", then(known.clone(), known.replace("localhost", "evil.example"))),
        ("another host twice", twice(known.replace("localhost", "evil.example"))),
        ("a poll between", then(known.clone() + &get("/poll?channel=a", ""), known)),
    ]
}

const JSON: &str = "Content-Type: application/json\r\n";
const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";
const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";

/// Sends bytes in pieces of this size, and returns the whole answer.
async fn exchange(address: SocketAddr, bytes: &[u8], piece: usize) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connect");
    stream.set_nodelay(true).expect("nodelay");
    let (mut reading, mut writing) = stream.split();
    let send = async {
        for piece in bytes.chunks(piece) {
            // The server may have closed the connection already.
            if writing.write_all(piece).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
        let _ = writing.shutdown().await;
    };
    let mut answer = Vec::new();
    let read = async {
        // A reset after an answer counts as its end.
        let _ = reading.read_to_end(&mut answer).await;
    };
    within(support::SOON, "the end of an exchange", async { tokio::join!(send, read) }).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// Removes the parts that differ between nodes and moments, and puts the headers of each answer into one order.
fn normal(answer: &str, epoch: &str) -> String {
    let mut out = Vec::new();
    let mut headers: Option<Vec<String>> = None;
    for line in answer.split("\r\n") {
        match &mut headers {
            None if line.contains("HTTP/1.") => {
                // The bytes before it are the end of the previous body.
                out.push(line.to_owned());
                headers = Some(Vec::new());
            }
            Some(lines) if line.is_empty() => {
                lines.sort();
                out.append(lines);
                out.push(String::new());
                headers = None;
            }
            Some(lines) => {
                let (name, value) = line.split_once(": ").unwrap_or((line, ""));
                let value = if matches!(name, "date" | "retry-after") { "…" } else { value };
                lines.push(format!("{name}: {value}"));
            }
            None => out.push(line.to_owned()),
        }
    }
    // The cursors have the same number of digits on both nodes, because both count from the same clock.
    let mut text = out.join("\n");
    while let Some(at) = text.find(epoch) {
        let begin = text[..at].rfind(|c: char| !c.is_ascii_digit() && !"-.".contains(c)).map_or(0, |at| at + 1);
        text.replace_range(begin..at + epoch.len(), "CURSOR");
    }
    lengths_aside(&text)
}

/// Removes lengths, because epochs and sequences may differ in their number of letters.
fn lengths_aside(text: &str) -> String {
    let line = |line: &str| match line.strip_prefix("content-length: ") {
        Some(length) if length != "0" => "content-length: …".to_owned(),
        _ => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

struct World {
    node: Node,
    epoch: String,
    etag: String,
}

impl World {
    async fn start(args: &[&str]) -> World {
        let node = Node::start(args).await;
        node.publish("old", "1").await;
        let answer = node.get("/poll?channel=old&cursor=earliest").await;
        let etag = answer.header("etag").expect("a tag").to_owned();
        let epoch = etag.trim_matches('"').split_once('.').expect("a cursor").1.to_owned();
        World { node, epoch, etag }
    }

    async fn ask(&self, request: &str, piece: usize) -> String {
        let text = request.replace("{etag}", &self.etag);
        let mut bytes = text.into_bytes();
        // The bytes are as long as the word that stands for them.
        if let Some(at) = bytes.windows(9).position(|part| part == b"{no-utf8}") {
            bytes[at..at + 9].fill(0xff);
        }
        normal(&exchange(self.node.http, &bytes, piece).await, &self.epoch)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_answer_alike() {
    let plain = World::start(&[]).await;
    let hyper = World::start(&["--plain-requests", "false"]).await;
    // Each case runs alone, and after a publish that was answered, whose template is then known.
    let ordinary = format!("POST /publish?channel=first HTTP/1.1\r\n{HOST}Content-Length: 3\r\n\r\nabc");
    let behind = |(name, request): (_, String)| [(name, request.clone()), (name, ordinary.clone() + &request)];
    for (name, request) in cases().into_iter().flat_map(behind) {
        for piece in [usize::MAX, request.len() / 7 + 1] {
            // Both nodes get the same requests, so both have the messages that were published before.
            let (answer, expected) = tokio::join!(plain.ask(&request, piece), hyper.ask(&request, piece));
            let mut lines = answer.lines().zip(expected.lines());
            let other = lines.find(|(answer, expected)| answer != expected);
            assert_eq!(other, None, "{name}, in pieces of {piece}");
            assert_eq!(answer.lines().count(), expected.lines().count(), "{name}, in pieces of {piece}");
        }
    }
}

/// A client that was admitted once is still counted each time: if a rate is used up in the middle of a pipeline, the
/// server refuses the rest of the pipeline.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_known_manner_has_rates() {
    for args in [["--publish-rate", "10"], ["--request-rate", "10"]] {
        let last =
            format!("GET /poll?channel=z HTTP/1.1\r\n{HOST}Origin: http://localhost\r\nConnection: close\r\n\r\n");
        let request =
            format!("POST /publish?channel=a HTTP/1.1\r\n{HOST}Origin: http://localhost\r\nContent-Length: 1\r\n\r\n1");
        let all = request.repeat(30) + &last;
        let mut answers = Vec::new();
        for plain in ["true", "false"] {
            let node = Node::start_unready(&[args[0], args[1], "--plain-requests", plain]).await;
            support::eventually("the node to be ready", async || {
                let ready = format!("GET /readyz HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n");
                exchange(node.http, ready.as_bytes(), usize::MAX).await.starts_with("HTTP/1.1 200").then_some(())
            })
            .await;
            let answer = exchange(node.http, all.as_bytes(), usize::MAX).await;
            let (well, refused) = (answer.matches("HTTP/1.1 200 OK").count(), answer.matches("rate_limited").count());
            // The bucket refills during the test.
            assert!((10..=20).contains(&well), "{args:?}: {well}");
            assert_eq!(well + refused, 31, "{args:?}");
            assert_eq!(answer.matches("access-control-allow-origin: http://localhost").count(), 31, "{args:?}");
            let refusal = answer.split("HTTP/1.1 ").find(|answer| answer.starts_with("429")).expect("a refusal");
            answers.push(normal(&format!("HTTP/1.1 {refusal}"), "no epoch"));
            // Reading the metrics also counts as a request.
            if args[0] == "--publish-rate" {
                let metrics = format!("GET /metrics HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n");
                let told = exchange(node.http, metrics.as_bytes(), usize::MAX).await;
                let counted = format!("longtail_refused_total{{reason=\"rate_limited\"}} {refused}\n");
                assert!(told.contains(&counted), "{told}");
            }
        }
        assert_eq!(answers[0], answers[1], "{args:?}");
    }
}

/// The permission to publish is checked each time, even if the server knows the head.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_known_manner_has_to_be_allowed() {
    const KEY: &str = "a-key-of-some-length";
    for plain in ["true", "false"] {
        let node = Node::start(&["--publish-key", KEY, "--plain-requests", plain]).await;
        let request = |authorization: &str, token: &str| {
            let target = format!("/publish?channel=a{token}");
            format!("POST {target} HTTP/1.1\r\n{HOST}{authorization}Content-Length: 1\r\n\r\n1")
        };
        let bearer = |key: &str| format!("Authorization: Bearer {key}\r\n");
        let asked = [
            request(&bearer(KEY), ""),
            request(&bearer(KEY), ""),
            request(&bearer("another"), ""),
            request(&bearer(KEY), ""),
            request("", ""),
            request("", &format!("&token={KEY}")),
            request(&bearer(KEY), ""),
            request(&bearer(KEY), "&token=another"),
        ];
        let last = format!("GET /healthz HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n");
        let answer = exchange(node.http, (asked.concat() + &last).as_bytes(), usize::MAX).await;
        let statuses: Vec<&str> = answer.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
        assert_eq!(statuses, ["200", "200", "401", "200", "401", "401", "200", "200", "200"], "{plain}: {answer}");
    }
}

/// The last answer of a node that shuts down announces the end of the connection, even if a template made the answer.
/// Every request that was sent before gets an answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_known_manner_ends_with_the_node() {
    let mut node = Node::start(&[]).await;
    let mut connection = TcpStream::connect(node.http).await.expect("connect");
    let request = format!("POST /publish?channel=a HTTP/1.1\r\n{HOST}Content-Length: 1\r\n\r\n1");
    connection.write_all(request.repeat(3).as_bytes()).await.expect("write");
    let mut answers = Vec::new();
    while String::from_utf8_lossy(&answers).matches("HTTP/1.1 200 OK").count() < 3 {
        let read = connection.read_buf(&mut answers).await.expect("read");
        assert!(read > 0, "the connection has ended after {:?}", String::from_utf8_lossy(&answers));
    }
    let text = String::from_utf8_lossy(&answers);
    assert!(!text.contains("connection: close"), "it goes on: {text}");
    // One request is half sent when the drain begins.
    connection.write_all(&request.as_bytes()[..request.len() - 1]).await.expect("write");
    tokio::time::sleep(Duration::from_millis(300)).await;
    node.signal("TERM");
    // The node has begun to drain when it accepts no new connection.
    eventually("the listener to be gone", async || TcpStream::connect(node.http).await.is_err().then_some(())).await;
    connection.write_all(b"1").await.expect("write");
    let mut rest = Vec::new();
    within(support::SOON, "the end", connection.read_to_end(&mut rest)).await.expect("in good order");
    let rest = String::from_utf8_lossy(&rest);
    let last = rest.rsplit("HTTP/1.1 ").next().expect("an answer");
    assert!(last.starts_with("200 OK") && last.contains("\r\nconnection: close\r\n"), "{rest}");
    assert_eq!(node.exit_code().await, 0);
}

/// Publishes of a pipeline are in the log in their order, with and without an application that decides about each
/// publish.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipeline_keeps_its_order() {
    let redis = support::RedisServer::start().await;
    let url = redis.url();
    for args in [vec![], vec!["--redis", &url], vec!["--redis", &url, "--plain-requests", "false"]] {
        let node = Node::start(&args).await;
        let request = |n: usize| {
            let body = n.to_string();
            format!("POST /publish?channel=o HTTP/1.1\r\n{HOST}Content-Length: {}\r\n\r\n{body}", body.len())
        };
        let last = format!("GET /poll?channel=z HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n");
        let all: String = (0..500).map(request).chain([last]).collect();
        let answers = exchange(node.http, all.as_bytes(), 1000).await;
        assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 501, "{args:?}");
        let batch = node.get("/poll?channel=o&cursor=earliest&limit=1000").await.json();
        let messages = batch["messages"].as_array().expect("messages");
        let numbers: Vec<u64> = messages.iter().filter_map(|message| message["data"].as_u64()).collect();
        assert_eq!(numbers[numbers.len() - 500..], (0..500).collect::<Vec<u64>>(), "{args:?}");
        let ids: Vec<&str> = messages[messages.len() - 500..].iter().filter_map(|m| m["id"].as_str()).collect();
        let told: Vec<&str> = answers.split("\"id\":\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert_eq!(told, ids, "{args:?}: the answers are in the order of the requests");
    }
}

/// Nothing is read from the log and all publishes are appended: publishes of a pipeline wait for that together, not one
/// after the other.
#[tokio::test]
async fn a_pipeline_waits_once_for_a_tail_that_is_down() {
    let redis = support::RedisServer::start().await;
    let node = Node::start(&["--redis", &redis.url()]).await;
    redis.command(&["ACL", "SETUSER", "default", "-xread"]).await;
    let is_waited_for = Duration::from_millis(400);
    // The test counts the commands that Redis refused. The time of a publish would also depend on the machine.
    eventually("the tail to be refused", async || {
        node.publish("o", "0").await;
        redis
            .text(&["INFO", "commandstats"])
            .await
            .lines()
            .any(|line| line.starts_with("cmdstat_xread:") && !line.contains("rejected_calls=0"))
            .then_some(())
    })
    .await;
    let request = format!("POST /publish?channel=o HTTP/1.1\r\n{HOST}Content-Length: 1\r\n\r\n1");
    let last = format!("GET /poll?channel=z HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n");
    let began = Instant::now();
    let answers = exchange(node.http, (request.repeat(20) + &last).as_bytes(), usize::MAX).await;
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 21, "{answers}");
    let took = began.elapsed();
    // One after the other, the publishes would wait for ten seconds.
    assert!((is_waited_for..Duration::from_secs(8)).contains(&took), "20 publishes waited for {took:?}");
}

/// Asks on a connection that is kept.
async fn ask(connection: &mut TcpStream, target: &str) -> Value {
    let request = format!("GET {target} HTTP/1.1\r\n{HOST}\r\n");
    connection.write_all(request.as_bytes()).await.expect("write");
    let mut answer = Vec::new();
    within(support::SOON, "an answer", async {
        loop {
            let read = connection.read_buf(&mut answer).await.expect("read");
            assert!(read > 0, "the connection has ended after {:?}", String::from_utf8_lossy(&answer));
            let text = String::from_utf8_lossy(&answer);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
            let length = head.split("\r\n").find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
            if body.len() >= length.parse().expect("a number") {
                return serde_json::from_str(body).expect("one batch and no more");
            }
        }
    })
    .await
}

/// A poll that repeats its head continues from its own cursor, whatever answers came before. So does a poll with
/// another head.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_head_again() {
    for args in [&[][..], &["--direct-writes", "false"], &["--plain-requests", "false"]] {
        let node = Node::start(args).await;
        let mut connection = TcpStream::connect(node.http).await.expect("connect");
        let mut cursor = node.latest("a").await;
        let mut got = Vec::new();
        let mut cursors = Vec::new();
        for round in 0..40 {
            let limit = if round % 10 == 9 { "&limit=2" } else { "" };
            let target = format!("/long-poll?channel=a&cursor={cursor}{limit}&timeout=20");
            let asked = ask(&mut connection, &target);
            // Sometimes the message is there already; mostly it arrives while the poll waits.
            let publish = async {
                if round % 3 > 0 {
                    let readers = async || {
                        let counts = node.get("/channels/a").await.json();
                        (counts["readers"]["total"] == 1).then_some(())
                    };
                    support::eventually("the poll to wait", readers).await;
                }
                node.publish("a", &round.to_string()).await;
            };
            let (batch, ()) = tokio::join!(asked, publish);
            cursor = batch["cursor"].as_str().expect("a cursor").to_owned();
            cursors.push(cursor.clone());
            got.extend(batch["messages"].as_array().expect("messages").iter().map(|m| m["data"].as_u64().expect("n")));
            if round == 20 {
                // The poll goes back to its old cursor, and gets all later messages once more.
                cursor = cursors[15].clone();
                let target = format!("/long-poll?channel=a&cursor={cursor}&timeout=20");
                let again = ask(&mut connection, &target).await;
                let again: Vec<u64> =
                    again["messages"].as_array().expect("messages").iter().filter_map(|m| m["data"].as_u64()).collect();
                assert_eq!(again, [16, 17, 18, 19, 20], "{args:?}");
                cursor = cursors[20].clone();
            }
        }
        assert_eq!(got, (0..40).collect::<Vec<u64>>(), "{args:?}");
    }
}

/// Input that a client has sent after a waiting poll is read as soon as the poll is answered. A client that has shut
/// its sending side is then disconnected.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_sent_behind_a_poll_that_waits() {
    for args in [&[][..], &["--direct-writes", "false"], &["--plain-requests", "false"]] {
        let node = Node::start(args).await;
        let poll = format!("GET /long-poll?channel=a&timeout=25 HTTP/1.1\r\n{HOST}\r\n");
        let last = format!("GET /poll?channel=z HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n");
        for (nth, (bytes, shuts, answers)) in
            [([&poll[..], &last].concat(), false, 2), (poll, true, 1)].iter().enumerate()
        {
            let mut connection = TcpStream::connect(node.http).await.expect("connect");
            connection.write_all(bytes.as_bytes()).await.expect("write");
            if *shuts {
                connection.shutdown().await.expect("shut");
            }
            let readers = async || {
                let counts = node.get("/channels/a").await.json();
                (counts["readers"]["total"] == 1).then_some(())
            };
            support::eventually("the poll to wait", readers).await;
            // When the other polls are answered, its task has seen all input of the client.
            node.get("/info").await;
            node.publish("a", &nth.to_string()).await;
            let mut answer = String::new();
            let read = within(support::SOON, "the end", connection.read_to_string(&mut answer)).await;
            read.expect("read");
            assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), *answers, "{args:?}: {answer}");
        }
    }
}
