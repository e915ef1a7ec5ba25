//! Attacks that similar servers have suffered, and that no other test here covers.
//! docs/security.md lists all of them with their tests.

use crate::support;

use std::process::{Command, Stdio};
use std::time::Duration;
use support::door::Stream;
use support::http::raw;
use support::websocket::{KEY, frame, handshake};
use support::world::start_on;
use support::{
    Haproxy, Kind, LineClient, Log, Metrics, Nginx, Node, RawWebSocket, Reader, RedisServer, Request, Response, SOON,
    Subscription, World, eventually, within,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PATHS: [&str; 14] = [
    "/",
    "/poll",
    "/long-poll",
    "/jsonp",
    "/forever-frame",
    "/xhr-stream",
    "/multipart",
    "/sse",
    "/ndjson",
    "/publish",
    "/info",
    "/channels/a",
    "/metrics",
    "/nothing",
];

/// Checks that the node answers, and that a reader from before the attack still gets messages.
async fn unharmed(node: &Node, witness: &mut Reader) {
    let new = node.publish_numbers("todo", 1).await;
    witness.expect(&new).await;
}

async fn witness(node: &Node) -> Reader {
    let sse = node.transport("sse").await;
    let mut witness = Reader::open(node, &sse, Subscription::to(&["todo"])).await;
    witness.next_of(Kind::Hello).await;
    witness
}

/// The path ends like the name of a program, and the callback would be the program's text (CVE-2015-5211).
#[tokio::test]
async fn reflected_file_download() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    for path in ["/x.bat", "/jsonp/x.bat", "/jsonp;/x.bat", "/jsonp%2Fx.bat", "/poll/x.cmd", "/sse.bat", "/JSONP"] {
        let answer = node.get(&format!("{path}?channel=a&mode=poll&callback=calc")).await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(!answer.text().contains("calc"), "{path}: {}", answer.text());
        assert_eq!(answer.header("X-Content-Type-Options"), Some("nosniff"), "{path}");
    }
}

/// The callback is a whole Flash file in letters (CVE-2014-4671): the body never begins with it.
#[tokio::test]
async fn rosetta_flash() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    let callback = "CWSMIKI0hCD0Up0IZUnnnnnnnnnnnnnnnnnnnUU5nnnnnn3Snn7iiudIbEAt333";
    for query in ["channel=a&mode=poll", "channel=a%20b", "channel=a&cursor=bad"] {
        let answer = node.get(&format!("/jsonp?{query}&callback={callback}")).await;
        assert!(answer.status == 200 && answer.text().starts_with("/**/CWS"), "{}", answer.text());
        let kind = answer.header("Content-Type").unwrap_or_default();
        assert!(kind.starts_with("application/javascript"), "{query}: {kind:?}");
    }
}

