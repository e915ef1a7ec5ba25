//! The objects that streams send besides messages: hello, heartbeat, bye; also rollover, drain and padding.

use crate::support::{Item, Kind, Log, Reader, Request, Subscription, World, each_transport, http::find};
use std::time::{Duration, Instant};

through_every_door! {
    over_both_logs {
        hello_comes_first
        a_heartbeat_carries_a_cursor
        rollover_loses_nothing
        a_drain_says_goodbye
    }
    once {
        interrupt_drains_and_a_second_signal_ends_it_at_once
        padding
        hello_does_not_wait_for_a_message
    }
}

async fn hello_comes_first(log: Log) {
    let World { node, redis: _redis } = World::start(log, &["--heartbeat-seconds", "7"]).await;
    let published = node.publish_numbers("todo", 5).await;
    each_transport(
        &node,
        |t| t.is_stream(),
        async |transport| {
            let name = &transport.name;
            let client = uuid::Uuid::new_v4().to_string();
            let asked = &published[1].id;
            let subscription = Subscription::to(&["todo"]).from(asked).with("client", &client);
            let mut reader = Reader::open(&node, &transport, subscription).await;
            let hello = reader.next().await.expect("a hello");
            assert_eq!(hello.kind, Kind::Hello, "{name}: {}", hello.text);
            assert_eq!(hello.str("cursor").as_ref(), Some(asked), "{name}: where reading starts");
            assert_eq!(hello.str("client").as_ref(), Some(&client), "{name}");
            assert_eq!(hello.str("transport").as_ref(), Some(name));
            assert_eq!(hello.number("heartbeat"), Some(7), "{name}");
            reader.expect(&published[2..]).await;

            // Without a client id and a cursor the server gives both, at once.
            let quiet = format!("quiet-{name}");
            let mut reader = Reader::open(&node, &transport, Subscription::to(&[&quiet])).await;
            let hello = reader.next().await.expect("a hello");
            let client = hello.str("client").expect("a client id");
            let client = uuid::Uuid::parse_str(&client).expect("a UUID");
            assert_eq!(client.get_version_num(), 4, "{name}");
            let new = node.publish_numbers(&quiet, 2).await;
            let later = Subscription::to(&[&quiet]).from(&hello.str("cursor").expect("a cursor"));
            for name in ["poll", "long-poll"] {
                let transport = node.transport(name).await;
                Reader::open(&node, &transport, later.clone()).await.expect(&new).await;
            }

            // If a gap follows, it is the cursor that was asked for.
            let (epoch_but_last, last) = asked.split_at(asked.len() - 1);
            let foreign = format!("{epoch_but_last}{}", if last == "a" { "b" } else { "a" });
            let subscription = Subscription::to(&["todo"]).from(&foreign);
            let mut reader = Reader::open(&node, &transport, subscription).await;
            let hello = reader.next().await.expect("a hello");
            assert_eq!(hello.str("cursor").as_ref(), Some(&foreign), "{name}");
            let gap = reader.next().await.expect("a gap");
            assert_eq!(gap.kind, Kind::Gap, "{name}: {}", gap.text);
            assert!(gap.str("cursor").is_some(), "{name}: {}", gap.text);
        },
    )
    .await;
}

async fn a_heartbeat_carries_a_cursor(log: Log) {
    let World { node, redis: _redis } = World::start(log, &["--heartbeat-seconds", "1"]).await;
    node.publish("elsewhere", "0").await;
    each_transport(
        &node,
        |t| t.is_stream(),
        async |transport| {
            let channel = format!("silent-{}", transport.name);
            let mut reader = Reader::open(&node, &transport, Subscription::to(&[&channel])).await;
            assert_eq!(reader.next().await.expect("hello").number("heartbeat"), Some(1));
            for _ in 0..2 {
                let item = reader.next().await.expect("a heartbeat");
                assert_eq!(item.kind, Kind::Heartbeat, "{}: {}", transport.name, item.text);
            }
            let cursor = reader.cursor();
            let new = node.publish_numbers(&channel, 3).await;
            reader.expect(&new).await;
            let again = Subscription::to(&[&channel]).from(&cursor);
            Reader::open(&node, &transport, again).await.expect(&new).await;
        },
    )
    .await;
}

