//! Tokens: valid, forged and expired; their permissions, their end, and their client.

use crate::support;

use serde_json::{Value, json};
use std::time::{Duration, Instant};
use support::guarded::{KEY, bearer, get, guarded, knock, may, publish, publish_by_key};
use support::token::{KeyPair, SECRET, by_secret, seconds, sign, token};
use support::{
    Kind, LineClient, Node, RawWebSocket, Reader, Request, SOON, Subscription, each_transport, eventually, within,
};

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

/// The places of a token: the header, the query, the form, the cookie.
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
        // The token with the highest precedence counts, and its refusal is final.
        (vec![("Cookie", cookie.clone())], format!("&token={bad}"), 403),
        (vec![("Cookie", cookie.clone()), ("Authorization", bearer(&bad))], String::new(), 403),
    ] {
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = get(&node, &format!("/poll?channel=a{query}"), &headers).await;
        assert_eq!(answer.status, status, "{headers:?} {query}: {}", answer.text());
    }
    let answer = Request::form("/poll", &format!("channel=a&token={good}")).send(node.http).await;
    assert_eq!(answer.status, 200);
    // A hidden form publishes with the token.
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
    // An array is refused as a whole.
    let body = br#"[{"channel":"a","data":1},{"channel":"b","data":2}]"#;
    let request = Request::post("/publish", body).header("Content-Type", "application/json");
    let answer = request.header("Authorization", &bearer(&token)).send(node.http).await;
    assert_eq!((answer.status, answer.error_code().as_str()), (403, "forbidden"));
    let latest = get(&node, "/poll?channel=a&cursor=earliest", &[("Authorization", &bearer(KEY))]).await.json();
    assert_eq!(latest["messages"].as_array().map(Vec::len), Some(1), "only the first one: {latest}");
    // An empty body and an empty array also need credentials.
    for (headers, status) in [(vec![], 401), (vec![("Authorization", bearer(&token))], 200)] {
        let mut request = Request::post("/publish", b"[]").header("Content-Type", "application/json");
        for (name, value) in &headers {
            request = request.header(name, value);
        }
        assert_eq!(request.send(node.http).await.status, status);
    }
}

/// Tokens without a valid signature, and tokens outside their time.
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
        ("for a number", with(json!({"aud": 5}))),
        ("for numbers", with(json!({"aud": [5]}))),
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

/// The key determines the algorithm: with a public key the server accepts no other algorithm, above all no HMAC with
/// that key.
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

/// A running subscription ends with its token, and the server checks a resume again.
#[tokio::test]
async fn a_subscription_ends_with_its_token() {
    let node = guarded(&[]).await;
    each_transport(
        &node,
        |_| true,
        async |transport| {
            let name = &transport.name;
            let short = token(&json!({"exp": seconds(6), "subscribe": ["a"]}));
            let subscription = Subscription::to(&["a"]).from("earliest").with("token", &short).with("timeout", "50");
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
                assert!(
                    began.elapsed() < Duration::from_secs(30),
                    "{name} waited for {:?}, beyond its token",
                    began.elapsed()
                );
            }
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

/// A newer token in a command continues where the older one ends.
#[tokio::test]
async fn a_duplex_client_brings_a_newer_token() {
    let node = guarded(&["--heartbeat-seconds", "1"]).await;
    let ends = seconds(8);
    let short = token(&json!({"exp": ends, "subscribe": ["a"]}));
    let long = token(&json!({"subscribe": ["a", "b"]}));
    let mut ws = RawWebSocket::open(&node, &format!("/ws?channel=a&token={short}")).await;
    let mut tcp = LineClient::connect(node.tcp).await;
    tcp.send(&json!({"type": "subscribe", "channels": ["a"], "token": short, "ref": 1}).to_string()).await;
    // An invalid token does not change the subscription.
    ws.text(&json!({"type": "subscribe", "channels": ["a"], "token": "x.y.z", "ref": 2}).to_string()).await;
    assert_eq!(ws.next_of("error").await["code"], "unauthorized");
    // The command names another channel, but the token also prolongs the other channels that it allows.
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
    // A longer token for another channel does not prolong a channel that it does not allow.
    let short = token(&json!({"exp": seconds(5), "subscribe": ["a"]}));
    let mut ws = RawWebSocket::open(&node, &format!("/ws?channel=a&token={short}")).await;
    let other = token(&json!({"subscribe": ["b"]}));
    ws.text(&json!({"type": "subscribe", "channels": ["b"], "token": other, "ref": 4}).to_string()).await;
    assert_eq!(ws.next_of("ack").await["ref"], 4);
    assert_eq!(ws.next_of("bye").await["code"], 4003);
    assert_eq!(ws.close_code().await, 4003);
    // A client that leaves the channel needs no permission for it.
    let short = token(&json!({"exp": seconds(5), "subscribe": ["a"]}));
    let mut ws = RawWebSocket::open(&node, &format!("/ws?channel=a&token={short}")).await;
    ws.text(r#"{"type":"unsubscribe","channels":["a"],"ref":5}"#).await;
    assert_eq!(ws.next_of("ack").await["ref"], 5);
    let expired = Instant::now() + Duration::from_secs(6);
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
    // A client that does not name an id gets the id of the token.
    let mut ws = RawWebSocket::open(&node, &format!("/ws?channel=a&token={bound}")).await;
    assert_eq!(ws.next_of("hello").await["client"], me);
    // A client that has named another id stays refused, even if the token comes later.
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

/// An idempotency key belongs to its publisher: no client can use up the key of another publisher.
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
}
