//! Tokens, server keys and public channels: who may do what, on every transport and in publishing.

mod support;

use serde_json::{Value, json};
use std::time::{Duration, Instant};
use support::http::Response;
use support::server::run_to_end;
use support::token::{KeyPair, SECRET, by_secret, seconds, sign, token};
use support::websocket::handshake;
use support::{
    Item, Kind, LineClient, Node, RawWebSocket, Reader, Request, SOON, Subscription, each_transport, eventually, within,
};

const KEY: &str = "server-key-0123456789abcdef";

async fn guarded(args: &[&str]) -> Node {
    let all = ["--token-secret", SECRET, "--publish-key", KEY, "--allow-origin", "https://app.example"];
    Node::start(&[&all, args].concat()).await
}

fn may(subscribe: &[&str], publish: &[&str]) -> String {
    token(&json!({"subscribe": subscribe, "publish": publish}))
}

async fn get(node: &Node, path: &str, headers: &[(&str, &str)]) -> Response {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let mut answer = request.open(node.http).await;
    // What is let in to a stream has no end.
    if answer.status != 200 || answer.header("content-type").is_some_and(|kind| kind.contains("json;")) {
        answer.finish().await;
    }
    answer
}

async fn publish(node: &Node, path: &str, headers: &[(&str, &str)]) -> Response {
    let mut request = Request::post(path, b"1");
    for (name, value) in headers {
        request = request.header(name, value);
    }
    request.send(node.http).await
}

