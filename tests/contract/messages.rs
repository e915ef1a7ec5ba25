//! Published messages arrive: all of them, in order, once, and unchanged.

use crate::support::{Kind, Log, Published, Reader, Subscription, World, each_transport, quote, same_payload};

through_every_door! {
    over_both_logs {
        every_transport_gives_the_same_messages
        channels_come_in_log_order
        excluded_clients_do_not_get_it
        a_message_to_several_channels_comes_once
        volatile_reaches_who_is_connected
        event_names_arrive
        payloads_arrive_as_sent
    }
    once {
        a_burst_reaches_a_poll_that_was_parked
    }
}

/// Half of the messages are published before the reader connects, and half after that.
async fn every_transport_gives_the_same_messages(log: Log) {
    let World { node, redis: _redis } = World::start(log, &[]).await;
    each_transport(
        &node,
        |_| true,
        async |transport| {
            let channel = format!("all-{}", transport.name);
            let subscription = Subscription::to(&[&channel]).from("earliest");
            let old = node.publish_numbers(&channel, 20).await;
            let mut reader = Reader::open(&node, &transport, subscription).await;
            reader.expect(&old).await;
            let new = node.publish_numbers(&channel, 20).await;
            reader.expect(&new).await;
        },
    )
    .await;

    let shared = node.publish_numbers("shared", 20).await;
    each_transport(
        &node,
        |_| true,
        async |transport| {
            let subscription = Subscription::to(&["shared"]).from("earliest");
            Reader::open(&node, &transport, subscription).await.expect(&shared).await;
        },
    )
    .await;
}

async fn channels_come_in_log_order(log: Log) {
    let World { node, redis: _redis } = World::start(log, &[]).await;
    let list: Vec<_> = (0..60).map(|n| (format!("ch{}", n * 7 % 5), n.to_string())).collect();
    let published = node.publish_list(&list).await;
    let wanted = ["ch0", "ch2", "ch4"];
    let expected: Vec<Published> = published.into_iter().filter(|p| wanted.contains(&p.channel.as_str())).collect();
    each_transport(
        &node,
        |_| true,
        async |transport| {
            let subscription = Subscription::to(&wanted).from("earliest");
            Reader::open(&node, &transport, subscription).await.expect(&expected).await;
        },
    )
    .await;
}

