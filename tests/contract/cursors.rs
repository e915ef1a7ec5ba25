//! Cursors: where reading starts and continues, and when messages were missed.

use crate::support::{
    Kind, Log, Node, Published, Reader, Subscription, Transport, World, each_transport, eventually, world::start_on,
};

through_every_door! {
    over_both_logs {
        reading_resumes_from_any_cursor
        earliest_latest_and_last
        a_trimmed_cursor_is_a_gap
        a_cursor_of_another_epoch_is_a_gap
        a_cursor_ahead_of_the_log_is_a_gap
        an_old_cursor_is_no_gap_where_nothing_was_dropped
        a_quiet_channel_moves_on_with_the_log
    }
    once {
        a_cursor_is_good_on_every_node
    }
}

async fn reading_resumes_from_any_cursor(log: Log) {
    let World { node, redis: _redis } = World::start(log, &[]).await;
    let published = node.publish_numbers("todo", 12).await;
    each_transport(
        &node,
        |_| true,
        async |transport| {
            for (index, after) in published.iter().enumerate().step_by(3) {
                let subscription = Subscription::to(&["todo"]).from(&after.id);
                let mut reader = Reader::open(&node, &transport, subscription).await;
                reader.expect(&published[index + 1..]).await;
            }
            // The cursor of any item is valid: the test begins anew after each one.
            let mut cursor = "earliest".to_owned();
            for want in &published {
                let subscription = Subscription::to(&["todo"]).from(&cursor);
                let mut reader = Reader::open(&node, &transport, subscription).await;
                reader.expect(std::slice::from_ref(want)).await;
                cursor = reader.cursor();
            }
        },
    )
    .await;
}

async fn earliest_latest_and_last(log: Log) {
    let World { node, redis: _redis } = World::start(log, &[]).await;
    each_transport(
        &node,
        |_| true,
        async |transport| {
            let (one, two) = (format!("one-{}", transport.name), format!("two-{}", transport.name));
            let list: Vec<_> =
                (0..9).map(|n| (if n % 3 == 0 { one.clone() } else { two.clone() }, n.to_string())).collect();
            let old = node.publish_list(&list).await;
            let both = || Subscription::to(&[&one, &two]);
            let cases = [
                (both().from("earliest"), &old[..]),
                (both().with("last", "4"), &old[5..]),
                (both().from("latest").with("last", "2"), &old[7..]),
                (both().with("last", "1000000"), &old[..]),
            ];
            for (subscription, expected) in cases {
                let asked = subscription.query();
                let mut reader = Reader::open(&node, &transport, subscription).await;
                let first = reader.next_message().await;
                let wanted = expected.first().map(|message| message.id.clone());
                assert_eq!(first.id(), wanted, "{}?{asked}", transport.name);
                reader.expect(&expected[1..]).await;
            }
            for subscription in [both(), both().from("latest"), both().with("last", "0")] {
                if transport.is_poll() && subscription.cursor.is_some() {
                    continue; // `latest` on a poll: see the polls' own tests
                }
                let subscription = match transport.is_poll() {
                    true => both(),
                    false => subscription,
                };
                let mut reader = Reader::open(&node, &transport, subscription).await;
                let new = node.publish_numbers(&one, 1).await;
                reader.expect(&new).await;
            }
        },
    )
    .await;
}

/// Reads a gap that names `from`, and then the end of `published`, of which some messages must be missing.
async fn expect_gap(node: &Node, transport: &Transport, from: &str, published: &[Published]) {
    let channel = &published[0].channel;
    let subscription = Subscription::to(&[channel]).from(from).with("timeout", "1");
    let mut reader = Reader::open(node, transport, subscription).await;
    let gap = reader.next_news().await;
    assert_eq!(gap.kind, Kind::Gap, "{}: {}", transport.name, gap.text);
    assert_eq!(gap.str("from").as_deref(), Some(from), "{}", transport.name);
    let first = reader.next_message().await.id();
    let place = published.iter().position(|p| Some(&p.id) == first.as_ref());
    let place = place.unwrap_or_else(|| panic!("{first:?} is none of the published"));
    reader.expect(&published[place + 1..]).await;

    // The reader continues at the earliest retained message, so no other message is missing.
    let subscription = Subscription::to(&[channel]).from("earliest");
    let mut earliest = Reader::open(node, transport, subscription).await;
    assert_eq!(earliest.next_message().await.id(), first, "{}", transport.name);
}

async fn a_trimmed_cursor_is_a_gap(log: Log) {
    let World { node, redis: _redis } = World::start(log, &["--retain-messages", "5"]).await;
    let published = node.publish_numbers("todo", 300).await;
    eventually("the log to be trimmed", async || {
        let batch = node.get("/poll?channel=todo&cursor=earliest&limit=1000").await.json();
        (batch["messages"].as_array()?.len() < 250).then_some(())
    })
    .await;
    each_transport(
        &node,
        |_| true,
        async |transport| {
            expect_gap(&node, &transport, &published[2].id, &published).await;
        },
    )
    .await;

    // A cursor within the retained messages is not a gap.
    each_transport(
        &node,
        |_| true,
        async |transport| {
            let subscription = Subscription::to(&["todo"]).from(&published[297].id);
            let mut reader = Reader::open(&node, &transport, subscription).await;
            reader.expect(&published[298..]).await;
        },
    )
    .await;
}

