//! Without keys or tokens the server is open, and therefore restricts itself to loopback addresses, loopback names and
//! loopback origins. Also its exit if it cannot start.

use crate::support;

use support::server::run_to_end;
use support::websocket::handshake;
use support::{Log, Node, RedisServer, Request, Transport, World, decode::Decoder, each_transport};

const FOREIGN_HOSTS: [&str; 8] = [
    "evil.example",
    "evil.example:8080",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "evillocalhost",
    "192.168.1.1",
    "0.0.0.0",
    "[2001:db8::1]:80",
];

#[tokio::test]
async fn only_loopback_hosts() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    let paths = ["/poll?channel=a", "/sse?channel=a", "/info", "/", "/publish?channel=a", "/channels/a"];
    for host in FOREIGN_HOSTS {
        for path in paths {
            let answer = Request::get(path).host(host).send(node.http).await;
            assert_eq!(answer.status, 403, "{host} {path}: {}", answer.text());
            assert_eq!(answer.error_code(), "forbidden", "{host} {path}");
        }
        let answer = Request::post("/publish?channel=a", b"1").host(host).send(node.http).await;
        assert_eq!(answer.status, 403, "{host}");
    }
    for host in ["localhost", "LOCALHOST:1", "localhost:8080", "127.0.0.1", "127.1.2.3:5", "[::1]", "[::1]:8080"] {
        let answer = Request::get("/poll?channel=a").host(host).send(node.http).await;
        assert_eq!(answer.status, 200, "{host}");
    }
    assert_eq!(node.get("/poll?channel=a&cursor=earliest").await.json()["messages"], serde_json::json!([]));
}

const FOREIGN_ORIGINS: [&str; 10] = [
    "https://evil.example",
    "http://evil.example:8080",
    "null",
    "http://localhost.evil.example",
    "http://127.0.0.1.evil.example",
    "http://evil.example/localhost",
    "http://localhost@evil.example",
    "http://evillocalhost",
    "file://",
    "nonsense",
];

/// The code of a refusal, as the transport's clients read it; `None` if the server accepted the request.
async fn refusal(node: &Node, transport: &Transport, origin: &str) -> Option<String> {
    let url = transport.url("channel=a&max_seconds=1&timeout=1");
    if transport.lifecycle == "duplex" {
        let answer = handshake(&url).header("Origin", origin).open(node.http).await;
        if answer.status == 101 {
            return None;
        }
    }
    let request = match transport.lifecycle.as_str() {
        "duplex" => handshake(&url),
        _ => Request::get(&url),
    };
    let mut answer = request.header("Origin", origin).open(node.http).await;
    if answer.status == 200 && !transport.is_script() {
        return None;
    }
    if answer.status == 200 {
        let mut decoder = Decoder::new(answer.header("Content-Type").expect("a type"), "cb");
        support::within(support::SOON, "the script", answer.finish()).await;
        decoder.feed(&answer.body);
        decoder.finish();
        return decoder.pop().expect("a call").code();
    }
    answer.finish().await;
    assert_eq!(answer.status, 403, "{}: {}", transport.name, answer.text());
    Some(answer.error_code())
}

#[tokio::test]
async fn only_loopback_origins() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    each_transport(
        &node,
        |t| t.lifecycle != "socket",
        async |transport| {
            for origin in FOREIGN_ORIGINS {
                let code = refusal(&node, &transport, origin).await;
                assert_eq!(code.as_deref(), Some("forbidden_origin"), "{}: {origin}", transport.name);
            }
            for origin in ["http://localhost", "http://localhost:3000", "https://127.0.0.1:1", "http://[::1]:8080"] {
                let code = refusal(&node, &transport, origin).await;
                assert_eq!(code, None, "{}: {origin}", transport.name);
            }
        },
    )
    .await;
    for origin in FOREIGN_ORIGINS {
        let publish = Request::post("/publish?channel=a", b"1").header("Origin", origin);
        let answer = publish.send(node.http).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (403, "forbidden_origin"), "{origin}");
    }
    assert_eq!(node.get("/poll?channel=a&cursor=earliest").await.json()["messages"], serde_json::json!([]));
    node.logged("--allow-origin").await;
}