async fn publish_by_key(node: &Node, channel: &str) -> String {
    let answer = publish(node, &format!("/publish?channel={channel}"), &[("Authorization", &bearer(KEY))]).await;
    answer.json()["messages"][0]["id"].as_str().expect("an id").to_owned()
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// The code that a request is refused with, however its transport can say it; none: it was let in.
async fn refused(mut answer: Response) -> Option<String> {
    if answer.status == 101 {
        return None;
    }
    if answer.status != 200 {
        return Some(answer.error_code());
    }
    let script = answer.header("content-type").is_some_and(|kind| kind.contains("html") || kind.contains("javascript"));
    if !script {
        return None;
    }
    let mut text = String::new();
    loop {
        let part = within(SOON, "a call", answer.read_some()).await?;
        text.push_str(&String::from_utf8_lossy(&part));
        if let Some((_, rest)) = text.split_once("\"error\":{\"code\":\"") {
            return rest.split('"').next().map(str::to_owned);
        }
        if text.contains("hello") || text.contains("\"messages\":") {
            return None;
        }
    }
}

async fn knock(node: &Node, transport: &support::Transport, query: &str, headers: &[(&str, &str)]) -> Option<String> {
    let url = transport.url(query);
    let mut request = if transport.lifecycle == "duplex" { handshake(&url) } else { Request::get(&url) };
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let mut answer = request.open(node.http).await;
    if answer.status != 200 && answer.status != 101 {
        answer.finish().await;
    }
    refused(answer).await
}

#[tokio::test]
async fn a_token_opens_what_it_names_on_every_transport() {
    let node = guarded(&[]).await;
    let token = may(&["a", "room:*"], &[]);
    each_transport(
        &node,
        |_| true,
        async |transport| {
            let name = &transport.name;
            if transport.lifecycle != "socket" {
                let knock = async |channel: &str, token: Option<&str>| {
                    let token = token.map(|token| format!("&token={token}")).unwrap_or_default();
                    knock(&node, &transport, &format!("channel={channel}&timeout=1{token}"), &[]).await
                };
                assert_eq!(knock("a", None).await.as_deref(), Some("unauthorized"), "{name}");
                assert_eq!(knock("a", Some("x.y.z")).await.as_deref(), Some("unauthorized"), "{name}");
                assert_eq!(knock("a,b", Some(&token)).await.as_deref(), Some("forbidden"), "{name}");
                assert_eq!(knock("a,room:1", Some(&token)).await, None, "{name}");
            }
            let channel = format!("room:{name}");
            let cursor = "earliest";
            let subscription = Subscription::to(&[&channel]).from(cursor).with("token", &token);
            let id = publish_by_key(&node, &channel).await;
            let mut reader = Reader::open(&node, &transport, subscription).await;
            assert_eq!(reader.next_of(Kind::Message).await.id(), Some(id), "{name}");
        },
    )
    .await;
}

/// Where it comes from: the header, the query, the form, the cookie.
#[tokio::test]
async fn a_token_comes_in_many_ways() {
    let node = guarded(&[]).await;
    let (good, bad) = (may(&["a"], &["a"]), may(&["b"], &["b"]));
    let cookie = format!("x=1; longtail_token={good}; y=2");
    for (headers, query, status) in [
        (vec![("Authorization", bearer(&good))], String::new(), 200),
        (vec![("Authorization", format!("bearer {good}"))], String::new(), 200),
        (vec![("Authorization", format!("Basic {good}"))], String::new(), 401),
        (vec![], format!("&token={good}"), 200),
        (vec![], "&token=".to_owned(), 401),
        (vec![("Cookie", cookie.clone())], String::new(), 200),
        (vec![("Cookie", format!("xlongtail_token={good}"))], String::new(), 401),
        (vec![("Cookie", format!("Longtail_Token={good}"))], String::new(), 401),
        // The one that was named counts, and its refusal is final.
        (vec![("Cookie", cookie.clone())], format!("&token={bad}"), 403),
        (vec![("Cookie", cookie.clone()), ("Authorization", bearer(&bad))], String::new(), 403),
    ] {
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = get(&node, &format!("/poll?channel=a{query}"), &headers).await;
        assert_eq!(answer.status, status, "{headers:?} {query}: {}", answer.text());
    }
    let answer = Request::form("/poll", &format!("channel=a&token={good}")).send(node.http).await;
    assert_eq!(answer.status, 200);
    // A hidden form publishes by it.
    let answer = Request::form("/publish?channel=a", &format!("data=1&token={good}")).send(node.http).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = Request::form("/publish?channel=a", &format!("data=1&token={bad}")).send(node.http).await;
    assert_eq!(answer.status, 403, "{}", answer.text());
    assert!(answer.text().contains("not allowed: a"), "{}", answer.text());
}

#[tokio::test]
async fn publishing_by_a_token() {
    let node = guarded(&[]).await;
    let token = may(&[], &["a", "room:*"]);
    for (channels, status) in [("a", 200), ("room:7", 200), ("b", 403), ("room", 403), ("A", 403)] {
        let answer = publish(&node, &format!("/publish?channel={channels}&token={token}"), &[]).await;
        assert_eq!(answer.status, status, "{channels}: {}", answer.text());
    }
    // An array is refused whole.
    let body = br#"[{"channel":"a","data":1},{"channel":"b","data":2}]"#;
    let request = Request::post("/publish", body).header("Content-Type", "application/json");
    let answer = request.header("Authorization", &bearer(&token)).send(node.http).await;
    assert_eq!((answer.status, answer.error_code().as_str()), (403, "forbidden"));
    let latest = get(&node, "/poll?channel=a&cursor=earliest", &[("Authorization", &bearer(KEY))]).await.json();
    assert_eq!(latest["messages"].as_array().map(Vec::len), Some(1), "only the first one: {latest}");
    // Nothing and an empty array need credentials, too.
    for (headers, status) in [(vec![], 401), (vec![("Authorization", bearer(&token))], 200)] {
        let mut request = Request::post("/publish", b"[]").header("Content-Type", "application/json");
        for (name, value) in &headers {
            request = request.header(name, value);
        }
        assert_eq!(request.send(node.http).await.status, status);
    }
}

/// What no signature vouches for, and what is out of its time.
#[tokio::test]
async fn forged_and_stale_tokens() {
    let node = guarded(&[]).await;
    let claims = |change: Value| {
        let mut claims = json!({"exp": seconds(60), "subscribe": ["a"]});
        for (name, value) in change.as_object().expect("claims") {
            claims[name] = value.clone();
        }
        claims.as_object_mut().expect("claims").retain(|_, value| !value.is_null());
        claims
    };
    let header = json!({"alg": "HS256", "typ": "JWT"});
    let good = by_secret(SECRET.as_bytes(), &header, &claims(json!({})));
    let with = |change: Value| by_secret(SECRET.as_bytes(), &header, &claims(change));
    let alg = |alg: &str| by_secret(SECRET.as_bytes(), &json!({"alg": alg}), &claims(json!({})));
    let mut parts: Vec<&str> = good.split('.').collect();
    let other = with(json!({"subscribe": ["*"]}));
    parts[1] = other.split('.').nth(1).expect("claims");
    let bad = [
        ("another secret", by_secret(b"another", &header, &claims(json!({})))),
        ("none", sign(&json!({"alg": "none"}), &claims(json!({})), |_| Vec::new())),
        ("None", sign(&json!({"alg": "None"}), &claims(json!({})), |_| Vec::new())),
        ("no signature", good.rsplit_once('.').map(|(rest, _)| format!("{rest}.")).expect("three parts")),
        ("two parts", good.rsplit_once('.').map(|(rest, _)| rest.to_owned()).expect("three parts")),
        ("four parts", format!("{good}.x")),
        ("claims of another", parts.join(".")),
        ("HS512 in name", alg("HS512")),
        ("RS256 in name", alg("RS256")),
        ("lower case", alg("hs256")),
        ("critical", by_secret(SECRET.as_bytes(), &json!({"alg": "HS256", "crit": ["b64"]}), &claims(json!({})))),
        ("expired", with(json!({"exp": seconds(-1)}))),
        ("expired just now", with(json!({"exp": seconds(0)}))),
        ("no exp", with(json!({"exp": null}))),
        ("a text as exp", with(json!({"exp": "9999999999"}))),
        ("a negative exp", with(json!({"exp": -1}))),
        ("not yet", with(json!({"nbf": seconds(30)}))),
        ("a text as nbf", with(json!({"nbf": "0"}))),
        ("for somebody else", with(json!({"aud": "another"}))),
        ("a name in place of a list", with(json!({"subscribe": "a"}))),
        ("numbers in the list", with(json!({"subscribe": ["a", 1]}))),
        ("a client that is none", with(json!({"client": "a b"}))),
        ("too long", with(json!({"x": "y".repeat(9000)}))),
        ("nothing", ".".to_owned()),
        ("dots", "..".to_owned()),
        ("text", "token".to_owned()),
        ("escapes", "%00%ff.é.x".to_owned()),
    ];
    assert_eq!(get(&node, "/poll?channel=a", &[("Authorization", &bearer(&good))]).await.status, 200);
    for (name, token) in &bad {
        let fields = format!("channel=a&token={}", support::quote(token));
        let answer = Request::form("/poll", &fields).send(node.http).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (401, "unauthorized"), "{name}");
        assert!(!answer.text().contains(token.as_str()) || token.len() < 6, "{name}: {}", answer.text());
        assert_eq!(answer.header("WWW-Authenticate"), Some("Bearer"), "{name}");
    }
    let sound = [
        ("nbf now", with(json!({"nbf": seconds(0)}))),
        ("a fraction", with(json!({"exp": seconds(60) as f64 + 0.5}))),
        ("far", with(json!({"exp": 253_402_300_799_u64}))),
        ("farther", with(json!({"exp": u64::MAX}))),
        ("strange claims", with(json!({"iss": "http://127.0.0.1:1/", "jku": "http://127.0.0.1:1/", "x": [1]}))),
    ];
    for (name, token) in sound {
        let answer = get(&node, "/poll?channel=a", &[("Authorization", &bearer(&token))]).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
    }
}

