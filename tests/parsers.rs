//! Rules of HTTP that hold for every parser of a request: the fast path, hyper, and HTTP/2. Each table goes over all
//! three.

use crate::support;

use serde_json::json;
use support::frames::{HEADERS, Raw, ask};
use support::http::raw;
use support::token::{SECRET, token};
use support::{Certificate, Node, SOON, door, within};

/// The parser of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    FastPath,
    Hyper,
    Http2,
}

const ALL: [By; 3] = [By::FastPath, By::Hyper, By::Http2];

/// A node for each parser.
struct Nodes {
    plain: Node,
    hyper: Node,
}

struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value)
    }
}

impl Nodes {
    async fn start(args: &[&str]) -> Nodes {
        let args = [&Certificate::common().flags()[..], args].concat();
        let hyper = [&args[..], &["--plain-requests", "false"]].concat();
        Nodes { plain: Node::start(&args).await, hyper: Node::start(&hyper).await }
    }

    fn node(&self, by: By) -> &Node {
        if by == By::Hyper { &self.hyper } else { &self.plain }
    }

    /// Sends a request with these header lines, in this order.
    async fn ask(&self, by: By, method: &str, target: &str, lines: &[(&str, String)], body: Option<&[u8]>) -> Answer {
        let address = self.node(by).http;
        if by == By::Http2 {
            let lines: Vec<_> = lines.iter().map(|(name, value)| (name.to_lowercase(), value.clone())).collect();
            let exchange = door::exchange(address, method, target, "localhost", &lines, body);
            let exchange = within(SOON, target, exchange).await.expect("an answer");
            let mut stream = exchange.stream;
            let mut body = Vec::new();
            if exchange.headers.iter().any(|(name, _)| name == "content-length") {
                let read = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut body);
                within(SOON, "the body", read).await.ok();
            }
            let body = String::from_utf8_lossy(&body).into_owned();
            return Answer { status: exchange.status, headers: exchange.headers, body };
        }
        let length = body.map(|body| format!("Content-Length: {}\r\n", body.len())).unwrap_or_default();
        let lines: String = lines.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{lines}{length}\r\n");
        let answer = raw(address, &[head.as_bytes(), body.unwrap_or_default()].concat()).await.expect("an answer");
        Answer { status: answer.status, body: answer.text(), headers: answer.headers }
    }

    /// Sends a `GET` in each way.
    async fn get(&self, target: &str, lines: &[(&str, &str)], check: impl Fn(By, Answer)) {
        let lines: Vec<_> = lines.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        for by in ALL {
            check(by, self.ask(by, "GET", target, &lines, None).await);
        }
    }
}

/// Browsers send a field for each cookie over HTTP/2, and other cookies of the site may have letters outside ASCII.
#[tokio::test]
async fn cookies_in_several_lines() {
    let nodes = Nodes::start(&["--token-secret", SECRET]).await;
    let cookie = format!("longtail_token={}", token(&json!({"subscribe": ["*"]})));
    for (lines, status) in [
        (vec![cookie.clone()], 200),
        (vec!["theme=dark".to_owned(), cookie.clone()], 200),
        (vec![cookie.clone(), "theme=dark".to_owned()], 200),
        (vec!["a=b".to_owned(), "c=d".to_owned(), format!("e=f; {cookie}"), "g=h".to_owned()], 200),
        (vec!["longtail_token=".to_owned(), "theme=dark".to_owned()], 401),
        (vec!["theme=dark".to_owned(), cookie.replace("longtail", "x")], 401),
    ] {
        let lines: Vec<_> = lines.iter().map(|line| ("Cookie", line.as_str())).collect();
        nodes.get("/poll?channel=a", &lines, |by, answer| assert_eq!(answer.status, status, "{by:?} {lines:?}")).await;
    }
    // Bytes outside ASCII, in the same line and in another line.
    for lines in [vec![format!("name=José; {cookie}")], vec!["name=José".to_owned(), cookie.clone()]] {
        for node in [&nodes.plain, &nodes.hyper] {
            let lines: String = lines.iter().map(|line| format!("Cookie: {line}\r\n")).collect();
            let request = format!("GET /poll?channel=a HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n");
            let answer = raw(node.http, request.as_bytes()).await.expect("an answer");
            assert_eq!(answer.status, 200, "{lines}");
        }
        let mut fields =
            vec![(":method", "GET"), (":scheme", "http"), (":authority", "localhost"), (":path", "/poll?channel=a")];
        fields.extend(lines.iter().map(|line| ("cookie", line.as_str())));
        let mut raw = Raw::open(&nodes.plain, b"").await;
        raw.send(&ask(1, &fields)).await;
        let answer = raw.wait("an answer", |frame| frame.kind == HEADERS).await;
        assert!(answer.has_status(200), "{lines:?}: {answer:?}");
    }
}