/// Pages of other loopback origins read answers and the position, with credentials.
#[tokio::test]
async fn cors() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    let origin = "http://localhost:3000";
    each_transport(
        &node,
        |t| t.is_http(),
        async |transport| {
            for query in ["channel=a&max_seconds=1&timeout=1", "channel=a%20b"] {
                let url = transport.url(query);
                let answer = Request::get(&url).header("Origin", origin).open(node.http).await;
                let name = &transport.name;
                assert_eq!(answer.header("Access-Control-Allow-Origin"), Some(origin), "{name}");
                let exposed = answer.header("Access-Control-Expose-Headers").unwrap_or_default();
                assert!(exposed.to_lowercase().contains("etag"), "{name} exposes {exposed:?}");
                assert!(answer.header("Vary").is_some_and(|vary| vary.contains("Origin")), "{name}");
            }
            // A request without an Origin gets no CORS headers.
            let answer = Request::get(&transport.url("channel=a&timeout=1")).open(node.http).await;
            assert_ne!(answer.header("Access-Control-Allow-Origin"), Some("*"));
        },
    )
    .await;
    let preflight = Request::new("OPTIONS", "/publish")
        .header("Origin", origin)
        .header("Access-Control-Request-Method", "POST")
        .header("Access-Control-Request-Headers", "content-type")
        .send(node.http)
        .await;
    assert!(matches!(preflight.status, 200 | 204), "200 or 204, not {}", preflight.status);
    assert_eq!(preflight.header("Access-Control-Allow-Origin"), Some(origin));
    let allowed = preflight.header("Access-Control-Allow-Headers").expect("headers").to_lowercase();
    assert!(allowed.contains("content-type"), "{allowed}");
    let foreign = Request::new("OPTIONS", "/publish")
        .header("Origin", "https://evil.example")
        .header("Access-Control-Request-Method", "POST")
        .send(node.http)
        .await;
    assert_eq!(foreign.header("Access-Control-Allow-Origin"), None);
}

#[tokio::test]
async fn allow_origin() {
    let args = ["--allow-origin", "https://app.example", "--allow-origin", "https://two.example:8443"];
    let World { node, .. } = World::start(Log::Memory, &args).await;
    let poll = node.transport("poll").await;
    for good in ["https://app.example", "https://two.example:8443"] {
        assert_eq!(refusal(&node, &poll, good).await, None, "{good}");
    }
    for bad in [
        "http://app.example",
        "https://app.example:444",
        "https://app.example.evil.example",
        "https://xapp.example",
        "https://two.example",
    ] {
        assert_eq!(refusal(&node, &poll, bad).await.as_deref(), Some("forbidden_origin"), "{bad}");
    }
}

/// Origins that pages have, and that operators write: other schemes, default ports, subdomains.
#[tokio::test]
async fn allowed_origins_as_operators_write_them() {
    for (flag, good, bad) in [
        ("https://www.example.com:443", &["https://www.example.com"][..], &["http://www.example.com"][..]),
        ("HTTPS://WWW.Example.com", &["https://www.example.com"], &["https://example.com"]),
        ("http://www.example.com:80", &["http://www.example.com"], &["http://www.example.com:8080"]),
        ("capacitor://localhost", &["capacitor://localhost"], &["capacitor://evil", "ionic://localhost"]),
        ("chrome-extension://abcdefghijklmnop", &["chrome-extension://abcdefghijklmnop"], &["chrome-extension://x"]),
        (
            "https://*.example.com",
            &["https://a.example.com", "https://a.b.example.com"],
            &[
                "https://example.com",
                "https://evilexample.com",
                "https://a.example.com.evil.example",
                "http://a.example.com",
                "https://a.example.com:8443",
                "https://evil.example/.example.com",
            ],
        ),
    ] {
        let World { node, .. } = World::start(Log::Memory, &["--allow-origin", flag]).await;
        let poll = node.transport("poll").await;
        for good in good {
            assert_eq!(refusal(&node, &poll, good).await, None, "{flag} allows {good}");
            let answer = Request::get("/poll?channel=a").header("Origin", good).send(node.http).await;
            assert_eq!(answer.header("Access-Control-Allow-Origin"), Some(*good), "{flag}");
        }
        for bad in bad {
            assert_eq!(refusal(&node, &poll, bad).await.as_deref(), Some("forbidden_origin"), "{flag}: {bad}");
        }
    }
    for bad in
        ["https://a.example/path", "https://*", "https://a.*.example.com", "wss://a.example", "null", "a.example"]
    {
        let (code, said) = support::server::run_to_end(&["--allow-origin", bad]).await;
        assert_eq!(code, 64, "{bad}: {said}");
        assert!(said.contains(&format!("--allow-origin {bad}: ")), "{said}");
    }
}

