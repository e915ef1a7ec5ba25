//! Server keys, public channels, cookies and origins: which client may do what, and which facts the server reveals to
//! no client.

use crate::support;

use serde_json::json;
use support::guarded::{KEY, bearer, get, guarded, knock, may, publish, refused};
use support::http::Response;
use support::server::run_to_end;
use support::token::{KeyPair, SECRET, token};
use support::websocket::handshake;
use support::{LineClient, Node, Request, SOON, each_transport, eventually, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn keys_that_cannot_be_used_are_refused_at_start() {
    let pair = KeyPair::new("EdDSA");
    let curve = KeyPair::new("ES384");
    for (args, mend) in [
        (["--token-public-key", pair.private.as_str()], "needs the public key"),
        (["--token-public-key", curve.public.as_str()], "P-256"),
        (["--token-public-key", "Cargo.toml"], "use a PEM file"),
        (["--token-public-key", "nothing.pem"], "No such file"),
        (["--token-secret-file", "/dev/null"], "empty"),
        (["--public", "a*b"], "a * at its end"),
        (["--open", "--publish-key=k"], "set only one of them"),
        (["--proxy-protocol", "--tcp-listen=off"], "--trusted-proxy"),
    ] {
        let (code, said) = run_to_end(&args).await;
        assert_eq!(code, 64, "{args:?}: {said}");
        assert!(said.contains(mend) && said.trim_end().lines().count() == 1, "{args:?}: {said}");
    }
    // An editor has added the line end in the file.
    let file = std::env::temp_dir().join(format!("longtail-secret-{}", std::process::id()));
    std::fs::write(&file, format!("{SECRET}\r\n")).expect("written");
    let node = Node::start(&["--token-secret-file", file.to_str().expect("a path")]).await;
    std::fs::remove_file(&file).expect("removed");
    assert_eq!(get(&node, "/poll?channel=a", &[("Authorization", &bearer(&may(&["*"], &[])))]).await.status, 200);
}

#[tokio::test]
async fn a_server_key_may_do_everything_and_comes_in_a_header() {
    let second = "another-key-0123456789";
    let node = guarded(&["--publish-key", second]).await;
    let near = [&KEY[..KEY.len() - 1], &format!("{KEY}x"), &KEY.to_uppercase(), "", " ", &format!("{KEY} {second}")];
    for path in ["/poll?channel=anything", "/metrics", "/channels", "/channels/a", "/channels?prefix=a"] {
        for key in [KEY, second] {
            assert_eq!(get(&node, path, &[("Authorization", &bearer(key))]).await.status, 200, "{path}");
        }
        for key in near {
            let answer = get(&node, path, &[("Authorization", &bearer(key))]).await;
            assert_eq!((answer.status, answer.error_code().as_str()), (401, "unauthorized"), "{path} {key:?}");
        }
        assert_eq!(get(&node, path, &[]).await.status, 401, "{path}");
        // Every proxy logs the URL.
        let query = if path.contains('?') { "&" } else { "?" };
        assert_eq!(get(&node, &format!("{path}{query}token={KEY}"), &[]).await.status, 401, "{path}");
        assert_eq!(get(&node, path, &[("Cookie", &format!("longtail_token={KEY}"))]).await.status, 401, "{path}");
    }
    // A token does not give access to data of other clients.
    let answer = get(&node, "/metrics", &[("Authorization", &bearer(&may(&["*"], &["*"])))]).await;
    assert_eq!(answer.status, 401);
    for path in ["/", "/info", "/healthz", "/readyz", "/client.js", "/diagnose/echo"] {
        assert_eq!(get(&node, path, &[]).await.status, 200, "{path}");
    }
    // Raw TCP has no headers.
    let mut client = LineClient::connect(node.tcp).await;
    for (command, kind) in [
        (json!({"type": "publish", "channel": "a", "data": 1, "ref": 1}), "error"),
        (json!({"type": "publish", "channel": "a", "data": 1, "ref": 2, "token": KEY}), "ack"),
        (json!({"type": "publish", "channel": "b", "data": 1, "ref": 3}), "ack"),
    ] {
        client.send(&command.to_string()).await;
        assert_eq!(client.json().await["type"], kind, "{command}");
    }
}

#[tokio::test]
async fn public_channels_are_for_reading() {
    let node = guarded(&["--public", "news", "--public", "open:*"]).await;
    for (channels, status) in [
        ("news", 200),
        ("open:1", 200),
        ("news,open:", 200),
        ("news,private", 401),
        ("News", 401),
        ("news/", 401),
        ("newsroom", 401),
        ("open", 401),
        ("news%00", 400),
        ("open:*", 400),
    ] {
        let answer = get(&node, &format!("/poll?channel={channels}"), &[]).await;
        assert_eq!(answer.status, status, "{channels}: {}", answer.text());
        if status == 401 && channels.contains(',') {
            assert!(answer.text().contains("private") && !answer.text().contains("news"), "{}", answer.text());
        }
    }
    assert_eq!(publish(&node, "/publish?channel=news", &[]).await.status, 401);
    // With a token, the token decides about the other channels; the order of the names does not matter.
    for (channels, status) in [("news,a", 200), ("a,news", 200), ("a,open:1,b", 403)] {
        let answer = get(&node, &format!("/poll?channel={channels}&token={}", may(&["a"], &[])), &[]).await;
        assert_eq!(answer.status, status, "{channels}");
    }
    // An invalid token does not close channels that are open to all.
    assert_eq!(get(&node, "/poll?channel=news&token=bad", &[]).await.status, 200);
}

/// A server key, a public pattern, a token, the application: the first one of these that is present decides.
#[tokio::test]
async fn which_decides() {
    // The application does not run, so the error shows whether the server has asked it.
    let node = guarded(&["--public", "news", "--authorize-url", "http://127.0.0.1:1/"]).await;
    let asked = |answer: &Response| answer.text().contains("did not answer");
    for (path, headers, status, is_asked) in [
        ("/poll?channel=a", vec![("Authorization", bearer(KEY))], 200, false),
        ("/poll?channel=news", vec![], 200, false),
        ("/poll?channel=a", vec![("Authorization", bearer(&may(&["a"], &[])))], 200, false),
        ("/poll?channel=b", vec![("Authorization", bearer(&may(&["a"], &[])))], 403, false),
        ("/poll?channel=b", vec![("Authorization", bearer("expired"))], 401, false),
        ("/poll?channel=a", vec![], 403, true),
        ("/poll?channel=news,a", vec![], 403, true),
        ("/poll?channel=a", vec![("Cookie", "s=1".into())], 403, true),
    ] {
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = get(&node, path, &headers).await;
        assert_eq!((answer.status, asked(&answer)), (status, is_asked), "{path} {headers:?}: {}", answer.text());
    }
}

/// Credentials that browsers send by themselves, for any page, do not authorize an action alone.
#[tokio::test]
async fn cookies_speak_for_the_users_own_pages_only() {
    let node = guarded(&[]).await;
    let token = may(&["a"], &["a"]);
    let cookie = format!("longtail_token={token}");
    let own = format!("http://{}", node.http);
    for (origin, query, status) in [
        (None, "", 403),
        (Some("https://evil.example"), "", 403),
        (Some("null"), "", 403),
        (Some("https://app.example.evil.example"), "", 403),
        (Some("https://app.example"), "", 200),
        (Some(own.as_str()), "", 200),
        (None, &format!("&token={token}"), 200),
    ] {
        let mut headers = vec![("Cookie", cookie.as_str())];
        headers.extend(origin.map(|origin| ("Origin", origin)));
        let answer = publish(&node, &format!("/publish?channel=a{query}"), &headers).await;
        assert_eq!(answer.status, status, "{origin:?}: {}", answer.text());
        if status == 403 {
            assert_eq!(answer.error_code(), "forbidden_origin", "{origin:?}");
        }
    }
    // The rule also holds over a WebSocket.
    for (origin, kind) in [(None, "error"), (Some("https://app.example"), "ack")] {
        let mut request = handshake("/ws?channel=a").header("Cookie", &cookie);
        if let Some(origin) = origin {
            request = request.header("Origin", origin);
        }
        let answer = request.open(node.http).await;
        assert_eq!(answer.status, 101);
        let (mut stream, _) = answer.into_stream();
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let command = br#"{"type":"publish","channel":"a","data":1,"ref":1}"#;
        stream.write_all(&support::websocket::frame(0x81, command)).await.expect("written");
        let mut bytes = Vec::new();
        let wanted = format!("\"type\":\"{kind}\"");
        within(SOON, &wanted, async {
            while !String::from_utf8_lossy(&bytes).contains(&wanted) {
                assert!(
                    stream.read_buf(&mut bytes).await.expect("read") > 0,
                    "the end: {}",
                    String::from_utf8_lossy(&bytes)
                );
            }
        })
        .await;
    }
    // A script tag sends cookies for any site, and so does a frame on a sibling host.
    for (path, host) in [
        ("/jsonp?channel=a&callback=f&mode=poll", None),
        ("/jsonp?channel=a&callback=f&timeout=1", None),
        ("/forever-frame?channel=a&callback=f&domain=example.com", Some("push.example.com")),
    ] {
        for (query, code) in [(String::new(), Some("unauthorized")), (format!("&token={token}"), None)] {
            let mut request = Request::get(&format!("{path}{query}")).header("Cookie", &cookie);
            if let Some(host) = host {
                request = request.host(host);
            }
            assert_eq!(refused(request.open(node.http).await).await.as_deref(), code, "{path}");
        }
    }
    // `*` does not admit credentials.
    let node = Node::start(&["--token-secret", SECRET, "--allow-origin", "*"]).await;
    let headers = [("Cookie", cookie.as_str()), ("Origin", "https://evil.example")];
    assert_eq!(get(&node, "/poll?channel=a", &headers).await.status, 401);
    assert_eq!(publish(&node, "/publish?channel=a", &headers).await.status, 401);
    // It does not admit our own page.
    let own = format!("http://{}", node.http);
    let headers = [("Cookie", cookie.as_str()), ("Origin", own.as_str())];
    let answer = publish(&node, "/publish?channel=a", &headers).await;
    assert_eq!((answer.status, answer.header("Access-Control-Allow-Credentials")), (200, Some("true")));
    let mut socket = handshake("/ws?channel=a");
    for (name, value) in headers {
        socket = socket.header(name, value);
    }
    assert_eq!(socket.open(node.http).await.status, 101);
    let named = [("Cookie", cookie.as_str()), ("Origin", "https://app.example"), ("X-Forwarded-Host", "app.example")];
    assert_eq!(publish(&node, "/publish?channel=a", &named).await.status, 401, "by no proxy that is trusted");
}

/// Pages of other origins are refused on any transport, whatever credentials they send.
#[tokio::test]
async fn foreign_pages() {
    let node = guarded(&["--public", "news"]).await;
    let token = may(&["a"], &["a"]);
    let own = format!("http://{}", node.http);
    let (prefix, port) = (format!("{own}.evil.example"), format!("http://127.0.0.1:{}0", node.http.port() / 10));
    let foreign = [
        "https://evil.example",
        "null",
        "https://app.example.evil.example",
        "https://evilapp.example",
        "http://app.example",
        "https://app.example:444",
        "https://APP.example@evil.example",
        "file://",
        prefix.as_str(),
        port.as_str(),
    ];
    each_transport(
        &node,
        |transport| transport.lifecycle != "socket",
        async |transport| {
            let name = &transport.name;
            for channel in ["a", "news"] {
                let query = format!("channel={channel}&token={token}&timeout=1");
                for origin in foreign.iter().filter(|origin| **origin != own) {
                    let code = knock(&node, &transport, &query, &[("Origin", origin)]).await;
                    assert_eq!(code.as_deref(), Some("forbidden_origin"), "{name} {origin}");
                }
                for origin in ["https://app.example", own.as_str()] {
                    assert_eq!(knock(&node, &transport, &query, &[("Origin", origin)]).await, None, "{name} {origin}");
                }
            }
        },
    )
    .await;
    for origin in foreign.iter().filter(|origin| **origin != own) {
        let headers = [("Origin", *origin), ("Authorization", &bearer(&token))];
        let answer = publish(&node, "/publish?channel=a", &headers).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (403, "forbidden_origin"), "{origin}");
        assert_eq!(answer.header("Access-Control-Allow-Origin"), None, "{origin}");
    }
}