/// A list may be spread over several lines (RFC 9110 §5.3).
#[tokio::test]
async fn lists_in_several_lines() {
    let nodes = Nodes::start(&[]).await;
    for node in [&nodes.plain, &nodes.hyper] {
        node.publish("a", "1").await;
    }
    const MIXED: &str = "multipart/mixed";
    const REPLACE: &str = "multipart/x-mixed-replace";
    for (lines, wanted) in [
        (&["multipart/mixed"][..], MIXED),
        (&["text/html", "multipart/mixed"], MIXED),
        (&["multipart/mixed", "text/html"], MIXED),
        (&["text/html, */*;q=0.1", "x/y", "Multipart/Mixed;q=0.5"], MIXED),
        (&["multipart/mixedx"], REPLACE),
        (&["text/plain;x=multipart/mixed"], REPLACE),
        (&["multipart/mixed;q=0"], REPLACE),
        (&["multipart/x-mixed-replace", "multipart/mixed;q=0.5"], REPLACE),
        (&["text/html", "*/*"], REPLACE),
    ] {
        let lines: Vec<_> = lines.iter().map(|line| ("Accept", *line)).collect();
        let target = "/multipart?channel=a&cursor=earliest&max_bytes=1";
        let check = |by, answer: Answer| {
            let found = answer.header("content-type");
            assert_eq!(found.split(';').next(), Some(wanted), "{by:?} {lines:?}");
        };
        nodes.get(target, &lines, check).await;
    }
    // The tag of the client is not the first one in the list.
    for by in ALL {
        let node = nodes.node(by);
        node.publish("tags", "1").await;
        let tag = node.get("/poll?channel=tags&cursor=earliest").await.header("etag").expect("a tag").to_owned();
        for lines in [vec!["*".to_owned(), tag.clone()], vec!["W/\"x\"".to_owned(), "\"y\"".to_owned(), tag.clone()]] {
            let lines: Vec<_> = lines.into_iter().map(|line| ("If-None-Match", line)).collect();
            let answer = nodes.ask(by, "GET", "/poll?channel=tags", &lines, None).await;
            assert_eq!(answer.status, 304, "{by:?} {lines:?}: {}", answer.body);
        }
    }
    for (lines, status) in [
        (&["identity"][..], 200),
        (&["identity", "identity"], 200),
        (&["gzip"], 400),
        (&["identity", "gzip"], 400),
        (&["gzip", "identity"], 400),
        (&["identity, br"], 400),
        (&["x"], 400),
    ] {
        let lines: Vec<_> = lines.iter().map(|line| ("Content-Encoding", (*line).to_owned())).collect();
        for by in ALL {
            let answer = nodes.ask(by, "POST", "/publish?channel=coded", &lines, Some(b"1")).await;
            assert_eq!(answer.status, status, "{by:?} {lines:?}: {}", answer.body);
        }
    }
    // A browser sends only one `Origin` line.
    for (lines, status) in [
        (&["http://localhost"][..], 200),
        (&["http://localhost", "http://localhost"], 200),
        (&["http://localhost", "http://evil.example"], 403),
        (&["http://evil.example", "http://localhost"], 403),
    ] {
        let lines: Vec<_> = lines.iter().map(|line| ("Origin", *line)).collect();
        nodes.get("/poll?channel=a", &lines, |by, answer| assert_eq!(answer.status, status, "{by:?} {lines:?}")).await;
    }
}