/// A foreign page opens the forever frame as a window, or inside a page of this server, so that its callback runs there
/// (same-origin method execution). `tests/browser/callbacks.mjs` does so in a browser.
#[tokio::test]
async fn same_origin_method_execution() {
    let World { node, .. } = World::start(Log::Memory, &["--request-rate", "10000"]).await;
    let ask = |query: &str, dest: &str, site: &str| {
        let target = format!("/forever-frame?{query}&max_seconds=1");
        let request = Request::get(&target);
        let request = if dest.is_empty() { request } else { request.header("Sec-Fetch-Dest", dest) };
        if site.is_empty() { request } else { request.header("Sec-Fetch-Site", site) }
    };
    let attack = "channel=a&callback=opener.del.click";
    for (dest, site) in [
        ("document", "cross-site"),
        ("document", "same-origin"),
        ("document", "none"),
        ("object", "same-origin"),
        ("embed", "same-origin"),
        ("serviceworker", "same-origin"),
        ("iframe", "cross-site"),
    ] {
        // Errors also call the callback.
        for query in [attack, "channel=a%20b&callback=opener.del.click", "callback=opener.del.click", "channel=a"] {
            let answer = ask(query, dest, site).send(node.http).await;
            assert_eq!(answer.status, 403, "{dest} {site} {query}: {}", answer.text());
            assert_eq!(answer.header("Content-Type"), Some("text/plain; charset=utf-8"), "{dest} {site}");
            assert_eq!(answer.header("Cross-Origin-Opener-Policy"), Some("same-origin"));
            let text = answer.text();
            assert!(!text.contains("opener") && !text.contains("<script"), "{text}");
        }
    }
    for (dest, site) in [("", ""), ("iframe", "same-origin"), ("iframe", "same-site"), ("empty", "cross-site")] {
        for query in [attack, "channel=a%20b&callback=opener.del.click"] {
            let answer = ask(query, dest, site).send(node.http).await;
            assert_eq!(answer.status, 200, "{dest} {site}: {}", answer.text());
            assert_eq!(answer.header("Cross-Origin-Opener-Policy"), Some("same-origin"));
            let policy = answer.header("Content-Security-Policy").unwrap_or_default();
            assert!(policy.contains("frame-ancestors 'self'"), "{policy}");
            let text = answer.text();
            let (guard, call) = (text.find("parent=null"), text.find("parent.opener.del.click("));
            assert!(guard.is_some() && guard < call, "the guard comes first: {text}");
        }
    }
}

/// The server's own pages declare the sources that they may load, and the pages that may frame them.
#[tokio::test]
async fn pages_have_a_policy() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    for path in ["/", "/status", "/diagnose"] {
        let answer = node.get(path).await;
        let policy = answer.header("Content-Security-Policy").unwrap_or_default().to_owned();
        for part in ["default-src 'none'", "script-src 'self'", "base-uri 'none'", "frame-ancestors 'self'"] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(answer.header("X-Frame-Options"), Some("SAMEORIGIN"), "{path}");
        assert_eq!(answer.header("Cross-Origin-Opener-Policy"), Some("same-origin"), "{path}");
        // A policy has no hash for these.
        assert!(!answer.text().contains(" style=") && !answer.text().contains(" onclick="), "{path}");
    }
    let info = node.get("/info").await;
    assert_eq!(info.header("Content-Security-Policy"), Some("default-src 'none'; frame-ancestors 'none'"));
}

/// Line ends in every text that the server repeats in a header or a line, and names of headers in other texts.
#[tokio::test]
async fn header_injection() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    let evil = "a%0d%0aSet-Cookie:%20x=1%0d%0a%0d%0a<script>";
    for path in PATHS {
        for field in ["channel", "callback", "cursor", "domain", "client", "event", "mode", "token", "prefix"] {
            let other = if field == "channel" { "mode=poll" } else { "channel=a&mode=poll" };
            let target = format!("{path}?{other}&max_seconds=1&timeout=1&{field}={evil}");
            let mut answer = Request::get(&target).header("Last-Event-ID", "").open(node.http).await;
            assert_eq!(answer.header("Set-Cookie"), None, "{target}");
            if answer.status != 200 {
                answer.finish().await;
                assert!(!answer.text().contains("<script>") && !answer.text().contains("x=1"), "{target}");
            }
        }
    }
    for header in ["Origin", "If-None-Match", "Last-Event-ID", "Host", "Sec-WebSocket-Key", "Sec-WebSocket-Protocol"] {
        let request =
            format!("GET /poll?channel=a HTTP/1.1\r\nHost: localhost\r\n{header}: a\rSet-Cookie: x=1\r\n\r\n");
        if let Some(answer) = raw(node.http, request.as_bytes()).await {
            assert_eq!((answer.status, answer.header("Set-Cookie")), (400, None), "{header}");
        }
    }
}