/// Secrets do not appear in the log at its most verbose level, in metrics, in errors or in pages.
#[tokio::test]
async fn secrets_are_told_to_nobody() {
    let sub = "a-subject-nobody-shall-see";
    let node = guarded(&["--log", "trace", "--authorize-url", "http://127.0.0.1:1/?hidden=url-secret"]).await;
    let token = token(&json!({"subscribe": ["a"], "publish": ["a"], "sub": sub}));
    let broken = token.replace('.', ".broken");
    let signature = token.rsplit('.').next().expect("a signature").to_owned();
    let secrets = [SECRET, KEY, "url-secret", "cookie-secret", &signature, sub];
    let mut said = String::new();
    for credential in [token.as_str(), KEY, &broken] {
        let authorization = bearer(credential);
        let cookie = format!("session=cookie-secret; longtail_token={credential}");
        for headers in [vec![("Authorization", authorization.as_str())], vec![("Cookie", cookie.as_str())], vec![]] {
            for path in [
                "/poll?channel=a",
                "/poll?channel=b",
                "/poll?channel=%00",
                "/sse?channel=b",
                "/nothing?x=1",
                "/info?x=1",
                "/jsonp?channel=b&callback=f&mode=poll",
                "/jsonp?channel=b&callback=%3C",
                "/metrics?x=1",
                "/ws?channel=b",
            ] {
                for path in [path.to_owned(), format!("{path}&token={credential}")] {
                    let answer = get(&node, &path, &headers).await;
                    said.push_str(&format!("{:?}{}\n", answer.headers, String::from_utf8_lossy(&answer.body)));
                }
            }
            let answer = publish(&node, &format!("/publish?channel=b&token={credential}"), &headers).await;
            said.push_str(&answer.text());
            let answer = publish(&node, "/publish?channel=a&event=%0a", &headers).await;
            said.push_str(&answer.text());
        }
        let mut client = LineClient::connect(node.tcp).await;
        for kind in ["subscribe", "publish", "nonsense"] {
            let command =
                json!({"type": kind, "channels": ["b"], "channel": "b", "data": 1, "token": credential, "ref": 1});
            client.send(&command.to_string()).await;
            said.push_str(&client.line().await.expect("an answer"));
        }
    }
    let metrics = Request::get("/metrics").header("Authorization", &bearer(KEY)).send(node.http).await;
    said.push_str(&metrics.text());
    said.push_str(&node.log());
    assert!(said.contains("longtail_refused_total{reason=\"unauthorized\"}"), "it counts what it refused: {said}");
    assert!(said.contains("TRACE"), "the log at its most talkative: {said}");
    for secret in secrets {
        let at = said.find(secret).map(|at| said[at.saturating_sub(200)..(at + 50).min(said.len())].to_owned());
        assert_eq!(at, None, "{secret}");
    }
}