async fn excluded_clients_do_not_get_it(log: Log) {
    let World { node, redis: _redis } = World::start(log, &[]).await;
    let author = uuid::Uuid::new_v4().to_string();
    let other = uuid::Uuid::new_v4().to_string();
    node.publish("room", "1").await;
    node.publish_with(&format!("channel=room&exclude={author}"), "2").await;
    let json = format!(r#"{{"channel":"room","data":3,"exclude":"{author}"}}"#);
    assert_eq!(node.publish_json(&json).await.status, 200);
    node.publish("room", "4").await;
    each_transport(
        &node,
        |_| true,
        async |transport| {
            for (client, wanted) in [(&author, vec!["1", "4"]), (&other, vec!["1", "2", "3", "4"])] {
                let subscription = Subscription::to(&["room"]).from("earliest").with("client", client);
                let mut reader = Reader::open(&node, &transport, subscription).await;
                for data in wanted {
                    assert_eq!(reader.next_message().await.data(), data, "{}", transport.name);
                }
            }
        },
    )
    .await;
}

/// A reader of several channels of a message gets the message once, under the name of the first of these channels that
/// it reads. A client or a reader of a channel in `except` does not get the message.
async fn a_message_to_several_channels_comes_once(log: Log) {
    let World { node, redis: _redis } = World::start(log, &[]).await;
    let (author, other) = (uuid::Uuid::new_v4().to_string(), uuid::Uuid::new_v4().to_string());
    for body in [
        r#"{"channels":["a","b","c"],"args":[1,"x"],"event":"e"}"#.to_owned(),
        format!(r#"{{"channels":["c","b"],"data":2,"except":["{author}"]}}"#),
        r#"{"channels":["a","b"],"data":3,"except":["c"]}"#.to_owned(),
        r#"{"channel":"b","data":4}"#.to_owned(),
    ] {
        let answer = node.publish_json(&body).await;
        assert_eq!(answer.status, 200, "{body}: {}", answer.text());
    }
    type Row<'a> = (&'a [&'a str], &'a str, &'a [(&'a str, &'a str)]);
    let table: [Row<'_>; 5] = [
        (&["b", "a"], &other, &[("a", "[1,\"x\"]"), ("b", "2"), ("a", "3"), ("b", "4")]),
        (&["c", "b"], &other, &[("b", "[1,\"x\"]"), ("c", "2"), ("b", "4")]),
        (&["b"], &author, &[("b", "[1,\"x\"]"), ("b", "3"), ("b", "4")]),
        (&["c", "b"], &author, &[("b", "[1,\"x\"]"), ("b", "4")]),
        (&["c"], &other, &[("c", "[1,\"x\"]"), ("c", "2")]),
    ];
    each_transport(
        &node,
        |_| true,
        async |transport| {
            let name = &transport.name;
            for (channels, client, wanted) in table {
                let subscription = Subscription::to(channels).from("earliest").with("client", client);
                let mut reader = Reader::open(&node, &transport, subscription).await;
                for (channel, data) in wanted {
                    let message = reader.next_message().await;
                    let came = (message.str("channel"), message.data());
                    assert_eq!(came, (Some((*channel).to_owned()), *data), "{name} of {channels:?}");
                    assert_eq!(
                        message.text.contains("\"args\":true"),
                        data.starts_with('['),
                        "{name}: {}",
                        message.text
                    );
                }
            }
            // The same for live messages, with messages to one channel in between.
            let (one, two) = (format!("{name}-1"), format!("{name}-2"));
            let start = node.latest(&one).await;
            let mut reader = Reader::open(&node, &transport, Subscription::to(&[&two, &one]).from(&start)).await;
            let mut single = Reader::open(&node, &transport, Subscription::to(&[&two]).from(&start)).await;
            for n in 0..6 {
                let several = format!(r#"{{"channels":["{one}","{two}"],"data":{n}}}"#);
                assert_eq!(node.publish_json(&several).await.status, 200);
                node.publish(&two, "\"between\"").await;
            }
            for n in 0..6 {
                let data = n.to_string();
                for (reader, channel) in [(&mut reader, &one), (&mut single, &two)] {
                    let message = reader.next_message().await;
                    assert_eq!((message.data(), message.str("channel").as_ref()), (&*data, Some(channel)), "{name}");
                    assert_eq!(reader.next_message().await.data(), "\"between\"", "{name}");
                }
            }
        },
    )
    .await;
}

async fn volatile_reaches_who_is_connected(log: Log) {
    let World { node, redis: _redis } = World::start(log, &[]).await;
    each_transport(
        &node,
        |_| true,
        async |transport| {
            let name = &transport.name;
            let channel = format!("now-{name}");
            let volatile = format!("channel={channel}&volatile=1");
            node.publish(&channel, r#""first""#).await;
            let start = node.latest(&channel).await;
            let subscription = Subscription::to(&[&channel]).from(&start);
            let mut reader = Reader::open(&node, &transport, subscription).await;

            let seen = if transport.is_stream() {
                let answer = node.try_publish(&volatile, r#""gone""#).await;
                assert_eq!(answer.status, 200);
                let entry = &answer.json()["messages"][0];
                assert_eq!(entry["channel"], channel.as_str());
                assert!(entry["id"].is_null(), "a volatile message has no id: {entry}");
                reader.next_message().await
            } else if transport.waits() {
                // The test cannot see from outside that a poll is parked, so the poll gets one of many messages.
                let publish_for_ever = async {
                    loop {
                        node.try_publish(&volatile, r#""gone""#).await;
                        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    }
                };
                tokio::select! {
                    message = reader.next_message() => message,
                    () = publish_for_ever => unreachable!(),
                }
            } else {
                node.try_publish(&volatile, r#""gone""#).await;
                let kept = node.publish_all(&channel, &[r#""kept""#.to_owned()]).await;
                return reader.expect(&kept).await;
            };
            assert_eq!((seen.data(), seen.id()), (r#""gone""#, None), "on {name}");
            assert_eq!(seen.str("channel").as_ref(), Some(&channel));

            // The message did not move a cursor and is not in the log.
            let kept = node.publish_all(&channel, &[r#""kept""#.to_owned()]).await;
            let again = Subscription::to(&[&channel]).from(&start);
            let mut reader = Reader::open(&node, &transport, again).await;
            reader.expect(&kept).await;
        },
    )
    .await;
}

async fn event_names_arrive(log: Log) {
    let World { node, redis: _redis } = World::start(log, &[]).await;
    let long = "e".repeat(100);
    let names = ["itemAdded", "item added", "ключ", "a:b", "</script>", long.as_str()];
    node.publish("events", "0").await;
    for name in names {
        node.publish_with(&format!("channel=events&event={}", quote(name)), "0").await;
    }
    each_transport(
        &node,
        |_| true,
        async |transport| {
            let subscription = Subscription::to(&["events"]).from("earliest");
            let mut reader = Reader::open(&node, &transport, subscription).await;
            for name in ["message"].into_iter().chain(names) {
                let event = reader.next_message().await.str("event");
                assert_eq!(event.as_deref(), Some(name), "{}", transport.name);
            }
        },
    )
    .await;
}

/// JSON texts that stay as they are.
fn json_payloads() -> Vec<String> {
    let mut payloads: Vec<String> = [
        r#""</script><script>alert(1)</script>""#,
        r#""<\/script>""#,
        r#""<!--<script>""#,
        "\"line\u{2028}paragraph\u{2029}end\"",
        r#""\u2028""#,
        r#""a\r\nb\nc\rd""#,
        r#""data: x\n\nevent: y\n\nid: z\n\n""#,
        r#""\u0000""#,
        r#""\u0001\u001f\u007f""#,
        r#""\r\n--longtail\r\nContent-Type: application/json\r\n\r\n{}""#,
        r#""quotes \" and ' and \\ and \/""#,
        r#""😀 \ud83d\ude00 é""#,
        r"[1e400,12345678901234567890,0.10,-0,1E+2,1.0000000000000000000001]",
        r#"{"z":1,"a":2,"z":3}"#,
        r#"{ "spaced" : [ 1 ,	2 ] }"#,
        r#"{"type":"bye","code":4003,"id":"x","channel":"y","data":null,"cursor":"z"}"#,
        "null",
        "true",
        "-12.5e-3",
        r#""""#,
        "{}",
        "[[],{}]",
    ]
    .iter()
    .map(ToString::to_string)
    .collect();
    payloads.push(format!("{}1{}", "[".repeat(1000), "]".repeat(1000)));
    payloads.push(format!("\"{}\"", "x".repeat(65536 - 2)));
    payloads.push(format!("\"{}\"", "</".repeat(30_000)));
    payloads
}

/// Texts that are not JSON and arrive as a JSON string.
const TEXTS: [&str; 12] = [
    "plain",
    "</script><script>alert(1)</script>",
    "<!-- <script>",
    "line\u{2028}end\u{2029}",
    "a\rb\nc\r\nd",
    "data: x\n\nid: y\n\n",
    "nul\0byte and \u{1} and \u{7f} and \u{85}",
    "\r\n--longtail--\r\n",
    "\"unclosed",
    "'quoted' \\ back",
    "1e400 x",
    "\u{feff}{}",
];

async fn payloads_arrive_as_sent(log: Log) {
    let World { node, redis: _redis } = World::start(log, &[]).await;
    let payloads = json_payloads();
    for payload in &payloads {
        node.publish("raw", payload).await;
        let json = format!(r#"{{"channel":"json","data":{payload}}}"#);
        let answer = node.publish_json(&json).await;
        assert_eq!(answer.status, 200, "{json}: {}", answer.text());
    }
    for text in TEXTS {
        node.publish("text", text).await;
    }
    node.publish("lines", "{\"a\":\r\n\t[1,\n2]\r}").await;
    node.publish_with("channel=lines&as=text", "123").await;

    each_transport(
        &node,
        |_| true,
        async |transport| {
            let name = &transport.name;
            for channel in ["raw", "json"] {
                let subscription = Subscription::to(&[channel]).from("earliest");
                let mut reader = Reader::open(&node, &transport, subscription).await;
                for sent in &payloads {
                    let got = reader.next_message().await;
                    let same = same_payload(transport.is_script(), sent, got.data());
                    assert!(same, "{name}, {channel}: {sent:.300} arrived as {:.300}", got.data());
                }
            }
            let subscription = Subscription::to(&["text"]).from("earliest");
            let mut reader = Reader::open(&node, &transport, subscription).await;
            for sent in TEXTS {
                let got = reader.next_message().await.str("data");
                assert_eq!(got.as_deref(), Some(sent), "{name}");
            }
            let subscription = Subscription::to(&["lines"]).from("earliest");
            let mut reader = Reader::open(&node, &transport, subscription).await;
            let folded = reader.next_message().await;
            assert_eq!(folded.data(), "{\"a\":  \t[1, 2] }", "{name}: CR and LF become spaces");
            assert_eq!(reader.next_message().await.data(), r#""123""#, "{name}: as=text");
        },
    )
    .await;
}

/// A parked poll is answered by the first message: the next ones wait for its cursor.
async fn a_burst_reaches_a_poll_that_was_parked() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    each_transport(
        &node,
        |t| t.is_poll() && t.waits(),
        async |transport| {
            let channel = format!("burst-{}", transport.name);
            let subscription = Subscription::to(&[&channel]);
            let mut reader = Reader::open(&node, &transport, subscription).await;
            for round in 0..20 {
                let published = node.publish_numbers(&channel, 1 + round % 5).await;
                reader.expect(&published).await;
            }
            let quiet = Subscription::to(&[&channel]).from(&reader.cursor()).with("timeout", "1");
            let mut reader = Reader::open(&node, &transport, quiet).await;
            assert_eq!(reader.next().await.map(|item| item.kind), Some(Kind::Batch));
        },
    )
    .await;
}