/// The key says the algorithm: with a public key nothing else is taken, above all no HMAC by that key.
#[tokio::test]
async fn public_keys() {
    for algorithm in ["RS256", "ES256", "EdDSA"] {
        let pair = KeyPair::new(algorithm);
        let node = Node::start(&["--token-public-key", &pair.public]).await;
        let claims = json!({"exp": seconds(60), "subscribe": ["a"]});
        let pem = std::fs::read(&pair.public).expect("the key");
        let text = String::from_utf8_lossy(&pem);
        let trimmed = text.trim_end().as_bytes();
        let good = pair.token(&json!({"alg": algorithm}), &claims);
        assert_eq!(
            get(&node, "/poll?channel=a", &[("Authorization", &bearer(&good))]).await.status,
            200,
            "{algorithm}"
        );
        let other = KeyPair::new(algorithm);
        let bad = [
            ("another key", other.token(&json!({"alg": algorithm}), &claims)),
            ("the public key as a secret", by_secret(&pem, &json!({"alg": "HS256"}), &claims)),
            ("the same, trimmed", by_secret(trimmed, &json!({"alg": "HS256"}), &claims)),
            ("HMAC that calls itself ours", by_secret(&pem, &json!({"alg": algorithm}), &claims)),
            ("none", sign(&json!({"alg": "none"}), &claims, |_| Vec::new())),
            ("another name", pair.token(&json!({"alg": "HS256"}), &claims)),
            ("a key of its own", by_secret(b"x", &json!({"alg": "HS256", "jwk": {"kty": "oct", "k": "eA"}}), &claims)),
        ];
        for (name, token) in bad {
            let answer = get(&node, "/poll?channel=a", &[("Authorization", &bearer(&token))]).await;
            assert_eq!((answer.status, answer.error_code().as_str()), (401, "unauthorized"), "{algorithm}: {name}");
        }
    }
}