/// An upgrade of every kind on every path (in other servers, CVE-2022-21676 and others ended the process).
#[tokio::test]
async fn upgrades_on_every_path() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    let mut witness = witness(&node).await;
    let upgrades = ["websocket", "h2c", "TLS/1.0", "websocket, h2c", ""];
    for path in PATHS {
        for method in ["GET", "POST", "HEAD", "OPTIONS", "CONNECT"] {
            for upgrade in upgrades {
                let request = format!(
                    "{method} {path}?channel=a&timeout=1&max_seconds=1&callback=cb&mode=poll HTTP/1.1\r\nHost: localhost\r\n\
                     Connection: Upgrade, HTTP2-Settings\r\nUpgrade: {upgrade}\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\nContent-Length: 0\r\n\r\n"
                );
                let mut stream = TcpStream::connect(node.http).await.expect("connect");
                stream.write_all(request.as_bytes()).await.expect("write");
                let mut head = [0; 12];
                within(SOON, "an answer", stream.read_exact(&mut head)).await.expect("an answer");
                assert!(!head.ends_with(b"101"), "{method} {path} {upgrade}");
            }
        }
    }
    for beginning in [
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\x03\x03",
        "\0\0\0\0",
        "{\"type\":\"ping\"}\n",
    ] {
        let mut stream = TcpStream::connect(node.http).await.expect("connect");
        stream.write_all(beginning.as_bytes()).await.expect("write");
        stream.shutdown().await.ok();
        let mut answer = Vec::new();
        within(SOON, "its end", stream.read_to_end(&mut answer)).await.ok();
        let refused = answer.starts_with(b"HTTP/1.1 400") || answer.starts_with(b"HTTP/1.1 505");
        // The preface of HTTP/2 is sound, and answered by SETTINGS (RFC 9113 §3.4).
        let is_spoken = beginning.starts_with("PRI") && answer.get(3) == Some(&4);
        assert!(answer.is_empty() || refused || is_spoken, "{}", String::from_utf8_lossy(&answer));
    }
    unharmed(&node, &mut witness).await;
}

/// A client leaves at each byte of its handshake.
#[tokio::test]
async fn handshakes_that_break_off() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    let mut witness = witness(&node).await;
    let handshake = format!(
        "GET /ws?channel=todo HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    );
    for cut in 0..=handshake.len() {
        let mut stream = TcpStream::connect(node.http).await.expect("connect");
        stream.write_all(&handshake.as_bytes()[..cut]).await.expect("write");
        if cut % 2 == 0 {
            // The client sends a reset instead of an end.
            stream.set_zero_linger().expect("linger");
        }
    }
    unharmed(&node, &mut witness).await;
    eventually("all to be gone", async || (Metrics::of(&node).await.value("longtail_sockets") <= 2.0).then_some(()))
        .await;
    // Thousands of headers in one handshake (CVE-2023-43669).
    let many: String = (0..5000).map(|n| format!("X-{n}: y\r\n")).collect();
    let request = handshake.replace("\r\n\r\n", &format!("\r\n{many}\r\n"));
    let status = raw(node.http, request.as_bytes()).await.map_or(431, |answer| answer.status);
    assert!(matches!(status, 400 | 431), "{status}");
    unharmed(&node, &mut witness).await;
}

