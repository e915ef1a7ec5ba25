//! The HTTP rules of every transport: headers, HTTP/1.0, HEAD, OPTIONS, POST.

use crate::support::{
    Kind, Log, Reader, Request, Subscription, Transport, World, each_transport,
    http::{find, raw},
};

const HEADERS: [(&str, &str); 5] = [
    ("Cache-Control", "no-cache, no-store, no-transform, must-revalidate"),
    ("Pragma", "no-cache"),
    ("Expires", "0"),
    ("X-Accel-Buffering", "no"),
    ("X-Content-Type-Options", "nosniff"),
];

/// The types that clients rely on; a transport that is not listed may have any type.
fn content_type(transport: &Transport) -> &'static str {
    match transport.name.as_str() {
        "poll" | "long-poll" => "application/json",
        "jsonp" => "application/javascript",
        "forever-frame" => "text/html",
        "xhr-stream" => "text/plain",
        "multipart" => "multipart/x-mixed-replace",
        "sse" => "text/event-stream",
        "ndjson" => "application/x-ndjson",
        _ => "",
    }
}

through_every_door! {
    over_both_logs {
        a_post_of_a_form_subscribes
    }
    once {
        headers
        framing
        http_1_0_is_close_delimited
        head
        options
        other_methods_are_refused
        malformed_http
    }
}

/// A form keeps long channel lists and tokens out of URLs.
async fn a_post_of_a_form_subscribes(log: Log) {
    let World { node, redis: _redis } = World::start(log, &[]).await;
    let channels: Vec<String> = (0..100).map(|n| format!("{n}{}", "x".repeat(190))).collect();
    let list: Vec<_> = channels.iter().map(|channel| (channel.clone(), "1".to_owned())).collect();
    let published = node.publish_list(&list).await;
    each_transport(
        &node,
        |t| t.is_http(),
        async |transport| {
            let channels: Vec<&str> = channels.iter().map(String::as_str).collect();
            let mut subscription = Subscription::to(&channels).from("earliest");
            subscription.post = true;
            Reader::open(&node, &transport, subscription).await.expect(&published).await;
        },
    )
    .await;
}

async fn headers() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    node.publish("todo", "1").await;
    each_transport(
        &node,
        |t| t.is_http(),
        async |transport| {
            let url = transport.url("channel=todo&cursor=earliest");
            let request = Request::get(&url).header("Accept-Encoding", "gzip, deflate, br");
            let response = request.open(node.http).await;
            let name = &transport.name;
            assert_eq!(response.status, 200, "{name}");
            for (header, value) in HEADERS {
                assert_eq!(response.header(header), Some(value), "{header} of {name}");
            }
            assert_eq!(response.header("Content-Encoding"), None, "{name} is never compressed");
            let got = response.header("Content-Type").expect("a type");
            assert!(got.starts_with(content_type(&transport)), "{name}: {got}");
            if matches!(name.as_str(), "xhr-stream" | "forever-frame") {
                assert!(got.to_lowercase().contains("charset=utf-8"), "{name}: {got}");
            }
        },
    )
    .await;

    let multipart = node.transport("multipart").await.url("channel=todo");
    for (accept, wanted) in [
        ("multipart/mixed", "multipart/mixed"),
        ("application/json, multipart/mixed;q=0.9", "multipart/mixed"),
        ("*/*", "multipart/x-mixed-replace"),
    ] {
        let response = Request::get(&multipart).header("Accept", accept).open(node.http).await;
        let got = response.header("Content-Type").expect("a type");
        assert!(got.starts_with(wanted), "Accept: {accept} gave {got}");
    }
    let mixed = Subscription::to(&["todo"]).from("earliest").header("Accept", "multipart/mixed");
    let transport = node.transport("multipart").await;
    let mut reader = Reader::open(&node, &transport, mixed).await;
    assert_eq!(reader.next_message().await.data(), "1");
}

/// The opening of a script, of a frame and of a stream, byte by byte.
async fn framing() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    let id = node.publish("todo", "1").await;
    let jsonp = node.get("/jsonp?channel=todo&cursor=earliest&callback=a.b").await;
    let message = format!(r#"{{"id":"{id}","channel":"todo","event":"message","data":1}}"#);
    let batch = format!(r#"{{"cursor":"{id}","messages":[{message}]}}"#);
    assert_eq!(jsonp.text().trim_end(), format!("/**/a.b({batch});"));
    let poll = node.get("/poll?channel=todo&cursor=earliest").await;
    assert_eq!(poll.text().trim_end(), batch);

    // JSONP can also poll without a wait.
    let begun = std::time::Instant::now();
    let url = format!("/jsonp?channel=todo&cursor={id}&callback=a.b&mode=poll");
    let answer = node.get(&url).await.text();
    assert_eq!(answer.trim_end(), format!("/**/a.b({{\"cursor\":\"{id}\",\"messages\":[]}});"));
    assert!(begun.elapsed().as_secs() < 20, "mode=poll answers at once, not after {:?}", begun.elapsed());
    let url = format!("/jsonp?channel=todo&cursor={id}&callback=a.b&mode=long-poll&timeout=1");
    let begun = std::time::Instant::now();
    assert_eq!(node.get(&url).await.text(), answer);
    assert!(begun.elapsed().as_millis() > 900, "mode=long-poll waits, not only {:?}", begun.elapsed());

    let sse = Subscription::to(&["todo"]).from("earliest");
    let mut reader = Reader::open(&node, &node.transport("sse").await, sse).await;
    reader.next_message().await;
    let block = format!("id: {id}\ndata: {message}\n\n");
    let swapped = format!("data: {message}\nid: {id}\n\n");
    let raw = String::from_utf8(reader.raw.clone()).expect("UTF-8");
    assert!(raw.ends_with(&block) || raw.ends_with(&swapped), "{raw:?}");
}

async fn http_1_0_is_close_delimited() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    let published = node.publish_numbers("todo", 3).await;
    each_transport(
        &node,
        |t| t.is_http(),
        async |transport| {
            let name = &transport.name;
            let url = transport.url("channel=todo&cursor=earliest&max_seconds=1");
            let mut response = Request::get(&url).http10().open(node.http).await;
            assert_eq!(response.status, 200, "{name}");
            assert_eq!(response.header("Transfer-Encoding"), None, "{name} to HTTP/1.0");
            if transport.is_stream() {
                assert_eq!(response.header("Content-Length"), None, "{name} to HTTP/1.0");
                assert_ne!(response.header("Connection"), Some("keep-alive"), "{name}");
            }
            let last = published[2].id.as_bytes();
            while find(&response.body, last).is_none() {
                let part = response.read_some().await;
                assert!(part.is_some(), "{name} ended early: {}", response.text());
            }
            if transport.rollover {
                response.finish().await;
                assert!(response.text().contains("4000"), "{name}: {}", response.text());
            }
        },
    )
    .await;
}

