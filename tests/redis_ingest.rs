//! The commands that any Redis client may use: PUBLISH and XADD.

use crate::support;

use support::world::start_on;
use support::{Item, Kind, Node, Reader, RedisServer, Subscription, each_transport, eventually, same_payload};

async fn read(node: &Node, channel: &str) -> Vec<Item> {
    let answer = node.get(&format!("/poll?channel={channel}&cursor=earliest&limit=1000")).await;
    support::decode::batch(&answer.text()).into_iter().filter(|item| item.id().is_some()).collect()
}

/// Waits for this number of messages of a channel, and checks that no more arrive.
async fn exactly(node: &Node, channel: &str, count: usize) -> Vec<Item> {
    eventually(&format!("{count} messages on {channel}"), async || {
        let items = read(node, channel).await;
        (items.len() >= count).then_some(items)
    })
    .await;
    let items = read(node, channel).await;
    assert_eq!(items.len(), count, "{items:?}");
    items
}

async fn publish(redis: &RedisServer, channel: &str, payload: &str) {
    let heard = redis.number(&["PUBLISH", channel, payload]).await;
    assert!(heard > 0, "nobody listens to {channel}");
}

/// Every transport delivers the same message with the same id.
#[tokio::test]
async fn a_publish_reaches_every_transport() {
    let redis = RedisServer::start().await;
    let node = start_on(&redis, &[]).await;
    redis.listened(1).await;
    let mut readers = Vec::new();
    for transport in node.transports().await {
        readers.push(Reader::open(&node, &transport, Subscription::to(&["todo"])).await);
    }
    publish(&redis, "push:todo", r#"{"title":"milk"}"#).await;
    let mut ids = Vec::new();
    for reader in &mut readers {
        let message = reader.next_message().await;
        assert_eq!(message.data(), r#"{"title":"milk"}"#, "{}", reader.transport.name);
        assert_eq!(message.str("channel").as_deref(), Some("todo"));
        assert_eq!(message.str("event").as_deref(), Some("message"));
        ids.push(message.id().expect("an id"));
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
}

/// (payload, event, data)
const PAYLOADS: [(&str, &str, &str); 22] = [
    (r#"{"title":"milk"}"#, "message", r#"{"title":"milk"}"#),
    ("a text", "message", r#""a text""#),
    ("123", "message", "123"),
    ("", "message", r#""""#),
    (r#"{"event":"added","data":{"b":1e400}}"#, "added", r#"{"b":1e400}"#),
    (r#"{"data":7}"#, "message", "7"),
    (r#"{"data":null}"#, "message", "null"),
    (r#"{"event":"added"}"#, "message", r#"{"event":"added"}"#),
    (r#"{"data":1,"other":2}"#, "message", r#"{"data":1,"other":2}"#),
    (r#"{"data":1,"channel":"x"}"#, "message", r#"{"data":1,"channel":"x"}"#),
    (r#"[{"data":1}]"#, "message", r#"[{"data":1}]"#),
    (r#"{"data":1,"key":"k"}"#, "message", "1"),
    (r#"{"data":2,"exclude":"11111111-1111-4111-8111-111111111111"}"#, "message", "2"),
    // A message that excludes no client, or a client that does not exist, is for all readers.
    (r#"{"data":3,"exclude":""}"#, "message", "3"),
    (r#"{"data":4,"exclude":"a b"}"#, "message", "4"),
    (r#"{"data":5,"exclude":false}"#, "message", "5"),
    (r#"{"data":6,"exclude":null}"#, "message", "6"),
    // As Laravel sends them.
    (r#"{"event":"App\\Events\\Added","data":{"id":1},"socket":null}"#, r"App\Events\Added", r#"{"id":1}"#),
    (r#"{"data":7,"socket":"123.456"}"#, "message", "7"),
    (r#"{"data":8,"socket":"11111111-1111-4111-8111-111111111111"}"#, "message", "8"),
    ("{\"data\":\r\n[1]}", "message", "[1]"),
    ("</script>\u{2028}\r\n\0", "message", "\"</script>\u{2028}\\r\\n\\u0000\""),
];

#[tokio::test]
async fn payloads_are_raw_or_enveloped() {
    let redis = RedisServer::start().await;
    let node = start_on(&redis, &[]).await;
    redis.listened(1).await;
    for (payload, _, _) in PAYLOADS {
        publish(&redis, "push:todo", payload).await;
    }
    let items = exactly(&node, "todo", PAYLOADS.len()).await;
    for (item, (payload, event, data)) in items.iter().zip(PAYLOADS) {
        assert_eq!(item.str("event").as_deref(), Some(event), "{payload}");
        // The server may choose how it escapes the characters of a text.
        let text = data.starts_with('"');
        assert!(same_payload(text, data, item.data()), "{payload:?} became {}", item.data());
    }
    let url = "/poll?channel=todo&cursor=earliest&client=11111111-1111-4111-8111-111111111111";
    let seen = node.get(url).await.text();
    assert_eq!(support::decode::batch(&seen).len(), PAYLOADS.len() - 1, "two are excluded: {seen}");
    assert_eq!(node.metric("longtail_log_ignored_excludes_total").await, 3.0);
    node.logged("is not a client id").await;

    // The same key appends nothing, even if it comes by PUBLISH.
    publish(&redis, "push:keyed", r#"{"data":1,"key":"k"}"#).await;
    publish(&redis, "push:keyed", r#"{"data":2,"key":"k"}"#).await;
    publish(&redis, "push:keyed", "3").await;
    let items = exactly(&node, "keyed", 2).await;
    assert_eq!((items[0].data(), items[1].data()), ("1", "3"));
}

/// An envelope may name several channels, the readers that do not get the message, and several arguments.
#[tokio::test]
async fn an_envelope_has_several_channels_exceptions_and_arguments() {
    let redis = RedisServer::start().await;
    let node = start_on(&redis, &[]).await;
    redis.listened(1).await;
    publish(&redis, "push:todo", r#"{"channels":["a","b"],"args":[1,"x"],"event":"added","except":["me","c"]}"#).await;
    publish(&redis, "push:todo", r#"{"args":[]}"#).await;
    publish(&redis, "push:b", r#"{"data":1,"args":[1]}"#).await;
    // XADD has the same fields.
    redis.command(&["XADD", "longtail:log", "*", "channels", "a,b", "args", "[2]", "except", "me"]).await;
    for (query, wanted) in [
        ("channel=todo", vec![r#""channel":"todo","event":"message","data":[],"args":true}"#]),
        (
            "channel=b,a",
            vec![
                r#""channel":"a","event":"added","data":[1,"x"],"args":true}"#,
                r#""channel":"b","event":"message","data":{"data":1,"args":[1]}}"#,
                r#""channel":"a","event":"message","data":[2],"args":true}"#,
            ],
        ),
        ("channel=a&client=me", vec![]),
        ("channel=a,c", vec![r#""data":[2]"#]),
    ] {
        eventually(query, async || {
            let answer = node.get(&format!("/poll?{query}&cursor=earliest")).await.text();
            let is_there = wanted.iter().all(|part| answer.contains(part));
            (is_there && answer.matches("\"id\"").count() == wanted.len()).then_some(())
        })
        .await;
    }
}

/// Names that begin with `~` belong to the server: no client can publish to them.
#[tokio::test]
async fn reserved_channels_are_left_out() {
    let redis = RedisServer::start().await;
    let node = start_on(&redis, &["--redis-subscribe", "*"]).await;
    redis.listened(1).await;
    publish(&redis, "~s/1", "1").await;
    publish(&redis, "todo", r#"{"data":1,"channels":["a","~s/1"]}"#).await;
    for fields in [&["channel", "~s/1"][..], &["v", "2", "channel", "~s/1"], &["channels", "a,~s/1"]] {
        redis.command(&[&["XADD", "longtail:log", "*"], fields, &["data", "1"]].concat()).await;
    }
    publish(&redis, "todo", "2").await;
    assert_eq!(exactly(&node, "todo", 1).await[0].data(), "2");
    assert_eq!(exactly(&node, "a", 0).await.len(), 0);
    assert_eq!(node.metric("longtail_log_skipped_entries_total").await, 3.0);
    assert_eq!(node.metric("longtail_bridge_refused_messages_total").await, 2.0);
    node.logged("names that begin with ~ are the server's").await;
    assert!(!node.get("/channels").await.text().contains('~'));
    for url in ["/channels/~s%2F1", "/channels?prefix=~"] {
        assert_eq!(node.get(url).await.error_code(), "bad_channel", "{url}");
    }
}

/// A payload that cannot be a message is left out, and later messages arrive.
#[tokio::test]
async fn garbage_is_left_out() {
    let redis = RedisServer::start().await;
    let node = start_on(&redis, &["--max-message-bytes", "1000"]).await;
    redis.listened(1).await;
    let large = "x".repeat(5 << 20);
    publish(&redis, "push:a b", "bad channel").await;
    publish(&redis, "push:", "no channel").await;
    publish(&redis, "push:todo", &large).await;
    publish(&redis, "push:todo", &"[".repeat(1001)).await;
    publish(&redis, "push:todo", "good").await;
    assert_eq!(exactly(&node, "todo", 1).await[0].data(), r#""good""#);
    assert_eq!(node.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn volatile_publishes_are_not_kept() {
    let redis = RedisServer::start().await;
    let nodes = [start_on(&redis, &[]).await, start_on(&redis, &[]).await];
    redis.listened(2).await;
    let mut readers = Vec::new();
    for node in &nodes {
        let sse = node.transport("sse").await;
        let mut reader = Reader::open(node, &sse, Subscription::to(&["todo"])).await;
        reader.next_of(Kind::Hello).await;
        readers.push(reader);
    }
    publish(&redis, "push:todo", r#"{"data":"gone","volatile":true}"#).await;
    for reader in &mut readers {
        let message = reader.next_message().await;
        assert_eq!((message.data(), message.id()), (r#""gone""#, None));
    }
    publish(&redis, "push:todo", "kept").await;
    for (reader, node) in readers.iter_mut().zip(&nodes) {
        assert_eq!(reader.next_message().await.data(), r#""kept""#, "once, not once a node");
        exactly(node, "todo", 1).await;
    }
}

/// However many nodes listen, one PUBLISH is one message.
#[tokio::test]
async fn one_publish_is_one_message() {
    let redis = RedisServer::start().await;
    let nodes = [start_on(&redis, &[]).await, start_on(&redis, &[]).await, start_on(&redis, &[]).await];
    redis.listened(3).await;
    for n in 0..200 {
        publish(&redis, "push:todo", &n.to_string()).await;
        // Equal payloads are separate messages.
        publish(&redis, "push:same", "again").await;
    }
    let first: Vec<_> = exactly(&nodes[0], "todo", 200).await.iter().map(Item::id).collect();
    for node in &nodes {
        let items = exactly(node, "todo", 200).await;
        let wanted: Vec<String> = (0..200).map(|n| n.to_string()).collect();
        assert_eq!(items.iter().map(Item::data).collect::<Vec<_>>(), wanted, "in order");
        assert_eq!(items.iter().map(Item::id).collect::<Vec<_>>(), first, "one id");
        exactly(node, "same", 200).await;
    }
}

/// One PUBLISH is one message even if the node that would have appended it dies.
#[tokio::test]
async fn a_dying_node_takes_no_publish_with_it() {
    let redis = RedisServer::start().await;
    let survivor = start_on(&redis, &[]).await;
    for round in 0..4 {
        let victim = start_on(&redis, &[]).await;
        redis.listened(2).await;
        let channel = format!("push:round-{round}");
        for n in 0..100 {
            publish(&redis, &channel, &n.to_string()).await;
            if n == 50 {
                victim.signal("KILL");
            }
        }
        drop(victim);
        let items = exactly(&survivor, &format!("round-{round}"), 100).await;
        let mut seen: Vec<usize> = items.iter().map(|i| i.data().parse().expect("n")).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..100).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn patterns() {
    let redis = RedisServer::start().await;
    let patterns = ["--redis-subscribe", "news.*", "--redis-subscribe", "exact"];
    let node = start_on(&redis, &patterns).await;
    eventually("the node to listen", async || {
        let heard = redis.number(&["PUBLISH", "exact", "0"]).await;
        (heard > 0).then_some(())
    })
    .await;
    publish(&redis, "exact", "1").await;
    eventually("the exact name", async || (!read(&node, "exact").await.is_empty()).then_some(())).await;
    eventually("the node to listen", async || {
        let heard = redis.number(&["PUBLISH", "news.warm", "0"]).await;
        (heard > 0).then_some(())
    })
    .await;
    publish(&redis, "news.today", "2").await;
    assert_eq!(exactly(&node, "today", 1).await[0].data(), "2");
    assert_eq!(redis.number(&["PUBLISH", "push:todo", "3"]).await, 0, "the default is replaced");

    let off = start_on(&redis, &["--redis-subscribe", "off"]).await;
    assert_eq!(off.get("/readyz").await.status, 200);
    let url = redis.url();
    for bad in [
        vec!["push:?"],
        vec!["pu*sh"],
        vec!["push:[ab]*"],
        vec!["push:**"],
        vec!["push:*", "push:a*"],
        vec!["push:*", "push:todo"],
        vec!["push:*", "push:*"],
    ] {
        let mut args = vec!["--listen", "127.0.0.1:0", "--tcp-listen", "off", "--redis", &url];
        for pattern in &bad {
            args.extend(["--redis-subscribe", pattern]);
        }
        let (code, said) = support::server::run_to_end(&args).await;
        assert_eq!(code, 64, "{bad:?}: {said}");
    }
}

/// Any program may XADD directly into the log, even while no node is up.
#[tokio::test]
async fn xadd() {
    let redis = RedisServer::start().await;
    let early = redis.text(&["XADD", "longtail:log", "*", "channel", "todo", "data", "early"]).await;
    let node = start_on(&redis, &[]).await;
    let sse = node.transport("sse").await;
    let mut live = Reader::open(&node, &sse, Subscription::to(&["todo"]).from("earliest")).await;
    assert_eq!(live.next_message().await.data(), r#""early""#);
    let client = uuid::Uuid::new_v4().to_string();
    let add: [(&[&str], &str, &str); 9] = [
        (&["channel", "todo", "data", r#"{"b":1e400}"#], "message", r#"{"b":1e400}"#),
        (&["data", "7", "channel", "todo"], "message", "7"),
        (&["channel", "todo", "data", "x", "event", "added"], "added", r#""x""#),
        (&["channel", "todo", "data", "y", "exclude", &client], "message", r#""y""#),
        (&["channel", "todo", "data", "y", "socket", &client], "message", r#""y""#),
        (&["channel", "todo", "data", "v", "exclude", ""], "message", r#""v""#),
        (&["channel", "todo", "data", "w", "exclude", "a b"], "message", r#""w""#),
        (&["channel", "todo", "data", "u", "socket", ""], "message", r#""u""#),
        (&["channel", "todo", "data", "z", "unknown", "field"], "message", r#""z""#),
    ];
    for (fields, event, data) in add {
        let id = redis.text(&[&["XADD", "longtail:log", "*"], fields].concat()).await;
        let message = live.next_message().await;
        assert_eq!((message.str("event").as_deref(), message.data()), (Some(event), data));
        let got = message.id().expect("an id");
        assert!(got.starts_with(&format!("{id}.")), "{id} became {got}");
    }
    let items = read(&node, "todo").await;
    assert!(items[0].id().is_some_and(|id| id.starts_with(&early)), "{early} is the first: {items:?}");
    let seen = node.get(&format!("/poll?channel=todo&cursor=earliest&client={client}")).await.text();
    assert_eq!(seen.matches("\"id\"").count(), 8, "{seen}");
    assert!(node.metric("longtail_log_ignored_excludes_total").await >= 3.0);
}

/// An entry that is not a message is skipped and logged.
#[tokio::test]
async fn foreign_entries_are_skipped() {
    let redis = RedisServer::start().await;
    redis.command(&["XADD", "longtail:log", "*", "nonsense", "before"]).await;
    let node = start_on(&redis, &[]).await;
    let sse = node.transport("sse").await;
    let mut live = Reader::open(&node, &sse, Subscription::to(&["todo"])).await;
    let large = "x".repeat(3 << 20);
    let skipped: [&[&str]; 6] = [
        &["channel", "todo"],
        &["data", "x"],
        &["channel", "a b", "data", "x"],
        &["", ""],
        &["channel", "todo", "data", "x", "event", "hello"],
        &["channel", "todo", "data", &large],
    ];
    for fields in skipped {
        redis.command(&[&["XADD", "longtail:log", "*"], fields].concat()).await;
    }
    redis.command(&["XADD", "longtail:log", "*", "channel", "todo", "data", "good"]).await;
    let message = live.next_message().await;
    assert_eq!(message.data(), r#""good""#, "{:.200}", message.text);
    eventually("a log line", async || node.log().to_lowercase().contains("skip").then_some(())).await;
    each_transport(
        &node,
        |_| true,
        async |transport| {
            let subscription = Subscription::to(&["todo"]).from("earliest");
            let mut reader = Reader::open(&node, &transport, subscription).await;
            assert_eq!(reader.next_message().await.data(), r#""good""#);
        },
    )
    .await;
}

/// Prefixes keep deployments apart.
#[tokio::test]
async fn the_prefix_is_a_setting() {
    let redis = RedisServer::start().await;
    let one = start_on(&redis, &["--redis-subscribe", "off"]).await;
    let two = start_on(&redis, &["--redis-prefix", "other", "--redis-subscribe", "off"]).await;
    redis.command(&["XADD", "other:log", "*", "channel", "todo", "data", "2"]).await;
    one.publish("todo", "1").await;
    assert_eq!(exactly(&one, "todo", 1).await[0].data(), "1");
    assert_eq!(exactly(&two, "todo", 1).await[0].data(), "2");
    let keys: Vec<String> = redis::from_redis_value(redis.command(&["KEYS", "*"]).await).expect("keys");
    for key in keys {
        let known = ["longtail:log", "other:log"].contains(&key.as_str())
            || key.starts_with("{longtail:log}:")
            || key.starts_with("{other:log}:");
        assert!(known, "a key outside the prefix: {key}");
    }
}