/// A head of more than 32 KiB gets 431. This does not depend on the parser, or on the pieces in which the head arrives.
#[tokio::test]
async fn heads_have_one_limit() {
    let nodes = Nodes::start(&[]).await;
    const MAX: usize = 32 << 10;
    for (size, status) in [(20_000, 200), (31_000, 200), (33_000, 431), (40_000, 431), (60_000, 431)] {
        let long = "x".repeat(size);
        nodes
            .get("/poll?channel=a", &[("X-Long", &long)], |by, answer| {
                assert_eq!(answer.status, status, "{by:?} {size}")
            })
            .await;
    }
    // Over HTTP/1 the limit is exact to the byte, in one piece and in several pieces.
    for node in [&nodes.plain, &nodes.hyper] {
        for target in ["/poll?channel=a", "/healthz"] {
            for (size, status) in [(MAX - 1, 200), (MAX, 200), (MAX + 1, 431), (MAX + 2, 431), (40 << 10, 431)] {
                let head = |long: &str| format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nX: {long}\r\n\r\n");
                let head = head(&"x".repeat(size - head("").len()));
                assert_eq!(head.len(), size);
                for piece in [size, 9000] {
                    let mut stream = tokio::net::TcpStream::connect(node.http).await.expect("connect");
                    for piece in head.as_bytes().chunks(piece) {
                        // A refusal may come before the server has read the head.
                        tokio::io::AsyncWriteExt::write_all(&mut stream, piece).await.ok();
                        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                    }
                    let mut answer = support::Response::new(stream, false);
                    within(SOON, "a head", answer.read_head()).await.expect("an answer");
                    assert_eq!(answer.status, status, "{target} {size} in pieces of {piece}");
                }
            }
        }
    }
}

/// A script in place of `EventSource` sends the id of the last event as a field. This id is newer than the page's own
/// cursor.
#[tokio::test]
async fn the_last_event_id_is_a_field() {
    let nodes = Nodes::start(&[]).await;
    for by in ALL {
        let node = nodes.node(by);
        let channel = format!("{by:?}");
        let ids: Vec<_> = node.publish_numbers(&channel, 3).await.into_iter().map(|message| message.id).collect();
        let (first, second) = (&ids[0], &ids[1]);
        for (target, header, expected) in [
            (format!("/sse?channel={channel}&lastEventId={first}"), None, Some(first)),
            (format!("/sse?channel={channel}&cursor=latest&lastEventId={first}"), None, Some(first)),
            (format!("/sse?lastEventId={second}&cursor=earliest&channel={channel}"), None, Some(second)),
            (format!("/sse?channel={channel}&lastEventID={first}"), None, Some(first)),
            (format!("/sse?channel={channel}&Last-Event-ID={first}"), None, Some(first)),
            (format!("/sse?channel={channel}&evs_last_event_id={first}"), None, Some(first)),
            (format!("/sse?channel={channel}&cursor={first}&lastEventId="), None, Some(first)),
            (format!("/ndjson?channel={channel}&lastEventId={first}"), None, Some(first)),
            (format!("/sse?channel={channel}&lastEventId={first}"), Some(second), Some(second)),
            (format!("/sse?channel={channel}&lastEventId=nonsense"), None, None),
        ] {
            let lines: Vec<_> = header.map(|id| ("Last-Event-ID", id.clone())).into_iter().collect();
            let hello = hello(&nodes, by, &target, &lines).await;
            match expected {
                Some(id) => assert!(hello.contains(&format!("\"cursor\":\"{id}\"")), "{by:?} {target}: {hello}"),
                None => assert!(hello.contains("bad_cursor"), "{by:?} {target}: {hello}"),
            }
        }
        // Other transports do not know this field.
        let target = format!("/poll?channel={channel}&cursor=earliest&lastEventId=nonsense");
        assert_eq!(nodes.ask(by, "GET", &target, &[], None).await.status, 200);
    }
}