/// Thousands of nonsensical cursors of every kind: each gets an answer, there is no 5xx, and it takes little time.
#[tokio::test]
async fn bad_cursors_by_the_thousand() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    node.publish_numbers("todo", 50).await;
    let good = node.latest("todo").await;
    let epoch = good.split_once('.').expect("an epoch").1.to_owned();
    let mut cursors: Vec<String> = Vec::new();
    for ms in ["0", "1", "-1", "00", "18446744073709551615", "18446744073709551616", "9e99", "1 ", "１", ""] {
        for seq in ["0", "-1", "18446744073709551615", "99999999999999999999999", "x", ""] {
            for epoch in [epoch.as_str(), "0", "zzzzzzzz", "-", "", "\u{0}", "é"] {
                cursors.push(format!("{ms}-{seq}.{epoch}"));
                cursors.push(format!("{ms}-{seq}{epoch}"));
            }
        }
    }
    cursors.extend((0..=good.len()).map(|end| good[..end].to_owned()));
    cursors.extend((0..500).map(|n| "-".repeat(n) + "." + &"0".repeat(n)));
    let mut stream = Stream::from(TcpStream::connect(node.http).await.expect("connect"));
    let (mut refused, mut gaps, mut good) = (0, 0, 0);
    let before = node.cpu_time();
    for cursor in &cursors {
        let target = format!("/poll?channel=todo&limit=1&cursor={}", support::quote(cursor));
        let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("write");
        let mut answer = Response::new(stream, false);
        within(SOON, "an answer", answer.read_head()).await.expect("an answer");
        answer.finish().await;
        match answer.status {
            400 => {
                assert_eq!(answer.error_code(), "bad_cursor", "{cursor}");
                refused += 1;
            }
            200 if answer.json()["gap"].is_object() => gaps += 1,
            200 => good += 1,
            other => panic!("{other} for {cursor:?}"),
        }
        stream = answer.into_stream().0;
    }
    let cost = node.cpu_time() - before;
    println!("{} cursors cost {cost:?}: {refused} refused, {gaps} gaps, {good} good", cursors.len());
    assert!(refused > 1000 && gaps > 5 && good >= 1, "{refused} {gaps} {good}");
    assert!(cost < Duration::from_secs(10), "{} cursors cost {cost:?} of processor time", cursors.len());
}

/// The processor time in seconds that a task costs the node. Other programs do not add to it, but they evict the node's
/// caches, so the best of three runs counts.
async fn cost(node: &Node, mut what: impl AsyncFnMut()) -> f64 {
    let mut best = f64::MAX;
    for _ in 0..3 {
        let before = node.cpu_time();
        what().await;
        best = best.min((node.cpu_time() - before).as_secs_f64());
    }
    best
}

/// The cost of the largest input with the smallest parts is proportional to its size: input of four times the size does
/// not take sixteen times as long (Engine.IO 3's packets were quadratic).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cost_of_small_parts_is_linear() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    let node = &node;
    let fragments = async |count: usize| {
        let mut socket = RawWebSocket::open(node, "/ws").await;
        socket.next_of("hello").await;
        let command = br#"{"type":"ping","ref":1}"#;
        let mut bytes = frame(1, b" ");
        // Fragments of one byte and of zero bytes, and pings between them.
        (0..count).for_each(|n| bytes.extend(frame(0, if n % 2 == 0 { b" " } else { b"" })));
        bytes.extend(frame(0x80, command));
        socket.send(&bytes).await;
        socket.next_of("pong").await;
    };
    let lines = async |count: usize| {
        let mut client = LineClient::connect(node.tcp).await;
        client.send_bytes("\n".repeat(count).as_bytes()).await;
        client.send(r#"{"type":"ping","ref":1}"#).await;
        while client.json().await["type"] != "pong" {}
    };
    let one_line = async |count: usize| {
        let mut client = LineClient::connect(node.tcp).await;
        // One long line in many small reads.
        for part in " ".repeat(count).as_bytes().chunks(100) {
            client.send_bytes(part).await;
        }
        client.send(r#"{"type":"ping","ref":1}"#).await;
        assert_eq!(client.json().await["type"], "pong");
    };
    let array = async |count: usize| {
        let body = format!("[{}0]", "0,".repeat(count));
        let status = node.publish_json(&body).await.status;
        assert!(matches!(status, 400 | 413), "400 or 413 for an array of {count}, not {status}");
    };
    let keys = async |count: usize| {
        // An unknown key of the object itself ends the parser at once; the data may have any keys.
        let body = format!("{{\"channel\":\"a b\",\"data\":{{{}\"x\":0}}}}", "\"\":0,".repeat(count));
        assert_eq!(node.publish_json(&body).await.error_code(), "bad_channel");
    };
    let fields = async |count: usize| {
        let form = format!("{}channel=a%20b", "a&".repeat(count));
        assert_eq!(Request::form("/poll", &form).send(node.http).await.error_code(), "bad_channel");
    };
    let chunks = async |count: usize| {
        // A body in chunks of one byte. (The bytes of chunk extensions are limited.)
        let body = "1\r\n1\r\n".repeat(count);
        let head = "POST /publish?channel=a%20b HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
        let answer = raw(node.http, format!("{head}{body}0\r\n\r\n").as_bytes()).await.expect("an answer");
        assert_eq!(answer.error_code(), "bad_channel", "{}", answer.text());
    };
    macro_rules! linear {
        ($($name:ident $most:expr;)*) => {$(
            let most: usize = $most;
            let quarter = cost(node, async || $name(most / 4).await).await;
            let whole = cost(node, async || $name(most).await).await;
            let told = format!("{} {}: {whole:.2} s of processor time; a quarter of them: {quarter:.2} s", most, stringify!($name));
            println!("{told}");
            // At this speed the ratio proves nothing, because the time is counted in hundredths of a second.
            assert!(whole < 0.2 || whole / quarter.max(0.01) < 10.0, "not ten times as long for four times as much: {told}");
            assert!(whole < 10.0, "{told}");
        )*};
    }
    linear! {
        fragments 60_000;
        lines 20_000;
        one_line 100_000;
        array 500_000;
        keys 200_000;
        fields 60_000;
        chunks 120_000;
    }
}

fn gzip(bytes: usize) -> Vec<u8> {
    let script = format!("head -c {bytes} /dev/zero | gzip -9");
    let output = Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).output().expect("gzip");
    assert!(output.stdout.len() > 1000, "{output:?}");
    output.stdout
}

