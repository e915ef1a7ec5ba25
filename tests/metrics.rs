//! `/metrics` reports the server's activity, and the dashboard asks only for metrics that exist.

use crate::support;

use serde_json::Value;
use std::collections::BTreeSet;
use support::{Kind, Log, Metrics, Node, Reader, Request, Subscription, World, each_transport, eventually};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// Waits until a sample has a value.
async fn becomes(node: &Node, sample: &str, wanted: f64) {
    eventually(&format!("{sample} to be {wanted}"), async || {
        (Metrics::of(node).await.value(sample) == wanted).then_some(())
    })
    .await;
}

#[tokio::test]
async fn deliveries_count_by_transport() {
    count_deliveries(&[]).await;
}

/// The log's tail and the readers' tasks give the same counts.
#[tokio::test]
async fn deliveries_of_tasks_count_by_transport() {
    count_deliveries(&["--direct-writes", "false"]).await;
}

async fn count_deliveries(flags: &[&str]) {
    let World { node, .. } = World::start(Log::Memory, flags).await;
    each_transport(
        &node,
        |transport| transport.waits(),
        async |transport| {
            let name = transport.name.clone();
            let channel = format!("of-{name}");
            let sample = |family: &str| format!("longtail_{family}{{transport=\"{name}\"}}");
            let subscription = Subscription::to(&[&channel]).from(&node.latest(&channel).await).with("timeout", "30");
            let mut reader = Reader::open(&node, &transport, subscription).await;
            // A poll counts while its request is open.
            let publish = async {
                becomes(&node, &sample("connections"), 1.0).await;
                node.publish_numbers(&channel, 3).await
            };
            let (published, first) = tokio::join!(publish, reader.next_message());
            assert_eq!(first.id().as_ref(), Some(&published[0].id));
            reader.expect(&published[1..]).await;
            // The tail counts the messages that it writes itself after a fan-out.
            becomes(&node, &sample("delivered_messages_total"), 3.0).await;
            let metrics = Metrics::of(&node).await;
            assert!(metrics.value(&sample("delivered_bytes_total")) > 150.0, "{name}");
            assert_eq!(metrics.value(&sample("batch_messages_sum")), 3.0);
            assert!(metrics.value(&sample("delivery_lag_seconds_count")) >= 1.0, "{name}");
            drop(reader);
            becomes(&node, &sample("connections"), 0.0).await;
        },
    )
    .await;
    let metrics = Metrics::of(&node).await;
    let (made, hits) = (metrics.value("longtail_encodings_total"), metrics.value("longtail_encode_cache_hits_total"));
    assert_eq!(made + hits, metrics.sum("longtail_delivered_messages_total"));
}

/// A message that many readers share is encoded once.
#[tokio::test]
async fn a_shared_encoding_is_a_hit() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    let sse = node.transport("sse").await;
    let mut readers = Vec::new();
    for _ in 0..5 {
        readers.push(Reader::open(&node, &sse, Subscription::to(&["todo"])).await);
    }
    let published = node.publish_numbers("todo", 1).await;
    for reader in &mut readers {
        reader.expect(&published).await;
    }
    becomes(&node, "longtail_delivered_messages_total{transport=\"sse\"}", 5.0).await;
    let metrics = Metrics::of(&node).await;
    // If a reader is not parked yet, its own task may encode the message a second time.
    let (made, hits) = (metrics.value("longtail_encodings_total"), metrics.value("longtail_encode_cache_hits_total"));
    assert!(made + hits == 5.0 && (1.0..=2.0).contains(&made), "{made} made, {hits} hits");
}

#[tokio::test]
async fn publications_gaps_rollovers_and_byes() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    node.publish_numbers("todo", 5).await;
    let ws = node.transport("ws").await;
    let gone = "1000000000000-0.zzzzzz";
    let mut reader = Reader::open(&node, &ws, Subscription::to(&["todo"]).from(gone)).await;
    reader.next_of(Kind::Gap).await;
    let answer = node.get(&format!("/poll?channel=todo&cursor={gone}")).await.json();
    assert!(answer["gap"].is_object(), "{answer}");
    let xhr = node.transport("xhr-stream").await;
    let start = node.latest("todo").await;
    let mut stream = Reader::open(&node, &xhr, Subscription::to(&["todo"]).from(&start).with("max_bytes", "1")).await;
    node.publish_numbers("todo", 1).await;
    assert_eq!(stream.next_of(Kind::Bye).await.number("code"), Some(4000));

    let metrics = Metrics::of(&node).await;
    for (sample, wanted) in [
        ("longtail_published_messages_total{way=\"http\"}", 6.0),
        ("longtail_append_seconds_count", 2.0),
        ("longtail_read_messages_total", 6.0),
        ("longtail_retained_messages", 6.0),
        ("longtail_gaps_total{transport=\"ws\"}", 1.0),
        ("longtail_gaps_total{transport=\"poll\"}", 1.0),
        ("longtail_rollovers_total{transport=\"xhr-stream\"}", 1.0),
        ("longtail_byes_total{code=\"4000\",reason=\"rollover\"}", 1.0),
        ("longtail_ready", 1.0),
        ("longtail_draining", 0.0),
    ] {
        assert_eq!(metrics.value(sample), wanted, "{sample}");
    }
    for (sample, least) in
        [("longtail_retained_bytes", 500.0), ("process_resident_memory_bytes", 1e6), ("process_open_fds", 5.0)]
    {
        let value = metrics.value(sample);
        assert!(value > least, "{sample} is {value}, not above {least}");
    }
}