/// The beginning of a stream, or a refusal.
async fn hello(nodes: &Nodes, by: By, target: &str, lines: &[(&str, String)]) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let address = nodes.node(by).http;
    let mut stream: door::Stream = if by == By::Http2 {
        let lines: Vec<_> = lines.iter().map(|(name, value)| (name.to_lowercase(), value.clone())).collect();
        door::exchange(address, "GET", target, "localhost", &lines, None).await.expect("an answer").stream
    } else {
        let lines: String = lines.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let mut stream = tokio::net::TcpStream::connect(address).await.expect("connect");
        let head = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n");
        stream.write_all(head.as_bytes()).await.expect("write");
        stream.into()
    };
    let mut bytes = Vec::new();
    within(SOON, "a hello", async {
        loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if ["\"heartbeat\":", "\"message\":"].iter().any(|mark| text.contains(mark)) {
                return text;
            }
            assert!(stream.read_buf(&mut bytes).await.is_ok_and(|n| n > 0), "the end in place of a hello: {text}");
        }
    })
    .await
}

/// Scripts that trace requests add headers of their own to each request of a page.
#[tokio::test]
async fn preflights_allow_what_they_ask_for() {
    let nodes = Nodes::start(&["--publish-key", "a-key-of-the-tests", "--allow-origin", "https://app.example"]).await;
    for (origin, asked, status, allowed) in [
        ("https://app.example", &["traceparent"][..], 204, &["traceparent"][..]),
        ("https://app.example", &["authorization,content-type,x-b3-traceid"], 204, &["authorization", "x-b3-traceid"]),
        ("https://app.example", &["a", "b, c"], 204, &["a", "b", "c"]),
        ("https://app.example", &[], 204, &["content-type", "authorization", "if-none-match", "last-event-id"]),
        ("https://app.example", &["x y"], 204, &["content-type"]),
        ("https://evil.example", &["traceparent"], 403, &[]),
    ] {
        let mut lines = vec![("Origin", origin.to_owned()), ("Access-Control-Request-Method", "POST".to_owned())];
        lines.extend(asked.iter().map(|line| ("Access-Control-Request-Headers", (*line).to_owned())));
        for by in ALL {
            let answer = nodes.ask(by, "OPTIONS", "/publish", &lines, None).await;
            assert_eq!(answer.status, status, "{by:?} {lines:?}");
            let list = answer.header("access-control-allow-headers").to_lowercase();
            let list: Vec<_> = list.split(", ").collect();
            assert!(allowed.iter().all(|name| list.contains(name)), "{by:?} {lines:?}: {list:?}");
            assert_eq!(allowed.is_empty(), list == [""], "{by:?} {lines:?}: {list:?}");
            let vary: Vec<_> = answer.headers.iter().filter(|(name, _)| name == "vary").collect();
            assert!(allowed.is_empty() || vary.len() == 2, "{by:?}: a cache must tell preflights apart: {vary:?}");
        }
    }
}