/// The server does not decompress anything: it refuses a compressed body, and a compressed frame is a violation
/// (CVE-2026-39804).
#[tokio::test]
async fn decompression_bombs() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    let bomb = gzip(64 << 20);
    let before = Metrics::of(&node).await.value("process_resident_memory_bytes");
    for coding in ["gzip", "deflate", "br", "zstd", "gzip, gzip", "x"] {
        for (path, kind) in [
            ("/publish?channel=a", "text/plain"),
            ("/publish", "application/json"),
            ("/sse", "application/x-www-form-urlencoded"),
        ] {
            let request = Request::post(path, &bomb).header("Content-Encoding", coding).header("Content-Type", kind);
            let answer = request.send(node.http).await;
            if path == "/sse" {
                assert!(answer.status == 400 || answer.text().contains("bad_request"), "{coding} {path}");
            } else {
                assert_eq!((answer.status, answer.error_code().as_str()), (400, "bad_request"), "{coding} {path}");
            }
        }
    }
    let identity = Request::post("/publish?channel=a", b"1").header("Content-Encoding", "identity");
    assert_eq!(identity.send(node.http).await.status, 200);
    // Without the header, the client is told that the body is not text.
    let answer = Request::post("/publish?channel=a", &bomb).send(node.http).await;
    assert_eq!(answer.error_code(), "not_utf8");

    let offered =
        handshake("/ws?channel=a").header("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits");
    let answer = offered.open(node.http).await;
    assert_eq!((answer.status, answer.header("Sec-WebSocket-Extensions")), (101, None));
    let mut socket = RawWebSocket::open(&node, "/ws?channel=a").await;
    socket.send(&frame(0xc1, &bomb[..60_000])).await;
    assert_eq!(socket.close_code().await, 1002);
    let after = Metrics::of(&node).await.value("process_resident_memory_bytes");
    assert!(after - before < 32e6, "{before} {after}");
}