/// A reader that reads nothing is cut, and counted as a slow reader.
#[tokio::test]
async fn slow_readers_are_counted() {
    let World { node, .. } = World::start(Log::Memory, &["--write-timeout", "1"]).await;
    let mut slow = Vec::new();
    for request in [
        "GET /sse?channel=todo HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "{\"type\":\"subscribe\",\"channels\":[\"todo\"]}\n",
    ] {
        let address = if request.starts_with('{') { node.tcp } else { node.http };
        let mut stream = TcpStream::connect(address).await.expect("connect");
        stream.write_all(request.as_bytes()).await.expect("write");
        slow.push(stream);
    }
    let batch = vec![format!("\"{}\"", "x".repeat(60_000)); 16];
    eventually("both to be cut", async || {
        node.publish_all("todo", &batch).await;
        let cut = Metrics::of(&node).await.value("longtail_refused_total{reason=\"slow_reader\"}");
        (cut == 2.0).then_some(())
    })
    .await;
}

/// Each family has a help text, and a unit if it has one.
#[tokio::test]
async fn every_family_has_a_help_text() {
    let World { node, redis: _redis } = World::start(Log::Redis, &[]).await;
    let answer = node.get("/metrics").await;
    let kind = answer.header("Content-Type").unwrap_or_default();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind:?}");
    let metrics = Metrics::of(&node).await;
    let (mut helped, mut units) = (BTreeSet::new(), 0);
    for line in metrics.text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            assert!(help.len() > 10, "{line}");
            helped.insert(name);
        }
        if let Some((name, unit)) = line.strip_prefix("# UNIT ").and_then(|rest| rest.split_once(' ')) {
            assert!(name.ends_with(unit) && matches!(unit, "seconds" | "bytes"), "{line}");
            units += 1;
        }
    }
    assert!(helped.len() > 30 && units > 6, "{} {units}", helped.len());
    for name in metrics.names() {
        let stems = ["_total", "_bucket", "_sum", "_count"].map(|end| name.strip_suffix(end).unwrap_or(name));
        assert!(stems.iter().any(|stem| helped.contains(stem)), "{name} has no help");
    }
    // Each histogram ends in the bucket without an upper bound.
    for line in metrics.text.lines().filter(|line| line.contains("_count")) {
        let (sample, count) = line.rsplit_once(' ').expect("a value");
        let (name, labels) = sample.split_once("_count").expect("a count");
        let inside = labels.trim_start_matches('{').trim_end_matches('}');
        let comma = if inside.is_empty() { "" } else { "," };
        let all = format!("{name}_bucket{{le=\"+Inf\"{comma}{inside}}} {count}");
        assert!(metrics.text.contains(&all), "{all}");
    }
    assert!(metrics.text.ends_with("# EOF\n"), "{}", metrics.text);
}

/// All `expr` of a dashboard.
fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("expr").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|value| expressions(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        _ => {}
    }
}

#[tokio::test]
async fn the_dashboard_asks_for_what_there_is() {
    let World { node, redis: _redis } = World::start(Log::Redis, &[]).await;
    let redis = node.transport("sse").await;
    let mut reader = Reader::open(&node, &redis, Subscription::to(&["todo"])).await;
    let published = node.publish_numbers("todo", 1).await;
    reader.expect(&published).await;
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/grafana.json");
    let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(file).expect("the dashboard")).expect("JSON");
    let mut asked = Vec::new();
    expressions(&dashboard, &mut asked);
    assert!(asked.len() >= 12, "{asked:?}");
    let metrics = Metrics::of(&node).await;
    let there: BTreeSet<&str> = metrics.names().collect();
    let documented = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md")).expect("docs");
    let mut names = BTreeSet::new();
    for expression in &asked {
        let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        names.extend(words.filter(|word| word.starts_with("longtail_") || word.starts_with("process_")));
    }
    assert!(names.len() >= 12, "{names:?}");
    for name in names {
        assert!(there.contains(name), "the dashboard asks for {name}, which there is not");
    }
    // Every family of this server is in the table.
    for name in there.iter().filter(|name| name.starts_with("longtail_")) {
        let stems = ["", "_total", "_bucket", "_sum", "_count"].map(|end| name.strip_suffix(end).unwrap_or(name));
        assert!(stems.iter().any(|stem| documented.contains(&format!("`{stem}`"))), "docs/operations.md: {name}");
    }
}

/// No sample contains credentials or other text that clients send.
#[tokio::test]
async fn nothing_of_a_request_is_in_the_metrics() {
    let World { node, .. } = World::start(Log::Memory, &[]).await;
    let secret = "s3cr3tchannel";
    node.publish(secret, "\"s3cr3tdata\"").await;
    Request::get(&format!("/poll?channel={secret}&token=s3cr3ttoken")).send(node.http).await;
    let metrics = Metrics::of(&node).await.text;
    assert!(!metrics.contains("s3cr3t"), "{metrics}");
}