/// `OPTIONS *` asks for the whole server (RFC 9110 §9.3.7).
#[tokio::test]
async fn options_of_the_whole_server() {
    let nodes = Nodes::start(&[]).await;
    for node in [&nodes.plain, &nodes.hyper] {
        for (method, status) in [("OPTIONS", 204), ("GET", 404), ("POST", 404)] {
            let request = format!("{method} * HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
            let answer = raw(node.http, request.as_bytes()).await.expect("an answer");
            assert_eq!(answer.status, status, "{method}");
            assert_eq!(answer.header("Allow"), (status == 204).then_some("GET, HEAD, POST, OPTIONS"));
        }
    }
    let mut raw = Raw::open(&nodes.plain, b"").await;
    let fields = [(":method", "OPTIONS"), (":scheme", "http"), (":authority", "localhost"), (":path", "*")];
    raw.send(&ask(1, &fields)).await;
    let answer = raw.wait("an answer", |frame| frame.kind == HEADERS).await;
    assert!(answer.has_status(204), "{answer:?}");
}

/// If the announced length of a body is too large, the server refuses the body before the client sends it.
#[tokio::test]
async fn a_body_that_is_too_large_is_refused_at_once() {
    let nodes = Nodes::start(&[]).await;
    for (target, length) in [("/publish?channel=a", 20_000_000_u64), ("/poll", 200_000), ("/publish", u64::MAX / 2)] {
        for expect in ["", "Expect: 100-continue\r\n"] {
            for node in [&nodes.plain, &nodes.hyper] {
                let kind = "Content-Type: application/x-www-form-urlencoded\r\n";
                let head = format!(
                    "POST {target} HTTP/1.1\r\nHost: localhost\r\n{kind}{expect}Content-Length: {length}\r\n\r\n"
                );
                let answer = raw(node.http, head.as_bytes()).await.expect("an answer");
                assert_eq!(answer.status, 413, "{target} {expect:?}");
            }
        }
        let length = length.to_string();
        let fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", "localhost"),
            (":path", target),
            ("content-length", &length),
            ("expect", "100-continue"),
        ];
        let mut raw = Raw::open(&nodes.plain, b"").await;
        raw.send(&support::frames::frame(HEADERS, 4, 1, &support::frames::block(&fields))).await;
        let answer = raw.wait("an answer", |frame| frame.kind == HEADERS).await;
        assert!(answer.has_status(413), "{target}: {answer:?}");
    }
    // The server asks for a body of an allowed length, and then accepts it.
    for by in ALL {
        let lines = [("Expect", "100-continue".to_owned())];
        if by == By::Http2 {
            let answer = nodes.ask(by, "POST", "/publish?channel=a", &lines, Some(b"1")).await;
            assert_eq!(answer.status, 200, "{}", answer.body);
            continue;
        }
        let node = nodes.node(by);
        let mut stream = tokio::net::TcpStream::connect(node.http).await.expect("connect");
        let head =
            "POST /publish?channel=a HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n";
        tokio::io::AsyncWriteExt::write_all(&mut stream, head.as_bytes()).await.expect("write");
        let mut first = [0; 25];
        let read = tokio::io::AsyncReadExt::read_exact(&mut stream, &mut first);
        within(SOON, "100 Continue", read).await.expect("100 Continue");
        assert_eq!(&first, b"HTTP/1.1 100 Continue\r\n\r\n");
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"1").await.expect("write");
        let mut answer = support::Response::new(stream, false);
        within(SOON, "a head", answer.read_head()).await.expect("an answer");
        assert_eq!(answer.status, 200, "{by:?}");
    }
}

/// Each value that `Date` can have is the present time.
#[tokio::test]
async fn the_date_follows_the_clock() {
    let clock = support::clock::Clock::new();
    let args = [&Certificate::common().flags()[..], &clock.variables()].concat();
    let plain = Node::start(&args).await;
    let hyper = Node::start(&[&args[..], &["--plain-requests", "false"]].concat()).await;
    let nodes = Nodes { plain, hyper };
    for step in [0, 7200, 0, -7200, 3600, 0] {
        clock.set(step);
        for by in ALL {
            for target in ["/poll?channel=a", "/healthz"] {
                let answer = nodes.ask(by, "GET", target, &[], None).await;
                let date = httpdate::parse_http_date(answer.header("date")).expect("a date");
                let date = date.duration_since(std::time::UNIX_EPOCH).expect("a date").as_secs() as i64;
                let off = date - support::token::seconds(step);
                assert!((-30..=1).contains(&off), "{by:?} {target}: {off} s off after a step to {step} s");
            }
        }
    }
}