/// The response to a HEAD has the head of a GET and no body, and it ends.
async fn head() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    node.publish("todo", "1").await;
    let address = node.http;
    each_transport(
        &node,
        |t| t.is_http(),
        async |transport| {
            let name = &transport.name;
            let url = transport.url("channel=todo&cursor=earliest");
            let bytes = format!("HEAD {url} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
            let mut stream = crate::support::door::connect(address).await.expect("connect");
            tokio::io::AsyncWriteExt::write_all(&mut stream, bytes.as_bytes()).await.expect("write");
            let mut answer = Vec::new();
            let read = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer);
            crate::support::within(crate::support::SOON, "the end", read).await.expect("read");
            let answer = String::from_utf8(answer).expect("UTF-8");
            let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
            assert!(head.starts_with("HTTP/1.1 200 "), "{name}: {head}");
            assert_eq!(body, "", "a HEAD of {name} has no body");
            let head = head.to_lowercase();
            assert!(head.contains(&format!("content-type: {}", content_type(&transport))), "{head}");
            assert!(head.contains("cache-control: no-cache"), "{name}: {head}");
        },
    )
    .await;
}

async fn options() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    each_transport(
        &node,
        |t| t.is_http(),
        async |transport| {
            let name = &transport.name;
            let answer = Request::new("OPTIONS", &transport.path).send(node.http).await;
            assert!(matches!(answer.status, 200 | 204), "{name}: {}", answer.status);
            let allow = answer.header("Allow").expect("an Allow").to_owned();
            for method in ["GET", "POST", "HEAD", "OPTIONS"] {
                assert!(allow.contains(method), "{name} allows {allow}");
            }
            let answer = Request::new("OPTIONS", &transport.path)
                .header("Origin", "http://localhost:3000")
                .header("Access-Control-Request-Method", "GET")
                .header("Access-Control-Request-Headers", "if-none-match")
                .send(node.http)
                .await;
            assert!(matches!(answer.status, 200 | 204), "{name}: {}", answer.status);
            let origin = answer.header("Access-Control-Allow-Origin");
            assert_eq!(origin, Some("http://localhost:3000"), "{name}");
            let allowed = answer.header("Access-Control-Allow-Headers").expect("headers");
            assert!(allowed.to_lowercase().contains("if-none-match"), "{name}: {allowed}");
        },
    )
    .await;
}

async fn other_methods_are_refused() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    each_transport(
        &node,
        |t| t.is_http(),
        async |transport| {
            for method in ["PUT", "DELETE", "PATCH"] {
                let url = transport.url("channel=todo");
                let answer = Request::new(method, &url).send(node.http).await;
                let name = &transport.name;
                assert_eq!(answer.status, 405, "{method} {name}: {}", answer.text());
                assert!(answer.header("Allow").is_some_and(|a| a.contains("GET")), "{name}");
            }
        },
    )
    .await;
}

/// A malformed HTTP request only affects itself: it gets a 4xx or the end, and the next client is served.
async fn malformed_http() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    let transport = node.transport("sse").await;
    let mut witness = Reader::open(&node, &transport, Subscription::to(&["todo"])).await;
    witness.next_of(Kind::Hello).await;
    let host = "Host: localhost\r\n";
    let requests = [
        "\r\n\r\n\r\n\r\nnonsense\r\n\r\n".to_owned(),
        "GET\r\n\r\n".to_owned(),
        "GET /poll?channel=a HTTP/9.9\r\n\r\n".to_owned(),
        format!("GET /poll?channel=\0a HTTP/1.1\r\n{host}\r\n"),
        format!("GET /poll?channel=a HTTP/1.1\r\n{host}Bad Header: x\r\n\r\n"),
        format!("POST /publish?channel=a HTTP/1.1\r\n{host}Content-Length: -1\r\n\r\n"),
        format!("POST /publish?channel=a HTTP/1.1\r\n{host}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
        format!("POST /publish?channel=a HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n"),
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}".to_owned() + "\r\n\r\n",
    ];
    for request in requests {
        let answer = raw(node.http, request.as_bytes()).await;
        let status = answer.map_or(400, |answer| answer.status);
        assert!((400..500).contains(&status), "{request:?}: {status}");
    }
    let new = node.publish_numbers("todo", 1).await;
    witness.expect(&new).await;
}