fn expect_bye(name: &str, bye: Option<&Item>, code: u64) {
    let bye = bye.unwrap_or_else(|| panic!("{name}: nothing came"));
    assert_eq!(bye.kind, Kind::Bye, "{name} ended with {}", bye.text);
    assert_eq!(bye.number("code"), Some(code), "{name}: {}", bye.text);
    assert!(bye.str("reason").is_some(), "{name}: {}", bye.text);
    assert!(bye.number("retry").is_some(), "{name}: {}", bye.text);
    assert!(bye.str("cursor").is_some(), "{name}: {}", bye.text);
}

async fn rollover_loses_nothing(log: Log) {
    let World { node, redis: _redis } = World::start(log, &[]).await;
    let payloads: Vec<String> = (0..40).map(|n| format!("\"{n}-{}\"", "x".repeat(1000))).collect();
    let published = node.publish_all("todo", &payloads).await;
    let large = node.publish_all("large", &[format!("\"{}\"", "y".repeat(30_000))]).await;
    let by_bytes = |channel: &str| Subscription::to(&[channel]).from("earliest").with("max_bytes", "8192");
    each_transport(
        &node,
        |t| t.rollover,
        async |transport| {
            let name = &transport.name;
            let mut reader = Reader::open(&node, &transport, by_bytes("todo")).await;
            let items = reader.rest().await;
            expect_bye(name, items.last(), 4000);
            let size = reader.raw.len();
            assert!((4096..=8192 + 4096).contains(&size), "{name} ended after {size} bytes");
            let messages = items.iter().filter(|item| item.kind == Kind::Message).count();
            assert!((2..=9).contains(&messages), "{name}: {messages} messages in 8 KiB");
            assert_eq!(items.last().and_then(|bye| bye.str("cursor")), Some(reader.cursor()));
            let again = Subscription::to(&["todo"]).from(&reader.cursor());
            Reader::open(&node, &transport, again).await.expect(&published[messages..]).await;

            // The reader follows the rollovers.
            Reader::open(&node, &transport, by_bytes("todo")).await.expect(&published).await;

            // A message that is larger than a response may be still is sent.
            let mut reader = Reader::open(&node, &transport, by_bytes("large")).await;
            reader.expect(&large).await;
            expect_bye(name, reader.rest().await.last(), 4000);

            // The stream rolls over by time.
            let begun = Instant::now();
            let subscription = Subscription::to(&[&format!("idle-{name}")]).with("max_seconds", "1");
            let mut reader = Reader::open(&node, &transport, subscription).await;
            expect_bye(name, reader.rest().await.last(), 4000);
            assert!(begun.elapsed() > Duration::from_millis(900), "{name}: {:?}", begun.elapsed());
        },
    )
    .await;

    // Other streams do not roll over, whatever their query says.
    each_transport(
        &node,
        |t| t.is_stream() && !t.rollover,
        async |transport| {
            let subscription = by_bytes("todo").with("max_seconds", "1");
            let mut reader = Reader::open(&node, &transport, subscription).await;
            assert_eq!(reader.next().await.map(|item| item.kind), Some(Kind::Hello));
            for want in &published {
                let got = reader.next().await.and_then(|item| item.id());
                assert_eq!(got.as_ref(), Some(&want.id), "{}", transport.name);
            }
        },
    )
    .await;
}