async fn a_cursor_of_another_epoch_is_a_gap(log: Log) {
    let other = World::start(log, &[]).await;
    let foreign = other.node.publish("todo", "0").await;
    let World { node, redis: _redis } = World::start(log, &[]).await;
    let published = node.publish_numbers("todo", 9).await;
    each_transport(
        &node,
        |_| true,
        async |transport| {
            expect_gap(&node, &transport, &foreign, &published).await;

            // `last` limits the messages that are replayed after the gap.
            let subscription = Subscription::to(&["todo"]).from(&foreign).with("last", "2");
            let mut reader = Reader::open(&node, &transport, subscription).await;
            assert_eq!(reader.next_news().await.kind, Kind::Gap, "{}", transport.name);
            let first = reader.next_message().await;
            assert_eq!(first.id().as_ref(), Some(&published[7].id), "{}", transport.name);
        },
    )
    .await;
}

/// A cursor far beyond `id`, in its epoch.
fn beyond(id: &str) -> String {
    let (milliseconds, rest) = id.split_once('-').expect("an id is <ms>-<seq>.<epoch>");
    let milliseconds: u64 = milliseconds.parse().expect("milliseconds");
    format!("{}-{rest}", milliseconds + 86_400_000)
}

async fn a_cursor_ahead_of_the_log_is_a_gap(log: Log) {
    let World { node, redis: _redis } = World::start(log, &[]).await;
    let ahead = beyond(&node.publish("todo", "0").await);
    each_transport(
        &node,
        |_| true,
        async |transport| {
            let channel = format!("ahead-{}", transport.name);
            let subscription = Subscription::to(&[&channel]).from(&ahead).with("timeout", "1");
            let mut reader = Reader::open(&node, &transport, subscription).await;
            let gap = reader.next_of(Kind::Gap).await;
            assert_eq!(gap.str("from").as_ref(), Some(&ahead), "{}", transport.name);
            let new = node.publish_numbers(&channel, 3).await;
            reader.expect(&new).await;
        },
    )
    .await;
}

async fn an_old_cursor_is_no_gap_where_nothing_was_dropped(log: Log) {
    let World { node, redis: _redis } = World::start(log, &["--retain-seconds", "600"]).await;
    let before_all = node.latest("todo").await;
    node.publish_numbers("busy", 200).await;
    let published = node.publish_numbers("todo", 30).await;
    each_transport(
        &node,
        |_| true,
        async |transport| {
            let subscription = Subscription::to(&["todo"]).from(&before_all);
            Reader::open(&node, &transport, subscription).await.expect(&published).await;
        },
    )
    .await;
}

/// Reads to this cursor, without getting a message.
async fn read_quietly(mut reader: Reader, end: &str) {
    while reader.cursor() != end {
        let item = reader.next().await.expect("an item, not the end");
        // A poll may come back after its place was dropped; a stream stays connected.
        let fine = match item.kind {
            Kind::Hello | Kind::Heartbeat | Kind::Batch => true,
            Kind::Gap => reader.transport.is_poll(),
            _ => false,
        };
        assert!(fine, "{}: {item:?}", reader.transport.name);
    }
}

async fn a_quiet_channel_moves_on_with_the_log(log: Log) {
    let args = ["--retain-messages", "200", "--heartbeat-seconds", "1"];
    let World { node, redis: _redis } = World::start(log, &args).await;
    node.publish("quiet", "0").await;
    let start = node.latest("quiet").await;
    let transports = node.transports().await;
    let mut readers = Vec::new();
    for transport in &transports {
        let subscription = Subscription::to(&["quiet"]).from(&start).with("timeout", "1");
        readers.push(Reader::open(&node, transport, subscription).await);
    }
    let mut end = String::new();
    for _ in 0..60 {
        let busy = node.publish_numbers("busy", 10).await;
        end.clone_from(&busy[9].id);
        eventually("the node to have read it", async || (node.latest("busy").await == end).then_some(())).await;
    }
    let catch_up = readers.into_iter().map(|reader| Box::pin(read_quietly(reader, &end)));
    futures_util::future::join_all(catch_up).await;

    // After that point no message is missing, although the start was dropped long ago.
    let new = node.publish_numbers("quiet", 1).await;
    each_transport(
        &node,
        |_| true,
        async |transport| {
            let subscription = Subscription::to(&["quiet"]).from(&end);
            Reader::open(&node, &transport, subscription).await.expect(&new).await;
        },
    )
    .await;
}

/// A cursor from one node is valid on the other, even if the other one is a little behind: that node waits for its own
/// tail. A cursor never moves backwards.
async fn a_cursor_is_good_on_every_node() {
    let World { node, redis } = World::start(Log::Redis, &[]).await;
    let redis = redis.expect("a Redis");
    let other = start_on(&redis, &[]).await;
    let mut expected = Vec::new();
    for round in 0..30 {
        expected.extend(node.publish_numbers("todo", 1).await);
        let cursor = &expected[round].id;
        let batch = other.get(&format!("/poll?channel=todo&cursor={cursor}")).await.json();
        assert_eq!(batch["cursor"], cursor.as_str(), "not before and not behind");
        assert!(batch["gap"].is_null(), "{batch}");
        assert_eq!(batch["messages"].as_array().map(Vec::len), Some(0), "{batch}");
    }
    for reads in [&node, &other] {
        each_transport(
            reads,
            |_| true,
            async |transport| {
                let subscription = Subscription::to(&["todo"]).from("earliest");
                Reader::open(reads, &transport, subscription).await.expect(&expected).await;
            },
        )
        .await;
    }
}