#[tokio::test]
async fn keys_that_cannot_be_used_are_refused_at_start() {
    let pair = KeyPair::new("EdDSA");
    let curve = KeyPair::new("ES384");
    for (args, mend) in [
        (["--token-public-key", pair.private.as_str()], "the public one"),
        (["--token-public-key", curve.public.as_str()], "P-256"),
        (["--token-public-key", "Cargo.toml"], "use a PEM file"),
        (["--token-public-key", "nothing.pem"], "No such file"),
        (["--token-secret-file", "/dev/null"], "empty"),
        (["--public", "a*b"], "a * behind it"),
        (["--open", "--publish-key=k"], "set one of them"),
        (["--proxy-protocol", "--tcp-listen=off"], "--trusted-proxy"),
    ] {
        let (code, said) = run_to_end(&args).await;
        assert_eq!(code, 64, "{args:?}: {said}");
        assert!(said.contains(mend) && said.trim_end().lines().count() == 1, "{args:?}: {said}");
    }
    // A line end in the file is the editor's.
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
        // A URL is in the log of every proxy.
        let query = if path.contains('?') { "&" } else { "?" };
        assert_eq!(get(&node, &format!("{path}{query}token={KEY}"), &[]).await.status, 401, "{path}");
        assert_eq!(get(&node, path, &[("Cookie", &format!("longtail_token={KEY}"))]).await.status, 401, "{path}");
    }
    // A token is no key to what concerns others.
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
    // With a token, the rest is the token's; the order of the names says nothing.
    for (channels, status) in [("news,a", 200), ("a,news", 200), ("a,open:1,b", 403)] {
        let answer = get(&node, &format!("/poll?channel={channels}&token={}", may(&["a"], &[])), &[]).await;
        assert_eq!(answer.status, status, "{channels}");
    }
    // A token that is no good does not close what is open to all.
    assert_eq!(get(&node, "/poll?channel=news&token=bad", &[]).await.status, 200);
}