/// `--open` lifts both restrictions.
#[tokio::test]
async fn open_lifts_both() {
    for args in [&["--open"][..], &["--open", "--listen", "0.0.0.0:0", "--tcp-listen", "0.0.0.0:0"]] {
        let node = Node::start_unready(args).await;
        let address = (std::net::Ipv4Addr::LOCALHOST, node.http.port()).into();
        for host in FOREIGN_HOSTS {
            let answer = Request::get("/poll?channel=a").host(host).send(address).await;
            assert_eq!(answer.status, 200, "{host}");
        }
        for origin in ["https://evil.example", "null"] {
            let answer = Request::get("/poll?channel=a").header("Origin", origin).send(address).await;
            assert_eq!(answer.status, 200, "{origin}");
        }
    }
}

/// The exit code is 64, and one line gives the reason.
#[tokio::test]
async fn bad_configuration() {
    let cases: [(&[&str], &str); 14] = [
        (&["--listen", "0.0.0.0:0"], "--open"),
        (&["--listen", "[::]:0"], "--open"),
        (&["--tcp-listen", "0.0.0.0:0"], "--open"),
        (&["--listen", "nonsense"], "listen"),
        (&["--listen", "127.0.0.1:99999"], "listen"),
        (&["--redis", "nonsense"], "redis"),
        (&["--redis", "http://127.0.0.1/"], "redis"),
        (&["--retain-messages", "x"], "retain-messages"),
        (&["--retain-bytes", "64 bananas"], "retain-bytes"),
        (&["--max-connections", "-1"], "max-connections"),
        (&["--log-format", "xml"], "log-format"),
        (&["--allow-origin", "https://app.example/path"], "allow-origin"),
        (&["--nonsense"], "nonsense"),
        (&["LONGTAIL_MAX_CHANNELS=x"], "'LONGTAIL_MAX_CHANNELS'"),
    ];
    let loopback = ["--listen", "127.0.0.1:0", "--tcp-listen", "127.0.0.1:0"];
    for (args, named) in cases {
        let mut all: Vec<&str> = Vec::new();
        for pair in loopback.chunks(2).filter(|pair| !args.contains(&pair[0])) {
            all.extend(pair);
        }
        all.extend(args);
        let (code, said) = run_to_end(&all).await;
        assert_eq!(code, 64, "{args:?}: {said}");
        assert!(
            said.lines().next().is_some_and(|line| line.contains(named)),
            "the first line names it: {args:?}: {said}"
        );
    }
}

#[tokio::test]
async fn the_environment_is_another_way_to_say_it() {
    let args = ["LONGTAIL_MAX_CHANNELS=2", "LONGTAIL_HEARTBEAT_SECONDS=3"];
    let World { node, .. } = World::start(Log::Memory, &args).await;
    let answer = node.get("/poll?channel=a,b,c").await;
    assert_eq!(answer.error_code(), "too_many_channels");
    let (code, _) = run_to_end(&["--help"]).await;
    assert_eq!(code, 0);
}

/// The exit code is 69 if the log cannot be reached.
#[tokio::test]
async fn an_unreachable_log() {
    let mut redis = RedisServer::start().await;
    redis.kill();
    let url = redis.url();
    let args = ["--listen", "127.0.0.1:0", "--tcp-listen", "off", "--redis", &url];
    let (code, said) = run_to_end(&args).await;
    assert_eq!(code, 69, "{said}");
    assert!(said.contains("--wait-for-log"), "it names the way out: {said}");
}