async fn a_drain_says_goodbye(log: Log) {
    let World { mut node, redis: _redis } = World::start(log, &[]).await;
    let last = node.publish("todo", "0").await;
    let (mut streams, mut polls) = (Vec::new(), Vec::new());
    for transport in node.transports().await {
        let subscription = Subscription::to(&["todo"]).from(&last).with("timeout", "55");
        if transport.is_stream() {
            streams.push(Reader::open(&node, &transport, subscription).await);
        } else if transport.waits() {
            let url = transport.url(&subscription.query());
            let address = node.http;
            let name = transport.name.clone();
            let ask = async move { (name, Request::get(&url).send(address).await) };
            polls.push(tokio::spawn(ask));
        }
    }
    // The polls are under way; these requests come after them.
    for _ in 0..20 {
        node.get("/healthz").await;
        tokio::task::yield_now().await;
    }
    node.signal("TERM");
    for poll in polls {
        let (name, answer) = poll.await.expect("an answer to the parked poll");
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        let empty = r#""messages":[]"#;
        assert!(answer.text().contains(empty), "{name}: an empty batch: {}", answer.text());
        assert!(answer.text().contains(&last), "{name}: its cursor: {}", answer.text());
    }
    for mut reader in streams {
        let name = reader.transport.name.clone();
        let items = reader.rest().await;
        expect_bye(&name, items.last(), 4001);
        assert_eq!(reader.cursor(), last, "{name}");
        if reader.transport.lifecycle == "duplex" {
            assert_eq!(reader.close_code, Some(4001), "{name} closes with the same code");
        }
    }
    assert_eq!(node.exit_code().await, 0);
}

async fn interrupt_drains_and_a_second_signal_ends_it_at_once() {
    let World { mut node, .. } = World::start(Log::Memory, &[]).await;
    node.signal("INT");
    assert_eq!(node.exit_code().await, 0, "nobody was there");

    let World { mut node, .. } = World::start(Log::Memory, &["--drain-seconds", "600"]).await;
    let transport = node.transport("ws").await;
    let mut reader = Reader::open(&node, &transport, Subscription::to(&["todo"])).await;
    reader.next_of(Kind::Hello).await;
    // A half-sent request keeps the server waiting.
    let mut slow = crate::support::door::connect(node.http).await.expect("connect");
    let head = b"POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhel";
    tokio::io::AsyncWriteExt::write_all(&mut slow, head).await.expect("write");
    node.get("/healthz").await;
    node.signal("TERM");
    reader.next_of(Kind::Bye).await;
    node.signal("TERM");
    node.exit_code().await;
}

async fn padding() {
    let World { node, .. } = World::start(Log::Memory, &["--heartbeat-seconds", "1"]).await;
    each_transport(
        &node,
        |t| t.is_stream() && t.is_http(),
        async |transport| {
            let name = transport.name.as_str();
            let always = matches!(name, "xhr-stream" | "forever-frame");
            for padding in [false, true] {
                let mut subscription = Subscription::to(&["todo"]);
                if padding {
                    subscription = subscription.with("padding", "1");
                }
                let mut reader = Reader::open(&node, &transport, subscription).await;
                reader.next_of(Kind::Hello).await;
                let hello = find(&reader.raw, b"\"hello\"").expect("a hello in the bytes");
                let ignorable = &reader.raw[..hello];
                if padding || always {
                    assert!(hello >= 2048, "{name}: {hello} bytes in front of the hello");
                } else {
                    assert!(hello < 1024, "{name}: {hello} bytes in front of the hello");
                }
                if name == "xhr-stream" {
                    let text = String::from_utf8_lossy(ignorable);
                    let before = text.rsplit_once('{').expect("the object").0.to_owned();
                    assert!(before.trim().is_empty(), "{name}: padding is white space: {before:?}");
                }
                let before = reader.raw.len();
                reader.next_of(Kind::Heartbeat).await;
                let grown = reader.raw.len() - before;
                if padding {
                    assert!(grown >= 1024, "{name}: a heartbeat of {grown} bytes");
                } else {
                    assert!(grown < 1024, "{name}: a heartbeat of {grown} bytes");
                }
            }
        },
    )
    .await;
}

/// `hello` comes at once, so that a client can detect a proxy that holds responses back.
async fn hello_does_not_wait_for_a_message() {
    let World { node, .. } = World::start(Log::Memory, &["--heartbeat-seconds", "3600"]).await;
    each_transport(
        &node,
        |t| t.is_stream(),
        async |transport| {
            let begun = Instant::now();
            let mut reader = Reader::open(&node, &transport, Subscription::to(&["none"])).await;
            reader.next_of(Kind::Hello).await;
            assert!(
                begun.elapsed() < Duration::from_secs(40),
                "{}: a hello after {:?}",
                transport.name,
                begun.elapsed()
            );
        },
    )
    .await;
}