/// A server key, a public pattern, a token, the application: the first that there is decides.
#[tokio::test]
async fn which_decides() {
    // Nobody is there to be asked, which shows who was.
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

/// A running subscription ends with its token, and a resume is asked anew.
#[tokio::test]
async fn a_subscription_ends_with_its_token() {
    let node = guarded(&[]).await;
    each_transport(
        &node,
        |_| true,
        async |transport| {
            let name = &transport.name;
            let short = token(&json!({"exp": seconds(3), "subscribe": ["a"]}));
            let subscription = Subscription::to(&["a"]).from("earliest").with("token", &short).with("timeout", "20");
            if transport.is_stream() {
                let mut reader = Reader::open(&node, &transport, subscription).await;
                let bye = reader.next_of(Kind::Bye).await;
                assert_eq!(bye.number("code"), Some(4003), "{name}: {bye:?}");
                assert!(!bye.text.contains("retry"), "{name}: {bye:?}");
                if transport.lifecycle == "duplex" {
                    assert_eq!(reader.next().await.map(|item| item.text), None);
                    assert_eq!(reader.close_code, Some(4003));
                }
            } else {
                let began = Instant::now();
                knock(&node, &transport, &subscription.query().replace("earliest", "latest"), &[]).await;
                assert!(began.elapsed() < Duration::from_secs(10), "{name} waited beyond its token");
            }
            eventually("the token to expire", async || (seconds(0) > 0).then_some(())).await;
            if transport.lifecycle != "socket" {
                let expired = async || {
                    let code = knock(&node, &transport, &subscription_of(&short), &[]).await;
                    (code.as_deref() == Some("unauthorized")).then_some(())
                };
                eventually("a resume to be refused", expired).await;
            }
        },
    )
    .await;
}

fn subscription_of(token: &str) -> String {
    Subscription::to(&["a"]).from("earliest").with("token", token).with("timeout", "1").query()
}

/// A newer token in a command goes on where the older one ends.
#[tokio::test]
async fn a_duplex_client_brings_a_newer_token() {
    let node = guarded(&["--heartbeat-seconds", "1"]).await;
    let ends = seconds(4);
    let short = token(&json!({"exp": ends, "subscribe": ["a"]}));
    let long = token(&json!({"subscribe": ["a", "b"]}));
    let mut ws = RawWebSocket::open(&node, &format!("/ws?channel=a&token={short}")).await;
    let mut tcp = LineClient::connect(node.tcp).await;
    tcp.send(&json!({"type": "subscribe", "channels": ["a"], "token": short, "ref": 1}).to_string()).await;
    // One that is no good changes nothing.
    ws.text(&json!({"type": "subscribe", "channels": ["a"], "token": "x.y.z", "ref": 2}).to_string()).await;
    assert_eq!(ws.next_of("error").await["code"], "unauthorized");
    // It names another channel; what it allows of the others it prolongs, too.
    ws.text(&json!({"type": "subscribe", "channels": ["b"], "token": long, "ref": 3}).to_string()).await;
    assert_eq!(ws.next_of("ack").await["ref"], 3);
    tcp.send(&json!({"type": "subscribe", "channels": ["a"], "token": long, "ref": 3}).to_string()).await;
    within(SOON, "the time to pass", async {
        while seconds(0) < ends + 2 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    let id = publish_by_key(&node, "a").await;
    let mut got = json!(null);
    while got["id"] != id.as_str() {
        got = ws.frame().await.expect("a frame, no end").json();
        assert_ne!(got["type"], "bye", "{got}");
    }
    let mut got = json!(null);
    while got["id"] != id.as_str() {
        got = tcp.json().await;
        assert_ne!(got["type"], "bye", "{got}");
    }
    // Another channel by a longer token does not carry one that this one does not allow.
    let short = token(&json!({"exp": seconds(2), "subscribe": ["a"]}));
    let mut ws = RawWebSocket::open(&node, &format!("/ws?channel=a&token={short}")).await;
    let other = token(&json!({"subscribe": ["b"]}));
    ws.text(&json!({"type": "subscribe", "channels": ["b"], "token": other, "ref": 4}).to_string()).await;
    assert_eq!(ws.next_of("ack").await["ref"], 4);
    assert_eq!(ws.next_of("bye").await["code"], 4003);
    assert_eq!(ws.close_code().await, 4003);
    // Who gives up the channel needs no permission for it.
    let short = token(&json!({"exp": seconds(2), "subscribe": ["a"]}));
    let mut ws = RawWebSocket::open(&node, &format!("/ws?channel=a&token={short}")).await;
    ws.text(r#"{"type":"unsubscribe","channels":["a"],"ref":5}"#).await;
    assert_eq!(ws.next_of("ack").await["ref"], 5);
    let expired = Instant::now() + Duration::from_secs(3);
    while Instant::now() < expired {
        ws.next_of("heartbeat").await;
    }
}

#[tokio::test]
async fn a_token_can_be_bound_to_a_client_id() {
    let node = guarded(&[]).await;
    let me = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";
    let you = "6ba7b810-9dad-41d1-80b4-00c04fd430c9";
    let bound = token(&json!({"subscribe": ["a"], "client": me}));
    for (client, status) in [
        (format!("&client={me}"), 200),
        (format!("&client={}", me.to_uppercase()), 200),
        (format!("&client={you}"), 403),
        (String::new(), 200),
    ] {
        let answer = get(&node, &format!("/poll?channel=a&token={bound}{client}"), &[]).await;
        assert_eq!(answer.status, status, "{client}: {}", answer.text());
    }
    // Who names none is that client.
    let mut ws = RawWebSocket::open(&node, &format!("/ws?channel=a&token={bound}")).await;
    assert_eq!(ws.next_of("hello").await["client"], me);
    // Who has named another stays refused, also where the token comes later.
    let mut ws = RawWebSocket::open(&node, &format!("/ws?client={you}")).await;
    let command = json!({"type": "subscribe", "channels": ["a"], "token": bound, "ref": 1}).to_string();
    ws.text(&command).await;
    assert_eq!(ws.next_of("error").await["code"], "forbidden");
    let mut ws = RawWebSocket::open(&node, "/ws").await;
    ws.text(&command).await;
    assert_eq!(ws.next_of("ack").await["ref"], 1);
    let answer = publish(&node, &format!("/publish?channel=a&exclude={me}"), &[("Authorization", &bearer(KEY))]).await;
    assert_eq!(answer.status, 200);
    let next = publish_by_key(&node, "a").await;
    loop {
        let frame = ws.frame().await.expect("a frame").json();
        if frame["id"].is_string() {
            assert_eq!(frame["id"], next.as_str(), "it is that client, and left out");
            break;
        }
    }
}

/// What browsers send by themselves, for any page, authorizes nothing by itself.
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
    // Over a WebSocket, too.
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
    // A script tag sends them for any site; so does a frame on a sibling host.
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
    // `*` gives no credentials.
    let node = Node::start(&["--token-secret", SECRET, "--allow-origin", "*"]).await;
    let headers = [("Cookie", cookie.as_str()), ("Origin", "https://evil.example")];
    assert_eq!(get(&node, "/poll?channel=a", &headers).await.status, 401);
    assert_eq!(publish(&node, "/publish?channel=a", &headers).await.status, 401);
}

/// Pages of other origins get nowhere, on any transport, whatever they bring.
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

/// Secrets are in no log at its most talkative, no metric, no error and no page.
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
    assert!(said.contains("longtail_refused_total{reason=\"unauthorized\"}"), "it did refuse");
    assert!(said.contains("TRACE"), "the log is at its most talkative");
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
    // Also when everybody's door is full.
    let held = [
        Request::get("/sse?channel=a").header("Authorization", &bearer(KEY)).open(node.http).await,
        Request::get("/sse?channel=a").header("Authorization", &bearer(KEY)).open(node.http).await,
    ];
    for path in ["/metrics", "/channels", "/channels/a", "/info", "/healthz", "/readyz"] {
        assert_eq!(Request::get(path).send(at).await.status, 200, "{path}");
    }
    drop(held);
    for path in ["/", "/client.js", "/poll?channel=a", "/sse?channel=a", "/ws?channel=a", "/diagnose/echo"] {
        assert_eq!(Request::get(path).send(at).await.status, 404, "{path}");
    }
    assert_eq!(Request::post("/publish?channel=a", b"1").send(at).await.status, 404);
    // No page reads along: neither of another origin, nor by a name that leads here.
    for (request, code) in [
        (Request::get("/metrics").header("Origin", "https://app.example"), "forbidden_origin"),
        (Request::get("/metrics").host("rebound.example"), "forbidden"),
    ] {
        let answer = request.send(at).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (403, code));
    }
    // The other one is as it was.
    eventually("room", async || (get(&node, "/metrics", &[]).await.status == 401).then_some(())).await;
}

/// Whose key it is belongs to an idempotency key: nobody can use up another's.
#[tokio::test]
async fn idempotency_keys_are_a_publishers_own() {
    let node = guarded(&[]).await;
    let ann = token(&json!({"publish": ["a"], "sub": "ann"}));
    let ann_again = token(&json!({"publish": ["a"], "sub": "ann", "exp": seconds(120)}));
    let bob = token(&json!({"publish": ["a"], "sub": "bob"}));
    let mut ids = Vec::new();
    for credential in [ann.as_str(), &bob, KEY, &ann_again, &bob, KEY] {
        let answer = publish(&node, "/publish?channel=a&key=order-17", &[("Authorization", &bearer(credential))]).await;
        ids.push(answer.json()["messages"][0]["id"].as_str().expect("an id").to_owned());
    }
    assert_eq!(ids[..3], ids[3..], "the same publisher's");
    assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2], "{ids:?}");
    let item = Item::parse(&json!({"id": ids[0], "channel": "a", "event": "message", "data": 1}).to_string());
    assert_eq!(item.id().as_ref(), Some(&ids[0]));
}
