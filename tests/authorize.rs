//! `--authorize-url`: the application decides who may subscribe and publish.

use crate::support;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::application::ServerRequest;
use support::guarded::KEY;
use support::server::run_to_end;
use support::{
    Kind, Node, RawWebSocket, Reader, RedisServer, Request, Response, SOON, Subscription, eventually, within,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

/// The headers that a request sends.
type Headers<'a> = &'a [(&'a str, &'a str)];

/// A question in the form that the application got.
#[derive(Clone, Debug)]
struct Asked {
    body: Value,
    cookie: Option<String>,
    authorization: Option<String>,
}

impl Asked {
    fn channels(&self) -> Vec<String> {
        self.body["channels"]
            .as_array()
            .expect("channels")
            .iter()
            .map(|name| name.as_str().expect("a name").to_owned())
            .collect()
    }
}

/// A small application for the tests: an HTTP server that answers by a rule and records the questions.
struct Application {
    url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    count: Arc<AtomicUsize>,
}

impl Application {
    /// `rule` returns status and body; `None` means that the application never answers.
    async fn start(rule: impl Fn(&Asked) -> Option<(u16, String)> + Send + Sync + 'static) -> Application {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address");
        let url = format!("http://{}/authorize.php?key=hidden", listener.local_addr().expect("an address"));
        let (asked, count, rule) = (Arc::<Mutex<Vec<Asked>>>::default(), Arc::<AtomicUsize>::default(), Arc::new(rule));
        let noted = (asked.clone(), count.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (asked, count, rule) = (noted.0.clone(), noted.1.clone(), rule.clone());
                tokio::spawn(async move {
                    let Some(question) = read(&mut stream).await else { return };
                    count.fetch_add(1, Ordering::SeqCst);
                    asked.lock().await.push(question.clone());
                    let Some((status, body)) = rule(&question) else {
                        tokio::time::sleep(Duration::from_secs(60)).await;
                        return;
                    };
                    let length = body.len();
                    let answer =
                        format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        Application { url, asked, count }
    }

    /// Allows the channels that the cookie `may=a,b` names, to every client that has the cookie.
    async fn by_cookie(ttl: u64) -> Application {
        Application::start(move |asked| Some(allowed_by_cookie(asked, ttl))).await
    }

    fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    async fn last(&self) -> Asked {
        self.asked.lock().await.last().expect("a question").clone()
    }
}

fn allowed_by_cookie(asked: &Asked, ttl: u64) -> (u16, String) {
    let Some(names) = asked.cookie.as_deref().and_then(|cookie| cookie.strip_prefix("may=")) else {
        return (401, String::new());
    };
    let channels: Vec<&str> = names.split(',').collect();
    (200, json!({"channels": channels, "ttl": ttl}).to_string())
}

async fn read(stream: &mut TcpStream) -> Option<Asked> {
    let request = ServerRequest::read(stream).await?;
    assert!(request.head.starts_with("POST /authorize.php?key=hidden HTTP/1.1"), "{}", request.head);
    let header = |name| request.header(name).map(str::to_owned);
    let body = serde_json::from_str(&request.body).expect("JSON");
    Some(Asked { body, cookie: header("cookie"), authorization: header("authorization") })
}

async fn node(application: &Application) -> Node {
    Node::start(&["--authorize-url", &application.url, "--allow-origin", "https://app.example"]).await
}

/// Subscribes over an HTTP transport. Reads a refusal to its end, and cuts off a stream.
async fn knock(node: &Node, path: &str, headers: Headers<'_>) -> Response {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let mut response = request.open(node.http).await;
    if response.status != 200 {
        response.finish().await;
    }
    response
}

const PATHS: [&str; 8] = [
    "/poll?channel=C",
    "/long-poll?timeout=1&channel=C",
    "/xhr-stream?channel=C",
    "/multipart?channel=C",
    "/sse?channel=C",
    "/ndjson?channel=C",
    "/forever-frame?callback=f&channel=C",
    "/jsonp?mode=poll&callback=f&channel=C",
];

#[tokio::test]
async fn each_transport_is_asked_for() {
    let application = Application::by_cookie(60).await;
    let node = node(&application).await;
    for path in PATHS {
        let name = path.split('?').next().expect("a path").trim_start_matches('/');
        // A script tag sends cookies for any site, so they do not count on this transport.
        let by_cookie = name != "jsonp";
        let is_script = matches!(name, "jsonp" | "forever-frame");
        for (cookie, channel, status, code) in [
            (Some("may=a,b"), "a", 200, ""),
            (Some("may=a,b"), "a,b", 200, ""),
            (Some("may=a,b"), "a,c,d", 403, "forbidden"),
            (Some("may=A"), "a", 403, "forbidden"),
            (None, "a", 401, "unauthorized"),
        ] {
            let headers: Vec<_> = cookie.map(|cookie| ("Cookie", cookie)).into_iter().collect();
            let answer = knock(&node, &path.replace("=C", &format!("={channel}")), &headers).await;
            let (status, code) = if by_cookie { (status, code) } else { (401, "unauthorized") };
            if is_script && !code.is_empty() {
                // The script cannot read a status, so the callback gets the error.
                let mut answer = answer;
                answer.finish().await;
                assert_eq!(answer.status, 200, "{path} {cookie:?} {channel}");
                assert!(answer.text().contains(&format!("\"code\":\"{code}\"")), "{path}: {}", answer.text());
                continue;
            }
            assert_eq!(answer.status, status, "{path} {cookie:?} {channel}: {}", answer.text());
            if status == 403 && channel == "a,c,d" {
                assert_eq!(answer.error_code(), code);
                assert!(answer.text().contains("not allowed: c, d"), "{path}: {}", answer.text());
            }
            if by_cookie {
                let asked = application.last().await;
                assert_eq!(asked.body["transport"], name);
                assert_eq!(asked.body["ip"], "127.0.0.1");
                assert_eq!(asked.body["action"], "subscribe");
            }
        }
    }
}

#[tokio::test]
async fn a_duplex_client_is_asked_for_at_each_command() {
    let application = Application::by_cookie(60).await;
    let node = node(&application).await;
    let mut request = format!("ws://{}/ws?channel=a", node.http).into_client_request().expect("a request");
    for (name, value) in [("Cookie", "may=a,b"), ("Origin", "https://app.example")] {
        request.headers_mut().insert(name, value.parse().expect("a header"));
    }
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.expect("a WebSocket");
    assert_eq!(application.last().await.body["origin"], "https://app.example");
    for (command, answer) in [
        (json!({"type": "subscribe", "channels": ["b"], "ref": 1}), Ok(())),
        (json!({"type": "subscribe", "channels": ["b", "c"], "ref": 2}), Err("forbidden")),
        (json!({"type": "publish", "channel": "b", "data": 1, "ref": 3}), Ok(())),
        (json!({"type": "publish", "channel": "c", "data": 1, "ref": 4}), Err("forbidden")),
    ] {
        socket.send(Message::text(command.to_string())).await.expect("sent");
        let item = within(support::SOON, "an answer", async {
            loop {
                let frame = socket.next().await.expect("no end").expect("a frame");
                let item: Value = serde_json::from_str(frame.to_text().expect("text")).expect("JSON");
                if item["ref"] == command["ref"] {
                    return item;
                }
            }
        })
        .await;
        match answer {
            Ok(()) => assert_eq!(item["type"], "ack", "{command}: {item}"),
            Err(code) => assert_eq!(item["code"], code, "{command}: {item}"),
        }
    }
    // Raw TCP sends nothing that identifies a user.
    let tcp = node.transport("tcp").await;
    let mut reader = Reader::open(&node, &tcp, Subscription::to(&["a"])).await;
    let item = reader.next().await.expect("an error");
    assert_eq!(item.str("code").as_deref(), Some("unauthorized"), "{item:?}");
    assert_eq!(application.last().await.body["transport"], "tcp");
}

#[tokio::test]
async fn what_is_no_answer_refuses() {
    type Rule = fn(&Asked) -> Option<(u16, String)>;
    let cases: [(&str, Rule, u16); 9] = [
        ("no answer", |_| None, 403),
        ("an error", |_| Some((500, r#"{"channels":["a"]}"#.into())), 403),
        ("no content", |_| Some((204, String::new())), 403),
        ("a redirect", |_| Some((302, String::new())), 403),
        ("not JSON", |_| Some((200, "yes".into())), 403),
        ("no list", |_| Some((200, r#"{"channels":"a","ttl":60}"#.into())), 403),
        ("a ttl that is none", |_| Some((200, r#"{"channels":["a"],"ttl":"60"}"#.into())), 403),
        ("too long", |_| Some((200, format!(r#"{{"channels":["a"],"x":"{}"}}"#, "x".repeat(70_000)))), 403),
        ("none", |_| Some((200, r#"{"channels":[]}"#.into())), 403),
    ];
    for (name, rule, status) in cases {
        let application = Application::start(rule).await;
        let node = node(&application).await;
        let began = Instant::now();
        let answer = Request::get("/poll?channel=a").header("Cookie", "s=secret").send(node.http).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (status, "forbidden"), "{name}: {}", answer.text());
        assert!(began.elapsed() < Duration::from_secs(20), "{name}: refused after {:?}", began.elapsed());
        let is_passing = !matches!(name, "none" | "no content" | "a redirect");
        assert_eq!(answer.header("Retry-After").is_some(), is_passing, "{name}");
        assert!(!answer.text().contains("hidden") && !answer.text().contains("secret"), "{name}: {}", answer.text());
        let metrics = Request::get("/metrics").send(node.http).await;
        assert_eq!(metrics.status, 403);
        let log = node.log();
        assert!(!log.contains("hidden") && !log.contains("secret"), "{log}");
    }
    // The application does not run at all.
    let node = Node::start(&["--authorize-url", "http://127.0.0.1:1/"]).await;
    let answer = Request::get("/poll?channel=a").send(node.http).await;
    assert_eq!((answer.status, answer.error_code().as_str()), (403, "forbidden"));
    // The log goes to a pipe of its own.
    node.logged("--authorize-url").await;
}

/// A machine without certificates can ask over plain HTTP. Over HTTPS it cannot ask, and the server reports that at
/// start.
#[tokio::test]
async fn plain_http_needs_no_certificates() {
    let bare = ["SSL_CERT_FILE=/nowhere.pem", "SSL_CERT_DIR=/nowhere"];
    let application = Application::by_cookie(60).await;
    let node = Node::start(&[bare[0], bare[1], "--authorize-url", &application.url]).await;
    assert_eq!(knock(&node, "/poll?channel=a", &[("Cookie", "may=a")]).await.status, 200);
    let (code, said) = run_to_end(&[bare[0], bare[1], "--authorize-url", "https://app.example/"]).await;
    assert!(code != 0 && said.contains("--authorize-url"), "{code} {said}");
}

/// An answer holds for exactly the question that was sent.
#[tokio::test]
async fn answers_are_kept_by_all_that_was_sent() {
    let application = Application::by_cookie(60).await;
    let node = node(&application).await;
    let cases: [(&str, Headers<'_>, bool); 12] = [
        ("/poll?channel=a", &[("Cookie", "may=a,b")], true),
        ("/poll?channel=a", &[("Cookie", "may=a,b")], false),
        ("/poll?channel=a&cursor=earliest&limit=7", &[("Cookie", "may=a,b")], false),
        ("/poll?channel=a,b", &[("Cookie", "may=a,b")], true),
        ("/poll?channel=b&channel=a", &[("Cookie", "may=a,b")], false),
        ("/poll?channel=a", &[("Cookie", "may=a,b ")], false),
        ("/poll?channel=a", &[("Cookie", "may=a,b,c")], true),
        ("/poll?channel=a", &[("Cookie", "may=a,b"), ("Authorization", "Bearer x")], true),
        ("/poll?channel=a", &[("Cookie", "may=a,b"), ("Origin", "https://app.example")], true),
        ("/long-poll?timeout=1&channel=a", &[("Cookie", "may=a,b")], true),
        ("/poll?channel=a&client=6ba7b810-9dad-41d1-80b4-00c04fd430c8", &[("Cookie", "may=a,b")], true),
        ("/poll?channel=a", &[("Cookie", "may=a,b")], false),
    ];
    for (n, (path, headers, is_asked)) in cases.into_iter().enumerate() {
        let before = application.count();
        let answer = knock(&node, path, headers).await;
        assert_eq!(answer.status, 200, "{n} {path}: {}", answer.text());
        assert_eq!(application.count() - before, usize::from(is_asked), "{n} {path} {headers:?}");
    }
    // A refusal is not cached: after signing in, a user is admitted.
    for _ in 0..2 {
        let before = application.count();
        assert_eq!(knock(&node, "/poll?channel=z", &[("Cookie", "may=none")]).await.status, 403);
        assert_eq!(knock(&node, "/poll?channel=z", &[]).await.status, 401);
        let asked = application.count() - before;
        assert!(asked >= 1, "asked {asked} times");
    }
}

#[tokio::test]
async fn the_same_question_is_asked_once_at_a_time() {
    let application = Application::start(|asked| {
        std::thread::sleep(Duration::from_millis(200));
        Some(allowed_by_cookie(asked, 60))
    })
    .await;
    let node = node(&application).await;
    let knocks = (0..50).map(|_| knock(&node, "/poll?channel=a", &[("Cookie", "may=a")]));
    for answer in futures_util::future::join_all(knocks).await {
        assert_eq!(answer.status, 200);
    }
    assert_eq!(application.count(), 1);
}

/// A name cannot be made to look like another name.
#[tokio::test]
async fn odd_names_stand_for_themselves() {
    let application = Application::start(|_| Some((200, r#"{"channels":["board:1"],"ttl":60}"#.into()))).await;
    let node = node(&application).await;
    for (name, status) in [
        ("board:1", 200),
        ("board%3A1", 200),
        ("Board:1", 403),
        ("board:1/", 403),
        ("board:12", 403),
        ("board:1/../2", 403),
        ("board:1%2Cboard:2", 403),
        ("board:1%00", 400),
        ("board:1%20", 400),
        ("board:*", 400),
    ] {
        let answer = knock(&node, &format!("/poll?channel={name}"), &[]).await;
        assert_eq!(answer.status, status, "{name}: {}", answer.text());
    }
}

/// The server asks again for a permission that ends. If the application refuses, the reader is disconnected for good.
#[tokio::test]
async fn a_running_subscription_is_asked_for_again() {
    let allowed = Arc::new(AtomicUsize::new(1));
    let rule = allowed.clone();
    let application = Application::start(move |asked| {
        let names = if rule.load(Ordering::SeqCst) == 1 { asked.channels() } else { Vec::new() };
        Some((200, json!({"channels": names, "ttl": 1}).to_string()))
    })
    .await;
    let node = node(&application).await;
    let mut readers = Vec::new();
    for transport in node.transports().await {
        if ["poll", "long-poll", "jsonp"].contains(&transport.name.as_str()) {
            continue;
        }
        let mut reader = Reader::open(&node, &transport, Subscription::to(&["a"])).await;
        reader.next_of(Kind::Hello).await;
        readers.push(reader);
    }
    assert!(readers.len() >= 6, "six streams at least, not {}", readers.len());
    // No message is lost over several periods of the permission.
    let mut published = Vec::new();
    for n in 0..12 {
        published.extend(node.publish_numbers("a", 1).await);
        tokio::time::sleep(Duration::from_millis(if n % 2 == 0 { 500 } else { 1 })).await;
    }
    for reader in &mut readers {
        reader.expect(&published).await;
    }
    assert!(application.count() > 2 * readers.len(), "{}", application.count());
    allowed.store(0, Ordering::SeqCst);
    for reader in &mut readers {
        let bye = reader.next_of(Kind::Bye).await;
        assert!(bye.text.contains("\"code\":4003"), "{}: {bye:?}", reader.transport.name);
        assert!(!bye.text.contains("retry"), "{}: {bye:?}", reader.transport.name);
    }
    // A parked poll does not wait longer than its permission lasts.
    allowed.store(1, Ordering::SeqCst);
    let began = Instant::now();
    let answer = Request::get("/long-poll?timeout=20&channel=a").send(node.http).await;
    assert_eq!(answer.status, 200);
    // The poll asked for 20 s.
    assert!(began.elapsed() < Duration::from_secs(15), "it waited for {:?}", began.elapsed());
}

/// A client that has lost its permission cannot continue to read by sending commands faster than the application
/// answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_commands_does_not_put_the_end_off() {
    let unsubscribe = |channel| json!({"type": "unsubscribe", "channels": [channel]});
    let subscribe = |channels: &[&str]| json!({"type": "subscribe", "channels": channels});
    let not_held = format!("{}\n", unsubscribe("z"));
    let held = format!("{}\n{}\n", unsubscribe("b"), subscribe(&["b"]));
    for flood in [not_held, held] {
        let has_allowed = AtomicBool::new(false);
        let application = Application::start(move |asked| {
            std::thread::sleep(Duration::from_millis(20));
            // `a` once, and `b` for a long time.
            let names = asked.channels();
            let is_about_a = names.iter().any(|name| name == "a");
            let is_refused = is_about_a && has_allowed.fetch_or(true, Ordering::SeqCst);
            let ttl = if is_about_a { 1 } else { 60 };
            Some(if is_refused {
                (403, String::new())
            } else {
                (200, json!({"channels": names, "ttl": ttl}).to_string())
            })
        })
        .await;
        let node = node(&application).await;
        let (reader, mut writer) = TcpStream::connect(node.tcp).await.expect("connect").into_split();
        writer.write_all(format!("{}\n", subscribe(&["a", "b"])).as_bytes()).await.expect("write");
        let commands = flood.repeat(500);
        let flooding = tokio::spawn(async move { while writer.write_all(commands.as_bytes()).await.is_ok() {} });
        let mut lines = BufReader::new(reader).lines();
        within(SOON, &format!("a bye in spite of {flood}"), async {
            while let Some(line) = lines.next_line().await.expect("a bye, not the end") {
                if line.contains("\"bye\"") {
                    return assert!(line.contains("4003"), "{line}");
                }
            }
            panic!("the end, and no bye");
        })
        .await;
        flooding.abort();
        // About both, about `b`, and about both again.
        assert!(application.count() <= 3, "{}", application.count());
    }
}

/// While the application restarts, the server does not disconnect any reader.
#[tokio::test]
async fn a_short_failure_at_renewal_is_weathered() {
    let state = Arc::new(AtomicUsize::new(200));
    let rule = state.clone();
    let application =
        Application::start(move |_| Some((rule.load(Ordering::SeqCst) as u16, r#"{"channels":["a"],"ttl":1}"#.into())))
            .await;
    let node = node(&application).await;
    let sse = node.transport("sse").await;
    let mut reader = Reader::open(&node, &sse, Subscription::to(&["a"])).await;
    reader.next_of(Kind::Hello).await;
    state.store(503, Ordering::SeqCst);
    let before = application.count();
    eventually("a failed renewal", async || (application.count() > before).then_some(())).await;
    state.store(200, Ordering::SeqCst);
    let published = node.publish_numbers("a", 1).await;
    reader.expect(&published).await;
    let before = application.count();
    within(SOON, "the next renewal", async {
        while application.count() < before + 2 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    let published = node.publish_numbers("a", 1).await;
    reader.expect(&published).await;
}

/// A page of another site can send a form with the user's cookies, and must not be able to publish with it.
#[tokio::test]
async fn a_cookie_alone_does_not_publish() {
    let application = Application::start(|asked| {
        let knows = asked.cookie.is_some() || asked.authorization.is_some();
        Some(if knows { (200, r#"{"channels":["a"],"ttl":60}"#.into()) } else { (401, String::new()) })
    })
    .await;
    let node = node(&application).await;
    let own = format!("http://{}", node.http);
    let cases: [(Headers<'_>, u16, &str); 12] = [
        (&[("Authorization", "Basic YTpi")], 403, "forbidden_origin"),
        (&[("Authorization", "Basic YTpi"), ("Origin", "https://app.example")], 200, ""),
        (&[("Cookie", "s=1"), ("Authorization", "Basic YTpi")], 403, "forbidden_origin"),
        (&[("Cookie", "s=1")], 403, "forbidden_origin"),
        (&[("Cookie", "s=1"), ("Origin", "https://evil.example")], 403, "forbidden_origin"),
        (&[("Cookie", "s=1"), ("Origin", "null")], 403, "forbidden_origin"),
        (&[("Cookie", "s=1"), ("Origin", "https://app.example.evil.example")], 403, "forbidden_origin"),
        (&[("Cookie", "s=1"), ("Origin", "https://app.example")], 200, ""),
        (&[("Cookie", "s=1"), ("Origin", own.as_str())], 200, ""),
        (&[("Cookie", "s=1"), ("Authorization", "Bearer x")], 200, ""),
        (&[("Authorization", "Bearer x")], 200, ""),
        (&[], 401, "unauthorized"),
    ];
    for (headers, status, code) in cases {
        let mut request = Request::post("/publish?channel=a", b"1");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let answer = request.send(node.http).await;
        assert_eq!(answer.status, status, "{headers:?}: {}", answer.text());
        if status != 200 {
            assert_eq!(answer.error_code(), code, "{headers:?}");
        }
    }
    let asked = application.asked.lock().await;
    let odd: Vec<_> = asked
        .iter()
        .filter(|asked| asked.body["action"] != "publish" || asked.body["transport"] != "publish")
        .collect();
    assert!(odd.is_empty(), "not asked about publishing: {odd:?}");
    // Where another credential authorizes the request, the cookie is left out.
    let is_alone = |asked: &Asked| asked.authorization.is_some() && asked.cookie.is_none();
    assert!(asked.iter().any(is_alone), "none with an authorization and no cookie: {asked:?}");
}

/// Questions that wait for the application count against the memory of clients, by whichever way they came.
#[tokio::test]
async fn publications_that_wait_for_the_application_are_counted() {
    let application = Application::start(|_| None).await;
    let node = Node::start(&["--authorize-url", &application.url, "--publish-key", KEY]).await;
    let payload = "x".repeat(60_000);
    let mut ws = RawWebSocket::open(&node, "/ws").await;
    ws.next_of("hello").await;
    ws.text(&json!({"type": "publish", "channel": "a", "data": payload}).to_string()).await;
    let (at, body) = (node.http, payload.into_bytes());
    let publish = tokio::spawn(async move { Request::post("/publish?channel=a", &body).send(at).await });
    let held = async || {
        let metrics = Request::get("/metrics").header("Authorization", &format!("Bearer {KEY}")).send(node.http).await;
        let text = metrics.text();
        let value = text.lines().find_map(|line| line.strip_prefix("longtail_buffered_bytes ")).expect("the metric");
        value.parse::<f64>().expect("a number")
    };
    eventually("both to be counted", async || (held().await >= 120_000.0).then_some(())).await;
    assert_eq!(publish.await.expect("an answer").status, 403);
    assert_eq!(ws.next_of("error").await["code"], "forbidden");
    eventually("nothing to be held", async || (held().await == 0.0).then_some(())).await;
}

/// Of several requests that came together, the first ones are queued for the log while the server asks the application
/// about the last one. They wait in the same queue as all others.
#[tokio::test]
async fn who_waits_for_the_application_holds_up_nobody() {
    let redis = RedisServer::start().await;
    let application = Application::start(|asked| {
        let is_known = asked.cookie.as_deref() == Some("may=c");
        is_known.then(|| allowed_by_cookie(asked, 60))
    })
    .await;
    let origin = "https://app.example";
    let flags = ["--redis", &redis.url(), "--authorize-url", &application.url, "--allow-origin", origin];
    let node = Node::start(&flags).await;
    let publish = |cookie: &str, body: &str| {
        format!(
            "POST /publish?channel=c HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\nCookie: {cookie}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let alone = async || {
        let mut stream = TcpStream::connect(node.http).await.expect("connect");
        stream.write_all(publish("may=c", "\"alone\"").as_bytes()).await.expect("write");
        let mut answer = Response::new(stream, false);
        answer.read_head().await.expect("an answer");
        answer.finish().await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    alone().await;
    let mut many = TcpStream::connect(node.http).await.expect("connect");
    let mut pipeline: String = (0..60).map(|n| publish("may=c", &n.to_string())).collect();
    pipeline.push_str(&publish("who=knows", "60"));
    many.write_all(pipeline.as_bytes()).await.expect("write");
    let asked = application.count();
    eventually("the application to be asked", async || (application.count() > asked).then_some(())).await;
    // It gives no answer for two seconds.
    within(Duration::from_secs(1), "an answer to another", alone()).await;
    let (mut answers, mut statuses) = (Vec::new(), Vec::new());
    while statuses.len() < 61 {
        let read = within(SOON, "all answers", many.read_buf(&mut answers)).await.expect("read");
        assert!(read > 0, "the end after {} of 61 answers", statuses.len());
        let text = String::from_utf8_lossy(&answers);
        statuses = text.split("HTTP/1.1 ").skip(1).map(|answer| answer[..3].to_owned()).collect();
    }
    assert!(statuses[..60].iter().all(|status| status == "200") && statuses[60] == "403", "{statuses:?}");
}

/// A user whose permission the application has withdrawn is not a member any more from that moment on, also while the
/// connection waits for an answer to its client's last event.
#[tokio::test]
async fn a_user_that_is_refused_is_not_a_member_during_the_farewell() {
    let may = Arc::new(AtomicBool::new(true));
    let rule = may.clone();
    let answer = json!({"channels": ["room"], "ttl": 1, "user": {"id": "ann"}}).to_string();
    let application = Application::start(move |_| {
        Some(if rule.load(Ordering::SeqCst) { (200, answer.clone()) } else { (403, String::new()) })
    })
    .await;
    // It accepts connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("an address");
    let hook = format!("http://{}/", silent.local_addr().expect("an address"));
    let flags =
        ["--authorize-url", &application.url, "--presence", "room", "--hook-url", &hook, "--hook-timeout", "30"];
    let node = Node::start(&[&flags[..], &["--publish-key", KEY]].concat()).await;
    let members = async || {
        let bearer = format!("Bearer {KEY}");
        let list = Request::get("/channels/room/members").header("Authorization", &bearer).send(node.http).await;
        list.json()["members"].as_array().map_or(usize::MAX, Vec::len)
    };
    let mut socket = RawWebSocket::open(&node, "/ws?channel=room").await;
    socket.next_of("hello").await;
    assert_eq!(members().await, 1);
    socket.text(r#"{"type":"event","event":"e","ref":1}"#).await;
    let asked = application.count();
    may.store(false, Ordering::SeqCst);
    eventually("a refusal", async || (application.count() > asked).then_some(())).await;
    let refused = Instant::now();
    eventually("no members", async || (members().await == 0).then_some(())).await;
    assert!(refused.elapsed() < Duration::from_secs(4), "{:?}", refused.elapsed());
    // The connection is still there: the farewell waits for the answer for ten seconds.
    assert_eq!(socket.next_of("bye").await["code"], 4003);
    assert!(refused.elapsed() > Duration::from_secs(6), "{:?}", refused.elapsed());
}

/// The application gets the address of the user, not that of the proxy.
#[tokio::test]
async fn the_application_is_told_the_address_behind_a_proxy() {
    let application = Application::by_cookie(60).await;
    let node = Node::start(&["--authorize-url", &application.url, "--trusted-proxy", "127.0.0.0/8"]).await;
    for (forwarded, ip) in
        [("192.0.2.7", "192.0.2.7"), ("6.6.6.6, 192.0.2.8, 127.0.0.9", "192.0.2.8"), ("?", "127.0.0.1")]
    {
        let headers = [("Cookie", "may=a"), ("X-Forwarded-For", forwarded)];
        assert_eq!(knock(&node, "/poll?channel=a", &headers).await.status, 200);
        assert_eq!(application.last().await.body["ip"], ip);
    }
}

#[tokio::test]
async fn it_opens_the_server_to_other_hosts_and_nothing_else() {
    let application = Application::by_cookie(60).await;
    let node = node(&application).await;
    let answer = Request::get("/poll?channel=a").host("push.example").header("Cookie", "may=a").send(node.http);
    assert_eq!(answer.await.status, 200);
    for path in ["/metrics", "/status", "/channels", "/channels/a"] {
        assert_eq!(Request::get(path).send(node.http).await.status, 403, "{path}");
    }
    for path in ["/info", "/healthz", "/readyz", "/client.js", "/"] {
        assert_eq!(Request::get(path).send(node.http).await.status, 200, "{path}");
    }
}