/// A client on raw TCP sends a byte now and then, without an end: the time limit of a request also holds for a command.
#[tokio::test]
async fn slow_commands_are_ended() {
    let World { node, .. } = World::start(Log::Memory, &["--request-timeout", "2"]).await;
    let mut stream = TcpStream::connect(node.tcp).await.expect("connect");
    let ended = within(SOON, "the end of a slow command", async {
        loop {
            let mut byte = [0];
            tokio::select! {
                read = stream.read(&mut byte) => return read.unwrap_or(0),
                () = tokio::time::sleep(Duration::from_millis(200)) => {}
            }
            if stream.write_all(b" ").await.is_err() {
                return 0;
            }
        }
    });
    assert_eq!(ended.await, 0);
    // A client that publishes now and then does not count as slow, although it never subscribes.
    let mut client = LineClient::connect(node.tcp).await;
    for n in 0..8 {
        client.send(&format!(r#"{{"type":"publish","channel":"todo","data":{n},"ref":{n}}}"#)).await;
        assert_eq!(client.json().await["type"], "ack");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Redis may contain any data from any program: the node survives, and valid messages get through.
#[tokio::test]
async fn garbage_in_redis() {
    let redis = RedisServer::start_with(&["--proto-max-bulk-len", "512mb"]).await;
    let node = start_on(&redis, &[]).await;
    redis.listened(1).await;
    let mut witness = witness(&node).await;
    // Each script that looks at the stream copies its last entry, so a larger one keeps a Redis without time busy.
    let huge = "x".repeat(20 << 20);
    let deep = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
    let bytes: Vec<u8> = (0..=255).cycle().take(5000).collect();
    let mut connection = redis.connect().await.expect("a connection");
    for payload in [&bytes[..], b"\xff\xfe", b"\xed\xa0\x80", b"\0", b"", deep.as_bytes()] {
        for word in ["PUBLISH", "XADD"] {
            let mut command = redis::cmd(word);
            match word {
                "PUBLISH" => command.arg("push:other").arg(payload),
                _ => command.arg("longtail:log").arg("*").arg("channel").arg("other").arg("data").arg(payload),
            };
            let _: redis::Value = command.query_async(&mut connection).await.expect("Redis takes it");
        }
    }
    for fields in [
        ["type", "hello", "id", "0-0"],
        ["cursor", "x", "channel", "todo\r\nevent: x"],
        ["channel", "todo", "event", "bye"],
        ["data", "1", "data", "2"],
    ] {
        redis.command(&[&["XADD", "longtail:log", "*"], &fields[..]].concat()).await;
    }
    for payload in [
        r#"{"data":1,"event":"hello"}"#,
        r#"{"data":1,"event":"a\r\nid: 5"}"#,
        r#"{"data":1,"exclude":"<script>"}"#,
        r#"{"data":1,"key":""}"#,
        "{\"data\":",
    ] {
        redis.command(&["PUBLISH", "push:other", payload]).await;
    }
    // Fields that belong to our wire format are data here.
    redis.command(&["PUBLISH", "push:todo", r#"{"data":1,"id":"9-9.x","type":"bye","cursor":"x"}"#]).await;
    let message = witness.next_message().await;
    assert_eq!(message.data(), r#"{"data":1,"id":"9-9.x","type":"bye","cursor":"x"}"#);

    let before = Metrics::of(&node).await;
    redis.command(&["XADD", "longtail:log", "*", "channel", "other", "data", &huge]).await;
    eventually("the huge entry to be skipped", async || {
        let skipped = Metrics::of(&node).await.value("longtail_log_skipped_entries_total");
        (skipped > before.value("longtail_log_skipped_entries_total")).then_some(())
    })
    .await;
    redis.command(&["XADD", "longtail:log", "*", "channel", "todo", "data", "2"]).await;
    assert_eq!(witness.next_message().await.data(), "2");
    // Redis at once cuts a client that does not read such a message. The node does not receive the PUBLISHes in the
    // meantime, and it reports that.
    redis.command(&["PUBLISH", "push:other", &huge.repeat(2)]).await;
    drop(huge);
    eventually("PUBLISH to be heard again", async || {
        redis.command(&["PUBLISH", "push:todo", "3"]).await;
        let heard = node.get("/poll?channel=todo&cursor=earliest&limit=1000").await;
        heard.text().contains(r#""data":3"#).then_some(())
    })
    .await;
    assert_eq!(witness.next_message().await.data(), "3");
    assert!(!node.log().contains("panicked"), "{}", node.log());
}

/// Two lengths, a length and chunks, chunks in a strange spelling: the front proxy and our server must not read two
/// different requests.
#[tokio::test]
async fn request_smuggling() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    let nginx = Nginx::before(&node, "proxy_http_version 1.1; proxy_set_header Connection '';").await;
    let (http, tcp) = ([node.http], [node.tcp]);
    let haproxy = Haproxy::before(&http, &tcp).await;
    let inner = "POST /publish?channel=smuggled HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n1";
    let chunk = format!("{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len());
    let length = inner.len() + 5;
    let cases = [
        format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}"),
        format!("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n{chunk}"),
        format!("Content-Length: 0\r\nContent-Length: {length}\r\n\r\n0\r\n\r\n{inner}"),
        format!("Content-Length: {length}, 0\r\n\r\n0\r\n\r\n{inner}"),
        format!("Content-Length: +0\r\n\r\n{inner}"),
        format!("Content-Length: 0x0\r\n\r\n{inner}"),
        format!("Transfer-Encoding: xchunked\r\nContent-Length: {length}\r\n\r\n0\r\n\r\n{inner}"),
        format!("Transfer-Encoding:\x0bchunked\r\nContent-Length: {length}\r\n\r\n0\r\n\r\n{inner}"),
        format!("Transfer-Encoding : chunked\r\nContent-Length: {length}\r\n\r\n0\r\n\r\n{inner}"),
        format!("X: y\r\n Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n\r\n0\r\n\r\n{inner}"),
        format!(
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\nContent-Length: {length}\r\n\r\n0\r\n\r\n{inner}"
        ),
        format!("Transfer-Encoding: identity, chunked\r\nContent-Length: {length}\r\n\r\n0\r\n\r\n{inner}"),
        format!("Transfer-Encoding: chunked\r\n\r\n0;x=\"\r\n\r\n\"\r\n\r\n{inner}"),
        format!("Transfer-Encoding: chunked\r\n\r\n-1\r\n{inner}"),
        format!("Transfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\n{inner}"),
    ];
    for case in &cases {
        // The same connection, and then the next request on it, is what a front would reuse.
        for address in [node.http, nginx.http, haproxy.http] {
            let request = format!("POST /publish?channel=outer HTTP/1.1\r\nHost: localhost\r\n{case}");
            let mut stream = TcpStream::connect(address).await.expect("connect");
            stream.write_all(request.as_bytes()).await.ok();
            stream.shutdown().await.ok();
            let mut answers = Vec::new();
            within(SOON, "all answers", stream.read_to_end(&mut answers)).await.ok();
            let answers = String::from_utf8_lossy(&answers);
            let statuses: Vec<&str> = answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
            // Two successful answers would mean that one request was read as two. They are allowed only where the first
            // request has no body for both parsers, because two requests are then correct.
            let is_one = statuses.iter().filter(|status| **status == "200").count() <= 1;
            assert!(is_one, "{address}: {statuses:?} to {request}");
            let may_be =
                |status: &&str| *status == "200" || status.starts_with('4') || matches!(*status, "501" | "502" | "503");
            assert!(statuses.iter().all(may_be), "{address}: {statuses:?}");
        }
    }
    // The server does not handle bytes as a request that a proxy sent as a body.
    let smuggled = node.get("/poll?channel=smuggled&cursor=earliest").await.json();
    assert_eq!(smuggled["messages"], serde_json::json!([]), "a body was taken for a request");
    let outer = node.get("/poll?channel=outer&cursor=earliest").await.json();
    println!("{} of {} were taken as one request", outer["messages"].as_array().map_or(0, Vec::len), 3 * cases.len());
}