#[tokio::test]
async fn the_keepers_have_a_door_of_their_own() {
    let port = support::redis::free_port();
    let admin = format!("127.0.0.1:{port}");
    let node = guarded(&["--admin-listen", &admin, "--max-connections", "2"]).await;
    let at: std::net::SocketAddr = admin.parse().expect("an address");
    // This also holds when the public listener is full.
    let held = [
        Request::get("/sse?channel=a").header("Authorization", &bearer(KEY)).open(node.http).await,
        Request::get("/sse?channel=a").header("Authorization", &bearer(KEY)).open(node.http).await,
    ];
    // As many connections as can get an error response, and a few more.
    let mut over = Vec::new();
    for _ in 0..300 {
        over.push(TcpStream::connect(node.http).await.expect("connect"));
    }
    for path in ["/metrics", "/channels", "/channels/a", "/info", "/healthz", "/readyz"] {
        assert_eq!(Request::get(path).send(at).await.status, 200, "{path}");
    }
    drop((held, over));
    // Connections to the admin listener do not take the places of other clients.
    let mut keepers = Vec::new();
    for _ in 0..5 {
        let mut keeper = TcpStream::connect(at).await.expect("connect");
        keeper.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("write");
        within(SOON, "an answer", keeper.read(&mut [0; 512])).await.expect("an answer");
        keepers.push(keeper);
    }
    eventually("room", async || (get(&node, "/metrics", &[]).await.status == 401).then_some(())).await;
    drop(keepers);
    for path in ["/", "/client.js", "/poll?channel=a", "/sse?channel=a", "/ws?channel=a", "/diagnose/echo"] {
        assert_eq!(Request::get(path).send(at).await.status, 404, "{path}");
    }
    assert_eq!(Request::post("/publish?channel=a", b"1").send(at).await.status, 404);
    // A page cannot read it, neither from another origin nor by a name that resolves to this address.
    for (request, code) in [
        (Request::get("/metrics").header("Origin", "https://app.example"), "forbidden_origin"),
        (Request::get("/metrics").header("Origin", "http://localhost:3000"), "forbidden_origin"),
        (Request::get("/channels").header("Origin", "http://127.0.0.1"), "forbidden_origin"),
        (Request::get("/metrics").header("Origin", "null"), "forbidden_origin"),
        (Request::get("/metrics").host("rebound.example"), "forbidden"),
    ] {
        let answer = request.send(at).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (403, code));
        // The flags of the other listener would not help.
        let text = answer.text();
        assert!(text.contains("--admin-listen") && !text.contains("--open") && !text.contains("name it"), "{text}");
    }
    node.logged("listener of --admin-listen").await;
    // The listener's own pages can read it.
    let own = format!("http://{admin}");
    for (request, origin) in [
        (Request::get("/metrics"), own.clone()),
        (Request::get("/metrics").host(&format!("localhost:{port}")), format!("http://localhost:{port}")),
    ] {
        let answer = request.header("Origin", &origin).send(at).await;
        assert_eq!((answer.status, answer.header("Access-Control-Allow-Origin")), (200, Some(origin.as_str())));
    }
    // The other listener is unchanged.
    eventually("room", async || (get(&node, "/metrics", &[]).await.status == 401).then_some(())).await;
}
